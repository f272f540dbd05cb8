"""The gRPC server of the query API. It listens on a socket that only this process's user can reach; `transport/front` pipes clients to it.

It runs on the event loop of the other listeners. A call waits in the same queue as HTTP queries do and is answered on the same threads;
the loop sends what they find. Bounds: calls at once, streams per connection, the size of requests and of their metadata, the time of a
handshake, how often clients may ping, how long a client may take to read a message.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import grpc
import grpc.aio

from spanlake.model.errors import ConfigError, QueryTimeout
from spanlake.model.settings import ServerSettings
from spanlake.model.stop import Stop
from spanlake.server.access.decide import metadata_values
from spanlake.server.answers import QueryEdge
from spanlake.server.errors import Refusal, refusal_of
from spanlake.server.streaming.methods import Call, Method
from spanlake.server.streaming.outbox import Outbox
from spanlake.server.streaming.private_socket import PrivateSocket
from spanlake.server.transport.front import Pipes
from spanlake.wire.rpc_status import encode_status

SERVICE = "/tempopb.StreamingQuerier/"
STREAMS_PER_CONNECTION_MAX = 256
REQUEST_BYTES_MAX = 1 << 20

_STATUS_CODES = {code.value[0]: code for code in grpc.StatusCode}


@dataclass(frozen=True, slots=True)
class StreamingEdge:
    """What every call needs: the queue and bounds of queries, and the methods by name."""

    queries: QueryEdge
    methods: Mapping[str, Method]


class StreamingServer:
    """Owns the gRPC server and its socket from `start` to `stop`; both are called once, on one event loop."""

    def __init__(self, edge: StreamingEdge, settings: ServerSettings) -> None:
        self._edge = edge
        self._settings = settings
        self._socket: PrivateSocket | None = None
        self._server: Any = None

    async def start(self) -> Pipes:
        """Serve; what pipes connections to it. ConfigError if there can be no socket."""
        self._socket = PrivateSocket()
        path, settings = self._socket.path, self._settings
        pipes = Pipes(path, stall_seconds=settings.stall_seconds)
        calls_max = settings.query_threads + settings.query_queue_max
        server: Any = grpc.aio.server(
            handlers=[StreamingHandler(self._edge, pipes)], options=_options(settings), maximum_concurrent_rpcs=calls_max
        )
        try:
            server.add_insecure_port(f"unix:{path}")
        except RuntimeError as error:
            self._socket.remove()
            raise ConfigError(f"cannot listen on the socket {path}: {error}; TMPDIR names the directory for it") from error
        self._server = server
        await server.start()
        return pipes

    async def stop(self, drain_seconds: float) -> None:
        """Refuse new calls at once, let those in flight finish for `drain_seconds`, then cancel them. Connections are closed."""
        if self._server is not None:
            await self._server.stop(drain_seconds)
        if self._socket is not None:
            self._socket.remove()


def _options(settings: ServerSettings) -> list[tuple[str, int]]:
    return [
        ("grpc.max_receive_message_length", REQUEST_BYTES_MAX),
        ("grpc.max_send_message_length", -1),
        ("grpc.max_metadata_size", settings.header_bytes_max),
        ("grpc.absolute_max_metadata_size", settings.header_bytes_max),
        ("grpc.max_concurrent_streams", STREAMS_PER_CONNECTION_MAX),
        ("grpc.server_handshake_timeout_ms", int(settings.header_seconds * 1000)),
        ("grpc.max_connection_idle_ms", settings.keep_alive_seconds * 1000),
        # Dead peers are found by pings every two minutes; clients may ping every 10 s, calls in flight or not.
        ("grpc.keepalive_time_ms", 120_000),
        ("grpc.keepalive_timeout_ms", 20_000),
        ("grpc.keepalive_permit_without_calls", 1),
        ("grpc.http2.min_ping_interval_without_data_ms", 10_000),
        ("grpc.http2.min_recv_ping_interval_without_data_ms", 10_000),
    ]


class StreamingHandler(grpc.GenericRpcHandler):
    """Routes the methods of the service."""

    def __init__(self, edge: StreamingEdge, pipes: Pipes) -> None:
        self._edge = edge
        self._pipes = pipes
        self._handlers: dict[str, Any] = {f"{SERVICE}{name}": self._handler(method) for name, method in edge.methods.items()}

    def service(self, handler_call_details: Any) -> Any:
        """The handler of a call; None for a method that is not ours, which gRPC answers with UNIMPLEMENTED."""
        return self._handlers.get(handler_call_details.method)

    def _handler(self, method: Method) -> Any:
        async def handle(request: bytes, context: Any) -> None:
            refusal = await self._answer(method, request, context)
            if refusal is not None:
                await _abort(context, refusal)

        return grpc.unary_stream_rpc_method_handler(handle)

    async def _answer(self, method: Method, request: bytes, context: Any) -> Refusal | None:
        """Send what the method finds; the reason if that fails. The query stops when this is cancelled, as it is when the client goes."""
        queries = self._edge.queries
        stop, outbox = Stop(queries.timeout_seconds), Outbox()
        try:
            tenant = queries.access.tenants_to_read(metadata_values(context.invocation_metadata()))
            answered = queries.queue.submit(tenant, lambda: method(Call(tenant, request, stop, outbox.put)), stop)
            answered.add_done_callback(lambda _: outbox.close())
            while (message := await _next(outbox, stop, queries.timeout_seconds)) is not None:
                await self._write(context, message)
            answered.result()
        except Exception as error:  # noqa: BLE001 whatever it is, the client gets a status and a text
            return refusal_of(error)
        finally:
            stop.cancel()
        return None

    async def _write(self, context: Any, message: bytes) -> None:
        """Send one message. A client that does not read it in time loses its connection: gRPC has no other way to take a message back."""
        stalled = asyncio.get_running_loop().call_later(self._pipes.stall_seconds, self._pipes.drop, context.peer())
        try:
            await context.write(message)
        finally:
            stalled.cancel()


async def _next(outbox: Outbox, stop: Stop, timeout_seconds: float) -> bytes | None:
    """The next message. QueryTimeout if it is not there when the query must end: the thread may be stuck where it does not look."""
    try:
        async with asyncio.timeout(stop.remaining_seconds()):
            return await outbox.take()
    except TimeoutError:
        raise QueryTimeout(f"the query took longer than {timeout_seconds:g} seconds") from None


async def _abort(context: Any, refusal: Refusal) -> None:
    """End the call. RetryInfo goes into the trailing metadata."""
    trailing: tuple[tuple[str, bytes], ...] = ()
    if refusal.retry_after_seconds is not None:
        details = encode_status(refusal.grpc_code, refusal.message, refusal.retry_after_seconds)
        trailing = (("grpc-status-details-bin", details),)
    await context.abort(_STATUS_CODES[refusal.grpc_code], refusal.message, trailing)

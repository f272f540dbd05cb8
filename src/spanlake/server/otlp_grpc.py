"""OTLP over gRPC: `TraceService/Export` with raw protobuf bytes in and out. Statuses: wire-contract section 7.3.

gRPC's own threads read and parse HTTP/2; a call's message is received, and the durable write waited for, on a thread of the receive
pool. Every call is handled as one that streams its request, although clients send one message: such a handler starts before the message
is there, so that a call can be refused without reading it, and cancelled when the message takes too long.

gRPC itself bounds messages, before and after decompression, at `request_bytes_max` and refuses larger ones with RESOURCE_EXHAUSTED.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, NoReturn, cast

import grpc

from spanlake.model.errors import ConfigError, InvalidInput
from spanlake.model.ingest import Accepted
from spanlake.model.settings import ServerSettings
from spanlake.server.access.credentials import Role
from spanlake.server.access.decide import OPEN, TENANT_HEADER, Access, metadata_values
from spanlake.server.edge_metrics import EdgeMetrics
from spanlake.server.errors import Refusal, push_refusal_of
from spanlake.server.ports import SpanReceiver
from spanlake.server.transport.sockets import address, bind
from spanlake.server.transport.tls import Tls
from spanlake.server.work_pool import WorkPool
from spanlake.wire.rpc_status import encode_export_response, encode_status

PROTOCOL = "otlp_grpc"
EXPORT_METHOD = "/opentelemetry.proto.collector.trace.v1.TraceService/Export"
STREAMS_PER_CONNECTION_MAX = 256
REFUSING_THREADS = 2

_STATUS_CODES = {code.value[0]: code for code in grpc.StatusCode}


class SlowCalls:
    """Calls whose message has not arrived yet and when they are given up. Pool threads begin and end them, one sweeper cancels."""

    def __init__(self, seconds_max: float, clock: Callable[[], float]) -> None:
        self._seconds_max = seconds_max
        self._clock = clock
        self._deadline_by_call: dict[Any, float] = {}

    def receive(self, requests: Iterator[bytes], context: Any) -> bytes:
        """The call's message; grpc.RpcError if it was cancelled, by the sweeper or by the client."""
        self._deadline_by_call[context] = self._clock() + self._seconds_max
        try:
            message = next(requests, None)
        finally:
            self._deadline_by_call.pop(context, None)
        if message is None:
            raise InvalidInput("the call has no message")
        return message

    def count(self) -> int:
        """Calls that wait for their message."""
        return len(self._deadline_by_call)

    def sweep(self) -> None:
        """Cancel the calls that are late. The client sees CANCELLED, which exporters retry."""
        now = self._clock()
        for context, deadline in list(self._deadline_by_call.items()):
            if deadline < now:
                context.cancel()


@dataclass(frozen=True, slots=True)
class ExportEdge:
    """What every export needs."""

    receiver: SpanReceiver
    pool: WorkPool
    settings: ServerSettings
    metrics: EdgeMetrics
    access: Access = OPEN


class ExportHandler(grpc.GenericRpcHandler):
    """Routes the one method. `service` runs on gRPC's own thread, the others on pool threads."""

    def __init__(self, edge: ExportEdge, slow_calls: SlowCalls) -> None:
        self._edge = edge
        self._slow_calls = slow_calls
        self._export: Any = grpc.stream_unary_rpc_method_handler(self.export)
        self._refuse: Any = grpc.stream_unary_rpc_method_handler(RefuseAsOverloaded(edge.pool, edge.metrics))

    def service(self, handler_call_details: Any) -> Any:
        """The handler of a call; None for a method that is not ours, which gRPC answers with UNIMPLEMENTED."""
        if handler_call_details.method != EXPORT_METHOD:
            return None
        return self._refuse if self._edge.pool.full else self._export

    def export(self, requests: Iterator[bytes], context: Any) -> bytes:
        """Take one export request; the answer's bytes, or an aborted call."""
        edge, values = self._edge, metadata_values(context.invocation_metadata())
        try:
            identity = edge.access.identify(values, Role.WRITE)  # before anything is taken from a stranger
            message = self._slow_calls.receive(requests, context)
            # An empty request succeeds before anybody asks for the tenant.
            accepted = edge.receiver.accept(identity.tenant(values(TENANT_HEADER)), message) if message else Accepted(0)
        except grpc.RpcError:
            raise  # the call is over, there is nobody to answer
        except Exception as error:  # noqa: BLE001 whatever it is, the client gets a status that it understands
            _refuse(context, push_refusal_of(error), edge.metrics)
        edge.metrics.taken(PROTOCOL, len(message))
        return encode_export_response(accepted.rejected, accepted.reason)


class RefuseAsOverloaded:
    """Answers calls beyond the queue at once, on threads of its own (the name of the attribute is gRPC's), without reading them."""

    def __init__(self, pool: WorkPool, metrics: EdgeMetrics) -> None:
        self.experimental_thread_pool = ThreadPoolExecutor(REFUSING_THREADS, thread_name_prefix="otlp-grpc-refuse")
        self._pool = pool
        self._metrics = metrics

    def __call__(self, _requests: Iterator[bytes], context: Any) -> bytes:
        _refuse(context, push_refusal_of(self._pool.overloaded()), self._metrics)


class OtlpGrpcServer:
    """Owns the gRPC server of the OTLP port, from `start` to `stop`."""

    def __init__(self, edge: ExportEdge, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._settings = edge.settings
        self.slow_calls = SlowCalls(edge.settings.body_seconds, clock)
        handler = ExportHandler(edge, self.slow_calls)
        self._server = grpc.server(cast("ThreadPoolExecutor", edge.pool), handlers=[handler], options=_options(edge.settings))

    def start(self, tls: Tls | None = None) -> int:
        """Bind and serve; the port in use. ConfigError if it cannot be bound."""
        host, port = self._settings.host, self._settings.otlp_grpc_port
        with bind(host, port, "otlp_grpc_port") as probe:  # gRPC would not say what is wrong, but log it
            port = probe.getsockname()[1]
        try:
            if tls is None:
                bound = self._server.add_insecure_port(address(host, port))
            else:
                bound = self._server.add_secure_port(address(host, port), tls.grpc_credentials)
        except RuntimeError as error:
            raise ConfigError(f"cannot listen on {address(host, port)} (server.otlp_grpc_port): {error}") from error
        self._server.start()
        return int(bound)

    async def stop(self, drain_seconds: float) -> None:
        """Refuse new calls at once, let those in flight finish for `drain_seconds`, then cancel them."""
        await asyncio.to_thread(self._server.stop(drain_seconds).wait)


def _options(settings: ServerSettings) -> list[tuple[str, int]]:
    return [
        ("grpc.max_receive_message_length", settings.request_bytes_max),
        ("grpc.max_concurrent_streams", STREAMS_PER_CONNECTION_MAX),
        ("grpc.so_reuseport", 0),  # else two servers would share the port without a word
        # Dead peers are found by pings every two minutes; clients may ping every 10 s, calls in flight or not.
        ("grpc.keepalive_time_ms", 120_000),
        ("grpc.keepalive_timeout_ms", 20_000),
        ("grpc.keepalive_permit_without_calls", 1),
        ("grpc.http2.min_ping_interval_without_data_ms", 10_000),
        ("grpc.http2.min_recv_ping_interval_without_data_ms", 10_000),
    ]


def _refuse(context: Any, refusal: Refusal, metrics: EdgeMetrics) -> NoReturn:
    """Abort the call. RetryInfo goes into the trailing metadata: without it, exporters drop what was RESOURCE_EXHAUSTED."""
    metrics.refused(PROTOCOL, refusal.grpc_code)
    if refusal.retry_after_seconds is not None:
        details = encode_status(refusal.grpc_code, refusal.message, refusal.retry_after_seconds)
        context.set_trailing_metadata((("grpc-status-details-bin", details),))
    context.abort(_STATUS_CODES[refusal.grpc_code], refusal.message)
    raise AssertionError("abort raises")

"""One port for two protocols: the first bytes of a connection say who speaks on it from then on.

An HTTP/2 client with prior knowledge begins with a preface that no HTTP/1.1 request begins with. Such a connection is piped to the gRPC
server of this process, which listens on a private socket; any other is handed to HTTP together with the bytes that came, and nothing of
this module remains in its way. Why so: ADR 8.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import socket
from collections.abc import Callable
from typing import Any, Protocol

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
"""RFC 9113, section 3.4."""

FLUSH_SECONDS = 1.0
"""For what the gRPC server sent last, when it stops."""

LOOK_SECONDS = 0.02
REST_BYTES = 1 << 16


class HttpConnection(Protocol):
    """A connection of the HTTP server, as far as it matters here: an asyncio protocol that can be taken off its transport."""

    connections: set[Any]

    def connection_made(self, transport: asyncio.Transport) -> None: ...
    def connection_lost(self, exc: Exception | None) -> None: ...
    def data_received(self, data: bytes) -> None: ...
    def release(self) -> None:
        """Forget the connection without closing it."""
        ...


class Pipes:
    """The connections that are piped to the gRPC server, which listens at `socket_path`. For one event loop."""

    def __init__(self, socket_path: str, *, stall_seconds: float) -> None:
        self.stall_seconds = stall_seconds
        self._path = socket_path
        self._numbers = itertools.count()
        self._open: dict[str, ClientEnd] = {}

    async def connect(self, client: ClientEnd) -> tuple[str, ServerEnd]:
        """(the name of a new pipe, its other end). OSError if the server has gone."""
        # Both ends have names, else all peers would look alike. Once the connection stands, nobody needs this one's entry in the directory.
        path = f"{self._path}-{next(self._numbers)}"
        end = socket.socket(socket.AF_UNIX)
        try:
            end.setblocking(False)  # noqa: FBT003
            end.bind(path)
            loop = asyncio.get_running_loop()
            await loop.sock_connect(end, self._path)
            _, server = await loop.create_unix_connection(lambda: ServerEnd(client), sock=end)
        except BaseException:
            end.close()
            raise
        finally:
            with contextlib.suppress(OSError):
                os.unlink(path)  # noqa: PTH108 as quick as it gets, on the event loop
        name = _name(path)
        self._open[name] = client
        return name, server

    def forget(self, name: str) -> None:
        """The pipe is closed."""
        self._open.pop(name, None)

    def drop(self, peer: str) -> None:
        """Close the connection at once, with all its calls, that the gRPC server knows as this peer, `unix:/…`."""
        client = self._open.get(_name(peer))
        if client is not None:
            client.transport.abort()


def _name(path: str) -> str:
    """The last part, in which no character needs an escape in a URI."""
    return path.rpartition("/")[2]


def shared_protocol(http: Callable[..., Any], pipes: Pipes) -> Callable[..., asyncio.Protocol]:
    """For uvicorn's `http` option: connections of `http`, or pipes, as they begin."""

    def connection(**named: Any) -> asyncio.Protocol:
        return UndecidedConnection(http(**named), pipes)

    return connection


class UndecidedConnection(asyncio.Protocol):
    """A connection whose first bytes have not all come. It counts as one of HTTP's, with the limits and timers of those."""

    def __init__(self, http: HttpConnection, pipes: Pipes) -> None:
        self._http: Any = http
        self._pipes = pipes
        self._begin = b""
        self._transport: Any = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport
        self._http.connection_made(transport)

    def data_received(self, data: bytes) -> None:
        self._begin += data
        if self._begin.startswith(PREFACE):
            self._http.release()
            pipe = ClientEnd(self._http.connections, self._pipes)
            self._transport.set_protocol(pipe)
            pipe.connection_made(self._transport)
            pipe.data_received(self._begin)
        elif not PREFACE.startswith(self._begin):
            self._transport.set_protocol(self._http)
            self._http.data_received(self._begin)

    def connection_lost(self, exc: Exception | None) -> None:
        self._http.connection_lost(exc)


class PipeEnd(asyncio.Protocol):
    """One end of a pipe: what comes goes out at the other end, no faster than that one is read."""

    def __init__(self) -> None:
        self.transport: Any = None
        self.other: PipeEnd | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        assert self.other is not None
        self.other.transport.write(data)

    def pause_writing(self) -> None:
        if self.other is not None:
            self.other.transport.pause_reading()

    def resume_writing(self) -> None:
        if self.other is not None:
            self.other.transport.resume_reading()


class ServerEnd(PipeEnd):
    """The end at the gRPC server."""

    def __init__(self, client: ClientEnd) -> None:
        super().__init__()
        self.other = client

    def connection_lost(self, exc: Exception | None) -> None:
        assert isinstance(self.other, ClientEnd)
        if exc is not None:
            self._pass_on_the_rest(self.other)
        self.other.finish()

    def _pass_on_the_rest(self, client: PipeEnd) -> None:
        """When the gRPC server has closed, what the client says fails to be written, and asyncio gives up reading for it. What the server
        said before, the end of the last calls when it stops, is still in the socket, which is closed after this."""
        descriptor = self.transport.get_extra_info("socket").fileno()
        with contextlib.suppress(OSError):
            while chunk := os.read(descriptor, REST_BYTES):
                client.transport.write(chunk)


class ClientEnd(PipeEnd):
    """The end at the client. In `connections` as long as it is open; uvicorn asks it to shut down as it asks HTTP connections."""

    def __init__(self, connections: set[Any], pipes: Pipes) -> None:
        super().__init__()
        self._connections = connections
        self._pipes = pipes
        self._early = b""
        self._name = ""
        self._connecting: asyncio.Task[None] | None = None
        self._abort_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self._connections.add(self)
        self.transport.pause_reading()
        self._connecting = asyncio.get_running_loop().create_task(self._connect())

    def data_received(self, data: bytes) -> None:
        if self.other is None:
            self._early += data
        else:
            super().data_received(data)

    def connection_lost(self, _exc: Exception | None) -> None:
        self._connections.discard(self)
        self._pipes.forget(self._name)
        if self._abort_timer is not None:
            self._abort_timer.cancel()
        if self._connecting is not None:
            self._connecting.cancel()
        if self.other is not None:
            self.other.transport.close()

    def finish(self) -> None:
        """Close once the client has read what is left, or does not."""
        if not self.transport.is_closing():
            self.transport.close()
            self._abort_timer = asyncio.get_running_loop().call_later(self._pipes.stall_seconds, self.transport.abort)

    def shutdown(self) -> None:
        """Nothing: the gRPC server says goodbye to its clients when it stops, and closes its end."""

    async def _connect(self) -> None:
        try:
            self._name, server = await self._pipes.connect(self)
        except OSError:
            self.transport.abort()  # the gRPC server is gone, so this one is stopping
            return
        self.other = server
        self.transport.resume_reading()  # before the write, which may say that there is enough for now
        early, self._early = self._early, b""
        server.transport.write(early)


class PipeListener:
    """A port for gRPC alone: every connection on a bound socket, which it owns, is piped. `wrapped` puts a protocol behind TLS."""

    def __init__(
        self,
        bound: socket.socket,
        pipes: Pipes,
        *,
        connections_max: int,
        drain_seconds: float,
        wrapped: Callable[[Callable[[], asyncio.Protocol]], Callable[[], asyncio.Protocol]] = lambda protocol: protocol,
    ) -> None:
        self._socket = bound
        self._pipes = pipes
        self._connections_max = connections_max
        self._drain_seconds = drain_seconds
        self._wrapped = wrapped
        self._connections: set[Any] = set()
        self._server: asyncio.Server | None = None

    async def start(self) -> None:
        """Accept connections."""
        self._server = await asyncio.get_running_loop().create_server(self._wrapped(self._protocol), sock=self._socket)

    def count_connections(self) -> int:
        """Open connections, idle ones included."""
        return len(self._connections)

    async def stop(self) -> None:
        """Close the socket. The gRPC server, which stops meanwhile, closes the connections; those that are left after all are dropped."""
        if self._server is not None:
            self._server.close()
        loop = asyncio.get_running_loop()
        end = loop.time() + self._drain_seconds + FLUSH_SECONDS
        while self._connections and loop.time() < end:  # noqa: ASYNC110 uvicorn looks as often
            await asyncio.sleep(LOOK_SECONDS)
        for connection in list(self._connections):
            connection.transport.abort()

    def _protocol(self) -> asyncio.Protocol:
        full = len(self._connections) >= self._connections_max
        return RefusedConnection() if full else ClientEnd(self._connections, self._pipes)


class RefusedConnection(asyncio.Protocol):
    """One too many."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        transport.close()

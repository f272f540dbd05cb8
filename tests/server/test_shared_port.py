"""HTTP/1.1 and gRPC on one port: who gets a connection, what its first bytes may be, and what bounds both."""

from __future__ import annotations

import asyncio
import contextlib
import os
import resource
import socket
import struct
import tempfile
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest
from serving import WAIT_SECONDS, Served, eventually, read_to_end, serving
from tempo_proto import tempo_message

from spanlake.model.errors import ConfigError
from spanlake.model.queries import Inspected, SearchAnswer
from spanlake.server.transport.front import ClientEnd, Pipes
from spanlake.server.transport.sockets import bind

pytestmark = pytest.mark.slow

ECHO = b"GET /api/echo HTTP/1.1\r\nHost: x\r\n\r\n"
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
EMPTY_SETTINGS = b"\x00\x00\x00\x04\x00\x00\x00\x00\x00"
SETTINGS, PING, GOAWAY = 4, 6, 7
MAX_CONCURRENT_STREAMS = 3
SOON = 0.05
NOTHING = SearchAnswer((), Inspected())


@contextmanager
def connected(port: int) -> Iterator[socket.socket]:
    with socket.create_connection(("127.0.0.1", port), WAIT_SECONDS) as connection:
        yield connection


def read_exactly(connection: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        chunk = connection.recv(size - len(data))
        assert chunk, data
        data += chunk
    return data


def read_frame(connection: socket.socket) -> tuple[int, bytes]:
    """The type and the payload of the HTTP/2 frame that comes."""
    head = read_exactly(connection, 9)
    return head[3], read_exactly(connection, int.from_bytes(head[:3], "big"))


def read_echo(connection: socket.socket) -> bytes:
    data = b""
    while not data.endswith(b"echo\n"):
        data += read_exactly(connection, 1)
    return data


def greet_and_wait(connection: socket.socket, hello: bytes) -> None:
    """Send and wait for the end. A server that closes before it has read everything resets the connection."""
    with contextlib.suppress(ConnectionError):
        connection.sendall(hello)
        with contextlib.suppress(OSError):
            connection.shutdown(socket.SHUT_WR)
        read_to_end(connection)


def search(channel: grpc.Channel) -> Any:
    """A running search."""
    response = tempo_message("SearchResponse")
    call: Any = channel.unary_stream("/tempopb.StreamingQuerier/Search", lambda message: message, response.FromString)
    return call(b"", timeout=WAIT_SECONDS)


@contextmanager
def opened(port: int) -> Iterator[grpc.Channel]:
    """A channel with a connection of its own."""
    with grpc.insecure_channel(f"127.0.0.1:{port}", options=[("grpc.use_local_subchannel_pool", 1)]) as channel:
        yield channel


@contextmanager
def nothing_found(**settings: Any) -> Iterator[Served]:
    with serving(**settings) as served:
        served.queries.outcome = NOTHING
        yield served


@pytest.fixture(scope="module")
def served() -> Iterator[Served]:
    with nothing_found() as served:
        yield served


# --- the first bytes


@pytest.mark.parametrize("size", [1, 2, 23, 24, 25])
def test_http_is_answered_when_its_first_bytes_come_in_pieces(served: Served, size: int) -> None:
    request = b"POST" + ECHO.removeprefix(b"GET")
    with connected(served.ports.http) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for begin in range(0, len(request), size):
            connection.sendall(request[begin : begin + size])
        assert read_exactly(connection, 12) == b"HTTP/1.1 405"


@pytest.mark.parametrize("size", [1, 3, 23, 24, 33])
def test_http2_is_answered_when_its_first_bytes_come_in_pieces(served: Served, size: int) -> None:
    hello = PREFACE + EMPTY_SETTINGS
    with connected(served.ports.http) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for begin in range(0, len(hello), size):
            connection.sendall(hello[begin : begin + size])
        assert read_frame(connection)[0] == SETTINGS


def test_http_is_answered_in_order_when_requests_come_together_with_the_first_bytes(served: Served) -> None:
    with connected(served.ports.http) as connection:
        connection.sendall(ECHO * 3 + ECHO[:7])
        for _ in range(3):
            assert read_echo(connection).startswith(b"HTTP/1.1 200 ")
        connection.sendall(ECHO[7:])
        assert read_echo(connection).startswith(b"HTTP/1.1 200 ")


@pytest.mark.parametrize("begin", [b"", b"P", PREFACE[:-1], PREFACE])
def test_connection_is_closed_when_its_first_bytes_do_not_end(begin: bytes) -> None:
    with nothing_found(header_seconds=SOON) as served, connected(served.ports.http) as connection:
        connection.sendall(begin)
        assert not read_to_end(connection).startswith(b"HTTP")
        eventually(lambda: served.metric("spanlake_http_connections", listener="http") == 0)


@pytest.mark.parametrize("begin", [b"", b"P", PREFACE[:-1], PREFACE, PREFACE + EMPTY_SETTINGS])
def test_connection_is_forgotten_when_the_client_closes_it_early(served: Served, begin: bytes) -> None:
    eventually(lambda: served.metric("spanlake_http_connections", listener="http") == 0)
    with connected(served.ports.http) as connection:
        connection.sendall(begin)
        eventually(lambda: served.metric("spanlake_http_connections", listener="http") == 1)
    eventually(lambda: served.metric("spanlake_http_connections", listener="http") == 0)


GARBAGE = [b"\x00" * 100, b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", PREFACE[:-1] + b"x", b"\xff" * 3000]
HTTP2_GARBAGE = [PREFACE + b"\xff" * 100, PREFACE + ECHO, PREFACE + EMPTY_SETTINGS + b"\x00" * 100]


@pytest.mark.parametrize("garbage", GARBAGE)
def test_connection_is_closed_with_400_when_it_speaks_neither(served: Served, garbage: bytes) -> None:
    with connected(served.ports.http) as connection:
        connection.sendall(garbage)
        assert read_exactly(connection, 13) == b"HTTP/1.1 400 "


@pytest.mark.parametrize("garbage", HTTP2_GARBAGE)
@pytest.mark.parametrize("port", ["http", "grpc"])
def test_connection_is_closed_when_it_speaks_no_http2_after_all(served: Served, port: str, garbage: bytes) -> None:
    with connected(getattr(served.ports, port)) as connection:
        greet_and_wait(connection, garbage)
    with opened(getattr(served.ports, port)) as channel:
        assert len(list(search(channel))) == 1


def test_grpc_port_closes_a_connection_that_speaks_http1(served: Served) -> None:
    with connected(served.ports.grpc) as connection:
        connection.sendall(ECHO)
        assert b"200" not in read_to_end(connection)


# --- both at once


def test_http_and_grpc_are_answered_when_both_come_at_once(served: Served) -> None:
    def http() -> None:
        with connected(served.ports.http) as connection:
            for _ in range(20):
                connection.sendall(ECHO)
                read_echo(connection)

    def streams() -> None:
        with opened(served.ports.http) as channel:
            for _ in range(20):
                assert len(list(search(channel))) == 1

    with ThreadPoolExecutor(8) as pool:
        for done in [pool.submit(work) for work in (http, streams) * 4]:
            done.result(WAIT_SECONDS)


def test_http_is_answered_while_a_stream_waits_on_the_same_port() -> None:
    with nothing_found() as served, opened(served.ports.http) as channel:
        served.queries.waits = True
        call = search(channel)
        eventually(lambda: bool(served.queries.asked))
        assert served.get("/api/echo").status == 200
        call.cancel()
        assert served.queries.gave_up.wait(WAIT_SECONDS)


# --- bounds


def test_connections_of_both_kinds_count_when_there_are_too_many() -> None:
    with nothing_found(connections_max=2) as served:
        with opened(served.ports.http) as channel, connected(served.ports.http):
            assert len(list(search(channel))) == 1
            eventually(lambda: served.metric("spanlake_http_connections", listener="http") == 2)
            with connected(served.ports.http) as third:
                assert read_to_end(third).endswith(b"too many connections")
            with connected(served.ports.http) as third:
                greet_and_wait(third, PREFACE + EMPTY_SETTINGS)
            assert served.metric("spanlake_http_connections", listener="http") == 2
        eventually(lambda: served.metric("spanlake_http_connections", listener="http") == 0)
        with opened(served.ports.http) as channel:
            assert len(list(search(channel))) == 1


def test_grpc_port_closes_a_connection_when_there_are_too_many() -> None:
    with nothing_found(connections_max=1) as served, opened(served.ports.grpc) as channel:
        assert len(list(search(channel))) == 1
        assert served.metric("spanlake_http_connections", listener="grpc") == 1
        with connected(served.ports.grpc) as second:
            assert read_to_end(second) == b""


def test_grpc_port_closes_a_connection_that_does_not_begin() -> None:
    with nothing_found(header_seconds=SOON) as served, connected(served.ports.grpc) as connection:
        read_to_end(connection)
        eventually(lambda: served.metric("spanlake_http_connections", listener="grpc") == 0)


@pytest.mark.parametrize("port", ["http", "grpc"])
def test_http2_client_is_told_how_many_calls_it_may_make_at_once(served: Served, port: str) -> None:
    with connected(getattr(served.ports, port)) as connection:
        connection.sendall(PREFACE + EMPTY_SETTINGS)
        _, payload = read_frame(connection)
        settings = dict(struct.iter_unpack(">HI", payload))
    assert settings[MAX_CONCURRENT_STREAMS] == 256


@pytest.mark.parametrize("port", ["http", "grpc"])
def test_http2_client_is_sent_away_when_it_pings_without_end(served: Served, port: str) -> None:
    ping = b"\x00\x00\x08" + bytes((PING, 0)) + bytes(4) + b"are you?"
    with connected(getattr(served.ports, port)) as connection:
        connection.sendall(PREFACE + EMPTY_SETTINGS + ping * 10)
        while (frame := read_frame(connection))[0] != GOAWAY:
            pass
        assert b"too_many_pings" in frame[1]


@pytest.mark.parametrize("port", ["http", "grpc"])
def test_call_is_refused_when_its_metadata_is_too_large(served: Served, port: str) -> None:
    with opened(getattr(served.ports, port)) as channel:
        call: Any = channel.unary_stream("/tempopb.StreamingQuerier/Search")
        assert call(b"", metadata=(("x-scope-orgid", "a" * 70_000),)).code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert len(list(search(channel))) == 1


@pytest.mark.slow
def test_idle_grpc_connection_is_closed_after_a_while() -> None:
    with nothing_found(keep_alive_seconds=1) as served, opened(served.ports.http) as channel:
        for _ in range(2):
            assert len(list(search(channel))) == 1
            eventually(lambda: served.metric("spanlake_http_connections", listener="http") == 0)


@contextmanager
def many_files(number: int) -> Iterator[None]:
    """So many file descriptors at least, or skip."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < number:
        pytest.skip(f"needs {number} file descriptors, {hard} are allowed")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, number), hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.mark.slow
def test_server_answers_when_a_thousand_connections_are_idle() -> None:
    with many_files(8192), nothing_found() as served, ExitStack() as idle:
        for number in range(1000):
            connection = idle.enter_context(connected(served.ports.http))
            connection.sendall((b"", PREFACE + EMPTY_SETTINGS)[number % 2])
        eventually(lambda: served.metric("spanlake_http_connections", listener="http") == 1000)
        assert served.get("/api/echo").status == 200
        with opened(served.ports.http) as channel:
            assert len(list(search(channel))) == 1


# --- the end


def test_pipe_passes_on_the_last_words_when_the_client_speaks_on(tmp_path: Path) -> None:
    async def exchange() -> bytes:
        loop = asyncio.get_running_loop()
        path = str(tmp_path / "grpc")
        pipes = Pipes(path, stall_seconds=WAIT_SECONDS)
        with bind("127.0.0.1", 0, "x") as port, socket.socket(socket.AF_UNIX) as listening, connected(port.getsockname()[1]) as client:
            listening.bind(path)
            listening.listen()
            listening.settimeout(0)
            server = await loop.create_server(lambda: ClientEnd(set(), pipes), sock=port)
            far, _ = await loop.sock_accept(listening)
            client.sendall(b"hello")
            assert await loop.sock_recv(far, 5) == b"hello"
            # The pipe finds both of these when the event loop runs again, first that it cannot write.
            client.sendall(b"more")
            far.sendall(b"last words")
            far.close()
            heard = await asyncio.to_thread(read_to_end, client)
            server.close()
            return heard

    assert asyncio.run(exchange()) == b"last words"


@pytest.mark.parametrize("port", ["http", "grpc"])
def test_stop_lets_a_call_finish_when_one_is_in_flight(port: str) -> None:
    with ExitStack() as channels:
        with nothing_found() as served:
            served.queries.waits = True
            call = search(channels.enter_context(opened(getattr(served.ports, port))))
            eventually(lambda: bool(served.queries.asked))
            threading.Timer(SOON, lambda: setattr(served.queries, "waits", False)).start()
            # Leaving the context stops the server, which waits for the call.
        assert len(list(call)) == 1
        assert call.code() is grpc.StatusCode.OK


@pytest.mark.parametrize("port", ["http", "grpc"])
def test_stop_drops_a_call_when_it_does_not_finish_in_time(port: str) -> None:
    with ExitStack() as channels:
        with nothing_found(drain_seconds=0) as served:
            served.queries.waits = True
            call = search(channels.enter_context(opened(getattr(served.ports, port))))
            eventually(lambda: bool(served.queries.asked))
        assert call.code() in {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED}
        assert served.queries.gave_up.wait(WAIT_SECONDS)


def test_start_says_what_to_do_when_the_path_of_the_socket_is_too_long(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    deep = tmp_path / ("x" * 80)
    deep.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(deep))
    with pytest.raises(ConfigError, match="TMPDIR"), nothing_found():
        pass
    assert not list(deep.iterdir())


@pytest.fixture
def short_path(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A directory for temporary files; the path of a socket has room for about a hundred characters, which pytest's own may exceed."""
    with tempfile.TemporaryDirectory(prefix="s") as directory:
        monkeypatch.setattr(tempfile, "tempdir", directory)
        yield Path(directory)


def test_start_removes_what_killed_servers_left_behind_and_nothing_else(short_path: Path) -> None:

    def directory(name: str, *, age_seconds: float, socket_there: bool = True) -> Path:
        made = short_path / f"spanlake-{name}"
        made.mkdir()
        if socket_there:
            with socket.socket(socket.AF_UNIX) as killed:
                killed.bind(str(made / "grpc"))
        at = time.time() - age_seconds
        os.utime(made, (at, at))
        return made

    left, young, other = (
        directory("old", age_seconds=1000),
        directory("young", age_seconds=1),
        directory("other", age_seconds=1000, socket_there=False),
    )
    (other / "grpc").write_text("not a socket")
    os.utime(other, (0, 0))
    with nothing_found() as first:
        (running,) = set(short_path.iterdir()) - {left, young, other}
        os.utime(running, (0, 0))
        with nothing_found(), opened(first.ports.http) as channel:
            assert len(list(search(channel))) == 1
        assert set(short_path.iterdir()) == {running, young, other}


def test_socket_of_the_grpc_server_is_private_and_gone_afterwards(short_path: Path) -> None:
    with nothing_found() as served:
        (directory,) = short_path.iterdir()
        assert directory.stat().st_mode & 0o777 == 0o700
        with opened(served.ports.http) as channel:
            assert len(list(search(channel))) == 1
        assert [entry.name for entry in directory.iterdir()] == ["grpc"]
    assert not directory.exists()

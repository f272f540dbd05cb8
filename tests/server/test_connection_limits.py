"""What a client may do to a connection, seen from the client's end of it."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from serving import WAIT_SECONDS, Served, eventually, read_to_end, serving

from spanlake.model.trace import TraceAnswer

pytestmark = pytest.mark.slow

ECHO = b"GET /api/echo HTTP/1.1\r\nHost: x\r\n"
SOON = 0.05


@contextmanager
def connected(served: Served, *, receive_buffer_bytes: int = 0) -> Iterator[socket.socket]:
    with socket.socket() as connection:
        connection.settimeout(WAIT_SECONDS)
        if receive_buffer_bytes:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer_bytes)
        connection.connect(("127.0.0.1", served.ports.http))
        yield connection


def read_response(connection: socket.socket) -> bytes:
    """One response with a content-length."""
    data = b""
    while b"\r\n\r\n" not in data:
        data += connection.recv(1)
    size = int(data.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
    while size:
        data += (chunk := connection.recv(size))
        size -= len(chunk)
    return data


def test_connection_is_kept_when_requests_follow_each_other() -> None:
    with serving() as served, connected(served) as connection:
        for _ in range(3):
            connection.sendall(ECHO + b"\r\n")
            assert read_response(connection).endswith(b"echo\n")
        connection.sendall((ECHO + b"\r\n") * 2)
        assert read_response(connection).endswith(b"echo\n")
        assert read_response(connection).endswith(b"echo\n")


def test_request_is_431_when_its_headers_are_too_large() -> None:
    with serving(header_bytes_max=2000) as served:
        for head in (
            ECHO + b"X-A: " + b"a" * 1900 + b"\r\n\r\n",
            ECHO + b"X-A: " + b"a" * 3000,
            ECHO + b"X-A: a\r\n" * 300 + b"\r\n",
            b"GET /api/echo?" + b"a" * 3000 + b" HTTP/1.1\r\n\r\n",
        ):
            with connected(served) as connection:
                connection.sendall(head)
                expected = b"HTTP/1.1 431 " if len(head) > 2000 else b"HTTP/1.1 200 "
                assert connection.recv(13) == expected


def test_request_is_414_when_its_url_is_too_long_for_the_parser() -> None:
    with serving(header_bytes_max=1 << 20) as served:
        for size, expected in ((65_500, b"HTTP/1.1 200 "), (65_536, b"HTTP/1.1 414 "), (500_000, b"HTTP/1.1 414 ")):
            with connected(served) as connection:
                connection.sendall(b"GET /api/echo?" + b"a" * (size - 10) + b" HTTP/1.1\r\n\r\n")
                assert connection.recv(13) == expected


def test_second_request_is_431_when_its_headers_are_too_large() -> None:
    with serving(header_bytes_max=2000) as served, connected(served) as connection:
        connection.sendall(ECHO + b"X-A: " + b"a" * 1800 + b"\r\n\r\n")
        assert read_response(connection).endswith(b"echo\n")
        connection.sendall(ECHO + b"X-A: " + b"a" * 3000)
        assert read_to_end(connection).endswith(b"request headers are too large")


def test_request_is_408_when_its_headers_do_not_end() -> None:
    with serving(header_seconds=SOON) as served, connected(served) as connection:
        connection.sendall(ECHO)
        answer = read_to_end(connection)
        assert answer.startswith(b"HTTP/1.1 408 ")
        assert answer.endswith(b"request headers did not arrive in time")


def test_second_request_is_408_when_its_headers_do_not_end() -> None:
    for beginning in (ECHO, b"G", b"\r\n"):
        with serving(header_seconds=SOON) as served, connected(served) as connection:
            connection.sendall(ECHO + b"\r\n")
            assert read_response(connection).endswith(b"echo\n")
            connection.sendall(beginning)
            assert read_to_end(connection).startswith(b"HTTP/1.1 408 ")


def test_connection_is_closed_without_a_word_when_it_is_not_used() -> None:
    with serving(header_seconds=SOON) as served, connected(served) as connection:
        assert read_to_end(connection) == b""


def test_connection_is_refused_when_there_are_too_many() -> None:
    with serving(connections_max=2) as served:
        with connected(served) as first, connected(served) as second:
            for connection in (first, second):
                connection.sendall(ECHO + b"\r\n")
                assert read_response(connection).endswith(b"echo\n")
            with connected(served) as third:
                answer = read_to_end(third)
            assert answer.startswith(b"HTTP/1.1 503 Service Unavailable\r\n")
            assert answer.endswith(b"too many connections")
        eventually(lambda: served.metric("spanlake_http_connections", listener="http") == 0)
        assert served.get("/api/echo").status == 200


def test_connection_is_dropped_when_the_client_sends_on_after_a_refusal() -> None:
    head = b"POST /v1/traces HTTP/1.1\r\nContent-Type: application/json\r\nContent-Length: 999999999999\r\nHost: x\r\n\r\n"
    with serving(stall_seconds=SOON) as served, socket.create_connection(("127.0.0.1", served.ports.otlp_http), WAIT_SECONDS) as connection:
        connection.sendall(head)
        assert connection.recv(13) == b"HTTP/1.1 413 "
        eventually(lambda: served.metric("spanlake_http_connections", listener="otlp_http") == 0)


def test_connection_is_kept_when_the_client_ends_its_refused_request() -> None:
    head = b"POST /v1/traces HTTP/1.1\r\nContent-Type: text/plain\r\nContent-Length: 100000\r\nHost: x\r\n\r\n"
    with serving() as served, socket.create_connection(("127.0.0.1", served.ports.otlp_http), WAIT_SECONDS) as connection:
        for _ in range(2):
            connection.sendall(head)
            assert read_response(connection).startswith(b"HTTP/1.1 415 ")
            connection.sendall(bytes(100_000))


def test_connection_is_dropped_when_the_client_stops_reading_its_answer() -> None:
    with serving(stall_seconds=SOON) as served:
        served.reader.outcome = TraceAnswer(bytes(32 << 20), 1)
        with connected(served, receive_buffer_bytes=4096) as connection:
            connection.sendall(b"GET /api/traces/1 HTTP/1.1\r\nHost: x\r\nAccept: application/protobuf\r\n\r\n")
            assert connection.recv(13) == b"HTTP/1.1 200 "
            eventually(lambda: served.metric("spanlake_http_connections", listener="http") == 0)


def test_connection_is_closed_with_400_when_it_does_not_speak_http() -> None:
    greetings = [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\nx",
        b"CONNECT x:1 HTTP/1.1\r\nHost: x\r\n\r\n",
    ]
    with serving() as served:
        for greeting in greetings:
            with connected(served) as connection:
                connection.sendall(greeting)
                assert connection.recv(13) == b"HTTP/1.1 400 "


def test_requests_are_answered_when_the_client_offers_http2_by_upgrade() -> None:
    """As Java's HttpClient does on its first requests, with and without a body."""
    offer = b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAEAAEAAAAIAAAABAAMAAABk\r\n"
    head = b"POST /v1/traces HTTP/1.1\r\nHost: x\r\nContent-Type: application/x-protobuf\r\nContent-Length: 2\r\n"
    with serving() as served:
        with socket.create_connection(("127.0.0.1", served.ports.otlp_http), WAIT_SECONDS) as connection:
            for offered in (offer, b"", offer, offer):
                connection.sendall(head + offered + b"\r\n\x0a\x00")
                assert read_response(connection).startswith(b"HTTP/1.1 200 ")
            for byte in head + offer + b"\r\n\x0a\x00":
                connection.sendall(bytes((byte,)))
            assert read_response(connection).startswith(b"HTTP/1.1 200 ")
            connection.sendall((head + offer + b"\r\n\x0a\x00") * 3)
            for _ in range(3):
                assert read_response(connection).startswith(b"HTTP/1.1 200 ")
        assert [payload for _, payload in served.receiver.pushed] == [b"\x0a\x00"] * 8
        with connected(served) as connection:
            for offered in (offer, b"", offer):
                connection.sendall(ECHO + offered + b"\r\n")
                assert read_response(connection).endswith(b"echo\n")

"""TLS on every port over real sockets, with certificates made for the test; what is wrong with a certificate is said at the start."""

from __future__ import annotations

import http.client
import socket
import ssl
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import grpc
import pytest
from certificates import Certificate, self_signed, with_passphrase
from serving import FREE_PORTS, Served, eventually, listening, read_to_end, recording_queries

from spanlake.model.errors import ConfigError
from spanlake.model.settings import QuerySettings, TlsSettings
from spanlake.server.listeners import Core, Listeners
from spanlake.server.otlp_grpc import EXPORT_METHOD
from spanlake.server.transport.tls import load_tls

PAYLOAD = b"\n\x00"


@pytest.fixture(scope="module")
def server_certificate(tmp_path_factory: pytest.TempPathFactory) -> Certificate:
    return self_signed(tmp_path_factory.mktemp("server"), "server")


@pytest.fixture(scope="module")
def client_certificate(tmp_path_factory: pytest.TempPathFactory) -> Certificate:
    return self_signed(tmp_path_factory.mktemp("client"), "client")


def tls_settings(server: Certificate, client: Certificate | None = None) -> TlsSettings:
    return TlsSettings(str(server.certificate), str(server.key), str(client.certificate) if client else "")


@contextmanager
def serving_tls(settings: TlsSettings, **server: Any) -> Iterator[Served]:
    served = Served()
    core = Core(served.receiver, served.reader, served.health, served.registry, recording_queries(served.queries), tls=load_tls(settings))
    with listening(Listeners(core, replace(FREE_PORTS, **server), QuerySettings())) as served.ports:
        yield served


@pytest.fixture(scope="module")
def secure(server_certificate: Certificate) -> Iterator[Served]:
    with serving_tls(tls_settings(server_certificate)) as served:
        yield served


def trusting(server: Certificate, client: Certificate | None = None, *protocols: str) -> ssl.SSLContext:
    """A client that trusts the server, and perhaps has a certificate of its own."""
    context = ssl.create_default_context(cafile=str(server.certificate))
    if client:
        context.load_cert_chain(client.certificate, client.key)
    if protocols:
        context.set_alpn_protocols(list(protocols))
    return context


def ask(port: int, context: ssl.SSLContext, method: str = "GET", path: str = "/api/echo", **named: Any) -> tuple[int, bytes]:
    connection = http.client.HTTPSConnection("localhost", port, timeout=20, context=context)
    try:
        connection.request(method, path, **named)
        response = connection.getresponse()
        return response.status, response.read()
    finally:
        connection.close()


def push(port: int, context: ssl.SSLContext) -> int:
    return ask(port, context, "POST", "/v1/traces", body=PAYLOAD, headers={"Content-Type": "application/x-protobuf"})[0]


@contextmanager
def grpc_channel(port: int, server: Certificate, client: Certificate | None = None) -> Iterator[grpc.Channel]:
    own = (client.key.read_bytes(), client.certificate.read_bytes()) if client else (None, None)
    credentials = grpc.ssl_channel_credentials(server.certificate.read_bytes(), *own)
    with grpc.secure_channel(f"localhost:{port}", credentials) as channel:
        yield channel


def searched(port: int, server: Certificate, client: Certificate | None = None) -> grpc.StatusCode:
    """How a search with a broken request ends: INVALID_ARGUMENT if it arrived."""
    with grpc_channel(port, server, client) as channel:
        search: Any = channel.unary_stream("/tempopb.StreamingQuerier/Search")
        with pytest.raises(grpc.RpcError) as refusal:
            list(search(b"\xff", timeout=20))
    error: Any = refusal.value
    code: grpc.StatusCode = error.code()
    return code


def test_every_port_is_encrypted_when_there_is_a_certificate(secure: Served, server_certificate: Certificate) -> None:
    context = trusting(server_certificate)
    assert ask(secure.ports.http, context) == (200, b"echo\n")
    assert push(secure.ports.otlp_http, context) == 200
    with grpc_channel(secure.ports.otlp_grpc, server_certificate) as channel:
        export: Any = channel.unary_unary(EXPORT_METHOD)
        assert export(PAYLOAD, timeout=20) == b"\n\x00"
    assert len(secure.receiver.pushed) == 2
    for port in (secure.ports.http, secure.ports.grpc):
        assert searched(port, server_certificate) == grpc.StatusCode.INVALID_ARGUMENT


def test_nothing_is_served_in_the_clear_when_there_is_a_certificate(secure: Served) -> None:
    for port in (secure.ports.http, secure.ports.otlp_http, secure.ports.grpc, secure.ports.otlp_grpc):
        with socket.create_connection(("localhost", port), timeout=20) as plain:
            plain.sendall(b"GET /api/echo HTTP/1.1\r\nHost: x\r\n\r\n")
            with suppress(ConnectionResetError):
                assert b"HTTP/1.1 200" not in read_to_end(plain)


@pytest.mark.parametrize(
    ("port", "offered", "chosen"),
    [
        ("http", ["h2", "http/1.1"], "http/1.1"),  # as Go's HTTP client offers, which wants HTTP, in whatever version
        ("http", ["h2"], "h2"),
        ("http", [], None),
        ("otlp_http", ["h2", "http/1.1"], "http/1.1"),
        ("grpc", ["h2"], "h2"),
    ],
)
def test_protocol_is_the_one_that_the_client_means(
    secure: Served, server_certificate: Certificate, port: str, offered: list[str], chosen: str | None
) -> None:
    context = trusting(server_certificate, None, *offered)
    plain = socket.create_connection(("localhost", getattr(secure.ports, port)), timeout=20)
    with context.wrap_socket(plain, server_hostname="localhost") as wrapped:
        assert wrapped.selected_alpn_protocol() == chosen


def test_clients_need_a_certificate_when_there_is_an_authority_for_them(
    server_certificate: Certificate, client_certificate: Certificate
) -> None:
    stranger = trusting(server_certificate)
    friend = trusting(server_certificate, client_certificate)
    with serving_tls(tls_settings(server_certificate, client_certificate)) as served:
        assert ask(served.ports.http, friend)[0] == 200
        assert push(served.ports.otlp_http, friend) == 200
        for port in (served.ports.http, served.ports.otlp_http):
            with pytest.raises((ssl.SSLError, ConnectionError, http.client.RemoteDisconnected)):
                ask(port, stranger)
        for port in (served.ports.http, served.ports.grpc):
            assert searched(port, server_certificate, client_certificate) == grpc.StatusCode.INVALID_ARGUMENT
            assert searched(port, server_certificate) == grpc.StatusCode.UNAVAILABLE
        with grpc_channel(served.ports.otlp_grpc, server_certificate) as channel:
            export: Any = channel.unary_unary(EXPORT_METHOD)
            with pytest.raises(grpc.RpcError):
                export(PAYLOAD, timeout=20)
        assert len(served.receiver.pushed) == 1


def test_large_answers_and_many_requests_go_through_one_connection(secure: Served, server_certificate: Certificate) -> None:
    connection = http.client.HTTPSConnection("localhost", secure.ports.http, timeout=20, context=trusting(server_certificate))
    for _ in range(5):
        connection.request("GET", "/metrics")
        assert len(connection.getresponse().read()) > 1000
    connection.close()


def test_handshakes_that_do_not_end_are_bounded_in_time_and_number(server_certificate: Certificate) -> None:
    with serving_tls(tls_settings(server_certificate), header_seconds=0.3, connections_max=3) as served, ExitStack() as stack:
        idle = [stack.enter_context(socket.create_connection(("localhost", served.ports.http), timeout=20)) for _ in range(6)]
        for one in idle:
            with suppress(ConnectionResetError):
                assert read_to_end(one) == b""
        eventually(lambda: ask(served.ports.http, trusting(server_certificate))[0] == 200)


def test_start_says_what_is_wrong_with_a_certificate(
    tmp_path: Path, server_certificate: Certificate, client_certificate: Certificate
) -> None:
    certificate, key = str(server_certificate.certificate), str(server_certificate.key)
    garbage = tmp_path / "garbage.pem"
    garbage.write_text("nothing")
    encrypted = str(with_passphrase(server_certificate, "secret"))
    cases = [
        (TlsSettings(certificate), "tls.certificate_file needs tls.key_file"),
        (TlsSettings("", key), "tls.key_file needs tls.certificate_file"),
        (TlsSettings("", "", certificate), "tls.client_ca_file needs"),
        (TlsSettings("/no/such.pem", key), "tls.certificate_file: /no/such.pem cannot be read: No such file or directory"),
        (TlsSettings(certificate, "/no/such.key"), "tls.key_file: /no/such.key cannot be read"),
        (TlsSettings(certificate, str(client_certificate.key)), "are no certificate and its key, PEM: KEY_VALUES_MISMATCH"),
        (TlsSettings(str(garbage), key), "are no certificate and its key"),
        (TlsSettings(certificate, encrypted), "has a passphrase"),
        (TlsSettings(certificate, key, str(garbage)), "tls.client_ca_file: .* has no certificates"),
    ]
    for settings, message in cases:
        with pytest.raises(ConfigError, match=message):
            load_tls(settings)
    assert load_tls(TlsSettings()) is None

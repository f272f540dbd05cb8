"""TLS for every listener, from one certificate.

For asyncio's listeners the handshake is a protocol of its own in front of the one that is encrypted, so that it has bounds in time and in
number: each one under way takes half a megabyte. HTTP/2 is offered where gRPC is served, after HTTP/1.1: clients that speak both, as
browsers and Go's HTTP client do, mean HTTP, and those that speak only HTTP/2 mean gRPC.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc

from spanlake.model.errors import ConfigError
from spanlake.model.settings import TlsSettings

HTTP, GRPC = "http/1.1", "h2"
SHUTDOWN_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class Tls:
    """The certificate, ready for use: contexts by the protocols that are offered, in the server's order, and credentials for gRPC."""

    http: ssl.SSLContext
    http_and_grpc: ssl.SSLContext
    grpc: ssl.SSLContext
    grpc_credentials: Any


@dataclass(frozen=True, slots=True)
class Handshakes:
    """The bounds on handshakes of one listener."""

    context: ssl.SSLContext
    seconds_max: float
    pending_max: int


def load_tls(settings: TlsSettings) -> Tls | None:
    """What the settings name, loaded and checked; None if they name nothing. ConfigError that says what is wrong with which file."""
    if not settings.certificate_file and not settings.key_file:
        if settings.client_ca_file:
            raise ConfigError("tls.client_ca_file needs tls.certificate_file and tls.key_file, which are not given")
        return None
    if not settings.certificate_file or not settings.key_file:
        missing, given = ("certificate_file", "key_file") if settings.key_file else ("key_file", "certificate_file")
        raise ConfigError(f"tls.{given} needs tls.{missing}, which is not given")
    certificate, key = _read(settings.certificate_file, "certificate_file"), _read(settings.key_file, "key_file")
    authorities = _read(settings.client_ca_file, "client_ca_file") if settings.client_ca_file else None
    http, both, only_grpc = (_context(settings, protocols) for protocols in ([HTTP], [HTTP, GRPC], [GRPC]))
    credentials = grpc.ssl_server_credentials([(key, certificate)], authorities, require_client_auth=authorities is not None)
    return Tls(http, both, only_grpc, credentials)


def _read(path: str, setting: str) -> bytes:
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise ConfigError(f"tls.{setting}: {path} cannot be read: {error.strerror}") from None


def _context(settings: TlsSettings, protocols: Sequence[str]) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(protocols)

    def no_passphrase() -> str:
        raise ConfigError(f"tls.key_file: {settings.key_file} has a passphrase, and nobody is there to type it: give a key without one")

    try:
        context.load_cert_chain(settings.certificate_file, settings.key_file, no_passphrase)
    except (ssl.SSLError, OSError) as error:
        reason = getattr(error, "reason", None) or str(error)
        files = f"{settings.certificate_file} and {settings.key_file}"
        raise ConfigError(f"tls.certificate_file, tls.key_file: {files} are no certificate and its key, PEM: {reason}") from None
    if settings.client_ca_file:
        context.verify_mode = ssl.CERT_REQUIRED
        try:
            context.load_verify_locations(settings.client_ca_file)
        except (ssl.SSLError, OSError) as error:
            reason = getattr(error, "reason", None) or str(error)
            raise ConfigError(f"tls.client_ca_file: {settings.client_ca_file} has no certificates, PEM: {reason}") from None
    return context


def secured(inner: Callable[..., Any], bounds: Handshakes) -> Callable[..., asyncio.Protocol]:
    """A factory of protocols that do a handshake, and then are what `inner` makes."""
    pending: set[HandshakingConnection] = set()

    def connection(**named: Any) -> asyncio.Protocol:
        return HandshakingConnection(lambda: inner(**named), bounds, pending)

    return connection


class HandshakingConnection(asyncio.Protocol):
    """A connection until its handshake is over. It ends without a word if that fails, or if too many are under way."""

    def __init__(self, inner: Callable[[], Any], bounds: Handshakes, pending: set[HandshakingConnection]) -> None:
        self._inner = inner
        self._bounds = bounds
        self._pending = pending
        self._early = b""
        self._shaking: asyncio.Task[None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        if len(self._pending) >= self._bounds.pending_max:
            transport.abort()
            return
        self._pending.add(self)
        self._shaking = asyncio.get_running_loop().create_task(self._shake(transport))

    def data_received(self, data: bytes) -> None:
        """What the client sent right after the handshake, before this end has taken note of it."""
        self._early += data

    def connection_lost(self, _exc: Exception | None) -> None:
        if self._shaking is not None:
            self._shaking.cancel()

    async def _shake(self, plain: asyncio.Transport) -> None:
        loop, bounds = asyncio.get_running_loop(), self._bounds
        try:
            transport = await loop.start_tls(
                plain,
                self,
                bounds.context,
                server_side=True,
                ssl_handshake_timeout=bounds.seconds_max,
                ssl_shutdown_timeout=SHUTDOWN_SECONDS,
            )
        except (OSError, ssl.SSLError):
            plain.abort()
            return
        finally:
            self._pending.discard(self)
        self._shaking = None
        if transport is None or transport.is_closing():
            return
        inner = self._inner()
        transport.set_protocol(inner)
        inner.connection_made(transport)
        if self._early:
            inner.data_received(self._early)

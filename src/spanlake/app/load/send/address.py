"""Where a server is: parsing its URL, checking that something listens there, and opening HTTP connections to it."""

from __future__ import annotations

import http.client
import socket
from dataclasses import dataclass
from urllib.parse import urlsplit

from spanlake.model.errors import InvalidInput, Unavailable

REACH_SECONDS = 3.0


@dataclass(frozen=True, slots=True)
class Address:
    """A server's place; `path` is what the URL holds behind the port, without a slash at the end."""

    secure: bool
    host: str
    port: int
    path: str = ""

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{'https' if self.secure else 'http'}://{host}:{self.port}{self.path}"


def parse_address(text: str, default_port: int) -> Address:
    """`http(s)://HOST[:PORT][/PATH]` or `HOST[:PORT]`; raises InvalidInput."""
    try:
        parts = urlsplit(text if "://" in text else f"http://{text}")
        port = parts.port
    except ValueError as error:
        raise InvalidInput(f"cannot read the URL {text!r}: {error}") from None
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment:
        raise InvalidInput(f"cannot use the URL {text!r}: it should look like http://127.0.0.1:{default_port}")
    return Address(parts.scheme == "https", parts.hostname, port or default_port, parts.path.rstrip("/"))


def check_reachable(address: Address, option: str) -> None:
    """Raises Unavailable, with what to do about it, unless something accepts connections there. `option` is what gave the address."""
    try:
        socket.create_connection((address.host, address.port), REACH_SECONDS).close()
    except OSError as error:
        reason = (error.strerror or str(error) or type(error).__name__).lower()
        raise Unavailable(
            f"cannot reach {address}: {reason}; start a server with `spanlake serve`, or name a running one with {option} URL"
        ) from None


def open_http(address: Address, timeout_seconds: float) -> http.client.HTTPConnection:
    """A connection that opens with its first request and again after it was closed."""
    if address.secure:
        return http.client.HTTPSConnection(address.host, address.port, timeout=timeout_seconds)
    return http.client.HTTPConnection(address.host, address.port, timeout=timeout_seconds)


def abort_http(connection: http.client.HTTPConnection) -> None:
    """Ends a request that another thread has in flight: its thread sees the connection lost."""
    if connection.sock is not None:
        try:
            connection.sock.shutdown(socket.SHUT_RDWR)
        except OSError:
            return  # closed already

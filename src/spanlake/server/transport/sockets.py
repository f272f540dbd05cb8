"""Listening sockets, with errors that name the setting to change."""

from __future__ import annotations

import os
import socket

from spanlake.model.errors import ConfigError

BACKLOG = 2048


def bind(host: str, port: int, setting: str) -> socket.socket:
    """A listening socket on `host`; ConfigError if the address cannot be bound."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # The protocol is named, because asyncio turns Nagle's algorithm off only on such sockets: else each answer takes 40 ms.
    bound = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        if os.name == "posix":
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            bound.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        bound.bind((host, port))
        bound.listen(BACKLOG)
        return bound
    except OSError as error:
        bound.close()
        raise ConfigError(f"cannot listen on {address(host, port)} (server.{setting}): {error.strerror or error}") from error


def address(host: str, port: int) -> str:
    """`host:port` as it stands in a URL."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"

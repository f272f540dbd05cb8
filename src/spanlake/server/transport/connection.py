"""One HTTP connection, with the bounds that uvicorn leaves to a proxy: connections per listener, size and time of headers, clients that
stop reading an answer or go on sending after a refusal.

uvicorn makes its connections from a class, so this extends that class; the bounds hang on its callbacks. Three timers at most exist per
connection: for headers that begin and do not end, for the end of a request that has been answered already, and for an answer that is
not read. Idle connections are uvicorn's (keep-alive), the time for a body is the endpoint's (`body`).
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

import httptools
from starlette.responses import PlainTextResponse
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

HEADER_OVERHEAD_BYTES = 4
"""Colon, space and line end, which count as part of a header."""

URL_BYTES_MAX = 65535
"""The parser's own bound."""


@dataclass(frozen=True, slots=True)
class ConnectionLimits:
    """See the settings of the same names."""

    connections_max: int
    header_bytes_max: int
    header_seconds: float
    stall_seconds: float


def bounded_protocol(connection_limits: ConnectionLimits) -> type[asyncio.Protocol]:
    """A protocol class for uvicorn's `http` option."""

    class Bounded(BoundedConnection):
        limits = connection_limits

    return Bounded


class BoundedConnection(HttpToolsProtocol):
    """A uvicorn connection within `limits`."""

    limits: ConnectionLimits

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self._in_headers = True
        self._header_bytes = 0
        self._header_timer: asyncio.TimerHandle | None = None
        self._rest_timer: asyncio.TimerHandle | None = None
        self._write_timer: asyncio.TimerHandle | None = None

    # --- the connection

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        if len(self.connections) >= self.limits.connections_max:
            self.transport = transport
            self._refuse(503, "too many connections")
            return
        super().connection_made(transport)
        self._header_timer = self.loop.call_later(self.limits.header_seconds, self._headers_late)

    def connection_lost(self, exc: Exception | None) -> None:
        self._cancel_timers()
        super().connection_lost(exc)

    def release(self) -> None:
        """Forget the connection without closing it: it turned out to be none of HTTP's."""
        self._cancel_timers()
        self.connections.discard(self)

    def _cancel_timers(self) -> None:
        for timer in (self._header_timer, self._rest_timer, self._write_timer):
            if timer is not None:
                timer.cancel()

    # --- the headers

    def data_received(self, data: bytes) -> None:
        if self._in_headers:
            self._header_bytes += len(data)
        self._unset_keepalive_if_required()
        try:
            self._parse(data)
        except httptools.HttpParserError:
            self.send_400_response("Invalid HTTP request received.")
        if self.transport.is_closing() or not self._in_headers:
            return
        if self._header_bytes > self.limits.header_bytes_max:
            self._refuse(431, "request headers are too large")
        elif self._header_timer is None and (self.cycle is None or self.cycle.response_complete):
            # Anything at all, even the blank lines that may stand before a request, ends the keep-alive timer. This one follows it.
            self._header_timer = self.loop.call_later(self.limits.header_seconds, self._headers_late)

    def _parse(self, data: bytes) -> None:
        """Feed the parser. It skips the body of a request that offers another protocol, and Java's HttpClient offers HTTP/2 with its
        first push, so the parser is given such a request again, without the offer."""
        while data:
            try:
                self.parser.feed_data(data)
                return
            except httptools.HttpParserUpgrade as upgrade:
                method, version = self.parser.get_method(), self.parser.get_http_version().encode()
                if method == b"CONNECT":
                    raise httptools.HttpParserError("not a proxy") from None
                headers = (name + b": " + value for name, value in self.headers if name != b"upgrade")
                lines = (method + b" " + self.url + b" HTTP/" + version, *headers, b"", data[upgrade.args[0] :])
                data = b"\r\n".join(lines)
                self.parser = httptools.HttpRequestParser(self)
                self.parser.set_dangerous_leniencies(lenient_data_after_close=True)  # as uvicorn does

    def on_headers_complete(self) -> None:
        if self.parser.should_upgrade():
            return
        self._in_headers = False
        self._header_bytes = 0
        if self._header_timer is not None:
            self._header_timer.cancel()
            self._header_timer = None
        size = len(self.url) + sum(len(name) + len(value) + HEADER_OVERHEAD_BYTES for name, value in self.headers)
        app = self.app
        if len(self.url) > URL_BYTES_MAX:
            self.url = b"/"
            self.app = PlainTextResponse(
                f"the URL has more than {URL_BYTES_MAX} bytes; gRPC takes longer queries", 414, {"connection": "close"}
            )
        elif size > self.limits.header_bytes_max:
            self.app = PlainTextResponse("request headers are too large", 431, {"connection": "close"})
        super().on_headers_complete()
        self.app = app

    def _headers_late(self) -> None:
        self._header_timer = None
        if self._header_bytes:
            self._refuse(408, "request headers did not arrive in time")
        else:
            self.transport.close()  # opened and never used: an answer without a request would confuse the client

    # --- the end of the request and the answer

    def on_message_complete(self) -> None:
        if self.parser.should_upgrade():
            return
        self._in_headers = True
        if self._rest_timer is not None:
            self._rest_timer.cancel()
            self._rest_timer = None
        super().on_message_complete()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if not self._in_headers and self.cycle.response_complete and self._rest_timer is None:
            # Answered before the body was read: let the client finish sending, so that it comes to read the answer, but not for ever.
            self._rest_timer = self.loop.call_later(self.limits.stall_seconds, self.transport.abort)
        if self.transport.get_write_buffer_size() and self._write_timer is None:
            self._expect_reading(self.transport.get_write_buffer_size() + 1)

    def _expect_reading(self, bytes_before: int) -> None:
        """Drop the connection unless the client reads some of what waits for it."""
        self._write_timer = None
        waiting_bytes = self.transport.get_write_buffer_size()
        if waiting_bytes >= bytes_before:
            self.transport.abort()
        elif waiting_bytes:
            self._write_timer = self.loop.call_later(self.limits.stall_seconds, self._expect_reading, waiting_bytes)

    def _refuse(self, status: int, reason: str) -> None:
        """Answer and close before there is a request that an endpoint could answer."""
        body = reason.encode()
        head = f"HTTP/1.1 {status} {HTTPStatus(status).phrase}\r\ncontent-type: text/plain; charset=utf-8\r\n"
        self.transport.write(f"{head}content-length: {len(body)}\r\nconnection: close\r\n\r\n".encode() + body)
        self.transport.close()

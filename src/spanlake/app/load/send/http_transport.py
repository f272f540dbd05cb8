"""OTLP over HTTP with protobuf bodies, on one kept-alive connection."""

from __future__ import annotations

import gzip
import http.client
import math
import time
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

from spanlake.app.load.send.address import Address, abort_http, open_http
from spanlake.app.load.send.answers import decode_response, decode_status_message
from spanlake.app.load.send.outcome import Outcome, Refused, SendOptions, TryAgain

PATH = "/v1/traces"
RETRYABLE = frozenset({429, 502, 503, 504})
_GZIP_LEVEL = 1  # the receiver is under test, not the sender


class HttpTransport:
    """A connection that is opened again when it was lost. A URL without a path means /v1/traces."""

    def __init__(self, address: Address, options: SendOptions) -> None:
        self._connection = open_http(address, options.timeout_seconds)
        self._path = address.path or PATH
        self._gzip = options.gzip
        self._headers = {"Content-Type": "application/x-protobuf", **dict(options.headers)}
        if options.gzip:
            self._headers["Content-Encoding"] = "gzip"

    def send(self, payload: bytes) -> Outcome:
        body = gzip.compress(payload, _GZIP_LEVEL) if self._gzip else payload
        try:
            self._connection.request("POST", self._path, body, self._headers)
            response = self._connection.getresponse()
            answer = response.read()
        except TimeoutError as error:
            self._connection.close()
            return TryAgain("timed out", str(error))
        except (OSError, http.client.HTTPException) as error:
            self._connection.close()
            return TryAgain("connection lost", str(error) or type(error).__name__)
        if response.status // 100 == 2:
            return decode_response(answer)
        reason = f"HTTP {response.status}"
        message = decode_status_message(answer) or response.reason
        if response.status in RETRYABLE:
            return TryAgain(reason, message, read_retry_after(response.getheader("Retry-After"), time.time()))
        return Refused(reason, message)

    def abort(self) -> None:
        abort_http(self._connection)

    def close(self) -> None:
        self._connection.close()


def read_retry_after(header: str | None, now_seconds: float) -> float | None:
    """Seconds to wait, of the two forms of Retry-After: a number of seconds or a date; None for none or nonsense."""
    if header is None:
        return None
    try:
        seconds = float(header)
        return max(0.0, seconds) if math.isfinite(seconds) else None
    except ValueError:
        pass
    try:
        until = parsedate_to_datetime(header)
    except ValueError:
        return None
    return max(
        0.0, (until if until.tzinfo else until.replace(tzinfo=UTC)).timestamp() - datetime.fromtimestamp(now_seconds, UTC).timestamp()
    )

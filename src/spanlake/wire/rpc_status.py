"""Answers to a push: `ExportTraceServiceResponse`, and `google.rpc.Status` for refusals, each in protobuf and in JSON.

Which code stands for which error is decided in `server/errors.py`; here are only the encodings.
Sources: opentelemetry-proto collector/trace/v1, google/rpc/status.proto, google/rpc/error_details.proto (`RetryInfo`).
"""

from __future__ import annotations

from typing import Any

import orjson

from spanlake.wire.fields import BYTES, VARINT, encode_bytes, encode_tag, encode_varint

RETRY_INFO_URL = "type.googleapis.com/google.rpc.RetryInfo"

_BYTES_1 = encode_tag(1, BYTES)
_BYTES_2 = encode_tag(2, BYTES)
_BYTES_3 = encode_tag(3, BYTES)
_VARINT_1 = encode_tag(1, VARINT)


def encode_export_response(rejected: int, reason: str) -> bytes:
    """ExportTraceServiceResponse. `partial_success` is always there and empty on full success, as the Collector answers."""
    partial = b"".join((_number(rejected), _text(_BYTES_2, reason)))
    return encode_bytes(_BYTES_1, partial)


def encode_export_response_json(rejected: int, reason: str) -> bytes:
    """The same in OTLP/JSON."""
    partial: dict[str, Any] = {}
    if rejected:
        partial["rejectedSpans"] = str(rejected)
    if reason:
        partial["errorMessage"] = reason
    return orjson.dumps({"partialSuccess": partial})


def encode_status(code: int, message: str, retry_after_seconds: int | None) -> bytes:
    """google.rpc.Status with a `RetryInfo` detail unless `retry_after_seconds` is None; 0 means at once."""
    parts = [_number(code), _text(_BYTES_2, message)]
    if retry_after_seconds is not None:
        delay = encode_bytes(_BYTES_1, _number(retry_after_seconds))  # Duration.seconds inside RetryInfo.retry_delay
        detail = encode_bytes(_BYTES_1, RETRY_INFO_URL.encode()) + encode_bytes(_BYTES_2, delay)
        parts.append(encode_bytes(_BYTES_3, detail))
    return b"".join(parts)


def encode_status_json(code: int, message: str, retry_after_seconds: int | None) -> bytes:
    """The same in JSON."""
    status: dict[str, Any] = {"code": code, "message": message}
    if retry_after_seconds is not None:
        status["details"] = [{"@type": RETRY_INFO_URL, "retryDelay": f"{retry_after_seconds}s"}]
    return orjson.dumps(status)


def _number(number: int) -> bytes:
    """Field 1 as a varint, left out when it is 0."""
    return _VARINT_1 + encode_varint(number) if number else b""


def _text(tag: bytes, text: str) -> bytes:
    return encode_bytes(tag, text.encode()) if text else b""

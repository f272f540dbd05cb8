"""OTLP's answers, decoded: the response with its partial success, and google.rpc.Status with its RetryInfo.

Formats: opentelemetry/proto/collector/trace/v1/trace_service.proto, google/rpc/status.proto, google/rpc/error_details.proto.
"""

from __future__ import annotations

from spanlake.app.load.fields import integer_of, messages, text_of
from spanlake.app.load.send.outcome import Acknowledged
from spanlake.model.errors import InvalidInput

_RETRY_INFO = "google.rpc.RetryInfo"


def decode_response(body: bytes) -> Acknowledged:
    """An ExportTraceServiceResponse; an empty or unreadable one acknowledges everything, as the OTLP specification has it."""
    try:
        for partial in messages(body, 1):
            return Acknowledged(max(integer_of(partial, 1), 0), text_of(partial, 2))
    except InvalidInput:
        return Acknowledged()
    return Acknowledged()


def decode_status_message(body: bytes) -> str:
    """The message of a google.rpc.Status, or what of the body is text."""
    try:
        return text_of(body, 2) or body[:200].decode("utf-8", "replace")
    except InvalidInput:
        return body[:200].decode("utf-8", "replace")


def decode_retry_seconds(status: bytes) -> float | None:
    """The delay of the RetryInfo in a google.rpc.Status; None without one."""
    try:
        for detail in messages(status, 3):
            if text_of(detail, 1).endswith("/" + _RETRY_INFO):
                info = next(messages(detail, 2), memoryview(b""))
                delay = next(messages(info, 1), memoryview(b""))
                return max(0.0, integer_of(delay, 1) + integer_of(delay, 2) / 1e9)
    except InvalidInput:
        return None
    return None

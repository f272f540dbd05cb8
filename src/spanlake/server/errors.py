"""The one table from spanlake's errors to protocol statuses, for HTTP and gRPC, pushes and queries alike.

Columns: the gRPC code (google.rpc.Code) and the HTTP status. Which codes a client retries: wire-contract section 7.4.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass

from spanlake.model.errors import (
    Forbidden,
    InvalidInput,
    NoTenant,
    NotFound,
    Overloaded,
    PreconditionFailed,
    QueryCancelled,
    QueryError,
    QueryTimeout,
    StoreError,
    TooLarge,
    Unauthenticated,
    Unavailable,
)

CANCELLED, INVALID_ARGUMENT, DEADLINE_EXCEEDED, NOT_FOUND, PERMISSION_DENIED, RESOURCE_EXHAUSTED = 1, 3, 4, 5, 7, 8
FAILED_PRECONDITION, INTERNAL, UNAVAILABLE, UNAUTHENTICATED = 9, 13, 14, 16

STATUS_BY_ERROR: dict[type[Exception], tuple[int, int]] = {
    InvalidInput: (INVALID_ARGUMENT, 400),
    QueryError: (INVALID_ARGUMENT, 400),
    NoTenant: (UNAUTHENTICATED, 401),
    Unauthenticated: (UNAUTHENTICATED, 401),
    Forbidden: (PERMISSION_DENIED, 403),
    NotFound: (NOT_FOUND, 404),
    PreconditionFailed: (FAILED_PRECONDITION, 412),
    TooLarge: (RESOURCE_EXHAUSTED, 413),
    Overloaded: (RESOURCE_EXHAUSTED, 429),
    Unavailable: (UNAVAILABLE, 503),
    StoreError: (UNAVAILABLE, 503),
    QueryTimeout: (DEADLINE_EXCEEDED, 504),
    QueryCancelled: (CANCELLED, 499),
    Exception: (INTERNAL, 500),
}

MESSAGE_CHARACTERS_MAX = 1000
"""gRPC sends the message in a header, and clients accept 8 KiB of those."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Refusal:
    """An error as a client sees it. `retry_after_seconds` is None unless the server asks for a pause."""

    grpc_code: int
    http_status: int
    message: str
    retry_after_seconds: int | None


def refusal_of(error: Exception) -> Refusal:
    """The answer for an error. One that is not spanlake's own is logged with its traceback and not shown to the client."""
    row = next(kind for kind in type(error).__mro__ if kind in STATUS_BY_ERROR)
    grpc_code, http_status = STATUS_BY_ERROR[row]
    if row is Exception:
        _log.error("unexpected %s", type(error).__name__, exc_info=error)
        return Refusal(grpc_code, http_status, "internal error, described in the log of the server", None)
    retry_after_seconds = error.retry_after_seconds if isinstance(error, Overloaded) else None
    return Refusal(grpc_code, http_status, _shortened(str(error)), retry_after_seconds)


def push_refusal_of(error: Exception) -> Refusal:
    """As `refusal_of`, but what we cannot explain is UNAVAILABLE: exporters drop spans on INTERNAL and 500, and try again on this."""
    refusal = refusal_of(error)
    if refusal.grpc_code != INTERNAL:
        return refusal
    return Refusal(UNAVAILABLE, 503, refusal.message, None)


def _shortened(text: str) -> str:
    return text if len(text) <= MESSAGE_CHARACTERS_MAX else text[: MESSAGE_CHARACTERS_MAX - 1] + "…"

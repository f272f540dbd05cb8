"""The one exception tree of spanlake.

Every error names the value, the place and the remedy in its text. Only `server/` maps these classes to
protocol status codes; nothing here knows HTTP or gRPC.
"""

from __future__ import annotations


class SpanlakeError(Exception):
    """Base of every error that spanlake raises on purpose."""


class ConfigError(SpanlakeError):
    """A setting is unknown, of the wrong type or out of range."""


class InvalidInput(SpanlakeError):
    """The request can never succeed as it is: malformed payload, bad id, bad parameter."""


class UnsupportedEncoding(InvalidInput):
    """A content type or content encoding that this receiver does not take."""


class TooLarge(SpanlakeError):
    """A body, query or result is over its size limit."""


class NotFound(SpanlakeError):
    """What was asked for does not exist."""


class NoTenant(SpanlakeError):
    """Multi-tenancy is on and the request names no tenant, or a bad one."""


class Unauthenticated(SpanlakeError):
    """Access is restricted, and the request has no credentials, or ones that nobody has. `reason`: which, in a word, for metrics."""

    def __init__(self, message: str, *, reason: str) -> None:
        super().__init__(message)
        self.reason = reason


class Forbidden(SpanlakeError):
    """The credentials of the request do not allow what it asks for."""


class PreconditionFailed(SpanlakeError):
    """What was to be changed is not what the request says that it is: someone else has changed it."""


class Overloaded(SpanlakeError):
    """A bounded resource is full now; the same request may succeed after `retry_after_seconds`. `reason`: the bound, for metrics."""

    def __init__(self, message: str, *, retry_after_seconds: int = 5, reason: str = "overloaded") -> None:
        super().__init__(message)
        self.retry_after_seconds = retry_after_seconds
        self.reason = reason


class Unavailable(SpanlakeError):
    """The server cannot take the request now: starting, stopping, or its disk or store fails."""


class QueryTimeout(SpanlakeError):
    """A query passed its deadline."""


class QueryCancelled(SpanlakeError):
    """Nobody waits for the answer of a query any more."""


class QueryError(SpanlakeError):
    """A TraceQL text that does not parse or check.

    `line` and `column` are 1-based (column in code points); `str()` is the complete text for a user:
    `LINE:COLUMN: message`, then the offending line (of a long one the part around the column) and a caret below it.
    """

    _shown_before, _shown_after = 80, 40

    def __init__(self, message: str, *, source: str, line: int, column: int) -> None:
        super().__init__(message)
        self.message = message
        self.source = source
        self.line = line
        self.column = column

    def __str__(self) -> str:
        # Built on demand: a lenient parse makes many of these over one long line and shows none.
        lines = self.source.split("\n")
        text = lines[self.line - 1] if 0 < self.line <= len(lines) else ""
        first, last = max(0, self.column - 1 - self._shown_before), self.column + self._shown_after
        left, right = "…" if first else "", "…" if last < len(text) else ""
        shown = left + "".join(c if c.isprintable() else " " for c in text[first:last]) + right
        caret = " " * (len(left) + self.column - 1 - first) + "^"
        return f"{self.line}:{self.column}: {self.message}\n  {shown}\n  {caret}"


class StoreError(SpanlakeError):
    """The object store failed; `transient` says whether trying again can help."""

    def __init__(self, message: str, *, transient: bool) -> None:
        super().__init__(message)
        self.transient = transient


class KeyMissing(StoreError):
    """The object store has no object with that key."""

    def __init__(self, key: str) -> None:
        super().__init__(f"no object {key!r} in the store", transient=False)
        self.key = key


class KeyExists(StoreError):
    """A conditional put found an object with that key."""

    def __init__(self, key: str) -> None:
        super().__init__(f"the store already has an object {key!r}", transient=False)
        self.key = key


class CommitConflict(StoreError):
    """Another process committed a change to the table that this commit cannot follow."""

    def __init__(self, message: str) -> None:
        super().__init__(message, transient=False)


class ColumnConflict(CommitConflict):
    """The table has `column` with another type, or a column that differs from it only in case. Rebuild the block to fit the table."""

    def __init__(self, message: str, *, column: str) -> None:
        super().__init__(message)
        self.column = column


class CorruptData(SpanlakeError):
    """Stored bytes are not what was written: a checksum, a magic number or an invariant fails."""

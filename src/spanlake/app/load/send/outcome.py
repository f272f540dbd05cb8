"""What can become of a payload, and what a way of sending must offer. No protocol is known here."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, TypeAlias


@dataclass(frozen=True, slots=True)
class Acknowledged:
    """The receiver took the payload, except for `rejected_spans` of it."""

    rejected_spans: int = 0
    message: str = ""


@dataclass(frozen=True, slots=True)
class TryAgain:
    """The same payload may be taken later; `after_seconds` is what the receiver asked for, if it did."""

    reason: str
    message: str
    after_seconds: float | None = None


@dataclass(frozen=True, slots=True)
class Refused:
    """The payload was not taken, and sending it again cannot help or was tried often enough. `reason` is one of few short texts."""

    reason: str
    message: str


Outcome: TypeAlias = Acknowledged | TryAgain | Refused


@dataclass(frozen=True, slots=True)
class SendOptions:
    """How requests are made, whatever the protocol."""

    headers: tuple[tuple[str, str], ...] = ()
    gzip: bool = False
    timeout_seconds: float = 30.0


class Transport(Protocol):
    """One connection to an OTLP receiver, used by one thread; only `abort` may come from another."""

    def send(self, payload: bytes) -> Outcome:
        """Sends one serialized ExportTraceServiceRequest. Raises nothing that the receiver or the network can cause."""
        ...

    def abort(self) -> None:
        """Ends a request in flight: `send` returns soon."""
        ...

    def close(self) -> None:
        """Closes the connection; nothing is in flight."""
        ...

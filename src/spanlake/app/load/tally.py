"""What has happened so far in a run: counts, latencies in bounded memory, and the numbers of acknowledged payloads."""

from __future__ import annotations

import math
from array import array
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from threading import Lock
from typing import assert_never

from spanlake.app.load.schedule import Ticket
from spanlake.app.load.send.deliver import Delivery
from spanlake.app.load.send.outcome import Acknowledged, Refused

_BUCKETS_PER_E = 100  # buckets grow by 1 %
_SHORTEST_SECONDS = 1e-5
_BUCKETS = 2000  # up to some 80 minutes


class Latencies:
    """A histogram of times with logarithmic buckets: quantiles within 1 %, the maximum exact."""

    def __init__(self) -> None:
        self._counts = [0] * _BUCKETS
        self._total = 0
        self.max_seconds = 0.0

    def add(self, seconds: float) -> None:
        place = math.ceil(math.log(max(seconds, _SHORTEST_SECONDS) / _SHORTEST_SECONDS) * _BUCKETS_PER_E)
        self._counts[min(place, _BUCKETS - 1)] += 1
        self._total += 1
        self.max_seconds = max(self.max_seconds, seconds)

    def quantile_seconds(self, q: float) -> float:
        """The least time (within 1 %) that at least a share `q` of the times do not exceed; 0 without times."""
        wanted = max(1, math.ceil(q * self._total))
        seen = 0
        for place, count in enumerate(self._counts):
            seen += count
            if count and seen >= wanted:
                return min(self.max_seconds, _SHORTEST_SECONDS * math.exp(place / _BUCKETS_PER_E))
        return 0.0


@dataclass(frozen=True, slots=True)
class Failures:
    """Payloads that were refused for one reason, and the first message that said so."""

    payloads: int
    example: str


@dataclass(frozen=True, slots=True)
class Figures:
    """The counts at a moment. `payload_bytes` are those of acknowledged payloads, before compression."""

    seconds: float
    payloads_acknowledged: int
    spans_acknowledged: int
    spans_rejected: int
    spans_failed: int
    payload_bytes: int
    failures: Mapping[str, Failures]
    rejections: Mapping[str, int]
    retries: Mapping[str, int]
    p50_seconds: float
    p90_seconds: float
    p99_seconds: float
    max_seconds: float

    @property
    def retries_total(self) -> int:
        return sum(self.retries.values())

    @property
    def failures_total(self) -> int:
        return sum(failure.payloads for failure in self.failures.values())


class Tally:
    """Counts deliveries; threads share it. Eight bytes are kept per acknowledged payload."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._began_seconds = clock()
        self._ended_seconds: float | None = None
        self._lock = Lock()
        self._latencies = Latencies()
        self._whole = array("Q")
        self._acknowledged = self._spans = self._rejected = self._failed_spans = self._bytes = 0
        self._failures: dict[str, Failures] = {}
        self._rejections: Counter[str] = Counter()
        self._retries: Counter[str] = Counter()
        self._failures_in_a_row = 0

    def record(self, ticket: Ticket, payload_bytes: int, delivery: Delivery) -> None:
        with self._lock:
            self._retries.update(delivery.retries)
            match delivery.outcome:
                case Acknowledged() as taken:
                    self._take(ticket, payload_bytes, taken)
                    self._latencies.add(delivery.latency_seconds)
                case Refused(reason, message):
                    self._failures_in_a_row += 1
                    self._failed_spans += ticket.spans
                    before = self._failures.get(reason, Failures(0, message))
                    self._failures[reason] = Failures(before.payloads + 1, before.example)
                case _:
                    assert_never(delivery.outcome)

    def _take(self, ticket: Ticket, payload_bytes: int, taken: Acknowledged) -> None:
        self._failures_in_a_row = 0
        self._acknowledged += 1
        rejected = min(taken.rejected_spans, ticket.spans)
        self._spans += ticket.spans - rejected
        self._rejected += rejected
        self._bytes += payload_bytes
        if rejected:
            # Which spans were rejected is unknown, so the payload cannot be verified.
            if taken.message in self._rejections or len(self._rejections) < 20:
                self._rejections[taken.message] += rejected
        else:
            self._whole.append(ticket.number)

    @property
    def failures_in_a_row(self) -> int:
        return self._failures_in_a_row

    def end(self) -> None:
        """Stops the clock of the figures."""
        self._ended_seconds = self._clock()

    def numbers_acknowledged(self) -> list[int]:
        """The numbers of the payloads that were acknowledged as a whole, ascending."""
        with self._lock:
            return sorted(self._whole)

    def figures(self) -> Figures:
        with self._lock:
            quantile = self._latencies.quantile_seconds
            return Figures(
                (self._ended_seconds if self._ended_seconds is not None else self._clock()) - self._began_seconds,
                self._acknowledged,
                self._spans,
                self._rejected,
                self._failed_spans,
                self._bytes,
                dict(self._failures),
                dict(self._rejections),
                dict(self._retries),
                quantile(0.5),
                quantile(0.9),
                quantile(0.99),
                self._latencies.max_seconds,
            )

"""One payload to one receiver, with bounded retries: the receiver's wish for a pause first, else exponential backoff with jitter."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from random import Random

from spanlake.app.load.send.outcome import Acknowledged, Refused, Transport, TryAgain


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """Bounds on trying again."""

    retries_max: int = 6
    first_pause_seconds: float = 0.2
    longest_pause_seconds: float = 30.0

    def pause_seconds(self, retry: int, asked_seconds: float | None, random: Random) -> float:
        """The pause before retry number `retry` (from 0). What the receiver asks for is a minimum, up to the longest pause."""
        backoff_seconds = self.first_pause_seconds * 2**retry * random.uniform(0.5, 1.0)
        return min(self.longest_pause_seconds, max(asked_seconds, 0.0) if asked_seconds is not None else backoff_seconds)


@dataclass(frozen=True, slots=True)
class Delivery:
    """The end of a payload. `latency_seconds` is that of the last attempt, without the pauses before it."""

    outcome: Acknowledged | Refused
    latency_seconds: float
    retries: tuple[str, ...] = ()  # the reason of each


def deliver(transport: Transport, payload: bytes, policy: RetryPolicy, wait: Callable[[float], bool], random: Random) -> Delivery:
    """Sends until it is acknowledged, refused, or tried too often. `wait(seconds)` pauses and says whether to stop instead."""
    retries: list[str] = []
    while True:
        began = time.perf_counter()
        outcome = transport.send(payload)
        latency_seconds = time.perf_counter() - began
        if not isinstance(outcome, TryAgain):
            return Delivery(outcome, latency_seconds, tuple(retries))
        refused = Refused(outcome.reason, f"{outcome.message} (given up after {len(retries)} retries)")
        if len(retries) >= policy.retries_max or wait(policy.pause_seconds(len(retries), outcome.after_seconds, random)):
            return Delivery(refused, latency_seconds, tuple(retries))
        retries.append(outcome.reason)

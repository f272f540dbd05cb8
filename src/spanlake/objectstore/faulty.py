"""Faults for `InterceptedStore`: what goes wrong with real stores, on a script or from a seed.

InterceptedStore(inner, scripted(put=[Fault.TIMEOUT_AFTER, None, Fault.DISK_FULL]))
InterceptedStore(inner, seeded(7, rate=0.2))
"""

from __future__ import annotations

import random
import threading
from collections import deque
from collections.abc import Callable, Sequence
from enum import Enum
from typing import TypeVar

from spanlake.model.errors import StoreError
from spanlake.objectstore.intercepted import Call

T = TypeVar("T")


class Fault(Enum):
    """One way to fail. `AFTER` means that the request took effect although the caller is told otherwise."""

    THROTTLED = "503 Slow Down"
    TIMEOUT_BEFORE = "the request timed out on its way"
    TIMEOUT_AFTER = "the request timed out after it took effect"
    FAILED_BEFORE = "the request was refused"
    FAILED_AFTER = "the request failed for good after it took effect"
    DISK_FULL = "no space left on device"


TRANSIENT = frozenset({Fault.THROTTLED, Fault.TIMEOUT_BEFORE, Fault.TIMEOUT_AFTER})
AFTER_EFFECT = frozenset({Fault.TIMEOUT_AFTER, Fault.FAILED_AFTER})
# A full disk fails those that write; reads and deletes still work.
FILLS_DISK = frozenset({"put", "put_if_absent", "put_file"})


class Faults:
    """A policy that asks `choose` before each request which fault it meets; `raised` lists those that it met, in order."""

    def __init__(self, choose: Callable[[Call], Fault | None]) -> None:
        self._choose = choose
        self._lock = threading.Lock()
        self.raised: list[tuple[Call, Fault]] = []

    def around(self, call: Call, proceed: Callable[[], T]) -> T:
        with self._lock:
            fault = self._choose(call)
            if fault is Fault.DISK_FULL and call.operation not in FILLS_DISK:
                fault = None
            if fault:
                self.raised.append((call, fault))
        if not fault:
            return proceed()
        if fault in AFTER_EFFECT:
            proceed()
        raise StoreError(f"{call.operation} of {', '.join(call.keys)} failed: {fault.value}", transient=fault in TRANSIENT)


def scripted(**steps: Sequence[Fault | None]) -> Faults:
    """Per operation (by method name) the outcome of its first, second, … request; those beyond the script succeed."""
    queues = {operation: deque(outcomes) for operation, outcomes in steps.items()}

    def choose(call: Call) -> Fault | None:
        queue = queues.get(call.operation)
        return queue.popleft() if queue else None

    return Faults(choose)


def seeded(seed: int, *, rate: float, kinds: Sequence[Fault] = tuple(Fault)) -> Faults:
    """Each request meets one of `kinds` with the probability `rate`; the same seed and order of requests give the same faults."""
    source = random.Random(seed)  # noqa: S311 - repeatable, not secret

    def choose(_call: Call) -> Fault | None:
        return source.choice(kinds) if source.random() < rate else None

    return Faults(choose)

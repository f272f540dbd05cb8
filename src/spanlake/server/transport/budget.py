"""A bound on the memory of request bodies, over all requests in flight. Thread-safe: bodies arrive on the event loop and are
decompressed on worker threads."""

from __future__ import annotations

import threading
from types import TracebackType
from typing import Self

from spanlake.model.errors import Overloaded


class ByteBudget:
    """`bytes_max` bytes to be shared by reservations."""

    def __init__(self, bytes_max: int) -> None:
        self.bytes_max = bytes_max
        self._bytes = 0
        self._lock = threading.Lock()

    @property
    def reserved_bytes(self) -> int:
        return self._bytes

    def take(self, size: int) -> None:
        with self._lock:
            if self._bytes + size > self.bytes_max:
                raise Overloaded(f"bodies of {self.bytes_max} bytes in all are in flight, as many as are accepted", retry_after_seconds=1)
            self._bytes += size

    def give_back(self, size: int) -> None:
        with self._lock:
            self._bytes -= size
        assert self._bytes >= 0, self._bytes


class Reservation:
    """What one request has taken; leaving the context gives all of it back."""

    def __init__(self, budget: ByteBudget) -> None:
        self._budget = budget
        self._bytes = 0

    def grow(self, size: int) -> None:
        """Take `size` bytes more; Overloaded, and nothing taken, when the budget is spent."""
        self._budget.take(size)
        self._bytes += size

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._budget.give_back(self._bytes)
        self._bytes = 0

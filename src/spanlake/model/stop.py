"""When a query must give up: its deadline passed, or nobody waits for its answer any more. Checked between pieces of work, never inside."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from spanlake.model.errors import QueryCancelled, QueryTimeout


class Stop:
    """One per query. `cancel` may be called from any thread; `check` is called by whoever works on the query."""

    def __init__(self, timeout_seconds: float | None = None, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._lock = threading.Lock()
        self._cancelled = False
        self._when_cancelled: list[Callable[[], None]] = []
        self._clock = clock
        self._timeout_seconds = timeout_seconds
        self._deadline = None if timeout_seconds is None else clock() + timeout_seconds

    def cancel(self) -> None:
        """Make every further check fail, and call what was registered for this."""
        with self._lock:
            self._cancelled = True
            calls, self._when_cancelled = self._when_cancelled, []
        for call in calls:
            call()

    def on_cancel(self, call: Callable[[], None]) -> None:
        """Have `call` called once by whoever cancels, or now if that has been. It must return at once."""
        with self._lock:
            if not self._cancelled:
                self._when_cancelled.append(call)
                return
        call()

    def remaining_seconds(self) -> float | None:
        """Until the deadline, never below zero; None without one."""
        return None if self._deadline is None else max(self._deadline - self._clock(), 0.0)

    def check(self) -> None:
        """QueryCancelled or QueryTimeout if there is a reason to stop."""
        if self._cancelled:
            raise QueryCancelled("the query was cancelled: nobody waits for its answer")
        if self._deadline is not None and self._clock() > self._deadline:
            raise QueryTimeout(f"the query took longer than {self._timeout_seconds:g} seconds")

"""When a query must give up: its deadline passed, or nobody waits for its answer any more. Checked between pieces of work, never inside."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from spanlake.model.errors import QueryCancelled, QueryTimeout


class Stop:
    """One per query. `cancel` may be called from any thread; `check` is called by whoever works on the query."""

    def __init__(self, timeout_seconds: float | None = None, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._cancelled = threading.Event()
        self._clock = clock
        self._timeout_seconds = timeout_seconds
        self._deadline = None if timeout_seconds is None else clock() + timeout_seconds

    def cancel(self) -> None:
        """Make every further check fail."""
        self._cancelled.set()

    def check(self) -> None:
        """QueryCancelled or QueryTimeout if there is a reason to stop."""
        if self._cancelled.is_set():
            raise QueryCancelled("the query was cancelled: nobody waits for its answer")
        if self._deadline is not None and self._clock() > self._deadline:
            raise QueryTimeout(f"the query took longer than {self._timeout_seconds:g} seconds")

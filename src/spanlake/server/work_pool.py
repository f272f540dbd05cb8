"""Threads that do the blocking work of an edge, and the bounded line before them.

Each pool has one submitting thread (the event loop, or gRPC's), so that `full` still holds when `submit` follows it.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, TypeVar

from spanlake.model.errors import Overloaded

T = TypeVar("T")


class WorkPool:
    """`threads` threads and at most `queue_max` tasks that wait for one. Has the `submit` of an executor, for gRPC."""

    def __init__(self, name: str, *, threads: int, queue_max: int) -> None:
        self.name = name
        self._tasks_max = threads + queue_max
        self._tasks = 0
        self._lock = threading.Lock()
        self._executor = ThreadPoolExecutor(threads, thread_name_prefix=name)

    @property
    def full(self) -> bool:
        """Whether `run` would refuse now."""
        return self._tasks >= self._tasks_max

    def count_tasks(self) -> int:
        """Tasks running or waiting."""
        return self._tasks

    def submit(self, work: Callable[..., T], *arguments: Any, **named: Any) -> Future[T]:
        """Queue `work` however many wait; ask `full` before."""
        with self._lock:
            self._tasks += 1
        future = self._executor.submit(work, *arguments, **named)
        future.add_done_callback(self._finish)
        return future

    async def run(self, work: Callable[[], T]) -> T:
        """The result of `work` from one of the threads; Overloaded if too many wait."""
        if self.full:
            raise self.overloaded()
        return await asyncio.wrap_future(self.submit(work))

    def overloaded(self) -> Overloaded:
        """The error for a request that found the pool full."""
        return Overloaded(f"job queue full: {self._tasks_max} requests are running or waiting ({self.name})", retry_after_seconds=1)

    def close(self) -> None:
        """Forget what waits; what runs is left to finish by itself."""
        self._executor.shutdown(wait=False, cancel_futures=True)

    def _finish(self, _future: Future[Any]) -> None:
        with self._lock:
            self._tasks -= 1

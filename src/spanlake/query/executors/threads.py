"""Tasks on a shared pool of threads: kernels, Arrow and zstd release the GIL."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")


class ThreadExecutor:
    """`query.tasks.Executor` on `threads` threads for all queries together.

    A query has at most one more task begun than there are threads, so that results that nobody has taken yet stay few.
    """

    def __init__(self, threads: int) -> None:
        self._threads = threads
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="search")

    def run(self, tasks: Iterable[Callable[[], T]]) -> Iterator[T]:
        waiting: deque[Future[T]] = deque()
        source = iter(tasks)
        try:
            for task in source:
                waiting.append(self._pool.submit(task))
                if len(waiting) > self._threads:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()

    def close(self) -> None:
        """Forget what waits; what runs is left to finish."""
        self._pool.shutdown(wait=False, cancel_futures=True)

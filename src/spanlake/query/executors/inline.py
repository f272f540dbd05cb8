"""One task after the other, on the thread of the caller."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

T = TypeVar("T")


class InlineExecutor:
    """`query.tasks.Executor` without threads; each task begins when its result is asked for."""

    def run(self, tasks: Iterable[Callable[[], T]]) -> Iterator[T]:
        for task in tasks:
            yield task()

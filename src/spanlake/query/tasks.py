"""Pieces of a query's work, and what runs them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Protocol, TypeVar

T = TypeVar("T")


class Executor(Protocol):
    """Runs independent tasks. Thread-safe."""

    def run(self, tasks: Iterable[Callable[[], T]]) -> Iterator[T]:
        """The results in the order of the tasks. The first error is raised when its turn comes; tasks that have not begun then never do.

        Closing the iterator abandons what has not begun.
        """
        ...

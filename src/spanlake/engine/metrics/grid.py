"""The points of a metrics query in time: which span start belongs to which point."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from spanlake.engine.values.parts import Rows
from spanlake.model.trace import TimeRange

_NS_PER_MS = 1_000_000


@dataclass(frozen=True, slots=True)
class Grid:
    """`points` points, `step_ns` apart, the first at `first_ns`. The point at T counts spans with T - step < start <= T."""

    first_ns: int
    step_ns: int
    points: int

    @property
    def after_ns(self) -> int:
        """Spans that count start after this."""
        return self.first_ns - self.step_ns

    @property
    def last_ns(self) -> int:
        """Spans that count start then or before."""
        return self.first_ns + (self.points - 1) * self.step_ns

    @property
    def step_seconds(self) -> float:
        return self.step_ns / 1e9

    def window(self) -> TimeRange:
        """The starts of spans that count."""
        return TimeRange(self.after_ns + 1, self.last_ns + 1)

    def point_of(self, start_ns: NDArray[np.int64]) -> Rows:
        """Per span the number of its point; all of them count."""
        if self.points == 1:
            return np.zeros(len(start_ns), np.int64)
        return (start_ns - (self.after_ns + 1)) // self.step_ns

    def times_ms(self) -> NDArray[np.int64]:
        """The time of each point."""
        return (self.first_ns + np.arange(self.points, dtype=np.int64) * self.step_ns) // _NS_PER_MS


def range_grid(window: TimeRange, step_ns: int) -> Grid:
    """Points at multiples of the step since the epoch: from the one at or before the start of the window to the one at or after its end.

    The first of them counts what happened before the window, as in Tempo; so the answer begins with a whole step.
    """
    first_ns = window.start_ns // step_ns * step_ns
    last_ns = -(-window.end_ns // step_ns) * step_ns
    return Grid(first_ns, step_ns, (last_ns - first_ns) // step_ns + 1)


def instant_grid(window: TimeRange) -> Grid:
    """One point at the end of the window, for all of it but its first instant."""
    return Grid(window.end_ns, window.end_ns - window.start_ns, 1)

"""What TraceQL metrics queries ask and are answered: time series of numbers. No wire format, no storage."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spanlake.model.queries import Inspected
from spanlake.model.results import Attributes
from spanlake.model.trace import TimeRange

AS_ALLOWED = (1 << 32) - 1
"""As many exemplars as the settings allow."""


@dataclass(frozen=True, slots=True)
class RangeQuery:
    """Numbers over time. `window` is what was asked for; the use case aligns it to `step_ns` (> 0).

    `exemplars_max`: at most so many exemplars in the whole answer. `series_max`: at most so many series, 0 for what the settings allow.
    """

    text: str
    window: TimeRange
    step_ns: int
    exemplars_max: int = AS_ALLOWED
    series_max: int = 0


@dataclass(frozen=True, slots=True)
class InstantQuery:
    """One number per series, over the whole window."""

    text: str
    window: TimeRange
    series_max: int = 0


@dataclass(frozen=True, slots=True)
class Exemplar:
    """A span behind a number. `labels` has at least `trace:id` (32 hex digits)."""

    labels: Attributes
    time_ms: int
    value: float


@dataclass(frozen=True, slots=True, eq=False)
class Series:
    """Labels with points in ascending order of time. Absent points are left out; every series has at least one point.

    `times_ms`: int64, since the epoch. `values`: float64, never NaN.
    """

    labels: Attributes
    times_ms: NDArray[np.int64]
    values: NDArray[np.float64]
    exemplars: tuple[Exemplar, ...] = ()

    def points(self) -> list[tuple[int, float]]:
        """(time in ms, value) of each point."""
        pairs: Any = zip(self.times_ms.tolist(), self.values.tolist(), strict=True)
        return list(pairs)


@dataclass(frozen=True, slots=True)
class MetricsAnswer:
    """Series ordered by number of labels, then keys, then values; an instant query's have one point each.

    `partial`: why series are missing, empty if none are.
    """

    series: tuple[Series, ...]
    inspected: Inspected
    partial: str = ""

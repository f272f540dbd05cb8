"""Partial results of compare() added up, and the series that they make."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from spanlake.engine.metrics.answer import answer_series
from spanlake.engine.metrics.cells import Cells
from spanlake.engine.metrics.compare.distinct import (
    Distinct,
    Kind,
    best,
    merge_distinct,
    most_frequent,
    points_of,
    totals_between,
    typed_values,
)
from spanlake.engine.metrics.compare.observe import ComparePartial
from spanlake.engine.metrics.grid import Grid
from spanlake.engine.metrics.labels import NIL, label_order
from spanlake.engine.metrics.tree import Table
from spanlake.model.metrics import Series
from spanlake.model.results import Attributes, ResultType, TypedValue
from spanlake.model.scan import NumberType
from spanlake.traceql.plan.metrics.nodes import ComparePlan

SIDE = "__meta_type"
SIDES = ("baseline", "selection")
"""In the order of the cells."""

_WORDS = (NumberType.STATUS, NumberType.KIND)
_VALUES_PER_ATTRIBUTE = 1 << 17
_WAITING_BYTES_MIN = 1 << 20


@dataclass(slots=True)
class _Attribute:
    """The values of one type of an attribute, some of which wait to be added, and what was given up of them."""

    parts: list[Distinct] = field(default_factory=list)
    settled_bytes: int = 0
    waiting_bytes: int = 0
    rest: list[Cells] = field(default_factory=list)

    def add(self, part: Distinct, width: int) -> None:
        self.parts.append(part)
        self.waiting_bytes += part.nbytes
        if self.waiting_bytes > max(self.settled_bytes, _WAITING_BYTES_MIN):
            self.settle(width)

    def settle(self, width: int) -> Distinct:
        return self.keep(merge_distinct(self.parts, width))

    def keep(self, whole: Distinct) -> Distinct:
        """Go on from this instead of the parts."""
        self.parts, self.settled_bytes, self.waiting_bytes = [whole], whole.nbytes, 0
        return whole

    @property
    def nbytes(self) -> int:
        return self.settled_bytes + self.waiting_bytes


class CompareTotal:
    """Adds partial results of one query. Not thread-safe.

    Counts are exact while they fit into `bytes_max`. Beyond that only the most frequent values of each attribute are kept, and `is_exact`
    is False: a value that was given up and came again is counted too low. Totals stay exact.
    """

    def __init__(self, plan: ComparePlan, grid: Grid, *, bytes_max: int) -> None:
        self._plan, self._grid, self._bytes_max = plan, grid, bytes_max
        self._width = 2 * grid.points
        self._attributes: dict[tuple[str, Kind], _Attribute] = {}
        self._values_max = _VALUES_PER_ATTRIBUTE
        self.is_exact = True

    def add(self, partial: ComparePartial) -> None:
        for key, part in partial.counts.items():
            self._attributes.setdefault(key, _Attribute()).add(part, self._width)
        if self._nbytes() > self._bytes_max:
            self._shrink()

    def _nbytes(self) -> int:
        return sum(one.nbytes for one in self._attributes.values())

    def _shrink(self) -> None:
        for one in self._attributes.values():
            one.settle(self._width)
        while self._nbytes() > self._bytes_max // 2 and self._values_max > self._plan.top:
            self.is_exact = False
            self._values_max = max(self._values_max // 2, self._plan.top)
            for one in self._attributes.values():
                if len(one.parts[0]) > self._values_max:
                    kept, given_up = most_frequent(one.parts[0], self._width, self._values_max)
                    one.keep(kept)
                    one.rest.append(given_up)

    def finish(self, series_max: int) -> tuple[tuple[Series, ...], bool]:
        """The most frequent values of every attribute on both sides, and how many values were counted, in the order of answers; at most so
        many series, and whether some are missing."""
        by_key: dict[str, dict[Kind, _Attribute]] = {}
        for (key, kind), attribute in self._attributes.items():
            by_key.setdefault(key, {})[kind] = attribute
        rows = [row for key, kinds in by_key.items() for side in range(2) for row in self._side(key, kinds, side)]
        values = np.array([points for _, points in rows]).reshape(len(rows), self._grid.points)
        table = Table(tuple(labels for labels, _ in rows), values, ((),) * len(rows))
        return answer_series(table, self._grid, series_max=series_max, exemplars_max=0)

    def _side(self, key: str, kinds: dict[Kind, _Attribute], side: int) -> Iterator[tuple[Attributes, NDArray[np.float64]]]:
        """The series of one attribute on one side."""
        points = self._grid.points
        first, last = side * points, (side + 1) * points
        chosen: list[tuple[float, Attributes, NDArray[np.float64]]] = []
        total = np.zeros(points)
        for kind, attribute in kinds.items():
            distinct = attribute.settle(self._width)
            for cells in (Cells(distinct.counts.keys % self._width, distinct.counts.columns), *attribute.rest):
                total += _dense(cells, first, points)
            totals = totals_between(distinct, self._width, first, last)
            # Status and kind are told apart by their words, which the final order is by; here they would be by code.
            places = best(distinct.values, totals, len(distinct) if kind in _WORDS else self._plan.top)
            for place, value in zip(places.tolist(), typed_values(kind, distinct.values, places), strict=True):
                assert value is not None
                labels = ((SIDE, _text(SIDES[side])), (key, value))
                chosen.append((-float(totals[place]), labels, _dense(points_of(distinct, self._width, place), first, points)))
        if total.any():
            yield ((SIDE, _text(f"{SIDES[side]}_total")), (key, NIL)), total
        chosen.sort(key=lambda one: (one[0], label_order(one[1])))
        yield from ((labels, values) for _, labels, values in chosen[: self._plan.top])


def _dense(cells: Cells, first: int, points: int) -> NDArray[np.float64]:
    """What is counted in the cells from `first` on, one per point."""
    inside = (cells.keys >= first) & (cells.keys < first + points)
    return np.bincount(cells.keys[inside] - first, cells.columns[0][inside], points).astype(np.float64, copy=False)


def _text(text: str) -> TypedValue:
    return TypedValue(ResultType.STRING, text)

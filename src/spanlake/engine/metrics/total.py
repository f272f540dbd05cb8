"""A whole metrics query: batches to partial results, partial results added up within bounds, and the answer."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from spanlake.engine.frame import Frame
from spanlake.engine.metrics.answer import answer_series
from spanlake.engine.metrics.cells import Cells
from spanlake.engine.metrics.finish import finish_leaf
from spanlake.engine.metrics.grid import Grid
from spanlake.engine.metrics.leaf import layouts_of, observe_leaf
from spanlake.engine.metrics.partial import LeafPartial, in_order, merge_leaves
from spanlake.engine.metrics.tree import Table, evaluate_tree
from spanlake.engine.metrics.weights import span_weights
from spanlake.model.errors import TooLarge
from spanlake.model.metrics import Series
from spanlake.model.scan import ScanBatch
from spanlake.traceql.plan.metrics.nodes import Leaf, SeriesPlan

_BYTES_PER_POINT = 32  # with what ranking and combining points takes
_WAITING_BYTES_MIN = 1 << 23


@dataclass(frozen=True, slots=True)
class Bounds:
    """`series_max`: in the answer. `bytes_max`: memory of partial results, roughly."""

    series_max: int
    bytes_max: int
    exemplars_max: int = 0


MetricsPartial = tuple[LeafPartial | None, ...]
"""Per leaf of a plan what some batches say; None for nothing."""


def observe(plan: SeriesPlan, batch: ScanBatch, grid: Grid, *, exemplars_max: int = 0) -> MetricsPartial:
    """What a batch says. Needs the fields `metrics_needs(plan)`."""
    frame = Frame(batch)
    weights = span_weights(frame) if plan.hints.extrapolate else None
    return tuple(observe_leaf(frame, leaf, grid, exemplars_max=exemplars_max, weights=weights) for leaf in plan.leaves)


class Total:
    """Adds partial results of one query. Not thread-safe."""

    def __init__(self, plan: SeriesPlan, grid: Grid, bounds: Bounds) -> None:
        self._plan, self._grid, self._bounds = plan, grid, bounds
        self._leaves = [_LeafTotal(leaf, grid, bounds) for leaf in plan.leaves]

    def add(self, partial: MetricsPartial) -> None:
        """TooLarge if a single series is beyond the bounds."""
        for total, part in zip(self._leaves, partial, strict=True):
            if part is not None:
                total.add(part)

    def finish(self) -> tuple[tuple[Series, ...], bool]:
        """The series of the answer in their order, and whether series are missing because there are too many."""
        table = evaluate_tree(self._plan.tree, [total.finish() for total in self._leaves])
        return answer_series(table, self._grid, series_max=self._bounds.series_max, exemplars_max=self._bounds.exemplars_max)


@dataclass(slots=True)
class _LeafTotal:
    """Partial results wait until they are as large as what they are added to, so that adding costs little on the whole."""

    leaf: Leaf
    grid: Grid
    bounds: Bounds
    parts: list[LeafPartial] = field(default_factory=list)
    waiting_bytes: int = 0

    def add(self, part: LeafPartial) -> None:
        self.waiting_bytes += part.nbytes
        self.parts.append(part)
        if self.waiting_bytes > max(self.parts[0].nbytes, _WAITING_BYTES_MIN):
            self._settle()

    def finish(self) -> Table:
        """The series of the leaf. A count without by() has its series even if there are no spans."""
        if not self.parts:
            self.parts = [_no_spans(self.leaf)]
        layouts, points = layouts_of(self.leaf.function), self.grid.points
        series_max = max(self.bounds.bytes_max // (_BYTES_PER_POINT * points), 1)
        whole = in_order(self._settle(), layouts, points, series_max)
        return finish_leaf(self.leaf, whole, self.grid, series_max=series_max)

    def _settle(self) -> LeafPartial:
        layouts, points = layouts_of(self.leaf.function), self.grid.points
        whole = merge_leaves(self.parts, layouts, points, exemplars_max=self.bounds.exemplars_max)
        series_max = max(self.bounds.bytes_max // (_BYTES_PER_POINT * points), 1)
        while whole.nbytes > self.bounds.bytes_max or len(whole.series) > series_max:
            if len(whole.series) == 1:
                raise TooLarge(
                    f"one series of this metrics query takes more than {self.bounds.bytes_max} bytes (query.metrics_bytes_max): "
                    "ask for a shorter time range or a larger step"
                )
            whole = in_order(whole, layouts, points, min(series_max, max(len(whole.series) // 2, 1)))
        self.parts, self.waiting_bytes = [whole], 0
        return whole


def _no_spans(leaf: Leaf) -> LeafPartial:
    tables = tuple(Cells(np.zeros(0, np.int64), (np.zeros(0, np.int64),) * len(one.reducers)) for one in layouts_of(leaf.function))
    return LeafPartial(() if leaf.by else ((),), tables)

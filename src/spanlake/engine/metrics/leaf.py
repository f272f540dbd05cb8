"""One leaf of a metrics query: what the spans of a batch say, by series and point, in the tables of its function."""

from __future__ import annotations

from typing import assert_never

import numpy as np
from numpy.typing import NDArray

from spanlake.engine.frame import Frame
from spanlake.engine.metrics.cells import Cells, Layout, series_of
from spanlake.engine.metrics.exemplars import Counted, candidates
from spanlake.engine.metrics.functions import counts, extremes, histogram, quantiles, totals
from spanlake.engine.metrics.functions.spans import Spans
from spanlake.engine.metrics.grid import Grid
from spanlake.engine.metrics.labels import groups_by
from spanlake.engine.metrics.members import counted_rows
from spanlake.engine.metrics.partial import LeafPartial, labelled
from spanlake.engine.tries import span_values
from spanlake.traceql.ast import FieldFunction
from spanlake.traceql.plan.metrics import nodes
from spanlake.traceql.plan.metrics.nodes import Function, Leaf
from spanlake.traceql.plan.nodes import FirstOf, Source

_EXTREMES = {FieldFunction.MIN_OVER_TIME: extremes.LEAST, FieldFunction.MAX_OVER_TIME: extremes.GREATEST}


def layouts_of(function: Function) -> tuple[Layout, ...]:
    """How the tables of a function are merged."""
    match function:
        case nodes.CountSpans():
            return counts.LAYOUTS
        case nodes.ReduceField():
            return _EXTREMES.get(function.function, totals.LAYOUTS)
        case nodes.Histogram():
            return histogram.LAYOUTS
        case nodes.Quantiles():
            return quantiles.LAYOUTS
        case _:
            assert_never(function)


def _tables(function: Function, spans: Spans) -> tuple[Cells, ...]:
    match function:
        case nodes.CountSpans():
            return counts.observe(spans)
        case nodes.ReduceField():
            layouts = _EXTREMES.get(function.function)
            return totals.observe(spans) if layouts is None else extremes.observe(spans, layouts)
        case nodes.Histogram():
            return histogram.observe(spans)
        case nodes.Quantiles():
            return quantiles.observe(spans)
        case _:
            assert_never(function)


def _argument(function: Function) -> Source | FirstOf | None:
    return None if isinstance(function, nodes.CountSpans) else function.argument


def observe_leaf(frame: Frame, leaf: Leaf, grid: Grid, *, exemplars_max: int, weights: NDArray[np.float64] | None) -> LeafPartial | None:
    """What the spans of a frame say, None if none count. `weights`: per span of the frame how many it stands for; None: one each."""
    rows = counted_rows(frame, leaf.stages, grid)
    if not (frame.rows if rows is None else len(rows)):
        return None
    start_ns = frame.integers("start_ns")
    keys = grid.point_of(start_ns if rows is None else start_ns[rows])
    groups = groups_by(frame, leaf.by, rows)
    if groups.of_row is not None:
        keys += groups.of_row * grid.points
    argument = _argument(leaf.function)
    values = None if argument is None else span_values(frame, argument, rows)
    of_rows = weights if weights is None or rows is None else weights[rows]
    spans = Spans(keys, groups.size * grid.points, values, of_rows)
    layouts = layouts_of(leaf.function)
    tables = _tables(leaf.function, spans)
    used = series_of(tables[0], grid.points << layouts[0].bits)  # every function's first table has all groups
    labels = groups.labels(used)
    partial = labelled(labels, used, tables, layouts, grid.points)
    if not exemplars_max or not len(used):
        return partial
    series = {own: number for number, own in enumerate(partial.series)}
    series_of_group = np.full(groups.size, -1)
    series_of_group[used] = [series[own] for own in labels]
    counted = Counted(rows, spans, series_of_group, grid, isinstance(leaf.function, nodes.Histogram))
    chosen = candidates(frame, counted, series=partial.series, loaded=leaf.loaded, limit=exemplars_max)
    return LeafPartial(partial.series, partial.tables, chosen)

"""The spans that a metrics query counts: exactly the members of the spansets that a search with the same stages finds, if they start at a
time that counts. Spansets are disjoint, so that no span counts twice."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from spanlake.engine.frame import Frame
from spanlake.engine.metrics.grid import Grid
from spanlake.engine.pipeline import run_stages
from spanlake.engine.spansets import all_spans, kept_sets
from spanlake.engine.tries import spans_where
from spanlake.engine.values.parts import Mask, Rows
from spanlake.traceql.plan.nodes import Filter, Stage, Truth


def counted_rows(frame: Frame, stages: tuple[Stage, ...], grid: Grid) -> Rows | None:
    """The spans that count, ascending; None if those are all."""
    inside = _inside(frame.integers("start_ns"), grid)
    if inside is not None and not inside.any():
        return np.zeros(0, np.int64)  # and no other column is read
    match stages:
        case (Filter(condition=Truth(value=True)),):
            return None if inside is None else np.flatnonzero(inside)
        case (Filter() as only,):
            return _filtered(frame, only, inside)
        case _:
            return members(frame, stages, inside)


def members(frame: Frame, stages: tuple[Stage, ...], inside: Mask | None) -> Rows:
    """The general path: spansets of whole traces, then their members. Traces without a span that counts need not be looked at."""
    spansets = all_spans(frame.batch.trace_first.astype(np.int64))
    if inside is None:
        return np.sort(run_stages(frame, stages, spansets).rows)
    if len(spansets):
        spansets = kept_sets(spansets, np.logical_or.reduceat(inside, spansets.first[:-1]))
    rows = run_stages(frame, stages, spansets).rows
    return np.sort(rows[inside[rows]])


def _inside(start_ns: NDArray[np.int64], grid: Grid) -> Mask | None:
    """Which starts count; None if all do."""
    if not len(start_ns) or (start_ns.min() > grid.after_ns and start_ns.max() <= grid.last_ns):
        return None
    return (start_ns > grid.after_ns) & (start_ns <= grid.last_ns)


def _filtered(frame: Frame, only: Filter, inside: Mask | None) -> Rows | None:
    """The members that one filter over everything has: no spansets are needed to know them."""
    if inside is not None and 2 * np.count_nonzero(inside) < len(inside):
        rows = np.flatnonzero(inside)
        return rows[spans_where(frame, only.condition, rows)]
    found = spans_where(frame, only.condition, None)
    found = found if inside is None else found & inside
    return None if found.all() else np.flatnonzero(found)

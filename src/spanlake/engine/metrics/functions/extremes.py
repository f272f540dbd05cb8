"""min_over_time and max_over_time: durations in seconds, ints and floats as floats. Without a number there is no point."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from spanlake.engine.metrics.cells import Cells, Layout, merged, slots_of
from spanlake.engine.metrics.functions.spans import Spans, numbers_of

LEAST = (Layout((np.minimum,)),)
GREATEST = (Layout((np.maximum,)),)


def observe(spans: Spans, layouts: tuple[Layout, ...]) -> tuple[Cells, ...]:
    """The table (extreme), of LEAST or GREATEST."""
    ((reducer,),) = (layout.reducers for layout in layouts)
    nothing = np.inf if reducer is np.minimum else -np.inf
    parts = [Cells(np.zeros(0, np.int64), (np.zeros(0),))]
    for some in numbers_of(spans):
        slots = slots_of(some.keys, spans.bound)
        found = np.full(slots.count, nothing)
        reducer.at(found, slots.of_row, some.in_units())
        used = np.zeros(slots.count, np.bool_)
        used[slots.of_row] = True
        parts.append(slots.cells(np.flatnonzero(used), [found]))
    return (parts[-1] if len(parts) <= 2 else merged(parts, layouts[0]),)


def finish(tables: tuple[Cells, ...], series: int, points: int) -> NDArray[np.float64]:
    """Extremes, shape (series, points); NaN where there is none."""
    (table,) = tables
    result = np.full(series * points, np.nan)
    result[table.keys] = table.columns[0]
    return result.reshape(series, points)

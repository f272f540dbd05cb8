"""rate() and count_over_time(): how many spans. A series that exists has a point everywhere, 0 where there are none."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from spanlake.engine.metrics.cells import Cells, Layout, counted
from spanlake.engine.metrics.functions.spans import Spans

LAYOUTS = (Layout((np.add,)),)


def observe(spans: Spans) -> tuple[Cells, ...]:
    """The table (count)."""
    return (counted(spans.keys, spans.bound, spans.weights),)


def finish(tables: tuple[Cells, ...], series: int, points: int) -> NDArray[np.float64]:
    """Counts, shape (series, points)."""
    (table,) = tables
    result = np.zeros(series * points)
    result[table.keys] = table.columns[0]
    return result.reshape(series, points)

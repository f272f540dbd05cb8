"""quantile_over_time: of n numbers the quantile p is the least one that at least ceil(p * n) of them do not exceed, by `sketch` to 0.8 %.

Durations are in seconds. Without a number there is no point.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from spanlake.engine.metrics.cells import Cells, Layout, counted, merged
from spanlake.engine.metrics.functions.sketch import BUCKET_BITS, buckets_of, numbers_of_buckets
from spanlake.engine.metrics.functions.spans import Spans, numbers_of

LAYOUTS = (Layout((np.add,), bits=BUCKET_BITS),)


def observe(spans: Spans) -> tuple[Cells, ...]:
    """The table (numbers) by bucket."""
    parts = [Cells(np.zeros(0, np.int64), (np.zeros(0, np.int64 if spans.weights is None else np.float64),))]
    for some in numbers_of(spans):
        keys = (some.keys << BUCKET_BITS) | buckets_of(some.in_units())
        parts.append(counted(keys, spans.bound << BUCKET_BITS, some.weights))
    return (parts[-1] if len(parts) <= 2 else merged(parts, LAYOUTS[0]),)


def finish(tables: tuple[Cells, ...], series: int, points: int, *, quantiles: tuple[float, ...]) -> NDArray[np.float64]:
    """Quantiles, shape (series, quantiles, points); NaN where there is none."""
    (table,) = tables
    result = np.full((series * points, len(quantiles)), np.nan)
    if not len(table.keys):
        return result.reshape(series, points, len(quantiles)).swapaxes(1, 2)
    cells, buckets = np.divmod(table.keys, 1 << BUCKET_BITS)
    first = np.flatnonzero(np.diff(cells, prepend=-1))
    last = np.append(first[1:], len(cells)) - 1
    up_to = np.cumsum(table.columns[0])
    before = np.where(first > 0, up_to[first - 1], 0)
    numbers = up_to[last] - before
    for place, quantile in enumerate(quantiles):
        needed = np.maximum(np.ceil(quantile * numbers), 1).astype(up_to.dtype)
        found = np.clip(np.searchsorted(up_to, before + needed), first, last)
        result[cells[first], place] = numbers_of_buckets(buckets[found])
    return result.reshape(series, points, len(quantiles)).swapaxes(1, 2)

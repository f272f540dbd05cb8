"""histogram_over_time: how many spans have a number above 0 and up to 2, above that up to 4, up to 8, and so on.

Durations are counted in nanoseconds, but their bounds are told in seconds. Zero and negative numbers are in no bucket; what is beyond
2^1023 is in one without bound. A (series, bucket) that exists has a point everywhere, 0 where there are no spans.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spanlake.engine.metrics.cells import Cells, Layout, counted, merged
from spanlake.engine.metrics.functions.spans import NS_PER_SECOND, NumbersOfSpans, Spans, numbers_of
from spanlake.engine.values.parts import Rows
from spanlake.model.scan import NumberType

_NANOSECONDS = 1 << 11
"""Is part of a bucket whose bound is in nanoseconds."""
_UNBOUNDED = 1024
LAYOUTS = (Layout((np.add,), bits=12),)


def observe(spans: Spans) -> tuple[Cells, ...]:
    """The table (spans) by bucket."""
    bits = LAYOUTS[0].bits
    parts = [Cells(np.zeros(0, np.int64), (np.zeros(0, np.int64 if spans.weights is None else np.float64),))]
    for some in numbers_of(spans):
        buckets = buckets_of(some)
        keys, weights = some.keys, some.weights
        if not buckets.all():
            inside = buckets > 0
            keys, buckets, weights = keys[inside], buckets[inside], None if weights is None else weights[inside]
        parts.append(counted((keys << bits) | buckets, spans.bound << bits, weights))
    return (parts[-1] if len(parts) <= 2 else merged(parts, LAYOUTS[0]),)


def buckets_of(some: NumbersOfSpans) -> Rows:
    """The bucket of each number, 0 for none."""
    exponents = exponents_of(some.numbers)
    exponents += _NANOSECONDS if some.type is NumberType.DURATION else 0
    if some.numbers.min(initial=1) <= 0:
        exponents[some.numbers <= 0] = 0
    return exponents


def exponents_of(numbers: NDArray[Any]) -> Rows:
    """Per number (int64, or float64 without NaN) the k, from 1, of the least power of two 2^k that is not below it; 1024 beyond 2^1023."""
    floats = numbers.astype(np.float64, copy=False)
    mantissas, exponents = np.frexp(np.maximum(floats, 2.0))
    result: Rows = exponents.astype(np.int64) - (mantissas == 0.5)
    if numbers.dtype.kind == "i":
        # An int that was rounded down to a power of two is above it.
        powers = np.int64(1) << np.minimum(result, 62)
        result += (result < 63) & (numbers > powers)
    else:
        result[np.isinf(floats)] = _UNBOUNDED
    return result


def bound_of(bucket: int) -> float:
    """The upper bound of a bucket, as its label tells it."""
    exponent = bucket % _NANOSECONDS
    bound = math.inf if exponent == _UNBOUNDED else 2.0**exponent
    return bound / NS_PER_SECOND if bucket >= _NANOSECONDS else bound


def finish(tables: tuple[Cells, ...], points: int, *, pairs_max: int) -> tuple[tuple[Rows, Rows, NDArray[np.float64]], bool]:
    """For each (series, bucket) that exists, in that order: the series, the bucket and the counts, shape (pairs, points).

    At most the first `pairs_max` of them; and whether there are more.
    """
    (table,) = tables
    bits = LAYOUTS[0].bits
    cells, buckets = np.divmod(table.keys, 1 << bits)
    series, point = np.divmod(cells, points)
    pairs, index = np.unique((series << bits) | buckets, return_inverse=True)
    index = index.reshape(-1)
    kept = index < pairs_max
    counts = np.zeros((min(len(pairs), pairs_max), points))
    counts[index[kept], point[kept]] = table.columns[0][kept]
    first = pairs[:pairs_max]
    return (first >> bits, first & ((1 << bits) - 1), counts), len(pairs) > pairs_max

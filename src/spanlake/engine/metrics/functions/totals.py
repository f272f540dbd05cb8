"""sum_over_time and avg_over_time: durations in seconds. Without a number there is no point.

Sums are exact until they become a float: ints and durations in two words, floats as digits (`exact`). Weighted numbers are floats.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from spanlake.engine.metrics.cells import Cells, Layout, counted, merged, slots_of
from spanlake.engine.metrics.functions.exact import DIGITS_LAYOUT, finish_floats, observe_floats
from spanlake.engine.metrics.functions.spans import NS_PER_SECOND, NumbersOfSpans, Spans, numbers_of
from spanlake.model.scan import NumberType

LAYOUTS = (Layout((np.add,)), Layout((np.add, np.add, np.add)), DIGITS_LAYOUT)
_LOW_BITS = 32
_LOW_MASK = (1 << _LOW_BITS) - 1


def observe(spans: Spans) -> tuple[Cells, ...]:
    """The tables (numbers), (ints as high * 2^32 + low, is it nanoseconds) and (digits of floats).

    All ints of a field have one unit, so that "is it nanoseconds" is the same wherever it is above zero.
    """
    numbers = [Cells(_no_keys(), (np.zeros(0, np.int64 if spans.weights is None else np.float64),))]
    whole = [Cells(_no_keys(), (_no_keys(), _no_keys(), _no_keys()))]
    floats = [Cells(_no_keys(), (_no_keys(),))]
    for some in numbers_of(spans):
        numbers.append(counted(some.keys, spans.bound, some.weights))
        if some.weights is not None:
            floats.append(observe_floats(some.keys, some.in_units() * some.weights))
        elif some.type is NumberType.FLOAT:
            floats.append(observe_floats(some.keys, some.in_units()))
        else:
            whole.append(_whole(some, spans.bound))
    return tuple(
        parts[-1] if len(parts) <= 2 else merged(parts, layout) for parts, layout in zip((numbers, whole, floats), LAYOUTS, strict=True)
    )


def _no_keys() -> NDArray[np.int64]:
    return np.zeros(0, np.int64)


def _whole(some: NumbersOfSpans, bound: int) -> Cells:
    slots = slots_of(some.keys, bound)
    high, low, seen = (np.zeros(slots.count, np.int64) for _ in range(3))
    np.add.at(high, slots.of_row, some.numbers >> _LOW_BITS)
    np.add.at(low, slots.of_row, some.numbers & _LOW_MASK)
    seen[slots.of_row] = 1
    return slots.cells(np.flatnonzero(seen), [high, low, seen * (some.type is NumberType.DURATION)])


def finish(tables: tuple[Cells, ...], series: int, points: int, *, average: bool) -> NDArray[np.float64]:
    """Sums or averages, shape (series, points); NaN where there is none."""
    numbers, whole, floats = tables
    divisors = (numbers.columns[0] if average else np.ones(len(numbers.keys))).astype(np.float64)
    values = finish_floats(floats, numbers.keys, divisors) if len(floats.keys) else np.zeros(len(numbers.keys))
    high, low, nanoseconds = whole.columns
    carried = high + (low >> _LOW_BITS)
    sums = carried * 2.0**_LOW_BITS + (low & _LOW_MASK)
    fits = (carried >= -(1 << 31)) & (carried < 1 << 31)
    exact = (np.where(fits, carried, 0) << _LOW_BITS) + (low & _LOW_MASK)
    sums = np.where(fits, exact.astype(np.float64), sums)
    sums = np.where(nanoseconds > 0, sums / NS_PER_SECOND, sums)
    with np.errstate(invalid="ignore"):
        places = np.searchsorted(numbers.keys, whole.keys)
        values[places] += sums / divisors[places]
    result = np.full(series * points, np.nan)
    result[numbers.keys] = values
    return result.reshape(series, points)

"""First-stage functions: what tables say, and the law that any split of the spans into parts, in any order, says the same."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import partial
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from spanlake.engine.metrics.cells import Cells, Layout, counted, merged, renumbered
from spanlake.engine.metrics.functions import counts, extremes, histogram, quantiles, totals
from spanlake.engine.metrics.functions.exact import finish_floats, observe_floats
from spanlake.engine.metrics.functions.sketch import BUCKET_BITS, buckets_of, numbers_of_buckets
from spanlake.engine.metrics.functions.spans import Spans
from spanlake.model.scan import Numbers, NumberType, Values

POINTS = 3
SERIES = 2
QUANTILES = (0.0, 0.5, 0.9, 1.0)


@dataclass(frozen=True)
class Function:
    """How a function is observed and finished, whatever its tables are."""

    layouts: Sequence[Layout]
    observe: Callable[[Spans], tuple[Cells, ...]]
    finish: Callable[[tuple[Cells, ...]], Any]


FUNCTIONS = {
    "count": Function(counts.LAYOUTS, counts.observe, lambda tables: counts.finish(tables, SERIES, POINTS)),
    "least": Function(
        extremes.LEAST, partial(extremes.observe, layouts=extremes.LEAST), lambda tables: extremes.finish(tables, SERIES, POINTS)
    ),
    "greatest": Function(
        extremes.GREATEST, partial(extremes.observe, layouts=extremes.GREATEST), lambda tables: extremes.finish(tables, SERIES, POINTS)
    ),
    "sum": Function(totals.LAYOUTS, totals.observe, lambda tables: totals.finish(tables, SERIES, POINTS, average=False)),
    "average": Function(totals.LAYOUTS, totals.observe, lambda tables: totals.finish(tables, SERIES, POINTS, average=True)),
    "quantiles": Function(
        quantiles.LAYOUTS, quantiles.observe, lambda tables: quantiles.finish(tables, SERIES, POINTS, quantiles=QUANTILES)
    ),
    "histogram": Function(histogram.LAYOUTS, histogram.observe, lambda tables: histogram.finish(tables, POINTS, pairs_max=10**6)),
}

Row = tuple[int, int | float | None]
floats = st.floats(allow_nan=True, allow_infinity=True) | st.sampled_from([0.1, 1e300, -1e300, 5e-324, -0.0])
ints = st.integers(-(1 << 63), (1 << 63) - 1) | st.integers(-3, 1000)
rows = st.lists(st.tuples(st.integers(0, SERIES * POINTS - 1), st.one_of(st.none(), ints, floats)), max_size=30)


def spans_of(some: Sequence[Row], *, duration: bool = False) -> Spans:
    """Spans with values: ints (or durations), floats, and some without."""
    valid = [(value is not None and not isinstance(value, float), isinstance(value, float)) for _, value in some]
    whole = np.array([value if isinstance(value, int) else 7 for _, value in some], np.int64)
    real = np.array([value if isinstance(value, float) else 7.0 for _, value in some], np.float64)
    is_int, is_float = (np.array(mask, np.bool_) for mask in (zip(*valid, strict=True) if valid else ((), ())))
    kind = NumberType.DURATION if duration else NumberType.INT
    values = Values(len(some), (Numbers(kind, is_int, whole), Numbers(NumberType.FLOAT, is_float, real)))
    return Spans(np.array([key for key, _ in some], np.int64), SERIES * POINTS, values)


def seen(function: Function, parts: Sequence[Sequence[Row]]) -> tuple[Cells, ...]:
    tables = [function.observe(spans_of(part)) for part in parts]
    return tuple(merged([table[i] for table in tables], layout) for i, layout in enumerate(function.layouts))


@pytest.mark.parametrize("name", FUNCTIONS)
@settings(deadline=None)
@given(some=rows, cuts=st.lists(st.integers(0, 30), max_size=4), order=st.randoms(use_true_random=False))
def test_any_split_in_any_order_says_the_same(name: str, some: list[Row], cuts: list[int], order: Any) -> None:
    function = FUNCTIONS[name]
    ends = [0, *sorted(min(cut, len(some)) for cut in cuts), len(some)]
    parts = [some[begin:end] for begin, end in pairwise(ends)]
    order.shuffle(parts)
    whole, split = (function.finish(seen(function, pieces)) for pieces in ([some], parts))
    np.testing.assert_equal(split, whole)


def numbers_by_key(some: Sequence[Row]) -> dict[int, list[float]]:
    found: dict[int, list[float]] = {}
    for key, value in some:
        if value is not None and not math.isnan(value):
            found.setdefault(key, []).append(value)
    return found


def expected(numbers: dict[int, list[float]], of: Callable[[list[float]], float]) -> NDArray[np.float64]:
    result = np.full(SERIES * POINTS, np.nan)
    for key, some in numbers.items():
        result[key] = of(some)
    return result.reshape(SERIES, POINTS)


@pytest.mark.parametrize(("name", "reduce"), [("least", min), ("greatest", max)])
@settings(deadline=None)
@given(some=rows)
def test_extremes_are_those_of_the_numbers(name: str, reduce: Callable[[list[float]], float], some: list[Row]) -> None:
    found = FUNCTIONS[name].finish(seen(FUNCTIONS[name], [some]))
    np.testing.assert_array_equal(found, expected(numbers_by_key(some), lambda numbers: float(reduce(numbers))))


def summed(numbers: list[float]) -> float:
    """The sum, rounded once; NaN of both infinities."""
    infinite = {number for number in numbers if math.isinf(number)}
    if infinite:
        return infinite.pop() if len(infinite) == 1 else math.nan
    exact = sum(Fraction(number) for number in numbers)
    try:
        return float(exact)
    except OverflowError:
        return math.copysign(math.inf, 1 if exact > 0 else -1)


@settings(deadline=None)
@given(some=st.lists(st.tuples(st.integers(0, 5), floats), max_size=40))
def test_sum_of_floats_is_exact(some: list[tuple[int, float]]) -> None:
    found = FUNCTIONS["sum"].finish(seen(FUNCTIONS["sum"], [some]))
    np.testing.assert_allclose(found, expected(numbers_by_key(some), summed), rtol=1e-15)


@settings(deadline=None)
@given(some=st.lists(st.tuples(st.integers(0, 5), ints), max_size=40))
def test_sum_and_average_of_ints_are_rounded_once(some: list[tuple[int, int]]) -> None:
    tables = seen(FUNCTIONS["sum"], [some])
    numbers = numbers_by_key(some)
    np.testing.assert_allclose(FUNCTIONS["sum"].finish(tables), expected(numbers, summed), rtol=1e-15)
    np.testing.assert_allclose(FUNCTIONS["average"].finish(tables), expected(numbers, lambda own: summed(own) / len(own)), rtol=1e-15)


def test_durations_are_summed_in_seconds() -> None:
    tables = totals.observe(spans_of([(0, 1_500_000_000), (0, 500_000_001), (4, -1)], duration=True))
    np.testing.assert_array_equal(totals.finish(tables, 2, 3, average=False), [[2.000000001, np.nan, np.nan], [np.nan, -1e-9, np.nan]])


def test_an_average_is_a_float_when_its_sum_is_beyond_all_floats() -> None:
    digits = observe_floats(np.zeros(3, np.int64), np.full(3, 1.5e308))
    assert finish_floats(digits, np.zeros(1, np.int64), np.full(1, 3.0)).tolist() == [1.5e308]


def ranked(numbers: list[float], quantile: float) -> float:
    return sorted(map(float, numbers))[max(math.ceil(quantile * len(numbers)), 1) - 1]


@settings(deadline=None)
@given(some=rows)
def test_quantile_is_near_to_the_ranked_number(some: list[Row]) -> None:
    found = FUNCTIONS["quantiles"].finish(seen(FUNCTIONS["quantiles"], [some]))
    for place, quantile in enumerate(QUANTILES):
        exact = expected(numbers_by_key(some), partial(ranked, quantile=quantile))
        np.testing.assert_allclose(found[:, place], exact, rtol=2.0**-7, atol=1e-300)


@settings(deadline=None)
@given(st.lists(st.floats(allow_nan=False), min_size=1))
def test_bucket_stands_for_what_is_in_it(numbers: list[float]) -> None:
    ordered = np.sort(np.array(numbers))
    buckets = buckets_of(ordered)
    assert (np.diff(buckets) >= 0).all()
    assert ((buckets >= 0) & (buckets < 1 << BUCKET_BITS)).all()
    np.testing.assert_allclose(numbers_of_buckets(buckets), ordered, rtol=2.0**-7, atol=1e-300)


@pytest.mark.parametrize("number", [0, 1, 2, 3, 100, 200, 255, 256, -7])
def test_small_ints_are_their_own_quantiles(number: int) -> None:
    assert numbers_of_buckets(buckets_of(np.array([float(number)]))).tolist() == [number]


@pytest.mark.parametrize(
    ("number", "bound"),
    [
        (1, 2.0),
        (2, 2.0),
        (3, 4.0),
        (4, 4.0),
        (5, 8.0),
        (1 << 53, 2.0**53),
        ((1 << 53) + 1, 2.0**54),
        ((1 << 60) - 1, 2.0**60),
        ((1 << 60) + 1, 2.0**61),
        ((1 << 63) - 1, 2.0**63),
        (0.25, 2.0),
        (2.5, 4.0),
        (1e300, 2.0**997),
        (2.0**1023, 2.0**1023),
        (1.5 * 2.0**1023, math.inf),
        (math.inf, math.inf),
    ],
)
def test_bucket_of_a_histogram_is_the_next_power_of_two(number: float, bound: float) -> None:
    _, buckets, found = histogram.finish(histogram.observe(spans_of([(1, number)])), POINTS, pairs_max=9)[0]
    assert [histogram.bound_of(bucket) for bucket in buckets.tolist()] == [bound]
    assert found.tolist() == [[0.0, 1.0, 0.0]]


@pytest.mark.parametrize("number", [0, -1, 0.0, -0.5, -math.inf, math.nan, None])
def test_histogram_counts_only_numbers_above_zero(number: float | None) -> None:
    assert not len(histogram.observe(spans_of([(1, number)]))[0].keys)


def test_histogram_of_durations_has_bounds_in_seconds() -> None:
    _, buckets, _ = histogram.finish(histogram.observe(spans_of([(1, 1_000_000_000)], duration=True)), POINTS, pairs_max=9)[0]
    assert histogram.bound_of(int(buckets[0])) == 1.073741824


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(0, 9), st.floats(allow_nan=False)), max_size=30))
def test_digits_of_floats_add_up_to_their_sum(some: list[tuple[int, float]]) -> None:
    keys = np.array([key for key, _ in some], np.int64)
    digits = observe_floats(keys, np.array([number for _, number in some]))
    found = finish_floats(digits, np.arange(10), np.ones(10))
    sums = [summed([number for own, number in some if own == key]) for key in range(10)]
    np.testing.assert_allclose(found, sums, rtol=1e-15)


@pytest.mark.parametrize("numbers", [[1.7976931348623157e308], [1.7976931348623157e308, 2e292], [5e-324, 5e-324], [1e16, 1.0, -1e16]])
def test_sums_at_the_ends_of_floats(numbers: list[float]) -> None:
    digits = observe_floats(np.zeros(len(numbers), np.int64), np.array(numbers))
    assert finish_floats(digits, np.zeros(1, np.int64), np.ones(1)).tolist() == [summed(numbers)]


# ---- cells ----

keyed = st.lists(st.tuples(st.integers(0, 40), st.integers(1, 5)), max_size=40)


def table(pairs: Sequence[tuple[int, int]]) -> Cells:
    return merged([Cells(np.array([key for key, _ in pairs], np.int64), (np.array([one for _, one in pairs], np.int64),))], ADDED)


ADDED = Layout((np.add,), bits=1)


@settings(deadline=None)
@given(keyed, st.lists(st.integers(-1, 3), min_size=21, max_size=21))
def test_renumbered_table_is_that_of_renumbered_keys(pairs: list[tuple[int, int]], numbers: list[int]) -> None:
    moved = renumbered(table(pairs), ADDED, 2, np.array(numbers))
    again = table([(numbers[key // 2] * 2 + key % 2, one) for key, one in pairs if numbers[key // 2] >= 0])
    assert (moved.keys.tolist(), moved.columns[0].tolist()) == (again.keys.tolist(), again.columns[0].tolist())


@pytest.mark.parametrize("weighted", [False, True])
@settings(deadline=None)
@given(st.lists(st.integers(0, 50)))
def test_counting_in_an_array_and_by_sorting_is_the_same(weighted: bool, keys: list[int]) -> None:
    weights = np.full(len(keys), 1.0) if weighted else None
    dense, sorted_ = (counted(np.array(keys, np.int64), bound, weights) for bound in (51, 1 << 40))
    assert (dense.keys.tolist(), dense.columns[0].tolist()) == (sorted_.keys.tolist(), sorted_.columns[0].tolist())

"""Aggregates: what they are, and that any split of the rows gives the same."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from naive import reduce_values
from naive_values import INT_MAX, INT_MIN, NUMERIC, value_of
from plain_batches import attribute_column

from spanlake.engine.aggregates import finish, merge, observe
from spanlake.engine.shown import typed_column
from spanlake.model.results import TypedValue
from spanlake.model.scan import Numbers, NumberType, Values
from spanlake.traceql.ast import Reducer

RAW = st.integers(-3, 3) | st.integers(INT_MIN, INT_MAX) | st.floats() | st.sampled_from(["1", True, ..., b"x", [1, 2]])


def aggregate(reducer: Reducer, raw: list[Any]) -> Any:
    (found,) = typed_column(finish(observe(attribute_column(raw), np.zeros(len(raw), np.int64), 1), reducer))
    return found.value if found else None


@pytest.mark.parametrize(
    ("raw", "least", "greatest", "total", "average"),
    [
        ([1, 2, 3, 5], 1, 5, 11, 2.75),
        ([1.5, -2.5], -2.5, 1.5, -1.0, -0.5),
        ([1, 2.5], 1, 2.5, 3.5, 1.75),
        ([1.0, 1], 1, 1, 2.0, 1.0),
        ([INT_MAX, 1], 1, INT_MAX, 2.0**63, 2.0**62),
        ([INT_MIN, INT_MIN], INT_MIN, INT_MIN, -(2.0**64), -(2.0**63)),
        ([INT_MAX, INT_MIN], INT_MIN, INT_MAX, -1, -0.5),
        ([math.nan, 1.0], 1.0, 1.0, math.nan, math.nan),
        ([math.nan, 1], 1, 1, math.nan, math.nan),
        ([5, "7", True, ..., b"x", [1, 2]], 5, 5, 5, 5.0),
        ([1e308, 1e308, 1], 1, 1e308, math.inf, math.inf),
        ([math.inf, -math.inf, 1], -math.inf, math.inf, math.nan, math.nan),
        (["7", ...], None, None, None, None),
    ],
)
def test_numbers_alone_count(raw: list[Any], least: Any, greatest: Any, total: Any, average: Any) -> None:
    for reducer, expected in zip((Reducer.MIN, Reducer.MAX, Reducer.SUM, Reducer.AVG), (least, greatest, total, average), strict=True):
        found = aggregate(reducer, raw)
        assert type(found) is type(expected)
        assert found == expected or (math.isnan(found) and math.isnan(expected))


@pytest.mark.parametrize(
    ("durations", "expected"), [([1, 2], "1ns"), ([-1, -2], "-1ns"), ([INT_MAX, INT_MAX - 2], "2562047h47m16.854775806s")]
)
def test_average_of_durations_is_whole_nanoseconds_towards_zero(durations: list[int], expected: str) -> None:
    column = Values(len(durations), (Numbers(NumberType.DURATION, np.ones(len(durations), np.bool_), np.array(durations)),))
    assert typed_column(finish(observe(column, np.zeros(len(durations), np.int64), 1), Reducer.AVG))[0].value == expected  # type: ignore[union-attr]


@given(st.lists(st.tuples(RAW, st.integers(0, 3)), max_size=30), st.integers(0, 30))
def test_states_of_any_split_merge_to_the_state_of_all(rows: list[tuple[Any, int]], cut: int) -> None:
    def state(part: list[tuple[Any, int]]) -> Any:
        return observe(attribute_column([raw for raw, _ in part]), np.array([group for _, group in part], np.int64), 4)

    merged = merge(state(rows[:cut]), state(rows[cut:]))
    for reducer in Reducer:
        for one, other in zip(typed_column(finish(state(rows), reducer)), typed_column(finish(merged, reducer)), strict=True):
            assert alike(one, other), (reducer, one, other)


def alike(one: TypedValue | None, other: TypedValue | None) -> bool:
    if one is None or other is None or not isinstance(one.value, float) or not isinstance(other.value, float):
        return one == other
    return (
        one.value == other.value
        or (math.isnan(one.value) and math.isnan(other.value))
        or math.isclose(one.value, other.value, rel_tol=1e-6)
    )


@given(st.lists(st.integers(-3, 3) | st.integers(INT_MIN, INT_MAX) | st.sampled_from(["1", True]), min_size=1, max_size=12))
def test_ints_reduce_as_in_the_naive_evaluator(raw: list[Any]) -> None:
    for reducer in Reducer:
        expected = reduce_values(reducer, [value for value in map(value_of, raw) if value.type in NUMERIC])
        found = aggregate(reducer, raw)
        assert (found is None) if expected is None else math.isclose(found, expected.content, rel_tol=1e-12)

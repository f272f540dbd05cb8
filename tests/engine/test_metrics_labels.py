"""Labels of series: which values are the same series, how missing ones are told, the order of series."""

from __future__ import annotations

import math
from collections import Counter
from random import Random
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from plain_batches import attribute_column

from spanlake.engine.frame import Frame
from spanlake.engine.metrics.labels import codes_of, groups_by, label_order
from spanlake.model.results import Attributes, ResultType, TypedValue
from spanlake.model.scan import Field, ScanBatch, Texts, Values
from spanlake.traceql.plan.metrics.nodes import LabelField
from spanlake.traceql.plan.nodes import Column

KEYS = ("span.a", "span.b")
values = st.sampled_from(["x", "y", "nil", "1", 1, 2, -5, 1 << 62, 1.0, 1.5, math.nan, 0.0, -0.0, True, False, [1, 2], ["x", "y"], {}, ...])
columns = st.integers(1, 3).flatmap(lambda count: st.lists(st.tuples(*[values] * count), min_size=1, max_size=40))
MANY = [(number,) for number in range(3000)]


def batch_of_columns(rows: list[tuple[Any, ...]]) -> tuple[ScanBatch, tuple[LabelField, ...]]:
    fields = [Field("span", f"{number}") for number in range(len(rows[0]))]
    found = {field: attribute_column([row[i] for row in rows]) for i, field in enumerate(fields)}
    one_trace = np.array([0, len(rows)], np.int64)
    batch = ScanBatch(one_trace, np.zeros(1, np.uint64), np.zeros(1, np.uint64), found)
    return batch, tuple(LabelField(f"span.{field.name}", Column(field)) for field in fields)


def told(value: Any) -> tuple[str, Any] | None:
    """As a label has it; None without one."""
    if value is ... or isinstance(value, list | dict):
        return None
    if isinstance(value, bool):
        return "bool", value
    if isinstance(value, int):
        return "int", value
    if isinstance(value, float):
        return "double", "NaN" if math.isnan(value) else value + 0.0
    return "string", value


def plain(labels: Attributes) -> tuple[Any, ...]:
    return tuple((key, told(one.value)) for key, one in labels)


def expected_labels(row: tuple[Any, ...]) -> tuple[Any, ...]:
    found = tuple((f"span.{number}", label) for number, value in enumerate(row) if (label := told(value)) is not None)
    return found or (("span.0", ("string", "nil")),)


def series_in(rows: list[tuple[Any, ...]]) -> list[tuple[Any, ...]]:
    """Per row the labels of its group."""
    batch, by = batch_of_columns(rows)
    groups = groups_by(Frame(batch), by, None)
    assert groups.of_row is not None
    assert (groups.of_row >= 0).all()
    assert (groups.of_row < groups.size).all()
    used = np.unique(groups.of_row)
    labels = dict(zip(used.tolist(), map(plain, groups.labels(used)), strict=True))
    return [labels[group] for group in groups.of_row.tolist()]


@settings(deadline=None)
@given(columns)
def test_every_span_gets_the_labels_of_its_values(rows: list[tuple[Any, ...]]) -> None:
    assert series_in(rows) == [expected_labels(row) for row in rows]


def test_more_combinations_than_fit_into_an_array_are_told_apart() -> None:
    rows = [(f"a{number}", number * 10**9, f"c{number % 7}") for number in range(5000)]
    assert series_in(rows) == [expected_labels(row) for row in rows]


@pytest.mark.parametrize("rows", [MANY, [(1 << 62,), (-(1 << 63),), ((1 << 63) - 1,)]])
def test_numbers_near_and_far_from_each_other_are_told_apart(rows: list[tuple[Any, ...]]) -> None:
    assert series_in(rows) == [expected_labels(row) for row in rows]


def test_a_string_that_is_twice_in_a_dictionary_is_one_label() -> None:
    texts = Texts(np.ones(12, np.bool_), np.array([0, 1, 2] * 4, np.int32), pa.array(["x", "y", "x"]))
    codes = codes_of(Values(12, (texts,)))
    assert Counter(codes.of_row.tolist()) == {1: 8, 2: 4}


def test_numbers_in_labels_are_one_object_only_for_nan() -> None:
    first, second = (groups_by(Frame(batch), by, None) for batch, by in (batch_of_columns([(math.nan,)]) for _ in range(2)))
    labels = [groups.labels(np.unique(groups.of_row)) for groups in (first, second) if groups.of_row is not None]
    assert labels[0] == labels[1]  # NaN equals NaN there, so that partial results find the series of each other


def label(key: str, kind: ResultType, value: Any) -> tuple[str, TypedValue]:
    return key, TypedValue(kind, value)


def test_series_stand_by_number_of_labels_then_keys_then_values() -> None:
    ordered: list[Attributes] = [
        (label("a", ResultType.INT, 2),),
        (label("a", ResultType.INT, 10),),
        (label("a", ResultType.DOUBLE, 1.5),),
        (label("a", ResultType.STRING, "10"),),
        (label("a", ResultType.STRING, "2"),),
        (label("a", ResultType.BOOL, 0),),
        (label("b", ResultType.INT, 1),),
        (label("a", ResultType.INT, 1), label("b", ResultType.INT, 1)),
    ]
    shuffled = Random(1).sample(ordered, len(ordered))
    assert sorted(shuffled, key=label_order) == ordered

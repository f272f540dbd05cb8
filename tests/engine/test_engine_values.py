"""Columns of values: exact numbers, strings by code, ids as bytes, identity, and taking rows."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from hypothesis import given
from hypothesis import strategies as st
from naive_values import INT_MAX, INT_MIN, value_of
from plain_batches import attribute_column

from spanlake.engine.shown import typed_column
from spanlake.engine.values.compare import combine_numbers, compare, holds
from spanlake.engine.values.identity import combined_codes, dense_codes, value_codes
from spanlake.engine.values.ids import compare_id, compare_id_texts, compare_ids, id_texts
from spanlake.engine.values.numbers import arithmetic
from spanlake.engine.values.parts import first_of, loaded, present, take
from spanlake.engine.values.texts import anchored, regex_problem, whole_value_search
from spanlake.model.scan import Ids, Numbers, NumberType, Texts, Values
from spanlake.traceql.ast import Operator
from spanlake.traceql.plan.nodes import CompareConstant, Constant, Matches, OneOf, TraceId
from spanlake.traceql.vocabulary import ValueType

ORDERING: dict[Operator, Callable[[Any, Any], bool]] = {
    Operator.EQUAL: lambda a, b: a == b,
    Operator.NOT_EQUAL: lambda a, b: a != b,
    Operator.LESS: lambda a, b: a < b,
    Operator.LESS_EQUAL: lambda a, b: a <= b,
    Operator.GREATER: lambda a, b: a > b,
    Operator.GREATER_EQUAL: lambda a, b: a >= b,
}
AWKWARD: list[int | float] = [
    *(0, 1, -1, 2, INT_MAX, INT_MIN, INT_MAX - 1, 1 << 53, (1 << 53) + 1, -(1 << 53) - 1),
    *(
        0.0,
        -0.0,
        0.5,
        -0.5,
        1.0,
        2.5,
        float(1 << 53),
        float(1 << 63),
        -float(1 << 63),
        1e300,
        -1e300,
        math.inf,
        -math.inf,
        math.nan,
        5e-324,
    ),
]
OPERAND = TraceId()  # of tests, whose operand is not looked at


def constant(value: float) -> Constant:
    return Constant(ValueType.FLOAT if isinstance(value, float) else ValueType.INT, value)


@pytest.mark.parametrize("operator", ORDERING)
def test_numbers_compare_exactly_across_types(operator: Operator) -> None:
    pairs = list(itertools.product(AWKWARD, AWKWARD))
    left, right = (attribute_column([pair[side] for pair in pairs]) for side in (0, 1))
    expected = [ORDERING[operator](one, other) for one, other in pairs]  # Python compares int with float exactly
    assert compare(operator, left, right).tolist() == expected
    column = attribute_column(AWKWARD)
    for other in AWKWARD:
        found = holds(CompareConstant(operator, OPERAND, constant(other)), column).tolist()
        assert found == [ORDERING[operator](one, other) for one in AWKWARD], other


@given(st.lists(st.tuples(*[st.integers(INT_MIN, INT_MAX) | st.floats()] * 2), min_size=1))
def test_any_numbers_compare_as_in_python(pairs: list[tuple[int | float, int | float]]) -> None:
    left, right = (attribute_column([pair[side] for pair in pairs]) for side in (0, 1))
    for operator, expected in ORDERING.items():
        assert compare(operator, left, right).tolist() == [expected(*pair) for pair in pairs]


def numbers_of(values: Values) -> list[Any]:
    return [one.value if one else None for one in typed_column(values)]


@pytest.mark.parametrize(
    ("left", "operator", "right", "expected"),
    [
        (7, "/", 2, 3),
        (-7, "/", 2, -3),
        (7, "/", -2, -3),
        (-7, "%", 2, -1),
        (7, "%", -2, 1),
        (1, "/", 0, None),
        (1, "%", 0, None),
        (INT_MIN, "/", -1, INT_MIN),
        (INT_MIN, "%", -1, 0),
        (INT_MAX, "+", 1, INT_MIN),
        (INT_MIN, "-", 1, INT_MAX),
        (1 << 62, "*", 2, INT_MIN),
        (2, "^", 3, 8),
        (-2, "^", 63, INT_MIN),
        (2, "^", 63, 2.0**63),
        (2, "^", -1, 0.5),
        (INT_MAX, "^", 1, INT_MAX),
        (INT_MAX, "^", 0, 1),
        (3037000499, "^", 2, 9223372030926249001),
        (1.5, "/", 0, math.inf),
        (-1.5, "/", 0.0, -math.inf),
        (7.5, "%", 2, 1.5),
        (2, "^", 0.5, math.sqrt(2)),
        (1, "+", 0.5, 1.5),
        ("1", "+", 1, None),
        (True, "+", 1, None),
        ([1, 2], "+", 1, None),
        (..., "+", 1, None),
    ],
)
def test_arithmetic_follows_the_language(left: Any, operator: str, right: Any, expected: float | None) -> None:
    columns = attribute_column([left]), attribute_column([right])
    (found,) = numbers_of(combine_numbers(*columns, lambda one, other: arithmetic(Operator(operator), one, other)))
    assert found == expected
    assert type(found) is type(expected)


TEXTS = ["", "a", "ab", "b", "é", "🔥", "\uffff", "a\nb", "Z"]


@pytest.mark.parametrize("operator", ORDERING)
def test_strings_compare_by_their_bytes(operator: Operator) -> None:
    pairs = list(itertools.product(TEXTS, TEXTS))
    left, right = (attribute_column([pair[side] for pair in pairs]) for side in (0, 1))
    expected = [ORDERING[operator](one.encode(), other.encode()) for one, other in pairs]
    assert compare(operator, left, right).tolist() == expected
    for other in TEXTS:
        test = CompareConstant(operator, OPERAND, Constant(ValueType.STRING, other))
        assert holds(test, attribute_column(TEXTS)).tolist() == [ORDERING[operator](one.encode(), other.encode()) for one in TEXTS]


@pytest.mark.parametrize(
    ("pattern", "matching"),
    [
        ("a", ["a"]),
        ("a.*", ["a", "ab", "a\nb"]),
        ("(?i)z|b", ["b", "Z"]),
        ("", [""]),
        (".", ["a", "b", "é", "🔥", "\uffff", "Z"]),
        ("a$", ["a"]),
    ],
)
def test_patterns_match_whole_strings(pattern: str, matching: list[str]) -> None:
    for negated in (False, True):
        found = holds(Matches(OPERAND, pattern, negated), attribute_column([*TEXTS, 5, ...])).tolist()
        assert found == [*((text in matching) is not negated for text in TEXTS), False, False]


def test_one_of_finds_strings_and_elements() -> None:
    column = loaded(attribute_column(["a", "b", ["c", "a"], ["c"], 1, ...]))
    assert holds(OneOf(OPERAND, ("a", "c")), column).tolist() == [True, False, True, True, False, False]


@pytest.mark.parametrize(("pattern", "good"), [("a.*", True), ("(", False), (r"(?!x)", False), (r"\1", False), ("a)(b", False)])
def test_regex_problem_is_the_verdict_of_re2(pattern: str, good: bool) -> None:
    assert (regex_problem(pattern) is None) is good


@pytest.mark.parametrize(
    ("test", "expected"),
    [
        (CompareConstant(Operator.EQUAL, OPERAND, constant(2)), [True, False, False, False, False]),
        (CompareConstant(Operator.NOT_EQUAL, OPERAND, constant(2)), [False, True, False, False, False]),
        (CompareConstant(Operator.GREATER, OPERAND, constant(2.5)), [True, True, False, False, False]),
        (Matches(OPERAND, "a", negated=False), [False, False, True, False, False]),
        (Matches(OPERAND, "a", negated=True), [False, False, False, True, False]),
    ],
)
def test_arrays_hold_by_any_element_and_negations_by_all(test: CompareConstant | Matches, expected: list[bool]) -> None:
    assert holds(test, attribute_column([[2, 3], [3.5, 4.5], ["a", "b"], ["b", "c"], ...])).tolist() == expected


def ids(numbers: list[int], width: int = 8) -> Ids:
    high, low = zip(*(divmod(number, 1 << 64) for number in numbers), strict=True)
    return Ids(np.ones(len(numbers), np.bool_), np.array(high, np.uint64), np.array(low, np.uint64), width)


@pytest.mark.parametrize(
    ("text", "expected"),
    [("00000000000000ff", [True, False]), ("FF", [True, False]), ("", [False, True]), ("0", [False, True]), ("xyz", [False, False])],
)
def test_ids_equal_their_hexadecimal_text(text: str, expected: list[bool]) -> None:
    column = ids([255, 0])
    texts = Texts(np.ones(2, np.bool_), np.zeros(2, np.int32), pa.array([text]))
    assert compare_id(Operator.EQUAL, column, text).tolist() == expected
    assert compare_id_texts(Operator.EQUAL, column, texts).tolist() == expected
    assert compare_id(Operator.NOT_EQUAL, column, text).tolist() == [not one for one in expected]
    assert compare_id_texts(Operator.NOT_EQUAL, column, texts).tolist() == [not one for one in expected]
    assert not compare_id(Operator.LESS, column, text).any()


def test_ids_have_texts() -> None:
    texts = id_texts(ids([0xA0000000000000FF, 1, 1]))
    assert texts.dictionary.take(texts.codes).to_pylist() == ["a0000000000000ff", "0000000000000001", "0000000000000001"]
    texts = id_texts(ids([0xA1 << 64, 0xB, 0], width=16))
    assert texts.dictionary.take(texts.codes).to_pylist() == ["a1" + "0" * 16, "b", "0"]
    assert compare_ids(Operator.EQUAL, ids([1, 2]), ids([1, 3], width=16)).tolist() == [True, False]


SCALARS = st.integers(-2, 2) | st.sampled_from([0.0, 1.0, 2.5]) | st.booleans() | st.sampled_from(["", "a", "1"])
LISTS = st.lists(st.integers(0, 1), max_size=3) | st.lists(st.sampled_from("ab"), max_size=3) | st.lists(st.booleans(), max_size=2)
RAW = st.just(...) | SCALARS | LISTS | st.just(b"x")


@given(st.lists(RAW, min_size=1, max_size=20), st.lists(RAW, min_size=1, max_size=20))
def test_values_have_one_code_if_they_are_the_same_in_type_and_content(first: list[Any], second: list[Any]) -> None:
    size = min(len(first), len(second))
    column = first_of([loaded(attribute_column(raw[:size])) for raw in (first, second)])
    codes = value_codes(column).tolist()
    known = [one if one is not ... else other for one, other in zip(first, second, strict=False)]
    kinds = [repr(value_of(raw)) if raw is not ... and value_of(raw).type != "opaque" else "none" for raw in known]
    for place, other in itertools.combinations(range(size), 2):
        assert (codes[place] == codes[other]) is (kinds[place] == kinds[other])
    assert all((code == 0) is (kind == "none") for code, kind in zip(codes, kinds, strict=True))


@given(st.lists(RAW, max_size=12), st.data())
def test_taken_rows_have_their_values(raw: list[Any], data: st.DataObject) -> None:
    column = loaded(attribute_column(raw))
    rows = data.draw(st.lists(st.integers(-1, len(raw) - 1), max_size=20))
    every = typed_column(column)
    taken = take(column, np.array(rows, np.int64))
    assert typed_column(taken) == [every[row] if row >= 0 else None for row in rows]
    assert present(taken).tolist() == [row >= 0 and raw[row] is not ... for row in rows]


@given(st.lists(st.integers(0, 1 << 30), min_size=1) | st.lists(st.integers(0, 5), min_size=1))
def test_dense_codes_are_those_of_sorting(codes: list[int]) -> None:
    first, index = dense_codes(np.array(codes))
    _, expected_first, expected_index = np.unique(codes, return_index=True, return_inverse=True)
    assert first.tolist() == expected_first.tolist()
    assert index.tolist() == expected_index.tolist()
    assert len(set(combined_codes([np.array(codes), np.array(codes)]).tolist())) == len(set(codes))


def test_booleans_and_enumerations_equal_only_their_own_kind() -> None:
    status = Values(2, (Numbers(NumberType.STATUS, np.ones(2, np.bool_), np.array([2, 0])),))
    assert holds(CompareConstant(Operator.EQUAL, OPERAND, Constant(ValueType.STATUS, 2)), status).tolist() == [True, False]
    assert not holds(CompareConstant(Operator.EQUAL, OPERAND, Constant(ValueType.KIND, 2)), status).any()
    assert not holds(CompareConstant(Operator.EQUAL, OPERAND, constant(2)), status).any()
    truth = attribute_column([True, False])
    assert not holds(CompareConstant(Operator.LESS, OPERAND, Constant(ValueType.BOOL, value=True)), truth).any()
    assert compare(Operator.EQUAL, truth, attribute_column([True, 0])).tolist() == [True, False]


def test_few_rows_with_a_large_dictionary_answer_the_same() -> None:
    words = pa.array([f"word {number:04}" for number in range(1000)])
    codes, valid = np.array([999, 3, 1 << 30, 999], np.int32), np.array([True, True, False, True])
    few = Values(4, (Texts(valid, codes, words),))
    assert holds(Matches(OPERAND, ".*9", negated=False), few).tolist() == [True, False, False, True]
    assert holds(CompareConstant(Operator.LESS, OPERAND, Constant(ValueType.STRING, "word 0900")), few).tolist() == [
        False,
        True,
        False,
        False,
    ]
    assert holds(OneOf(OPERAND, ("word 0003", "x")), few).tolist() == [False, True, False, False]
    assert compare(Operator.GREATER, few, attribute_column(["word 0500"] * 4)).tolist() == [True, False, False, True]
    assert value_codes(first_of([few, attribute_column(["a", "b", "c", "d"])])).tolist()[0] != 0


_PATTERN_PARTS = st.sampled_from(
    [*(".*", ".*", ".", "a", "b", "*", "+", "?", "(a)", "(ab)*", "|", "^", "$", "{2}", "\\.", "[a.]", "(?-s:.)")]
)


@given(st.lists(_PATTERN_PARTS, max_size=6).map("".join), st.lists(st.text("ab\n.*", max_size=5), min_size=1, max_size=20))
def test_search_for_a_pattern_without_its_ends_finds_what_the_whole_pattern_matches(pattern: str, texts: list[str]) -> None:
    if regex_problem(pattern) is None:
        values = pa.array(texts, pa.string())
        searched = pc.match_substring_regex(values, whole_value_search(pattern))
        assert searched.equals(pc.match_substring_regex(values, anchored(pattern)))

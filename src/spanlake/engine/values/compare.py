"""Comparisons over columns of any types. They always have an answer: what types or missing values make impossible is false.

Of an array, `= =~ < <= > >=` hold if they do for any element, and `!= !~` if `=` or `=~` hold for none. Arrays do not compare with arrays.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import assert_never

import numpy as np

from spanlake.engine.values.ids import compare_id, compare_id_texts, compare_ids, id_texts
from spanlake.engine.values.numbers import NUMERIC, comparable, compare_number, compare_numbers
from spanlake.engine.values.parts import Mask, take_part
from spanlake.engine.values.texts import compare_text, compare_texts, match_text, text_in
from spanlake.model.scan import Ids, Lists, Numbers, NumberType, Opaque, Part, Texts, Values
from spanlake.traceql.ast import Operator
from spanlake.traceql.plan.nodes import CompareConstant, Constant, Matches, OneOf, Test
from spanlake.traceql.vocabulary import ValueType

_NUMBER_TYPES = {
    ValueType.INT: NumberType.INT,
    ValueType.FLOAT: NumberType.FLOAT,
    ValueType.DURATION: NumberType.DURATION,
    ValueType.BOOL: NumberType.BOOL,
    ValueType.STATUS: NumberType.STATUS,
    ValueType.KIND: NumberType.KIND,
}


def number_type(constant: Constant) -> NumberType | None:
    """What the constant means as a number; None for strings and nil."""
    return _NUMBER_TYPES.get(constant.type)


def holds(test: Test, values: Values) -> Mask:
    """Per row whether a value is there and passes the test (whose own operand is not looked at)."""
    result = np.zeros(values.rows, np.bool_)
    for part in values.parts:
        result |= _part_holds(test, part)
    return result


def _part_holds(test: Test, part: Part) -> Mask:
    if isinstance(part, Lists):
        return _list_holds(test, part)
    match test:
        case CompareConstant():
            return _compare_constant(test.operator, part, test.constant)
        case OneOf():
            return _one_of(part, test.texts)
        case Matches():
            texts = id_texts(part) if isinstance(part, Ids) and len(part.valid) else part
            if isinstance(texts, Texts):
                return match_text(texts, test.pattern, negated=test.negated)
            return np.zeros(len(part.valid), np.bool_)
        case _:
            assert_never(test)


def _list_holds(test: Test, lists: Lists) -> Mask:
    """A negative test holds if it does for every element: no element may equal or match, and all must be of the right type."""
    elements = _part_holds(test, lists.elements)
    negative = isinstance(test, Matches) and test.negated
    negative |= isinstance(test, CompareConstant) and test.operator is Operator.NOT_EQUAL
    return _reduced(lists, elements, of_all=negative)


def _reduced(lists: Lists, elements: Mask, *, of_all: bool) -> Mask:
    """Per row whether `elements` is true for any, or for all, of its elements; rows without a list are false."""
    counts = np.zeros(len(elements) + 1, np.int64)
    np.cumsum(~elements if of_all else elements, out=counts[1:])
    found = counts[lists.offsets[1:]] - counts[lists.offsets[:-1]]
    return lists.valid & ((found == 0) if of_all else (found > 0))


def _compare_constant(operator: Operator, part: Texts | Ids | Numbers | Opaque, constant: Constant) -> Mask:
    value, number = constant.value, number_type(constant)
    if isinstance(part, Texts) and isinstance(value, str):
        return compare_text(operator, part, value)
    if isinstance(part, Ids) and isinstance(value, str):
        return compare_id(operator, part, value)
    if isinstance(part, Numbers) and number is not None and comparable(part.type, number, operator):
        assert isinstance(value, int | float)
        return part.valid & compare_number(operator, part.values, value)
    return np.zeros(len(part.valid), np.bool_)


def _one_of(part: Texts | Ids | Numbers | Opaque, texts: tuple[str, ...]) -> Mask:
    if isinstance(part, Texts):
        return text_in(part, texts)
    result = np.zeros(len(part.valid), np.bool_)
    if isinstance(part, Ids):
        for text in texts:
            result |= compare_id(Operator.EQUAL, part, text)
    return result


# ---- column with column ----


def compare(operator: Operator, left: Values, right: Values) -> Mask:
    """Per row whether both sides have a value and `left operator right` holds."""
    result = np.zeros(left.rows, np.bool_)
    for first in left.parts:
        for second in right.parts:
            if (first.valid & second.valid).any():
                result |= _compare_parts(operator, first, second)
    return result


def _compare_parts(operator: Operator, left: Part, right: Part) -> Mask:
    if isinstance(left, Lists) or isinstance(right, Lists):
        return _compare_with_list(operator, left, right)
    match left, right:
        case Texts(), Texts():
            return compare_texts(operator, left, right)
        case Ids(), Ids():
            return compare_ids(operator, left, right)
        case Ids(), Texts():
            return compare_id_texts(operator, left, right)
        case Texts(), Ids():
            return compare_id_texts(operator, right, left)
        case Numbers(), Numbers() if comparable(left.type, right.type, operator):
            return left.valid & right.valid & compare_numbers(operator, left.values, right.values)
        case _:
            return np.zeros(len(left.valid), np.bool_)


def _compare_with_list(operator: Operator, left: Part, right: Part) -> Mask:
    lists, other = (left, right) if isinstance(left, Lists) else (right, left)
    assert isinstance(lists, Lists)
    if isinstance(other, Lists):
        return np.zeros(len(left.valid), np.bool_)
    rows = np.repeat(np.arange(len(lists.valid)), np.diff(lists.offsets))
    beside = take_part(other, rows)
    first, second = (lists.elements, beside) if lists is left else (beside, lists.elements)
    elements = _compare_parts(operator, first, second)
    return other.valid & _reduced(lists, elements, of_all=operator is Operator.NOT_EQUAL)


# ---- numbers of columns ----


def numeric_parts(values: Values) -> list[Numbers]:
    """The parts that are numbers one can calculate with."""
    return [part for part in values.parts if isinstance(part, Numbers) and part.type in NUMERIC]


def map_numbers(values: Values, function: Callable[[Numbers], Numbers]) -> Values:
    """A function of every number; other values become none."""
    return Values(values.rows, tuple(function(part) for part in numeric_parts(values)))


def combine_numbers(left: Values, right: Values, function: Callable[[Numbers, Numbers], list[Numbers]]) -> Values:
    """A function of the numbers of two columns; rows where one side is no number have no value."""
    pairs = ((first, second) for first in numeric_parts(left) for second in numeric_parts(right))
    found = (part for first, second in pairs if (first.valid & second.valid).any() for part in function(first, second))
    return Values(left.rows, tuple(found))

"""The values that found spans show, and values as they stand in answers.

Numbers keep their type; durations, status, kind and ids become text. What TraceQL cannot hold is not shown.
"""

from __future__ import annotations

from itertools import pairwise
from typing import TypeAlias, assert_never

import numpy as np

from spanlake.engine.frame import Frame, View, view_source
from spanlake.engine.values.compare import holds
from spanlake.engine.values.ids import id_texts
from spanlake.engine.values.parts import Mask, Rows, loaded, offsets_of, present, take, take_elements, take_part
from spanlake.model.results import ResultType, TypedValue
from spanlake.model.scan import Ids, Lists, Numbers, NumberType, Opaque, Part, Texts, Values
from spanlake.traceql.durations import format_duration
from spanlake.traceql.plan.nodes import Column, Shown, Test, TimeSinceStart
from spanlake.traceql.vocabulary import KIND_VALUES, STATUS_VALUES

TypedColumn: TypeAlias = list[TypedValue | None]


def shown_column(frame: Frame, shown: Shown, rows: Rows) -> TypedColumn:
    """Per row what the span shows of the field, or None."""
    source = shown.source
    scope = source.field.scope if isinstance(source, Column) else "event" if isinstance(source, TimeSinceStart) else "intrinsic"
    if scope not in {"event", "link"}:
        return typed_column(_tested(view_source(View(frame, rows), source), shown))
    children = frame.children(scope)
    if children is None:
        return [None] * len(rows)
    # Columns of events and links are short for the few spans of an answer: their tries are all events of all rows.
    counts = children.offsets[rows + 1] - children.offsets[rows]
    offsets = offsets_of(counts)
    places = np.repeat(np.arange(len(rows)), counts)
    child = np.arange(offsets[-1]) + np.repeat(children.offsets[rows] - offsets[:-1], counts)
    values = _tested(view_source(View(frame, rows[places], child, child), source), shown)
    found = np.flatnonzero(present(_showable(values)))
    last = np.full(len(rows), -1)
    np.maximum.at(last, places[found], found)
    return typed_column(take(values, last))


def _showable(values: Values) -> Values:
    return Values(values.rows, tuple(part for part in values.parts if not isinstance(part, Opaque)))


def _tested(values: Values, shown: Shown) -> Values:
    """The values, and elements of arrays, that pass a test."""
    if shown.tests is None:
        return values
    parts: list[Part] = []
    for part in values.parts:
        if isinstance(part, Lists):
            parts.append(_kept_elements(part, _passing_elements(part, shown.tests)))
        else:
            keep = _any_holds(shown.tests, Values(values.rows, (part,)))
            parts.append(take_part(part, np.where(keep, np.arange(values.rows), -1)))
    return loaded(Values(values.rows, tuple(parts)))


def _any_holds(tests: tuple[Test, ...], values: Values) -> Mask:
    result = np.zeros(values.rows, np.bool_)
    for test in tests:
        result |= holds(test, values)
    return result


def _passing_elements(lists: Lists, tests: tuple[Test, ...]) -> Mask:
    """The elements that pass a test which the whole array passes."""
    elements = Values(len(lists.elements.valid), (lists.elements,))
    lengths = np.diff(lists.offsets)
    result = np.zeros(elements.rows, np.bool_)
    for test in tests:
        whole = holds(test, Values(len(lists.valid), (lists,)))
        result |= holds(test, elements) & np.repeat(whole, lengths)
    return result


def _kept_elements(lists: Lists, keep: Mask) -> Lists:
    counts = np.zeros(len(keep) + 1, np.int64)
    np.cumsum(keep, out=counts[1:])
    lengths = counts[lists.offsets[1:]] - counts[lists.offsets[:-1]]
    return Lists(lists.valid & (lengths > 0), offsets_of(lengths), take_elements(lists.elements, np.flatnonzero(keep)))


def typed_column(values: Values) -> TypedColumn:
    """Per row the value as an answer holds it, or None."""
    result: TypedColumn = [None] * values.rows
    for part in values.parts:
        rows = np.flatnonzero(part.valid)
        for row, one in zip(rows.tolist(), _typed(take_part(part, rows)), strict=True):
            result[row] = one
    return result


def _typed(part: Part) -> TypedColumn:
    """The values of a part of which every row is valid."""
    match part:
        case Texts():
            return [TypedValue(ResultType.STRING, text) for text in part.dictionary.take(part.codes).to_pylist()] if len(part.codes) else []
        case Ids():
            return _typed(id_texts(part)) if len(part.valid) else []
        case Numbers():
            return [_number(part.type, number) for number in part.values.tolist()]
        case Lists():
            elements = _typed(part.elements)
            ends = part.offsets.tolist()
            lists = (elements[first:last] for first, last in pairwise(ends))
            return [TypedValue(ResultType.ARRAY, tuple(one for one in found if one)) for found in lists]
        case Opaque():
            return [None] * len(part.valid)
        case _:
            assert_never(part)


def _number(number: NumberType, value: float) -> TypedValue:
    match number:
        case NumberType.INT:
            return TypedValue(ResultType.INT, int(value))
        case NumberType.FLOAT:
            return TypedValue(ResultType.DOUBLE, float(value))
        case NumberType.BOOL:
            return TypedValue(ResultType.BOOL, bool(value))
        case NumberType.DURATION:
            return TypedValue(ResultType.STRING, format_duration(int(value)))
        case NumberType.STATUS:
            return TypedValue(ResultType.STRING, _word(STATUS_VALUES, int(value)))
        case NumberType.KIND:
            return TypedValue(ResultType.STRING, _word(KIND_VALUES, int(value)))
        case _:
            assert_never(number)


def _word(words: tuple[str, ...], code: int) -> str:
    """The word of a code; senders may use codes that OTLP does not define."""
    return words[code] if 0 <= code < len(words) else str(code)

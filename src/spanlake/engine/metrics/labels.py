"""Labels of series: the by() values of spans as numbers of local groups, and what those numbers stand for."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from spanlake.engine.frame import Frame
from spanlake.engine.shown import TypedColumn, typed_column
from spanlake.engine.tries import span_values
from spanlake.engine.values.identity import value_codes
from spanlake.engine.values.parts import Rows, take
from spanlake.model.results import Attributes, ResultType, TypedValue
from spanlake.model.scan import Lists, Numbers, Opaque, Texts, Values
from spanlake.traceql.plan.metrics.nodes import LabelField

NIL = TypedValue(ResultType.STRING, "nil")
NAME = "__name__"
_NAN = TypedValue(ResultType.DOUBLE, math.nan)  # the one object, because NaN equals nothing but itself as an object
_CODES_PER_ROW = 4
_CODES_MIN = 1 << 12
_TYPE_ORDER = {ResultType.INT: 0, ResultType.DOUBLE: 1, ResultType.STRING: 2, ResultType.BOOL: 3, ResultType.ARRAY: 4}


@dataclass(frozen=True, slots=True)
class Codes:
    """Per row a number below `size`; `values` tells what some numbers stand for."""

    of_row: Rows
    size: int
    values: Callable[[Rows], TypedColumn]


@dataclass(frozen=True, slots=True)
class Groups:
    """Per row (None: all in group 0) the number, below `size`, of its group. `labels` are those of some groups, and may repeat."""

    of_row: Rows | None
    size: int
    labels: Callable[[Rows], list[Attributes]]


def groups_by(frame: Frame, by: tuple[LabelField, ...], rows: Rows | None) -> Groups:
    """The spans of a frame, or some of them, by the values of fields.

    A missing value has no label, and neither has an array; where all are missing, the first label is `nil`.
    """
    if not by:
        return Groups(None, 1, lambda used: [()] * len(used))
    columns = [codes_of(span_values(frame, label.operand, rows)) for label in by]
    of_row, size, parts_of = _combined(columns)
    keys = [label.key for label in by]

    def labels(used: Rows) -> list[Attributes]:
        values = [column.values(part) for column, part in zip(columns, parts_of(used), strict=True)]
        found = [tuple((key, one) for key, one in zip(keys, row, strict=True) if one is not None) for row in zip(*values, strict=True)]
        return [one or ((keys[0], NIL),) for one in found]

    return Groups(of_row, size, labels)


def codes_of(values: Values) -> Codes:
    """Numbers for the values of a column: 0 where there is none that can be a label."""
    parts = tuple(part for part in values.parts if not isinstance(part, Lists | Opaque) and part.valid.any())
    if not parts:
        return Codes(np.zeros(values.rows, np.int64), 1, lambda used: [None] * len(used))
    if len(parts) == 1 and isinstance(parts[0], Texts):
        return _text_codes(parts[0])
    if len(parts) == 1 and isinstance(parts[0], Numbers) and parts[0].values.dtype.kind == "i":
        found = _integer_codes(parts[0])
        if found is not None:
            return found
    kept = Values(values.rows, parts)
    codes = value_codes(kept)
    size = int(codes.max(initial=0)) + 1
    some_row = np.full(size, -1)
    some_row[codes] = np.arange(len(codes))
    return Codes(codes, size, lambda used: label_values(take(kept, some_row[used])))


def _text_codes(texts: Texts) -> Codes:
    """By place in the dictionary; a string that is there more than once gets one number, if looking for it costs less than having two."""
    dictionary = texts.dictionary
    number_of = None
    if len(dictionary) * _CODES_PER_ROW <= len(texts.codes):
        encoded = dictionary.dictionary_encode()
        if len(encoded.dictionary) < len(dictionary):
            dictionary, number_of = encoded.dictionary, encoded.indices.to_numpy().astype(np.int64) + 1
    codes = np.add(texts.codes, 1, dtype=np.int64) if number_of is None else number_of.take(texts.codes, mode="clip")
    if not texts.valid.all():
        codes *= texts.valid

    def values(used: Rows) -> TypedColumn:
        found = dictionary.take(pa.array(np.maximum(used - 1, 0))).to_pylist()
        return [TypedValue(ResultType.STRING, text) if code else None for code, text in zip(used.tolist(), found, strict=True)]

    return Codes(codes, len(dictionary) + 1, values)


def _integer_codes(numbers: Numbers) -> Codes | None:
    """The distance from the least number, if that is not too large for all of them."""
    present = numbers.values if numbers.valid.all() else numbers.values[numbers.valid]
    least, greatest = int(present.min()), int(present.max())
    size = greatest - least + 2
    if size > max(_CODES_PER_ROW * len(present), _CODES_MIN) or least == np.iinfo(np.int64).min:
        return None
    codes: Rows = np.where(numbers.valid, numbers.values - (least - 1), 0).astype(np.int64, copy=False)

    def values(used: Rows) -> TypedColumn:
        return label_values(Values(len(used), (Numbers(numbers.type, used > 0, used + (least - 1)),)))

    return Codes(codes, size, values)


def label_values(values: Values) -> TypedColumn:
    """As labels hold them: zero has no sign, and NaN is one value."""
    return [_plain(one) for one in typed_column(values)]


def _plain(one: TypedValue | None) -> TypedValue | None:
    if one is None or not isinstance(one.value, float):
        return one
    return _NAN if math.isnan(one.value) else TypedValue(one.type, one.value + 0.0)


def _combined(columns: list[Codes]) -> tuple[Rows, int, Callable[[Rows], list[Rows]]]:
    """One number per combination, how many there can be, and the numbers of each column that some combinations are made of.

    Where combinations would be too many to count in an array, those that occur are numbered anew.
    """
    of_row, size = columns[0].of_row, columns[0].size
    distinct: list[Rows | None] = []
    for column in columns[1:]:
        of_row, size = of_row * column.size + column.of_row, size * column.size
        distinct.append(None)
        if size > max(_CODES_PER_ROW * len(of_row), _CODES_MIN):
            found, index = np.unique(of_row, return_inverse=True)
            distinct[-1], of_row, size = found, index.reshape(-1), len(found)

    def parts_of(used: Rows) -> list[Rows]:
        parts: list[Rows] = []
        for column, found in zip(reversed(columns[1:]), reversed(distinct), strict=True):
            used, part = np.divmod(used if found is None else found[used], column.size)
            parts.append(part)
        return [used, *reversed(parts)]

    return of_row, size, parts_of


def label_order(labels: Attributes) -> tuple[object, ...]:
    """The order of series: by number of labels, then keys, then values."""
    values = tuple((_TYPE_ORDER[one.type], one is _NAN, 0.0 if one is _NAN else one.value) for _, one in labels)
    return len(labels), tuple(key for key, _ in labels), values

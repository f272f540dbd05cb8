"""Taking, joining and testing columns of values.

A row is valid in at most one part. Numbers and codes of rows that are not valid are undefined, and may be anything.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, assert_never

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from spanlake.model.scan import Ids, Lists, Numbers, NumberType, Opaque, Part, Texts, Values

Mask = NDArray[np.bool_]
Rows = NDArray[np.int64]


def no_values(rows: int) -> Values:
    return Values(rows)


def present(values: Values) -> Mask:
    """Where there is a value, of whatever type."""
    result = np.zeros(values.rows, np.bool_)
    for part in values.parts:
        result |= part.valid
    return result


def restricted(part: Part, where: Mask) -> Part:
    """The part without the rows outside `where`."""
    if isinstance(part, Lists):
        return take_part(part, np.where(where, np.arange(len(where)), -1))
    return replace(part, valid=part.valid & where)


def first_of(columns: list[Values]) -> Values:
    """Per row the value of the first column that has one."""
    parts = list(columns[0].parts)
    missing = ~present(columns[0])
    for column in columns[1:]:
        parts += [restricted(part, missing) for part in column.parts if (part.valid & missing).any()]
        missing &= ~present(column)
    return Values(columns[0].rows, tuple(parts))


def take(values: Values, rows: Rows) -> Values:
    """The values of some rows, in that order; a negative row has none."""
    return Values(len(rows), tuple(take_part(part, rows) for part in values.parts))


def take_part(part: Part, rows: Rows) -> Part:
    """The entries of some rows, in that order; a negative row is not valid."""
    if not len(part.valid):
        rows = np.full(len(rows), -1)
        part = _with_one_row(part)
    inside = np.maximum(rows, 0)
    valid = part.valid[inside] & (rows >= 0)
    match part:
        case Texts():
            return replace(part, valid=valid, codes=part.codes[inside])
        case Ids():
            return replace(part, valid=valid, high=part.high[inside], low=part.low[inside])
        case Numbers():
            return replace(part, valid=valid, values=part.values[inside])
        case Opaque():
            return replace(part, valid=valid)
        case Lists():
            lengths = np.where(valid, np.diff(part.offsets)[inside], 0)
            offsets = offsets_of(lengths)
            flat = ragged(part.offsets[inside], lengths, offsets)
            return Lists(valid, offsets, take_elements(part.elements, flat))
        case _:
            assert_never(part)


def take_elements(elements: Texts | Numbers, places: Rows) -> Texts | Numbers:
    """The elements of arrays at some places, in that order."""
    taken = take_part(elements, places)
    assert isinstance(taken, Texts | Numbers)
    return taken


def _with_one_row(part: Part) -> Part:
    """A part without rows as one with a single row that has no value, so that any row can be taken from it."""
    none = np.zeros(1, np.bool_)
    match part:
        case Texts():
            return replace(part, valid=none, codes=np.zeros(1, np.int32))
        case Ids():
            return replace(part, valid=none, high=np.zeros(1, np.uint64), low=np.zeros(1, np.uint64))
        case Numbers():
            zero: NDArray[Any] = np.zeros(1, part.values.dtype)
            return replace(part, valid=none, values=zero)
        case Opaque():
            return replace(part, valid=none)
        case Lists():
            return replace(part, valid=none, offsets=np.zeros(2, np.int64))
        case _:
            assert_never(part)


def offsets_of(lengths: NDArray[np.int64]) -> NDArray[np.int64]:
    """Where segments of these lengths begin, and the end of the last: one more entry than segments."""
    offsets = np.zeros(len(lengths) + 1, np.int64)
    np.cumsum(lengths, out=offsets[1:])
    return offsets


def ragged(first: Rows, lengths: NDArray[np.int64], offsets: NDArray[np.int64]) -> Rows:
    """The numbers first[i], first[i] + 1, … (lengths[i] of them) for every i, one after the other; offsets as of `offsets_of`."""
    return np.arange(offsets[-1]) + np.repeat(first - offsets[:-1], lengths)


def loaded(values: Values) -> Values:
    """A column as it came from storage: arrays of one element become that element."""
    if not any(isinstance(part, Lists) for part in values.parts):
        return values
    parts: list[Part] = []
    for part in values.parts:
        if isinstance(part, Lists):
            lengths = np.diff(part.offsets)
            single = part.valid & (lengths == 1)
            parts.append(restricted(part, part.valid & (lengths > 1)))
            parts.append(take_part(part.elements, np.where(single, part.offsets[:-1], -1)))
        else:
            parts.append(part)
    return Values(values.rows, tuple(parts))


def with_default(values: Values, text: str) -> Values:
    """The column with a string wherever it has no value."""
    missing = ~present(values)
    default = Texts(missing, np.zeros(values.rows, np.int32), pa.array([text], pa.string()))
    return Values(values.rows, (*values.parts, default)) if missing.any() else values


def with_type(values: Values, number: NumberType) -> Values:
    """The column with a meaning for its numbers."""
    parts = (replace(part, type=number) if isinstance(part, Numbers) else part for part in values.parts)
    return Values(values.rows, tuple(parts))


def constant_column(value: bool | float | str, number: NumberType | None, rows: int) -> Values:
    """The same value in every row; `number` says what a number means."""
    valid = np.broadcast_to(np.True_, rows)
    if isinstance(value, str):
        codes = np.broadcast_to(np.int32(0), rows)
        return Values(rows, (Texts(valid, codes, pa.array([value], pa.string())),))
    assert number is not None
    numbers: NDArray[Any] = np.broadcast_to(np.float64(value) if number is NumberType.FLOAT else np.int64(value), rows)
    return Values(rows, (Numbers(number, valid, numbers),))


def booleans(truth: Mask, valid: Mask | None = None) -> Values:
    """A condition as a column."""
    has_value = np.ones(len(truth), np.bool_) if valid is None else valid
    return Values(len(truth), (Numbers(NumberType.BOOL, has_value, truth.astype(np.int64)),))


def boolean_rows(values: Values, *, value: bool) -> Mask:
    """Where the value is the boolean `value`."""
    result = np.zeros(values.rows, np.bool_)
    for part in values.parts:
        if isinstance(part, Numbers) and part.type is NumberType.BOOL:
            result |= part.valid & ((part.values != 0) == value)
    return result

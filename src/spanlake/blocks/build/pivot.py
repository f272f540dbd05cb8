"""Attributes from rows to columns, and the compaction of string codes that each row group's dictionaries need."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spanlake.blocks.build.choose import TYPE_NUMBERS, Column
from spanlake.model.kernel import kernel
from spanlake.model.spans import SpanBatch

NO_COLUMN = -1


@dataclass(frozen=True, slots=True)
class Pivoted:
    """The attributes of some owners (spans, resources or scopes) as columns, in the order in which the columns were given."""

    values: NDArray[np.int64]  # [column, owner]: as in ATTR.value
    valid: NDArray[np.uint8]  # [column, owner]: 1 where the owner has the attribute
    rest_owner: NDArray[np.int32]  # owner of each attribute that is in no column, ascending
    rest_attr: NDArray[np.int32]  # its index in the attribute table

    def expand(self, owner_of_row: NDArray[np.int64]) -> Pivoted:
        """The same for rows that each have one of these owners."""
        counts = np.bincount(self.rest_owner, minlength=self.values.shape[1])
        starts = np.cumsum(counts) - counts
        per_row = counts[owner_of_row]
        first = np.cumsum(per_row) - per_row
        index = np.repeat(starts[owner_of_row] - first, per_row) + np.arange(int(per_row.sum()))
        return Pivoted(
            self.values[:, owner_of_row],
            self.valid[:, owner_of_row],
            np.repeat(np.arange(len(owner_of_row), dtype=np.int32), per_row),
            self.rest_attr[index],
        )


@kernel
def pivot_attributes(firsts: Any, lengths: Any, attrs: Any, column_of: Any, types: Any, values: Any, valid: Any, rest: Any) -> int:
    """Spread attributes over columns. column_of: per string code, the column of that key or NO_COLUMN; types: per column.

    Writes `values` and `valid` ([column, owner], valid begins zero) and `rest` (int32[2, attributes]: owner, attribute) for
    attributes without a column, of another type than their column's, or repeated. Returns the length of `rest`.
    """
    left = 0
    for i in range(len(firsts)):
        for j in range(firsts[i], firsts[i] + lengths[i]):
            column = column_of[attrs[j].key]
            if column >= 0 and types[column] == attrs[j].type and valid[column, i] == 0:
                values[column, i] = attrs[j].value
                valid[column, i] = 1
            else:
                rest[0, left] = i
                rest[1, left] = j
                left += 1
    return left


class Pivot:
    """Columns of one scope over one batch; owns the map from string codes to columns."""

    def __init__(self, batch: SpanBatch, columns: Sequence[Column], code_of_key: Mapping[str, int]) -> None:
        self._attrs = batch.attrs
        self._column_of = np.full(len(batch.strings), NO_COLUMN, np.int32)
        self._types = np.array([TYPE_NUMBERS[column.type] for column in columns], np.uint8)
        for number, column in enumerate(columns):
            if column.key in code_of_key:
                self._column_of[code_of_key[column.key]] = number

    def spread(self, firsts: NDArray[np.int32], lengths: NDArray[np.int32]) -> Pivoted:
        """Pivot owners that have the attributes [firsts[i], firsts[i] + lengths[i])."""
        firsts, lengths = np.ascontiguousarray(firsts), np.ascontiguousarray(lengths)
        values = np.empty((len(self._types), len(firsts)), np.int64)
        valid = np.zeros((len(self._types), len(firsts)), np.uint8)
        rest = np.empty((2, int(lengths.sum())), np.int32)
        left = pivot_attributes(firsts, lengths, self._attrs, self._column_of, self._types, values, valid, rest)
        return Pivoted(values, valid, rest[0, :left], rest[1, :left])


@kernel
def compact_codes(codes: Any, valid: Any, marks: Any, indices: Any, used: Any) -> int:
    """Renumber the codes of valid rows by first appearance: writes `indices` and `used` (the codes in that order), returns their number.

    `marks` (int32 per pool code) is all zero before and after. Invalid rows get index 0.
    """
    found = 0
    for i in range(len(codes)):
        if valid[i] == 0:
            indices[i] = 0
            continue
        mark = marks[codes[i]]
        if mark == 0:
            used[found] = codes[i]
            found += 1
            mark = found
            marks[codes[i]] = mark
        indices[i] = mark - 1
    for i in range(found):
        marks[used[i]] = 0
    return found

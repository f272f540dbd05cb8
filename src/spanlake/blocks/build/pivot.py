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
PASSED_OVER = 2


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
def pivot_attributes(owners: Any, attrs: Any, columns: Any, target: Any) -> int:
    """Spread attributes over columns. owners: first and number of the attributes of each; columns: (per string code, the column of that
    key or NO_COLUMN; per column, its OTLP type).

    Writes to target (values, valid, rest): [column, owner] the first two, of which valid begins zero; the rest, int32[2, attributes], has
    owner and attribute of the others: without a column, or not the first of their key, or of another type than their column's. A key
    whose first value is in the rest has its further values there too, so that reading columns before the rest keeps their order.
    Returns the length of `rest`.
    """
    firsts, lengths = owners
    column_of, types = columns
    values, valid, rest = target
    left = 0
    for i in range(len(firsts)):
        passed_over = 0
        for j in range(firsts[i], firsts[i] + lengths[i]):
            column = column_of[attrs[j].key]
            if column >= 0 and valid[column, i] == 0:
                if types[column] == attrs[j].type:
                    values[column, i] = attrs[j].value
                    valid[column, i] = 1
                    continue
                valid[column, i] = PASSED_OVER
                passed_over += 1
            rest[0, left] = i
            rest[1, left] = j
            left += 1
        if passed_over > 0:
            for j in range(firsts[i], firsts[i] + lengths[i]):
                column = column_of[attrs[j].key]
                if column >= 0 and valid[column, i] == PASSED_OVER:
                    valid[column, i] = 0
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
        left = pivot_attributes((firsts, lengths), self._attrs, (self._column_of, self._types), (values, valid, rest))
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

"""Numbers by key, for keys of which few occur: what first-stage functions know of each (series, point).

A key is (series * points + point) << bits | detail; the detail is a bucket, or nothing. Tables of any split of the spans, merged in any
order, are the table of all, because integers are added and extremes are taken; only weights of sampled spans are added as floats.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spanlake.engine.values.parts import Rows, offsets_of, ragged

_SLOTS_PER_ROW = 4  # a table this large is faster than sorting
_SLOTS_MIN = 1 << 16
_INT_BITS = 63
_BYTES_PER_NUMBER = 8


@dataclass(frozen=True, slots=True)
class Layout:
    """How a table is merged: a ufunc per column. `bits`: of the detail in a key."""

    reducers: tuple[np.ufunc, ...]
    bits: int = 0


@dataclass(frozen=True, slots=True)
class Cells:
    """Ascending distinct keys, with numbers in columns that are parallel to them."""

    keys: Rows
    columns: tuple[NDArray[Any], ...]

    @property
    def nbytes(self) -> int:
        return (1 + len(self.columns)) * _BYTES_PER_NUMBER * len(self.keys)


def merged(parts: Sequence[Cells], layout: Layout) -> Cells:
    """One table of several; their keys need not be in order, nor distinct."""
    keys = np.concatenate([part.keys for part in parts])
    columns = [np.concatenate([part.columns[i] for part in parts]) for i in range(len(layout.reducers))]
    if layout.reducers == (np.add,) and columns[0].dtype.kind == "i" and len(keys):
        bits = int(columns[0].max()).bit_length()
        if int(columns[0].min()) >= 0 and int(keys.min()) >= 0 and int(keys.max()).bit_length() + bits < _INT_BITS:
            return _merged_counts((keys << bits) | columns[0], bits)
    order = np.argsort(keys, kind="stable")
    keys = keys[order]
    first = first_of_each(keys)
    columns = [column[order] for column in columns]
    if len(first) == len(keys):
        return Cells(keys, tuple(columns))
    return Cells(keys[first], tuple(reducer.reduceat(one, first) for reducer, one in zip(layout.reducers, columns, strict=True)))


def _merged_counts(packed: Rows, bits: int) -> Cells:
    """Counts that fit into one number with their keys: numbers are sorted several times faster than their places."""
    packed.sort()
    keys = packed >> bits
    packed &= (1 << bits) - 1
    first = first_of_each(keys)
    if len(first) == len(keys):
        return Cells(keys, (packed,))
    up_to = np.cumsum(packed)[np.append(first[1:], len(packed)) - 1]
    return Cells(keys[first], (np.diff(up_to, prepend=0),))


def first_of_each(ordered: Rows) -> Rows:
    """Where a new number begins in an array that is in order."""
    new = np.ones(len(ordered), np.bool_)
    np.not_equal(ordered[1:], ordered[:-1], out=new[1:])
    return np.flatnonzero(new)


def series_of(cells: Cells, width: int) -> Rows:
    """The series of a table, ascending; `width` keys belong to one."""
    series = cells.keys // width
    return series[first_of_each(series)]


def counted(keys: Rows, bound: int, weights: NDArray[np.float64] | None = None) -> Cells:
    """How often each key occurs, or what its weights add up to; keys are below `bound`."""
    if bound <= max(_SLOTS_PER_ROW * len(keys), _SLOTS_MIN):
        counts = np.bincount(keys, minlength=1)
        used = np.flatnonzero(counts > 0)  # of booleans, because that is several times faster
        return Cells(used, (counts[used] if weights is None else np.bincount(keys, weights)[used],))
    if weights is not None:
        distinct, index = np.unique(keys, return_inverse=True)
        return Cells(distinct, (np.bincount(index.reshape(-1), weights),))
    ordered = np.sort(keys)
    first = first_of_each(ordered)
    return Cells(ordered[first], (np.diff(first, append=len(ordered)),))


@dataclass(frozen=True, slots=True)
class Slots:
    """Rows by key, for arrays with an entry per key: `of_row` says which entry is whose. Not every entry need have a row."""

    keys: Rows | None  # of the entries; None where the entry is the key
    of_row: Rows
    count: int

    def cells(self, used: Rows, columns: Sequence[NDArray[Any]]) -> Cells:
        """The table of the entries in use."""
        return Cells(used if self.keys is None else self.keys[used], tuple(column[used] for column in columns))


def slots_of(keys: Rows, bound: int) -> Slots:
    """Entries for keys below `bound`."""
    if bound <= max(_SLOTS_PER_ROW * len(keys), _SLOTS_MIN):
        return Slots(None, keys, bound)
    distinct, index = np.unique(keys, return_inverse=True)
    return Slots(distinct, index.reshape(-1), len(distinct))


def renumbered(cells: Cells, layout: Layout, width: int, numbers: Rows) -> Cells:
    """The table with `numbers[s]` for series s, to which `width` keys belong.

    Series that get the same number become one, those with a negative one are left out.
    """
    series = cells.keys // width
    first = first_of_each(series)
    found = series[first]
    new = numbers[found]
    if (new == found).all():
        return cells
    lengths = np.diff(first, append=len(series))
    order = np.argsort(new, kind="stable")
    order = order[new[order] >= 0]
    kept = lengths[order]
    rows = slice(None) if len(order) == len(found) and (np.diff(order) == 1).all() else ragged(first[order], kept, offsets_of(kept))
    keys = cells.keys[rows] + np.repeat((new - found)[order] * width, kept)
    moved = Cells(keys, tuple(column[rows] for column in cells.columns))
    is_distinct = bool((np.diff(new[order]) > 0).all())
    return moved if is_distinct else merged([moved], layout)

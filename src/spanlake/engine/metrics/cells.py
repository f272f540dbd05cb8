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

from spanlake.engine.values.parts import Rows

_SLOTS_PER_ROW = 4  # a table this large is faster than sorting
_SLOTS_MIN = 1 << 16
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
    order = np.argsort(keys, kind="stable")
    keys = keys[order]
    first = _first_of_each(keys)
    columns = [np.concatenate([part.columns[i] for part in parts])[order] for i in range(len(layout.reducers))]
    if len(first) == len(keys):
        return Cells(keys, tuple(columns))
    return Cells(keys[first], tuple(reducer.reduceat(one, first) for reducer, one in zip(layout.reducers, columns, strict=True)))


def _first_of_each(ordered: Rows) -> Rows:
    """Where a new key begins."""
    new = np.ones(len(ordered), np.bool_)
    np.not_equal(ordered[1:], ordered[:-1], out=new[1:])
    return np.flatnonzero(new)


def counted(keys: Rows, bound: int, weights: NDArray[np.float64] | None = None) -> Cells:
    """How often each key occurs, or what its weights add up to; keys are below `bound`."""
    if bound <= max(_SLOTS_PER_ROW * len(keys), _SLOTS_MIN):
        counts = np.bincount(keys, minlength=1)
        used = np.flatnonzero(counts)
        return Cells(used, (counts[used] if weights is None else np.bincount(keys, weights)[used],))
    if weights is not None:
        distinct, index = np.unique(keys, return_inverse=True)
        return Cells(distinct, (np.bincount(index.reshape(-1), weights),))
    ordered = np.sort(keys)
    first = _first_of_each(ordered)
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


def renumbered(cells: Cells, layout: Layout, points: int, numbers: Rows) -> Cells:
    """The table with `numbers[s]` for series s; series that get the same number become one, those with a negative one are left out."""
    width = points << layout.bits
    series, rest = np.divmod(cells.keys, width)
    series = numbers[series]
    keep = series >= 0
    if not keep.all():
        series, rest = series[keep], rest[keep]
        cells = Cells(cells.keys[keep], tuple(column[keep] for column in cells.columns))
    moved = Cells(series * width + rest, cells.columns)
    return moved if bool((np.diff(moved.keys) > 0).all()) else merged([moved], layout)

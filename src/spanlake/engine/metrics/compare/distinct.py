"""Distinct values of one type with their counts. Values stay in arrays: there may be as many as there are spans.

A key of the counts is value * width + cell, where value is an index and cell is less than width.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from spanlake.engine.metrics.cells import Cells, Layout, counted, merged, renumbered, series_of
from spanlake.engine.metrics.labels import label_values
from spanlake.engine.shown import TypedColumn
from spanlake.engine.values.parts import Mask, Rows
from spanlake.model.results import ResultType, TypedValue
from spanlake.model.scan import Numbers, NumberType, Part, Texts, Values

COUNTS = Layout((np.add,))
_CODES_PER_ROW = 4
_CODES_MIN = 1 << 12

ValueArray: TypeAlias = Any
"""An Arrow array of strings, or a numpy array of int64 or float64."""

Kind: TypeAlias = NumberType | None
"""The type of values: numbers of a type, or strings."""


@dataclass(frozen=True, slots=True)
class Distinct:
    """Values of one type, and how often each occurs by cell."""

    values: ValueArray
    counts: Cells

    @property
    def nbytes(self) -> int:
        return int(self.values.nbytes) + self.counts.nbytes

    def __len__(self) -> int:
        return len(self.values)


def kind_of(part: Part) -> tuple[Kind] | None:
    """The type of a part whose values are counted: strings, and numbers but for durations."""
    if isinstance(part, Texts):
        return (None,)
    if isinstance(part, Numbers) and part.type is not NumberType.DURATION:
        return (part.type,)
    return None


def count_part(part: Texts | Numbers, cells: Rows, width: int, weights: NDArray[np.float64] | None) -> Distinct:
    """The values of a part, one cell per row."""
    valid = part.valid
    if not valid.all():
        rows = np.flatnonzero(valid)
        cells = cells[rows]
        weights = None if weights is None else weights[rows]
        part = (
            Texts(valid[rows], part.codes[rows], part.dictionary)
            if isinstance(part, Texts)
            else Numbers(part.type, valid[rows], part.values[rows])
        )
    codes, values = (part.codes.astype(np.int64), part.dictionary) if isinstance(part, Texts) else _number_codes(part)
    counts = counted(codes * width + cells, len(values) * width, weights)
    return _without_repetition(_with_used_values(values, counts, width), width)


def _number_codes(numbers: Numbers) -> tuple[Rows, ValueArray]:
    """Per row the index of its number among some that include all of them; every row is valid."""
    found = numbers.values
    if found.dtype.kind == "i" and len(found):
        least, greatest = int(found.min()), int(found.max())
        if greatest - least < max(_CODES_PER_ROW * len(found), _CODES_MIN):
            return (found - least).astype(np.int64, copy=False), np.arange(greatest - least + 1, dtype=np.int64) + least
    values, codes = np.unique(found, return_inverse=True)
    return codes.reshape(-1), values


def _with_used_values(values: ValueArray, counts: Cells, width: int) -> Distinct:
    used = series_of(counts, width)
    if len(used) == len(values):
        return Distinct(values, counts)
    numbers = np.full(len(values), -1)
    numbers[used] = np.arange(len(used))
    return Distinct(_taken(values, used), renumbered(counts, COUNTS, width, numbers))


def _without_repetition(distinct: Distinct, width: int) -> Distinct:
    """A dictionary may have a string more than once."""
    if not isinstance(distinct.values, pa.Array):
        return distinct
    encoded = distinct.values.dictionary_encode()
    if len(encoded.dictionary) == len(distinct.values):
        return distinct
    numbers = encoded.indices.to_numpy().astype(np.int64)
    return Distinct(encoded.dictionary, renumbered(distinct.counts, COUNTS, width, numbers))


def _taken(values: ValueArray, places: Rows) -> ValueArray:
    return values.take(pa.array(places)) if isinstance(values, pa.Array) else values[places]


def merge_distinct(parts: Sequence[Distinct], width: int) -> Distinct:
    """The values of all parts, which are of one type."""
    if len(parts) == 1:
        return parts[0]
    if isinstance(parts[0].values, pa.Array):
        encoded = pa.concat_arrays([part.values.cast(pa.string()) for part in parts]).dictionary_encode()
        values, numbers = encoded.dictionary, encoded.indices.to_numpy().astype(np.int64)
    else:
        values, numbers = np.unique(np.concatenate([part.values for part in parts]), return_inverse=True)
    ends = np.cumsum([len(part) for part in parts])[:-1]
    moved = [renumbered(part.counts, COUNTS, width, own) for part, own in zip(parts, np.split(numbers.reshape(-1), ends), strict=True)]
    return Distinct(values, merged(moved, COUNTS))


def most_frequent(distinct: Distinct, width: int, limit: int) -> tuple[Distinct, Cells]:
    """The `limit` values that occur most, and by cell what the others amount to."""
    chosen = best(distinct.values, _totals(distinct, width), limit)
    kept = np.zeros(len(distinct), np.bool_)
    kept[chosen] = True
    of_kept = kept[distinct.counts.keys // width]
    rest = merged([Cells(distinct.counts.keys[~of_kept] % width, (distinct.counts.columns[0][~of_kept],))], COUNTS)
    left = Cells(distinct.counts.keys[of_kept], (distinct.counts.columns[0][of_kept],))
    return _with_used_values(distinct.values, left, width), rest


def _totals(distinct: Distinct, width: int) -> NDArray[np.float64]:
    return np.bincount(distinct.counts.keys // width, distinct.counts.columns[0], len(distinct)).astype(np.float64, copy=False)


def totals_between(distinct: Distinct, width: int, first: int, last: int) -> NDArray[np.float64]:
    """Per value how often it is counted in the cells from `first` up to `last`."""
    cell = distinct.counts.keys % width
    inside = (cell >= first) & (cell < last)
    counts = Cells(distinct.counts.keys[inside], (distinct.counts.columns[0][inside],))
    return _totals(Distinct(distinct.values, counts), width)


def best(values: ValueArray, totals: NDArray[np.float64], limit: int) -> Rows:
    """Indices of the `limit` values with the greatest totals above zero; of equal ones the smaller values."""
    present = np.flatnonzero(totals > 0)
    if len(present) <= limit:
        return present
    threshold = np.partition(totals[present], len(present) - limit)[len(present) - limit]
    above = present[totals[present] > threshold]
    tied = present[totals[present] == threshold]
    return np.concatenate([above, tied[_least(_taken(values, tied), limit - len(above))]])


def _least(values: ValueArray, count: int) -> Rows:
    """Indices of the `count` smallest values."""
    if isinstance(values, pa.Array):
        table = pa.table({"value": values})
        return np.asarray(pc.select_k_unstable(table, k=count, sort_keys=[("value", "ascending")]).to_numpy(), np.int64)
    return np.argsort(values, kind="stable")[:count]


def points_of(distinct: Distinct, width: int, value: int) -> Cells:
    """The counts of one value by cell."""
    first, last = np.searchsorted(distinct.counts.keys, [value * width, (value + 1) * width])
    return Cells(distinct.counts.keys[first:last] - value * width, (distinct.counts.columns[0][first:last],))


def typed_values(kind: Kind, values: ValueArray, places: Rows) -> TypedColumn:
    """Some values as labels have them."""
    if isinstance(values, pa.Array):
        return [TypedValue(ResultType.STRING, text) for text in values.take(pa.array(places)).to_pylist()]
    assert kind is not None
    valid: Mask = np.ones(len(places), np.bool_)
    return label_values(Values(len(places), (Numbers(kind, valid, values[places]),)))

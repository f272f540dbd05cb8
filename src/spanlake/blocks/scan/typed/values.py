"""Building and selecting `model.scan` values: what all sources share, whatever they read from."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, assert_never

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from spanlake.blocks.build.arrays import ranges
from spanlake.blocks.file.rows import integers, validity
from spanlake.model.scan import Ids, Lists, Numbers, NumberType, Opaque, Part, Texts, Values

Bools = NDArray[np.bool_]


def every(rows: int) -> Bools:
    """All rows are valid."""
    return np.ones(rows, np.bool_)


def texts(array: pa.Array) -> Texts | None:
    """A string or dictionary array; None if all of it is null."""
    encoded = array if isinstance(array, pa.DictionaryArray) else array.dictionary_encode()
    if encoded.null_count == len(encoded):
        return None
    valid = validity(encoded) if encoded.null_count else every(len(encoded))
    return Texts(valid, integers(encoded.indices).astype(np.int32), encoded.dictionary)


def numbers(kind: NumberType, values: NDArray[Any], valid: Bools | None = None) -> Numbers:
    """Numbers of every row, or of the valid ones."""
    cast: NDArray[Any] = np.ascontiguousarray(values, np.float64 if kind is NumberType.FLOAT else np.int64)
    return Numbers(kind, every(len(values)) if valid is None else valid, cast)


def span_ids(values: NDArray[np.uint64], valid: Bools | None = None) -> Ids:
    """Eight-byte ids."""
    return Ids(every(len(values)) if valid is None else valid, np.zeros(len(values), np.uint64), values, 8)


def of_parts(rows: int, *parts: Part | None) -> Values:
    """The values that these parts make up; those without any value are left out."""
    return Values(rows, tuple(part for part in parts if part is not None and part.valid.any()))


def take(values: Values, index: NDArray[np.int64]) -> Values:
    """Row i of the result is row index[i]."""
    return of_parts(len(index), *(_take_part(part, index) for part in values.parts))


def _take_part(part: Part, index: NDArray[np.int64]) -> Part:
    match part:
        case Texts() | Numbers():
            return _take_scalars(part, index)
        case Ids():
            return Ids(part.valid[index], part.high[index], part.low[index], part.width)
        case Opaque():
            return Opaque(part.valid[index])
        case Lists():
            counts = np.diff(part.offsets)[index]
            elements = _take_scalars(part.elements, ranges(part.offsets[:-1][index], counts))
            return Lists(part.valid[index], offsets_of(counts), elements)
        case _:
            assert_never(part)


def _take_scalars(part: Texts | Numbers, index: NDArray[np.int64]) -> Texts | Numbers:
    if isinstance(part, Texts):
        return Texts(part.valid[index], part.codes[index], part.dictionary)
    return Numbers(part.type, part.valid[index], part.values[index])


def offsets_of(counts: NDArray[Any]) -> NDArray[np.int64]:
    """Where each run of `counts` begins, and the total at the end."""
    offsets = np.zeros(len(counts) + 1, np.int64)
    np.cumsum(counts, out=offsets[1:])
    return offsets


def one_array(column: pa.ChunkedArray) -> pa.Array:
    """A column as one array; dictionaries of several chunks become one."""
    if column.num_chunks == 1:
        return column.chunk(0)
    if column.num_chunks == 0:
        return pa.array([], column.type)
    return pa.concat_arrays(column.unify_dictionaries().chunks)


def joined_texts(rows: int, pieces: Sequence[tuple[NDArray[np.int64], pa.DictionaryArray]]) -> Texts | None:
    """Strings from several (rows, strings of these rows)."""
    pieces = [piece for piece in pieces if len(piece[0])]
    if not pieces:
        return None
    encoded = one_array(pa.chunked_array([piece[1] for piece in pieces]))
    places = np.concatenate([piece[0] for piece in pieces])
    valid, codes = np.zeros(rows, np.bool_), np.zeros(rows, np.int32)
    valid[places], codes[places] = True, integers(encoded.indices)
    return Texts(valid, codes, encoded.dictionary)


def placed_numbers(rows: int, kind: NumberType, places: NDArray[np.int64], values: NDArray[Any]) -> Numbers | None:
    """Numbers at some rows."""
    if not len(places):
        return None
    valid = np.zeros(rows, np.bool_)
    placed: NDArray[Any] = np.zeros(rows, np.float64 if kind is NumberType.FLOAT else np.int64)
    valid[places], placed[places] = True, values
    return Numbers(kind, valid, placed)

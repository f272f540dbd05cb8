"""Arrow arrays from numpy arrays and pool codes, without a Python object per value."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from spanlake.blocks.build.pivot import compact_codes
from spanlake.model.schema import ATTRIBUTE, ColumnType
from spanlake.model.spans import ARRAY, BOOL, BYTES, DOUBLE, INT, KVLIST, STRING, Records, Strings


def bitmap(valid: NDArray[Any]) -> pa.Buffer | None:
    """A validity bitmap; None when everything is valid."""
    return None if bool(valid.all()) else pa.py_buffer(np.packbits(valid, bitorder="little"))


def numbers(values: NDArray[Any], valid: NDArray[Any] | None = None) -> pa.Array:
    """A primitive array over the given memory."""
    values = np.ascontiguousarray(values)
    mask = None if valid is None else bitmap(valid)
    return pa.Array.from_buffers(pa.from_numpy_dtype(values.dtype), len(values), [mask, pa.py_buffer(values)])


def booleans(values: NDArray[Any], valid: NDArray[Any] | None = None) -> pa.Array:
    """A boolean array of numbers that are 0 or not."""
    bits = pa.py_buffer(np.packbits(values != 0, bitorder="little"))
    return pa.Array.from_buffers(pa.bool_(), len(values), [None if valid is None else bitmap(valid), bits])


def fixed_width_binary(data: NDArray[np.uint8], width: int) -> pa.Array:
    """A binary array of values that are all `width` bytes long."""
    count = len(data) // width
    offsets = np.arange(count + 1, dtype=np.int32) * np.int32(width)
    return pa.Array.from_buffers(pa.binary(), count, [None, pa.py_buffer(offsets), pa.py_buffer(np.ascontiguousarray(data))])


def big_endian(values: NDArray[np.uint64]) -> NDArray[np.uint8]:
    """The bytes of ids, eight each."""
    return values.astype(">u8").view(np.uint8)


def optional_ids(values: NDArray[np.uint64]) -> pa.Array:
    """A binary array of eight-byte ids, empty where the id is 0."""
    present = values != 0
    offsets = np.zeros(len(values) + 1, np.int32)
    np.cumsum(present * np.int32(8), out=offsets[1:])
    return pa.Array.from_buffers(pa.binary(), len(values), [None, pa.py_buffer(offsets), pa.py_buffer(big_endian(values[present]))])


class PoolArrays:
    """Arrow arrays of the strings of a pool (codes in the order of the arena), by code."""

    def __init__(self, strings: Strings) -> None:
        ends = strings.offset + strings.length
        assert np.array_equal(strings.offset[1:], ends[:-1]), "the strings of a pool lie back to back"
        offsets = np.append(strings.offset, ends[-1:])
        self._all = pa.Array.from_buffers(pa.large_binary(), len(strings), [None, pa.py_buffer(offsets), pa.py_buffer(strings.data)])
        self._marks = np.zeros(len(strings), np.int32)

    def take(self, codes: NDArray[Any], kind: pa.DataType, valid: NDArray[Any] | None = None) -> pa.Array:
        """The strings of `codes` as an array of string or binary; null where not valid."""
        taken = self._all.take(numbers(codes.astype(np.int32, copy=False), valid)).cast(pa.binary())
        return taken if kind == pa.binary() else _as_text(taken)

    def dictionary(self, codes: NDArray[Any], valid: NDArray[Any] | None = None, *, kind: pa.DataType | None = None) -> pa.DictionaryArray:
        """A dictionary array whose dictionary holds just the strings that occur."""
        codes = np.ascontiguousarray(codes, dtype=np.int32)
        valid = np.ones(len(codes), np.uint8) if valid is None else np.ascontiguousarray(valid)
        indices, used = np.empty(len(codes), np.int32), np.empty(len(codes), np.int32)
        found = compact_codes(codes, valid, self._marks, indices, used)
        return pa.DictionaryArray.from_arrays(numbers(indices, valid), self.take(used[:found], kind or pa.string()))


def _as_text(array: pa.Array) -> pa.Array:
    """A binary array as string without validation: decoding has validated every string that is stored as text."""
    return pa.Array.from_buffers(pa.string(), len(array), array.buffers(), array.null_count, array.offset)


def column_array(kind: ColumnType, values: NDArray[np.int64], valid: NDArray[np.uint8], pool: PoolArrays) -> pa.Array:
    """An attribute column from pivoted values."""
    if kind == "string":
        return pool.dictionary(values, valid)
    if kind == "bool":
        return booleans(values, valid)
    return numbers(values.view(np.float64) if kind == "double" else values, valid)


def attribute_fields(attrs: Records, pool: PoolArrays) -> list[pa.Array]:
    """The fields of `model.schema.ATTRIBUTE` for attribute records, in order."""
    types, values = attrs["type"], np.ascontiguousarray(attrs["value"])
    is_text, is_other = types == STRING, (types == ARRAY) | (types == KVLIST) | (types == BYTES)
    codes = np.where(is_text | is_other, values, 0)
    fields = [
        pool.dictionary(attrs["key"]),
        numbers(types.astype(np.int32)),
        pool.dictionary(codes, is_text),
        numbers(values, types == INT),
        numbers(values.view(np.float64), types == DOUBLE),
        booleans(values, types == BOOL),
        pool.dictionary(codes, is_other, kind=pa.binary()),
    ]
    assert len(fields) == len(ATTRIBUTE)
    return fields


def lists(counts: NDArray[Any], kind: pa.ListType, children: list[pa.Array]) -> pa.ListArray:
    """A list<struct> array: `counts[i]` of the structs made of `children` belong to row i."""
    offsets = np.zeros(len(counts) + 1, np.int32)
    np.cumsum(counts, out=offsets[1:])
    structs = pa.StructArray.from_arrays(children, fields=list(kind.value_type))
    return pa.ListArray.from_arrays(numbers(offsets), structs, type=kind)


def ranges(firsts: NDArray[Any], counts: NDArray[Any]) -> NDArray[np.int64]:
    """The concatenation of [firsts[i], firsts[i] + counts[i])."""
    counts = counts.astype(np.int64)
    starts = np.cumsum(counts) - counts
    return np.repeat(firsts - starts, counts) + np.arange(int(counts.sum()))

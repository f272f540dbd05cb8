"""From Arrow tables with the columns of the span table to span batches.

Works on any slice of a row group that begins and ends at trace boundaries. The string table of the result has the dictionaries of the
columns one after the other, so equal strings of different columns have different codes; merging batches into a pool evens that out.
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from spanlake.blocks.build.choose import TYPE_NUMBERS
from spanlake.blocks.file.columns import AttributeColumn, Columns, columns_to_batch
from spanlake.model.schema import ColumnType, column_attribute
from spanlake.model.spans import SpanBatch, Strings


class StringTable:
    """Collects Arrow strings into one string table. Code 0 is the empty string."""

    def __init__(self) -> None:
        self._data: list[NDArray[np.uint8]] = []
        self._offsets: list[NDArray[np.int64]] = [np.zeros(1, np.int64)]
        self._lengths: list[NDArray[np.int32]] = [np.zeros(1, np.int32)]
        self._bytes = 0
        self._codes = 1

    def add(self, array: pa.Array) -> int:
        """Append a string or binary array (nulls as empty strings); returns the code of its first entry."""
        data, offsets = binary_parts(array)
        begin = int(offsets[0])
        self._data.append(data[begin : int(offsets[-1])])
        self._offsets.append(offsets[:-1].astype(np.int64) - begin + self._bytes)
        self._lengths.append(np.diff(offsets).astype(np.int32))
        self._bytes += int(offsets[-1]) - begin
        first = self._codes
        self._codes += len(array)
        return first

    def codes(self, array: pa.Array) -> NDArray[np.int64]:
        """Codes of a string, binary or dictionary array; 0 where null."""
        if isinstance(array, pa.DictionaryArray):
            codes = integers(array.indices) + self.add(array.dictionary)
        else:
            codes = np.arange(len(array), dtype=np.int64) + self.add(array)
        return np.where(validity(array), codes, 0) if array.null_count else codes

    def strings(self) -> Strings:
        return Strings(np.concatenate([np.empty(0, np.uint8), *self._data]), np.concatenate(self._offsets), np.concatenate(self._lengths))


def binary_parts(array: pa.Array) -> tuple[NDArray[np.uint8], NDArray[np.int32]]:
    """(data, offsets) of a string or binary array: entry i is data[offsets[i]:offsets[i + 1]]."""
    _, offsets, data = array.buffers()
    if offsets is None or len(array) == 0:
        return np.empty(0, np.uint8), np.zeros(len(array) + 1, np.int32)
    bounds = np.frombuffer(offsets, np.int32, len(array) + 1, array.offset * 4)
    return (np.empty(0, np.uint8) if data is None else np.frombuffer(data, np.uint8)), bounds


def integers(array: pa.Array) -> NDArray[np.int64]:
    """An integer array as int64, 0 where null."""
    filled = array.fill_null(0) if array.null_count else array
    values: NDArray[np.int64] = filled.to_numpy(zero_copy_only=False).astype(np.int64, copy=False)
    return values


def validity(array: pa.Array) -> NDArray[np.bool_]:
    """Which entries are not null."""
    if array.null_count == 0:
        return np.ones(len(array), np.bool_)
    valid: NDArray[np.bool_] = array.is_valid().to_numpy(zero_copy_only=False)
    return valid


def ids(array: pa.Array, *, begin: int = 0) -> NDArray[np.uint64]:
    """Eight bytes, from `begin`, of each id of a binary or dictionary array as integers; 0 for those that are too short."""
    if isinstance(array, pa.DictionaryArray):
        return ids(array.dictionary, begin=begin)[integers(array.indices)]
    data, offsets = binary_parts(array)
    first = offsets[:-1].astype(np.int64) + begin
    present = offsets[1:] - first >= 8
    values = np.zeros(len(array), np.uint64)
    if present.any():
        values[present] = np.lib.stride_tricks.sliding_window_view(data, 8)[first[present]].view(">u8").reshape(-1)
    return values


def one_chunk(column: pa.ChunkedArray) -> pa.Array:
    """A column as one array."""
    return column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()


def list_counts(array: pa.ListArray) -> NDArray[np.int64]:
    """Entries per list."""
    return np.diff(integers(array.offsets))


def table_to_columns(table: pa.Table) -> Columns:
    """The columns of rows of whole traces. Columns that are absent are absent from the result."""
    strings = StringTable()
    values: dict[str, NDArray[np.int64]] = {}
    counts: dict[str, NDArray[np.int64]] = {}
    attributes: list[AttributeColumn] = []
    for name in table.column_names:
        array = one_chunk(table.column(name))
        attribute = column_attribute(name)
        if attribute is not None:
            kind = TYPE_NUMBERS["string" if _is_text(array.type) else _NUMBERS[array.type]]
            key = strings.add(pa.array([attribute[1]], pa.string()))
            attributes.append(AttributeColumn(attribute[0], key, kind, _values(array, strings), validity(array)))
        elif name == "trace_id":
            values["trace_hi"], values["trace_lo"] = ids(array).view(np.int64), ids(array, begin=8).view(np.int64)
        elif name in {"span_id", "parent_span_id"}:
            values[name] = ids(array).view(np.int64)
        else:
            _collect(name, array, strings, (values, counts))
    return Columns(table.num_rows, strings.strings(), values, counts, attributes)


_NUMBERS: dict[pa.DataType, ColumnType] = {pa.int64(): "int", pa.float64(): "double", pa.bool_(): "bool"}
_Found = tuple[dict[str, NDArray[np.int64]], dict[str, NDArray[np.int64]]]


def _collect(path: str, array: pa.Array, strings: StringTable, found: _Found) -> None:
    """The values and list lengths of a column that is no attribute."""
    values, counts = found
    if not pa.types.is_list(array.type):
        values[path] = _values(array, strings)
        return
    counts[path] = list_counts(array)
    entries = array.flatten()
    for field in entries.type:
        _collect(f"{path}.{field.name}", entries.field(field.name), strings, found)


def _is_text(kind: pa.DataType) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_binary(kind) or pa.types.is_dictionary(kind))


def _values(array: pa.Array, strings: StringTable) -> NDArray[np.int64]:
    """The values of a flat array as `Columns.values` has them; 0 where null."""
    if _is_text(array.type):
        return strings.codes(array)
    if pa.types.is_floating(array.type):
        floats: NDArray[np.float64] = (array.fill_null(0.0) if array.null_count else array).to_numpy(zero_copy_only=False)
        return floats.view(np.int64)
    if pa.types.is_boolean(array.type):
        return integers(array.cast(pa.int8()))
    return integers(array)


def table_to_batch(table: pa.Table) -> SpanBatch:
    """The rows of whole traces as a batch, in the order of the table. Columns that are absent are read as empty or zero."""
    return columns_to_batch(table_to_columns(table))

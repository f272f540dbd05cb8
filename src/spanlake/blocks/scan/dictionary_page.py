"""The dictionary page of a Parquet column chunk, read without the rest of the chunk.

pyarrow has no call for this. A dictionary page lies between `dictionary_page_offset` and `data_page_offset`: a Thrift header (compact
protocol), then the compressed values in PLAIN encoding (parquet-format: Encodings.md, parquet.thrift). With it, a row group whose
dictionary lacks a value is skipped for a few hundred bytes, and tag values are listed without reading rows.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from spanlake.model.errors import CorruptData
from spanlake.model.kernel import kernel

DICTIONARY_BYTES_MAX = 1 << 20
"""Writers give up a dictionary that reaches this size and go on with plain values, so such a dictionary may lack values."""

_DICTIONARY_PAGE = 2
_NUMPY: dict[str, np.dtype[Any]] = {"INT32": np.dtype("<i4"), "INT64": np.dtype("<i8"), "DOUBLE": np.dtype("<f8")}
_STOP, _TRUE, _FALSE, _BYTE, _STRUCT = 0, 1, 2, 3, 12
_VARINTS = (4, 5, 6)


@dataclass(frozen=True, slots=True)
class PageHeader:
    """What matters of a Parquet PageHeader, and its own length in bytes."""

    type: int
    uncompressed_bytes: int
    compressed_bytes: int
    values: int
    length: int


def read_page_header(data: bytes) -> PageHeader:
    """Parse the header at the beginning of `data`."""
    fields, at = _read_struct(data, 0)
    dictionary = fields.get(7, {})
    assert isinstance(dictionary, dict)
    return PageHeader(_number(fields, 1), _number(fields, 2), _number(fields, 3), _number(dictionary, 1), at)


def _number(fields: dict[int, Any], field: int) -> int:
    value = fields.get(field, 0)
    return value if isinstance(value, int) else 0


def _read_struct(data: bytes, at: int) -> tuple[dict[int, Any], int]:
    """(values by field number, position after the struct); numbers, booleans and structs only, which is all that a header has."""
    fields: dict[int, Any] = {}
    number = 0
    while True:
        head = data[at]
        at += 1
        kind, delta = head & 15, head >> 4
        if kind == _STOP:
            return fields, at
        if delta:
            number += delta
        else:
            number, at = _zigzag(data, at)
        if kind in (_TRUE, _FALSE):
            fields[number] = kind == _TRUE
        elif kind in _VARINTS:
            fields[number], at = _zigzag(data, at)
        elif kind == _BYTE:
            fields[number] = data[at]
            at += 1
        elif kind == _STRUCT:
            fields[number], at = _read_struct(data, at)
        else:
            raise ValueError(f"Thrift type {kind} in a page header")


def _zigzag(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[at]
        value |= (byte & 0x7F) << shift
        at += 1
        shift += 7
        if byte < 0x80:
            return value >> 1 ^ -(value & 1), at


@kernel
def plain_strings(data: Any, offsets: Any, texts: Any) -> int:
    """PLAIN byte arrays (u32 length, bytes): writes offsets (int32[count + 1]) and texts (uint8); returns the bytes of all texts, or -1 if
    the data is too short."""
    at = filled = 0
    for i in range(len(offsets) - 1):
        offsets[i] = filled
        if at + 4 > len(data):
            return -1
        length = int(data[at]) | int(data[at + 1]) << 8 | int(data[at + 2]) << 16 | int(data[at + 3]) << 24
        at += 4
        if at + length > len(data):
            return -1
        for k in range(length):
            texts[filled + k] = data[at + k]
        at += length
        filled += length
    offsets[len(offsets) - 1] = filled
    return filled


def dictionary_span(chunk: pq.ColumnChunkMetaData) -> tuple[int, int] | None:
    """(offset, length in bytes) of the dictionary page of a column chunk; None if it has none."""
    if not chunk.has_dictionary_page or chunk.dictionary_page_offset is None:
        return None
    return chunk.dictionary_page_offset, chunk.data_page_offset - chunk.dictionary_page_offset


def decode_dictionary(page: bytes, chunk: pq.ColumnChunkMetaData) -> pa.Array | None:
    """All values of the chunk, each once, as string, integer or float array; None if the dictionary may not have all of them."""
    try:
        header = read_page_header(page)
        if header.type != _DICTIONARY_PAGE or header.uncompressed_bytes >= DICTIONARY_BYTES_MAX:
            return None
        body = page[header.length : header.length + header.compressed_bytes]
        if chunk.compression != "UNCOMPRESSED":
            body = pa.Codec(chunk.compression.lower()).decompress(body, decompressed_size=header.uncompressed_bytes, asbytes=True)
        return _plain_values(body, chunk.physical_type, header.values)
    except (IndexError, ValueError, pa.ArrowException, OSError) as failure:
        raise CorruptData(f"the dictionary page of column {chunk.path_in_schema} cannot be read: {failure}") from failure


def _plain_values(body: bytes, physical_type: str, count: int) -> pa.Array | None:
    data = np.frombuffer(body, np.uint8)
    if physical_type == "BYTE_ARRAY":
        offsets, texts = np.zeros(count + 1, np.int32), np.empty(len(data), np.uint8)
        filled = plain_strings(data, offsets, texts)
        if filled < 0:
            raise ValueError("it ends within a value")
        return pa.Array.from_buffers(pa.string(), count, [None, pa.py_buffer(offsets), pa.py_buffer(texts[:filled])])
    if physical_type in _NUMPY:
        return pa.array(np.frombuffer(body, _NUMPY[physical_type], count))
    return None

"""Where the pages of column chunks lie: a kernel that walks over Parquet page headers.

Headers are in Thrift's compact protocol; the walk knows the few fields that matter and steps over the rest.
Source: https://github.com/apache/parquet-format/blob/master/src/main/thrift/parquet.thrift, PageHeader.
"""

from __future__ import annotations

from typing import Any

from spanlake.blocks.file.encodings import BAD, address_of, read_varint, unzigzag
from spanlake.model.kernel import inner, kernel, load8, load64, store64

PAGE_FIELDS = 7
LEAF, TYPE, BEGIN, COMPRESSED, UNCOMPRESSED, VALUES, ENCODING = range(PAGE_FIELDS)
DATA_PAGE, DICTIONARY_PAGE = 0, 2
PAGE_BYTES_MAX = (1 << 31) - 1
PAGE_VALUES_MAX = 1 << 26  # a broken header must not make a reader ask for all memory
_TRUE, _FALSE, _BYTE, _I16, _I32, _I64, _DOUBLE, _BINARY = range(1, 9)
_STRUCT = 12
_DEPTH_MAX = 3


@inner
def read_header(position: int, end: int, page: int) -> int:
    """Parse a page header into `page` (address of int64[PAGE_FIELDS], all but LEAF and BEGIN). Returns the address behind it, or BAD."""
    for i in range(PAGE_FIELDS):
        store64(page + 8 * i, -1)
    depth = 0
    field = 0
    outer = 0  # the fields that hold the struct being read, 16 bits each, innermost last
    while position != BAD and position < end:
        byte = load8(position)
        position += 1
        if byte == 0:
            if depth == 0:
                return position
            depth -= 1
            field = outer & 0xFFFF
            outer >>= 16
            continue
        kind = byte & 15
        if byte >> 4:
            field += byte >> 4
        else:
            value, position = read_varint(position, end)
            field = unzigzag(value)
        value = 0
        if kind in (_I16, _I32, _I64):
            value, position = read_varint(position, end)
            value = unzigzag(value)
        elif kind == _BINARY:
            length, position = read_varint(position, end)
            if length < 0 or position == BAD or length > end - position:
                return BAD
            position += length
        elif kind == _DOUBLE:
            position += 8
        elif kind == _BYTE:
            position += 1
        elif kind == _STRUCT:
            if depth == _DEPTH_MAX or not 0 < field < 0x8000:
                return BAD
            outer = outer << 16 | field
            field = 0
            depth += 1
            continue
        elif kind not in (_TRUE, _FALSE):
            return BAD
        if depth == 0 and 1 <= field <= 3:
            store64(page + 8 * (TYPE if field == 1 else UNCOMPRESSED if field == 2 else COMPRESSED), value)
        elif depth == 1 and outer in (5, 7) and 1 <= field <= 2:  # data_page_header, dictionary_page_header
            store64(page + 8 * (VALUES if field == 1 else ENCODING), value)
    return BAD


@kernel
def walk_pages(memory: Any, chunks: Any, pages: Any) -> int:
    """List the pages of column chunks. chunks: int64[leaves, 2], position in `memory` and length; pages: int64[room + 1, PAGE_FIELDS].

    Returns how many pages there are, of which only the first `room` are listed (the last row is scratch); BAD if something is neither a
    data page of version 1 nor a dictionary page.
    """
    data, listed = address_of(memory), address_of(pages)
    room = len(pages) - 1
    found = 0
    for leaf in range(len(chunks)):
        position = data + chunks[leaf, 0]
        end = position + chunks[leaf, 1]
        if chunks[leaf, 0] < 0 or chunks[leaf, 1] < 0 or end > data + len(memory):
            return BAD
        while position < end:
            page = listed + 8 * PAGE_FIELDS * min(found, room)
            position = read_header(position, end, page)
            compressed, uncompressed = load64(page + 8 * COMPRESSED), load64(page + 8 * UNCOMPRESSED)
            if position == BAD or load64(page + 8 * TYPE) not in (DATA_PAGE, DICTIONARY_PAGE):
                return BAD
            if not 0 <= load64(page + 8 * VALUES) <= PAGE_VALUES_MAX:
                return BAD
            if not 0 <= compressed <= end - position or not 0 <= uncompressed <= PAGE_BYTES_MAX:
                return BAD
            store64(page + 8 * LEAF, leaf)
            store64(page + 8 * BEGIN, position - data)
            position += compressed
            found += 1
    return found

"""Kernels that decode whole flat columns for scans: dictionary codes as they are, numbers as int64 bits.

They do what Arrow does for the encodings that our writer uses, without an object per page or chunk. Pages of several row groups are decoded
with one call. For anything else they return BAD, and the caller takes the general path.
Source: https://github.com/apache/parquet-format/blob/master/Encodings.md.
"""

from __future__ import annotations

from typing import Any

from spanlake.blocks.file.encodings import (
    BAD,
    DELTA_BINARY_PACKED,
    PLAIN,
    PLAIN_DICTIONARY,
    RLE_DICTIONARY,
    address_of,
    next_run,
    read_deltas,
    read_hybrid,
    unpack,
)
from spanlake.blocks.file.leaves import BOOL, INT32, number_at
from spanlake.model.kernel import inner, kernel, load8, load32, load64, store8, store32, store64

PART_FIELDS = 7
PAGE_BEGIN, PAGE_END, PAGE_VALUES, PAGE_ENCODING, DICTIONARY_BEGIN, DICTIONARY_COUNT, FIRST_CODE = range(PART_FIELDS)
"""Of each data page: where it is in memory, its rows and encoding; where its dictionary is and how long; the code of its first entry."""


@inner
def read_validity(address: int, end: int, count: int, valid: int) -> tuple[int, int]:
    """One byte per row to `valid`, from definition levels of at most 1. Returns (rows with a value, address behind the levels), or BAD."""
    if end - address < 4 or load32(address) > end - address - 4:
        return BAD, BAD
    behind = address + 4 + load32(address)
    address += 4
    seen = 0
    present = 0
    while seen < count:
        packed, length, content, address = next_run(address, behind, 1)
        if address == BAD:
            return BAD, BAD
        length = min(length, count - seen)
        if packed:
            for i in range(length):
                bit = (load8(content + (i >> 3)) >> (i & 7)) & 1
                store8(valid + seen + i, bit)
                present += bit
        else:
            for i in range(length):
                store8(valid + seen + i, content)
            present += length * content
        seen += length
    return present, behind


@inner
def read_present(part: int, nullable: bool, valid: int) -> tuple[int, int]:
    """Validity of a page's rows, and where its values begin. Returns (rows with a value, that address), or BAD."""
    begin, end, count = load64(part + 8 * PAGE_BEGIN), load64(part + 8 * PAGE_END), load64(part + 8 * PAGE_VALUES)
    if nullable:
        return read_validity(begin, end, count, valid)
    for i in range(count):
        store8(valid + i, 1)
    return count, begin


@inner
def read_indexes(part: int, address: int, cells: int, present: int) -> bool:
    """cells = the dictionary indexes of a page; False if one is beyond the dictionary."""
    end, size = load64(part + 8 * PAGE_END), load64(part + 8 * DICTIONARY_COUNT)
    if present == 0:
        return True
    if address >= end:
        return False
    width = load8(address)
    if width > 32 or not read_hybrid((address + 1, end, width), 0, cells, present):
        return False
    greatest = 0
    for i in range(present):
        greatest = max(greatest, load64(cells + 8 * i))
    return greatest < size


@inner
def translate(cells: int, present: int, first: int, code_of: int, known: int) -> bool:
    """Replace dictionary indexes by codes: `code_of` has an int32 for each of `known` entries, or nothing if entries are codes."""
    if known == 0:
        for i in range(present):
            store64(cells + 8 * i, load64(cells + 8 * i) + first)
        return True
    for i in range(present):
        entry = load64(cells + 8 * i) + first
        if entry >= known:
            return False
        store64(cells + 8 * i, load32(code_of + 4 * entry))
    return True


@kernel
def decode_codes(memory: Any, parts: Any, leaf: Any, scratch: Any, target: Any) -> int:
    """The dictionary codes of a text column.

    memory: uint8, decompressed pages; parts: int64[pages, PART_FIELDS], positions in memory. leaf: (whether pages have definition
    levels, int32 the code of each dictionary entry of all pages, or empty where the entry's number is its code). scratch: int64, as many
    as the largest page has rows. target: (codes int32, valid uint8), an entry per row; codes of rows without a value are 0. Returns
    the rows, or BAD.
    """
    nullable, code_of = leaf
    codes, valid = target
    data, cells, row = address_of(memory), address_of(scratch), 0
    for i in range(len(parts)):
        part = address_of(parts) + 8 * PART_FIELDS * i
        count, encoding = load64(part + 8 * PAGE_VALUES), load64(part + 8 * PAGE_ENCODING)
        store64(part + 8 * PAGE_BEGIN, data + load64(part + 8 * PAGE_BEGIN))
        store64(part + 8 * PAGE_END, data + load64(part + 8 * PAGE_END))
        if row + count > len(codes) or count > len(scratch):
            return BAD
        out, flags = address_of(codes) + 4 * row, address_of(valid) + row
        present, address = read_present(part, nullable, flags)
        if present == BAD or (present > 0 and encoding not in (RLE_DICTIONARY, PLAIN_DICTIONARY)):
            return BAD
        if not read_indexes(part, address, cells, present):
            return BAD
        if not translate(cells, present, load64(part + 8 * FIRST_CODE), address_of(code_of), len(code_of)):
            return BAD
        if present == count:
            for k in range(count):
                store32(out + 4 * k, load64(cells + 8 * k))
        else:
            at = cells
            for k in range(count):
                if load8(flags + k):
                    store32(out + 4 * k, load64(at))
                    at += 8
                else:
                    store32(out + 4 * k, 0)
        row += count
    return row


@inner
def read_plain_numbers(part: int, address: int, kind: int, cells: int, present: int) -> bool:
    """cells = the numbers of a page in PLAIN encoding."""
    end = load64(part + 8 * PAGE_END)
    if kind == BOOL:
        if (present + 7) // 8 > end - address:
            return False
        unpack(address, end, 1, 0, cells, present)
        return True
    size = 4 if kind == INT32 else 8
    if present * size > end - address:
        return False
    for i in range(present):
        store64(cells + 8 * i, number_at(address + i * size, kind))
    return True


@inner
def read_number_page(part: int, address: int, kind: int, cells: int, present: int) -> bool:
    """cells = the numbers of a page, without nulls."""
    encoding = load64(part + 8 * PAGE_ENCODING)
    if present == 0:
        return True
    if encoding in (RLE_DICTIONARY, PLAIN_DICTIONARY):
        dictionary, size = load64(part + 8 * DICTIONARY_BEGIN), 4 if kind == INT32 else 8
        if kind == BOOL or not read_indexes(part, address, cells, present):
            return False
        for i in range(present):
            store64(cells + 8 * i, number_at(dictionary + load64(cells + 8 * i) * size, kind))
        return True
    if encoding == PLAIN:
        return read_plain_numbers(part, address, kind, cells, present)
    if encoding != DELTA_BINARY_PACKED or kind in (BOOL, INT32):
        return False
    found, behind = read_deltas(address, load64(part + 8 * PAGE_END), cells, present)
    return behind != BAD and found == present


@kernel
def decode_numbers(memory: Any, parts: Any, leaf: Any, scratch: Any, target: Any) -> int:
    """The numbers of a column: int64, the bits of doubles, or 0 and 1.

    As `decode_codes`; leaf: (kind as in `leaves`, whether pages have definition levels); target: (values int64, valid uint8), 0 where not
    valid. DICTIONARY_COUNT is checked against the dictionary's bytes by the caller.
    """
    kind, nullable = leaf
    values, valid = target
    data, row = address_of(memory), 0
    for i in range(len(parts)):
        part = address_of(parts) + 8 * PART_FIELDS * i
        count = load64(part + 8 * PAGE_VALUES)
        for field in (PAGE_BEGIN, PAGE_END, DICTIONARY_BEGIN):
            store64(part + 8 * field, data + load64(part + 8 * field))
        if row + count > len(values) or count > len(scratch):
            return BAD
        out, flags = address_of(values) + 8 * row, address_of(valid) + row
        present, address = read_present(part, nullable, flags)
        if present == BAD:
            return BAD
        cells = out if present == count else address_of(scratch)
        if not read_number_page(part, address, kind, cells, present):
            return BAD
        if present < count:
            at = cells
            for k in range(count):
                if load8(flags + k):
                    store64(out + 8 * k, load64(at))
                    at += 8
                else:
                    store64(out + 8 * k, 0)
        row += count
    return row


@kernel
def decode_texts(memory: Any, places: Any, offsets: Any, texts: Any) -> int:
    """Dictionary pages of byte arrays, one after the other.

    memory: uint8; places: int64[pages, 3], begin and end in memory and number of entries; offsets: int32[entries + 1]; texts: uint8, room
    for all. Returns the bytes of all texts, or BAD.
    """
    entry = filled = 0
    data, target = address_of(memory), address_of(texts)
    for page in range(len(places)):
        address, end = data + places[page, 0], data + places[page, 1]
        for _ in range(places[page, 2]):
            if end - address < 4 or load32(address) > end - address - 4:
                return BAD
            length = load32(address)
            offsets[entry] = filled
            address += 4
            if length <= 16 and end - address >= 16 and filled + 16 <= len(texts):
                store64(target + filled, load64(address))
                store64(target + filled + 8, load64(address + 8))
            else:
                for k in range(length):
                    store8(target + filled + k, load8(address + k))
            address += length
            filled += length
            entry += 1
    offsets[entry] = filled
    return filled

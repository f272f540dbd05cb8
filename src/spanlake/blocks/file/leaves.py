"""Kernels that turn the pages of one column chunk into values, for a window of rows: levels, dictionaries and nesting.

The result of a leaf column is one entry per element at its depth: per row where it is flat, per list element where it is repeated. Text
becomes codes of a string table that the kernels fill; each dictionary entry gets at most one code.

Inner kernels get one address, of the control block: int64 values, of which the constants below name the places.
"""

from __future__ import annotations

from typing import Any

from spanlake.blocks.file.encodings import (
    BAD,
    DELTA_BINARY_PACKED,
    DELTA_LENGTH_BYTE_ARRAY,
    PLAIN,
    PLAIN_DICTIONARY,
    RLE_DICTIONARY,
    address_of,
    locate_delta_length,
    locate_plain,
    read_deltas,
    read_hybrid,
    scan_levels,
    unpack,
)
from spanlake.model.kernel import byte_swap, inlined, inner, kernel, load8, load32, load64, store8, store32, store64

# What the values of a leaf are: numbers by width; codes of text; the first or second eight bytes of an id, as a number.
BOOL, INT32, INT64, TEXT, ID, ID_LOW = range(6)
NO_CODE = -1
ALL = 1 << 62

# The control block. First what the caller says of the leaf and the wanted rows; then the page at hand; then where results go, and how
# much of them there is; then scratch of as many int64 values as the largest page or the dictionary has.
LEAF_FIELDS = 6
KIND, DEFINITION_MAX, REPETITION_MAX, DICTIONARY_COUNT, FIRST_ROW, LAST_ROW = (8 * i for i in range(LEAF_FIELDS))
PAGE_BEGIN, PAGE_END, PAGE_VALUES, PAGE_ENCODING, PAGE_ROW, DICTIONARY = (8 * i for i in range(6, 12))
VALUES, VALID, COUNTS, ENTRIES, PARENTS = (8 * i for i in range(12, 17))
OFFSETS, LENGTHS, TEXTS, STRINGS_USED, BYTES_USED = (8 * i for i in range(17, 22))
SCRATCH_ROWS = 8
REPETITIONS, DEFINITIONS, CELLS, BEGINS, SIZES, DICTIONARY_BEGINS, DICTIONARY_SIZES, CODES = (8 * i for i in range(22, 30))
CONTROL_WORDS = 30
PART_FIELDS = 5


@inlined
def number_at(address: int, kind: int) -> int:
    """The INT32 or INT64 value at an address."""
    if kind == INT32:
        value = load32(address)
        return value - 0x100000000 if value >= 0x80000000 else value
    return load64(address)


@inlined
def id_at(address: int, length: int, kind: int) -> int:
    """The first (ID) or second (ID_LOW) eight bytes of an id; 0 if it is shorter."""
    begin = 0 if kind == ID else 8
    return byte_swap(load64(address + begin)) if length >= begin + 8 else 0


@inner
def put_text(block: int, address: int, length: int) -> int:
    """The code of a new string. The caller of `decode_leaf` has made room for it."""
    code, place = load64(block + STRINGS_USED), load64(block + BYTES_USED)
    store64(load64(block + OFFSETS) + 8 * code, place)
    store32(load64(block + LENGTHS) + 4 * code, length)
    target = load64(block + TEXTS) + place
    for i in range(length):
        store8(target + i, load8(address + i))
    store64(block + STRINGS_USED, code + 1)
    store64(block + BYTES_USED, place + length)
    return code


@inner
def read_numbers(block: int, first: int, count: int) -> bool:
    """CELLS = `count` numbers, from number `first` on, of a page that is not dictionary-encoded."""
    kind, begin, end = load64(block + KIND), load64(block + PAGE_BEGIN), load64(block + PAGE_END)
    cells, encoding = load64(block + CELLS), load64(block + PAGE_ENCODING)
    stop = first + count
    if encoding == PLAIN and kind == BOOL:
        if (stop + 7) // 8 > end - begin:
            return False
        unpack(begin, end, 1, first, cells, count)
        return True
    if encoding == PLAIN:
        size = 4 if kind == INT32 else 8
        if stop * size > end - begin:
            return False
        for i in range(count):
            store64(cells + 8 * i, number_at(begin + (first + i) * size, kind))
        return True
    every = load64(block + BEGINS)
    if encoding != DELTA_BINARY_PACKED or kind == BOOL or read_deltas(begin, end, every, load64(block + PAGE_VALUES))[0] < stop:
        return False
    for i in range(count):
        store64(cells + 8 * i, number_at(every + 8 * (first + i), kind))  # deltas of 32 bits wrap at 32 bits
    return True


@inner
def read_texts(block: int, first: int, count: int) -> bool:
    """CELLS = `count` byte arrays, from number `first` on, of a page that is not dictionary-encoded: codes of text, or ids as numbers."""
    begins, sizes, cells = load64(block + BEGINS), load64(block + SIZES), load64(block + CELLS)
    address, end, values = load64(block + PAGE_BEGIN), load64(block + PAGE_END), load64(block + PAGE_VALUES)
    encoding, kind = load64(block + PAGE_ENCODING), load64(block + KIND)
    if encoding == PLAIN:
        if first + count > values or not locate_plain(address, end, begins, sizes, first + count):
            return False
    elif encoding != DELTA_LENGTH_BYTE_ARRAY or locate_delta_length(address, end, begins, sizes, values) < first + count:
        return False
    for i in range(count):
        begin, size = load64(begins + 8 * (first + i)), load64(sizes + 8 * (first + i))
        store64(cells + 8 * i, put_text(block, begin, size) if kind == TEXT else id_at(begin, size, kind))
    return True


@inner
def open_dictionary(block: int, end: int) -> bool:
    """Locate the byte arrays of the dictionary, which ends at `end`, and mark all of them as not used yet; False if it is broken."""
    kind, count, begin = load64(block + KIND), load64(block + DICTIONARY_COUNT), load64(block + DICTIONARY)
    if kind < TEXT:
        return count * (4 if kind == INT32 else 8) <= end - begin and (count == 0 or kind != BOOL)
    for i in range(count):
        store64(load64(block + CODES) + 8 * i, NO_CODE)
    return locate_plain(begin, end, load64(block + DICTIONARY_BEGINS), load64(block + DICTIONARY_SIZES), count)


@inner
def read_coded(block: int, first: int, count: int) -> bool:
    """CELLS = `count` values, from number `first` on, of a dictionary-encoded page."""
    begins, sizes, codes = load64(block + DICTIONARY_BEGINS), load64(block + DICTIONARY_SIZES), load64(block + CODES)
    address, end, cells = load64(block + PAGE_BEGIN), load64(block + PAGE_END), load64(block + CELLS)
    kind, dictionary, size = load64(block + KIND), load64(block + DICTIONARY), load64(block + DICTIONARY_COUNT)
    if address >= end:
        return count == 0
    width = load8(address)
    if width > 32 or not read_hybrid((address + 1, end, width), first, cells, count):
        return False
    for i in range(count):
        index = load64(cells + 8 * i)
        if index >= size:
            return False
        if kind < TEXT:
            value = number_at(dictionary + index * (4 if kind == INT32 else 8), kind)
        elif kind != TEXT:
            value = id_at(load64(begins + 8 * index), load64(sizes + 8 * index), kind)
        else:
            value = load64(codes + 8 * index)
            if value == NO_CODE:
                value = put_text(block, load64(begins + 8 * index), load64(sizes + 8 * index))
                store64(codes + 8 * index, value)
        store64(cells + 8 * i, value)
    return True


@inner
def find_levels(block: int) -> tuple[bool, tuple[int, int, int], tuple[int, int, int]]:
    """(are they sound, the stream of repetition levels, that of definition levels) of a page. Moves PAGE_BEGIN behind them."""
    address, end = load64(block + PAGE_BEGIN), load64(block + PAGE_END)
    repetition = definition = (0, 0, 1)
    for field in (REPETITION_MAX, DEFINITION_MAX):
        level_max = load64(block + field)
        if level_max == 0:
            continue
        if end - address < 4 or load32(address) > end - address - 4:
            return False, repetition, definition
        stream = (address + 4, address + 4 + load32(address), 2 if level_max > 1 else 1)
        address = stream[1]
        if field == REPETITION_MAX:
            repetition = stream
        else:
            definition = stream
    store64(block + PAGE_BEGIN, address)
    return True, repetition, definition


@inner
def find_window(block: int, stream: tuple[int, int, int]) -> tuple[int, int, int]:
    """(first level, level behind the last one) of a page for the wanted rows, and the rows that begin in the page, or as many of them as
    matter; BAD rows if its levels are broken. PAGE_ROW rows begin before the page."""
    count = load64(block + PAGE_VALUES)
    first, last = load64(block + FIRST_ROW) - load64(block + PAGE_ROW), load64(block + LAST_ROW) - load64(block + PAGE_ROW)
    if load64(block + REPETITION_MAX) == 0:
        return max(0, min(count, first)), max(0, min(count, last)), count
    if last < 0:
        return 0, 0, 0
    behind, rows = scan_levels(stream, count, 0, last)
    if behind == BAD:
        return 0, 0, BAD
    # A page may begin in the middle of a row, which began before it.
    return scan_levels(stream, behind, 0, first)[0] if first >= 0 else 0, behind, rows


@inner
def read_levels(block: int) -> tuple[int, int, int, int]:
    """The levels of the wanted rows of a page, to REPETITIONS and DEFINITIONS.

    Returns (rows that begin in the page, or as many of them as matter; BAD if the levels are broken; levels; values before; values).
    """
    sound, repetition, definition = find_levels(block)
    if not sound:
        return BAD, 0, 0, 0
    first, behind, rows = find_window(block, repetition)
    count = max(0, behind - first)
    if rows == BAD or count == 0:
        return rows, 0, 0, 0
    if load64(block + REPETITION_MAX) > 0 and not read_hybrid(repetition, first, load64(block + REPETITIONS), count):
        return BAD, 0, 0, 0
    definitions, definition_max = load64(block + DEFINITIONS), load64(block + DEFINITION_MAX)
    if definition_max == 0:
        return rows, count, first, count
    index, skipped = scan_levels(definition, first, definition_max, ALL)
    if index == BAD or not read_hybrid(definition, first, definitions, count):
        return BAD, 0, 0, 0
    present = 0
    for i in range(count):
        present += 1 if load64(definitions + 8 * i) == definition_max else 0
    return rows, count, skipped, present


@inner
def place_flat(block: int, count: int) -> None:
    """Append the entries of `count` rows, whose values are in CELLS without the nulls."""
    definition_max, definitions, cells = load64(block + DEFINITION_MAX), load64(block + DEFINITIONS), load64(block + CELLS)
    entries = load64(block + ENTRIES)
    values, valid = load64(block + VALUES) + 8 * entries, load64(block + VALID) + entries
    for i in range(count):
        present = 1 if definition_max == 0 or load64(definitions + 8 * i) == definition_max else 0
        store64(values + 8 * i, load64(cells) if present else 0)
        store8(valid + i, present)
        cells += 8 * present
    store64(block + ENTRIES, entries + count)


@inner
def place_nested(block: int, count: int) -> bool:
    """Append the entries of `count` levels, and lengths of lists; False if the levels make no sense.

    Lists and structs are required, so each list adds one level: a definition level of n says that there is an element at depth n.
    """
    definition_max, definitions, cells = load64(block + DEFINITION_MAX), load64(block + DEFINITIONS), load64(block + CELLS)
    depth, repetitions, counts = load64(block + REPETITION_MAX), load64(block + REPETITIONS), load64(block + COUNTS)
    values, valid = load64(block + VALUES), load64(block + VALID)
    entry, parent = load64(block + ENTRIES), load64(block + PARENTS)
    for i in range(count):
        definition = load64(definitions + 8 * i)
        if load64(repetitions + 8 * i) < depth and definition >= depth - 1:
            store64(counts + 8 * parent, 0)
            parent += 1
        if definition < depth:
            continue
        if parent == 0:
            return False
        length = counts + 8 * (parent - 1)
        store64(length, load64(length) + 1)
        present = 1 if definition == definition_max else 0
        store64(values + 8 * entry, load64(cells) if present else 0)
        store8(valid + entry, present)
        cells += 8 * present
        entry += 1
    store64(block + ENTRIES, entry)
    store64(block + PARENTS, parent)
    return True


@inner
def decode_page(block: int) -> int:
    """Append the entries of one page. Returns the rows that begin in the page, or BAD."""
    rows, count, skipped, present = read_levels(block)
    if rows == BAD or count == 0:
        return rows
    encoding = load64(block + PAGE_ENCODING)
    if encoding in (RLE_DICTIONARY, PLAIN_DICTIONARY):
        sound = read_coded(block, skipped, present)
    elif load64(block + KIND) < TEXT:
        sound = read_numbers(block, skipped, present)
    else:
        sound = read_texts(block, skipped, present)
    if not sound:
        return BAD
    if load64(block + REPETITION_MAX) == 0:
        place_flat(block, count)
        return rows
    return rows if place_nested(block, count) else BAD


@kernel
def decode_leaf(control: Any, memory: Any, parts: Any, target: Any, strings: Any) -> tuple[int, int]:
    """Decode rows [FIRST_ROW, LAST_ROW) of a column chunk.

    control: int64[CONTROL_WORDS], of which the first LEAF_FIELDS are set. memory: (bytes of the data pages, bytes of the dictionary page,
    int64[SCRATCH_ROWS, the most values of any of these pages]). parts: int64[pages, PART_FIELDS]: of each data page begin and end in
    memory[0], values, encoding and, for flat leaves, the rows before it. target: (values int64, valid uint8, counts int64), with room
    for the wanted entries of the parts. strings: (offsets int64, lengths int32, bytes, used int64[2]: entries and bytes), with room for
    all distinct texts of the parts. Returns (entries, parents of nested entries); entries BAD if the chunk is broken or not understood.
    """
    pages, dictionary, scratch = memory
    values, valid, counts = target
    offsets, lengths, texts, used = strings
    block = address_of(control)
    store64(block + DICTIONARY, address_of(dictionary))
    store64(block + VALUES, address_of(values))
    store64(block + VALID, address_of(valid))
    store64(block + COUNTS, address_of(counts))
    store64(block + ENTRIES, 0)
    store64(block + PARENTS, 0)
    store64(block + OFFSETS, address_of(offsets))
    store64(block + LENGTHS, address_of(lengths))
    store64(block + TEXTS, address_of(texts))
    store64(block + STRINGS_USED, used[0])
    store64(block + BYTES_USED, used[1])
    for i in range(SCRATCH_ROWS):
        store64(block + REPETITIONS + 8 * i, address_of(scratch) + 8 * i * scratch.shape[1])
    if not open_dictionary(block, address_of(dictionary) + len(dictionary)):
        return BAD, 0
    row = 0
    nested = load64(block + REPETITION_MAX) > 0
    for i in range(len(parts)):
        store64(block + PAGE_BEGIN, address_of(pages) + parts[i, 0])
        store64(block + PAGE_END, address_of(pages) + parts[i, 1])
        store64(block + PAGE_VALUES, parts[i, 2])
        store64(block + PAGE_ENCODING, parts[i, 3])
        store64(block + PAGE_ROW, row if nested else parts[i, 4])
        rows = decode_page(block)
        if rows == BAD:
            return BAD, 0
        row += rows
    used[0], used[1] = load64(block + STRINGS_USED), load64(block + BYTES_USED)
    return load64(block + ENTRIES), load64(block + PARENTS)

"""Kernels for Parquet's value encodings, decoding a window of values instead of a whole page.

They cover what our writer writes. `begin`, `address` and `end` are addresses in memory (see `model.kernel`): nothing at or behind `end` is
read, and False or BAD means that the bytes are not what they should be, or are of a kind that is not known here. `out` is the address of
int64 values that the caller has made room for.
Source: https://github.com/apache/parquet-format/blob/master/Encodings.md.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from spanlake.model.kernel import inlined, inner, load8, load32, load64, store64

BAD = -1
PLAIN, PLAIN_DICTIONARY, DELTA_BINARY_PACKED, DELTA_LENGTH_BYTE_ARRAY, RLE_DICTIONARY = 0, 2, 5, 6, 8
RUN_MAX = 1 << 31
EVERY_SECOND_BIT = 0x5555555555555555


@inlined
def address_of(array: Any) -> int:
    """The address of an array's first element."""
    return int(np.int64(array.ctypes.data))


@inner
def read_varint(address: int, end: int) -> tuple[int, int]:
    """(value as int64 bits, address behind it); address BAD if it is cut or longer than ten bytes. Takes BAD for an address that is cut."""
    value = 0
    shift = 0
    while 0 <= address < end and shift < 70:
        byte = load8(address)
        address += 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value, address
        shift += 7
    return 0, BAD


@inlined
def unzigzag(value: int) -> int:
    """The signed number behind a zigzag-encoded one."""
    return ((value >> 1) & 0x7FFFFFFFFFFFFFFF) ^ -(value & 1)


@inlined
def load_few(address: int, count: int) -> int:
    """`count` bytes, at most eight, as a little-endian integer."""
    value = 0
    for i in range(count):
        value |= load8(address + i) << (8 * i)
    return value


@inner
def unpack(begin: int, end: int, width: int, first: int, out: int, count: int) -> None:
    """out = `count` bit-packed values of `width` bits each, from the value number `first` on; value 0 begins at `begin`."""
    mask = -1 if width == 64 else (1 << width) - 1
    # Values whose first byte has seven more behind it, and that are narrow enough for these eight bytes, whatever bit they begin at.
    plain = max(0, min(count, ((end - begin - 7) * 8 - 1) // max(width, 1) - first)) if width <= 57 else 0
    bit = first * width
    for i in range(plain):
        store64(out + 8 * i, (load64(begin + (bit >> 3)) >> (bit & 7)) & mask)
        bit += width
    for i in range(plain, count):
        address = begin + (bit >> 3)
        shift = bit & 7
        value = load_few(address, min(8, end - address)) >> shift
        if shift + width > 64:
            value = (value & ((1 << (64 - shift)) - 1)) | load8(address + 8) << (64 - shift)
        store64(out + 8 * i, value & mask)
        bit += width


@inner
def next_run(address: int, end: int, width: int) -> tuple[bool, int, int, int]:
    """A run of the RLE/bit-packing hybrid: (is it packed, its values, its first byte's address or its value, address behind it or BAD)."""
    header, address = read_varint(address, end)
    count = header >> 1
    if address == BAD or count < 0 or count > RUN_MAX:
        return False, 0, 0, BAD
    packed = header & 1 == 1
    size = count * width if packed else (width + 7) >> 3
    if size > end - address:
        return False, 0, 0, BAD
    if packed:
        return True, count * 8, address, address + size
    return False, count, load_few(address, size), address + size


@inner
def read_hybrid(stream: tuple[int, int, int], first: int, out: int, count: int) -> bool:
    """out = `count` values of a hybrid stream (begin, end, width up to 32), from the value number `first` on."""
    address, end, width = stream
    seen = 0
    filled = 0
    while filled < count:
        packed, length, content, address = next_run(address, end, width)
        if address == BAD:
            return False
        skipped = first + filled - seen
        if skipped < length:
            taken = min(length - skipped, count - filled)
            if packed:
                unpack(content, address, width, skipped, out + 8 * filled, taken)
            else:
                for i in range(filled, filled + taken):
                    store64(out + 8 * i, content)
            filled += taken
        seen += length
    return True


@inlined
def popcount(word: int) -> int:
    """The number of set bits of 64."""
    word -= (word >> 1) & EVERY_SECOND_BIT
    word = (word & 0x3333333333333333) + ((word >> 2) & 0x3333333333333333)
    word = (word + (word >> 4)) & 0x0F0F0F0F0F0F0F0F
    return ((word * 0x0101010101010101) >> 56) & 127


@inlined
def matches_in_word(word: int, width: int, wanted: int) -> int:
    """How many of the 64 / width fields of a word are `wanted`; width 1 or 2."""
    if width == 1:
        return 64 - popcount(word ^ -(wanted & 1))
    differing = word ^ (wanted * EVERY_SECOND_BIT)
    return 32 - popcount((differing | (differing >> 1)) & EVERY_SECOND_BIT)


@inner
def scan_packed(begin: int, end: int, width: int, count: int, wanted: int, matches_max: int) -> tuple[int, int]:
    """`scan_levels` for the first `count` fields of one bit-packed run."""
    at = 0
    matches = 0
    fields = 64 // width
    while at < count:
        address = begin + at * width // 8
        if at % 8 == 0 and count - at >= fields and end - address >= 8:
            found = matches_in_word(load64(address), width, wanted)
            if matches + found <= matches_max:
                matches += found
                at += fields
                continue
        if (load8(address) >> (at * width % 8)) & ((1 << width) - 1) == wanted:
            if matches == matches_max:
                return at, matches
            matches += 1
        at += 1
    return count, matches


@inner
def scan_levels(stream: tuple[int, int, int], count: int, wanted: int, matches_max: int) -> tuple[int, int]:
    """Walk over `count` levels of a hybrid stream (begin, end, width 1 or 2) up to the match number `matches_max`, counted from 0.

    Returns (index of that match, or `count` if there are fewer; matches before it); index BAD if the stream is broken.
    """
    address, end, width = stream
    seen = 0
    matches = 0
    while seen < count:
        packed, length, content, address = next_run(address, end, width)
        if address == BAD:
            return BAD, 0
        length = min(length, count - seen)
        if packed:
            at, found = scan_packed(content, address, width, length, wanted, matches_max - matches)
        else:
            found = min(length, matches_max - matches) if content == wanted else 0
            at = length if content != wanted or length <= matches_max - matches else found
        seen += at
        matches += found
        if at < length:
            break
    return seen, matches


@inner
def read_deltas(address: int, end: int, out: int, room: int) -> tuple[int, int]:
    """out = all values of a DELTA_BINARY_PACKED stream, at most `room`. Returns (how many, address behind them or BAD)."""
    block, address = read_varint(address, end)
    parts, address = read_varint(address, end)
    total, address = read_varint(address, end)
    first, address = read_varint(address, end)
    if address == BAD or not 0 <= total <= room or not 0 < parts <= 512 or not 0 < block <= 65536 or block % (parts * 8):
        return 0, BAD
    value = unzigzag(first)
    if total > 0:
        store64(out, value)
    filled = 1
    while filled < total:
        least, address = read_varint(address, end)
        widths = address
        address += parts
        if widths == BAD or address > end:
            return 0, BAD
        for part in range(parts):
            if filled >= total:
                break
            width = load8(widths + part)
            size = block // parts * width // 8
            if width > 64 or size > end - address:
                return 0, BAD
            taken = min(block // parts, total - filled)
            unpack(address, address + size, width, 0, out + 8 * filled, taken)
            for i in range(filled, filled + taken):
                value += load64(out + 8 * i) + unzigzag(least)
                store64(out + 8 * i, value)
            filled += taken
            address += size
    return total, address


@inner
def locate_plain(address: int, end: int, begins: int, lengths: int, count: int) -> bool:
    """Addresses and lengths of the first `count` byte arrays of a PLAIN stream, to int64 values at `begins` and `lengths`."""
    for i in range(count):
        if end - address < 4:
            return False
        length = load32(address)
        address += 4
        if length > end - address:
            return False
        store64(begins + 8 * i, address)
        store64(lengths + 8 * i, length)
        address += length
    return True


@inner
def locate_delta_length(address: int, end: int, begins: int, lengths: int, room: int) -> int:
    """Addresses and lengths of all byte arrays of a DELTA_LENGTH_BYTE_ARRAY stream, at most `room`. Returns how many, or BAD."""
    count, address = read_deltas(address, end, lengths, room)
    if address == BAD:
        return BAD
    for i in range(count):
        length = load64(lengths + 8 * i)
        if length < 0 or length > end - address:
            return BAD
        store64(begins + 8 * i, address)
        address += length
    return count

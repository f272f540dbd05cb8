"""Kernels for the protobuf wire format: varints, skipping, UTF-8. They know no message.

`data` is the address of the message's bytes (see `model.kernel`), positions count from it. A position of -1 (`BAD`) is the one error
value: every reader takes `end`, never reads at or past it, and returns BAD instead.
Source: protobuf.dev/programming-guides/encoding.
"""

from __future__ import annotations

import numpy as np

from spanlake.model.kernel import inlined, inner, load8, load32, load64, store64

BAD = -1
VARINT, FIXED64, LEN, GROUP, END_GROUP, FIXED32 = range(6)
TAG_MIN, TAG_MAX = 8, 0xFFFFFFFF  # field numbers begin at 1; tags have 32 bits
LONG, SHORT = 70, 35  # bits that a varint may have on the wire: a number, and a tag or length. The official parsers agree.
GROUP_DEPTH_MAX = 64
HIGH_BITS = np.int64(-0x7F7F7F7F7F7F7F80)  # 0x8080808080808080


@inner
def read_varint(data: int, position: int, end: int, bits: int) -> tuple[int, int]:
    """(value as int64 bits, position behind it); position BAD if it is cut or longer than `bits`, LONG or SHORT."""
    value = 0
    shift = 0
    while position < end and shift < bits:
        byte = load8(data + position)
        position += 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value, position
        shift += 7
    return 0, BAD


@inner
def read_tag(data: int, position: int, end: int) -> tuple[int, int]:
    """(tag, position behind it); position BAD if it is cut, too long or too large, or of field 0."""
    tag, position = read_varint(data, position, end, SHORT)
    return (tag, position) if TAG_MIN <= tag <= TAG_MAX else (0, BAD)


@inner
def skip_field(data: int, groups: int, tag: int, position: int, end: int) -> int:
    """Position behind a field whose tag has been read; BAD if it is cut or malformed.

    `groups` is the address of int64[GROUP_DEPTH_MAX], scratch for the tags of open groups.
    """
    depth = 0
    while True:
        wire_type = tag & 7
        if wire_type == VARINT:
            position = read_varint(data, position, end, LONG)[1]
        elif wire_type == GROUP and depth < GROUP_DEPTH_MAX:
            store64(groups + 8 * depth, tag)
            depth += 1
        elif wire_type == END_GROUP and depth > 0:
            depth -= 1
            if load64(groups + 8 * depth) + 1 != tag:
                return BAD
        else:
            width = 8 if wire_type == FIXED64 else 4 if wire_type == FIXED32 else -1
            if wire_type == LEN:
                width, position = read_varint(data, position, end, SHORT)
            if position == BAD or width < 0 or width > end - position:
                return BAD
            position += width
        if depth == 0 or position == BAD:
            return position
        tag, position = read_tag(data, position, end)
        if position == BAD:
            return BAD


@inlined
def is_utf8(data: int, begin: int, end: int) -> bool:
    """Whether bytes [begin, end) are well-formed UTF-8 (no overlong forms, no surrogates, at most U+10FFFF)."""
    position = data + begin
    stop = data + end
    every = 0
    if end - begin >= 8:
        every = load64(stop - 8)
        while stop - position > 8:
            every |= load64(position)
            position += 8
    elif end - begin >= 4:
        every = load32(position) | load32(stop - 4)
    else:
        while position < stop:
            every |= load8(position)
            position += 1
    return True if every & HIGH_BITS == 0 else _is_utf8_beyond_ascii(data + begin, stop)


@inner
def _is_utf8_beyond_ascii(position: int, stop: int) -> bool:
    while position < stop:
        if stop - position >= 8 and (load64(position) & HIGH_BITS) == 0:
            position += 8
            continue
        lead = load8(position)
        position += 1
        if lead < 0x80:
            continue
        following = 1 if lead < 0xE0 else 2 if lead < 0xF0 else 3
        if lead < 0xC2 or lead > 0xF4 or stop - position < following:
            return False
        low = 0xA0 if lead == 0xE0 else 0x90 if lead == 0xF0 else 0x80
        high = 0x9F if lead == 0xED else 0x8F if lead == 0xF4 else 0xBF
        while following > 0:
            byte = load8(position)
            if byte < low or byte > high:
                return False
            low = 0x80
            high = 0xBF
            position += 1
            following -= 1
    return True

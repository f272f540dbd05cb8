"""Kernels for the protobuf wire format: varints, tags, skipping, UTF-8. They know no message.

`data` is the address of the message's bytes (see `model.kernel`), positions count from it. A position of -1 (`BAD`) is the one error value: every reader takes `end`, never reads at or past it, and returns BAD instead.
Source: protobuf.dev/programming-guides/encoding.
"""

from __future__ import annotations

import numpy as np

from spanlake.model.kernel import inlined, kernel, load8, load64

BAD = -1
HIGH_BITS = np.int64(-0x7F7F7F7F7F7F7F80)  # 0x8080808080808080
VARINT, FIXED64, LEN, GROUP, END_GROUP, FIXED32 = range(6)


@inlined
def read_varint(data: int, position: int, end: int) -> tuple[int, int]:
    """(value as int64 bits, position behind it); position BAD if it is cut or longer than ten bytes."""
    if position >= end:
        return 0, BAD
    byte = load8(data + position)
    return (byte, position + 1) if byte < 128 else _read_long_varint(data, position, end)


@kernel
def _read_long_varint(data: int, position: int, end: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        if position >= end:
            return 0, BAD
        byte = load8(data + position)
        position += 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value, position
    return 0, BAD


@inlined
def read_tag(data: int, position: int, end: int) -> tuple[int, int, int]:
    """(field number, wire type, position behind the tag); field number 0 and tags over 32 bits are BAD."""
    tag, position = read_varint(data, position, end)
    if position == BAD or tag < 8 or tag > 0xFFFFFFFF:
        return 0, 0, BAD
    return tag >> 3, tag & 7, position


@inlined
def read_length(data: int, position: int, end: int) -> tuple[int, int]:
    """(begin, end) of a length-delimited field's content; begin BAD if it passes `end`."""
    length, position = read_varint(data, position, end)
    if position == BAD or length < 0 or length > end - position:
        return BAD, BAD
    return position, position + length


@kernel
def skip_scalar(data: int, wire_type: int, position: int, end: int) -> int:
    """Position behind a field that is no group; BAD for a cut field and for wire types 3, 4, 6 and 7."""
    if wire_type == VARINT:
        return read_varint(data, position, end)[1]
    if wire_type == LEN:
        _begin, stop = read_length(data, position, end)
        return stop
    width = 8 if wire_type == FIXED64 else 4 if wire_type == FIXED32 else -1
    if width < 0 or end - position < width:
        return BAD
    return position + width


@kernel
def skip_field(data: int, field: int, wire_type: int, position: int, end: int) -> int:
    """Position behind an unknown field, groups (nested at most 64 deep) included."""
    if wire_type != GROUP:
        return skip_scalar(data, wire_type, position, end)
    open_groups = np.empty(64, np.int64)
    depth = 0
    open_groups[0] = field
    while depth >= 0:
        field, wire_type, position = read_tag(data, position, end)
        if position == BAD:
            return BAD
        if wire_type == GROUP:
            depth += 1
            if depth == 64:
                return BAD
            open_groups[depth] = field
        elif wire_type == END_GROUP:
            if open_groups[depth] != field:
                return BAD
            depth -= 1
        else:
            position = skip_scalar(data, wire_type, position, end)
            if position == BAD:
                return BAD
    return position


@inlined
def is_utf8(data: int, begin: int, end: int) -> bool:
    """Whether bytes [begin, end) are well-formed UTF-8 (no overlong forms, no surrogates, at most U+10FFFF)."""
    every = 0
    position = begin
    while end - position >= 8:
        every |= load64(data + position)
        position += 8
    while position < end:
        every |= load8(data + position)
        position += 1
    return True if every & HIGH_BITS == 0 else _is_utf8_beyond_ascii(data, begin, end)


@kernel
def _is_utf8_beyond_ascii(data: int, begin: int, end: int) -> bool:
    i = begin
    while i < end:
        lead = load8(data + i)
        i += 1
        if lead < 0x80:
            continue
        if lead < 0xC2 or lead > 0xF4:
            return False
        following = 1 if lead < 0xE0 else 2 if lead < 0xF0 else 3
        if end - i < following:
            return False
        second = load8(data + i)
        low = 0xA0 if lead == 0xE0 else 0x90 if lead == 0xF0 else 0x80
        high = 0x9F if lead == 0xED else 0x8F if lead == 0xF4 else 0xBF
        if second < low or second > high:
            return False
        for k in range(1, following):
            if (load8(data + i + k) & 0xC0) != 0x80:
                return False
        i += following
    return True

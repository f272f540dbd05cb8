"""OTLP protobuf, written once per template: pieces of encoded bytes that remember where the fields stand that every payload replaces.

A piece is a run of encoded bytes plus its *marks*, the offsets of ids, times, varying numbers and slots in it. Joining and wrapping
pieces shifts the marks, so that the finished template knows each offset without anyone parsing it again. Knows protobuf's wire
format and OTLP's AnyValue, but neither spans nor the shop. Encoding: https://protobuf.dev/programming-guides/encoding/.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterable
from dataclasses import dataclass
from enum import IntEnum
from functools import lru_cache
from typing import NamedTuple, TypeAlias, assert_never

Value: TypeAlias = str | bool | int | float


class Patch(IntEnum):
    """What is written at a mark, and whose it is: the span's or the trace's."""

    SPAN_ID = 0  # 8 bytes, id of span `of`
    TRACE_ID = 1  # 16 bytes, id of trace `of`
    TIME = 2  # fixed64, `value` nanoseconds from the end of trace `of` (never positive)
    DOUBLE = 3  # fixed64, around `value`, varied per span `of`
    USER = 4  # 2 digits of trace `of`
    TRACE_NUMBER = 5  # 4 digits of trace `of`
    SPAN_NUMBER = 6  # 4 digits of span `of`, the `value`-th number in its text


OWN = -1


class Mark(NamedTuple):
    """A place in a piece that every payload replaces. `of` is OWN until `owned` says whose bytes these are."""

    offset: int
    patch: Patch
    of: int = OWN
    value: float = 0


class Owner(NamedTuple):
    """The span that a piece belongs to: ordinals of span and trace in the template."""

    span: int
    trace: int


@dataclass(frozen=True, slots=True)
class Piece:
    """Encoded bytes and the marks in them."""

    data: bytes
    marks: tuple[Mark, ...] = ()


EMPTY = Piece(b"")
_VARINT, _FIXED64, _LENGTH, _FIXED32 = 0, 1, 2, 5
_SLOT = re.compile(rb"\x01{2}|\x02{4}|\x03{4}")
_OF_TRACE = frozenset({Patch.TRACE_ID, Patch.TIME, Patch.USER, Patch.TRACE_NUMBER})
_SLOT_PATCH = {1: Patch.USER, 2: Patch.TRACE_NUMBER, 3: Patch.SPAN_NUMBER}


def encode_varint(number: int) -> bytes:
    """Base-128, least significant group first; a negative number is its 64-bit two's complement."""
    number &= (1 << 64) - 1
    groups = bytearray()
    while number > 0x7F:
        groups.append(number & 0x7F | 0x80)
        number >>= 7
    groups.append(number)
    return bytes(groups)


@lru_cache(maxsize=4096)
def encode_head(field: int, length: int) -> bytes:
    """The tag and length before a length-delimited field."""
    return encode_varint(field << 3 | _LENGTH) + encode_varint(length)


def join(pieces: Iterable[Piece], head: bytes = b"") -> Piece:
    """The pieces one after the other, behind `head`."""
    data = [head]
    marks: list[Mark] = []
    begin = len(head)
    for piece in pieces:
        if piece.marks:
            marks += [Mark(offset + begin, patch, of, value) for offset, patch, of, value in piece.marks]
        data.append(piece.data)
        begin += len(piece.data)
    return Piece(b"".join(data), tuple(marks))


def message(field: int, pieces: Iterable[Piece]) -> Piece:
    """A sub-message that holds the pieces."""
    inner = tuple(pieces)
    return join(inner, encode_head(field, sum(len(piece.data) for piece in inner)))


def integer(field: int, number: int) -> Piece:
    """A varint field; proto3 leaves zero out."""
    return Piece(encode_varint(field << 3 | _VARINT) + encode_varint(number)) if number else EMPTY


def fixed32(field: int, number: int) -> Piece:
    """A fixed32 field."""
    return Piece(encode_varint(field << 3 | _FIXED32) + number.to_bytes(4, "little"))


def owned(piece: Piece, owner: Owner) -> Piece:
    """The piece with its OWN marks made marks of the span or trace that it belongs to."""
    owners = (owner.span, owner.trace)
    marks = [mark if mark.of != OWN else mark._replace(of=owners[mark.patch in _OF_TRACE]) for mark in piece.marks]
    return Piece(piece.data, tuple(marks))


def time(field: int, from_end_ns: int) -> Piece:
    """A time, to be written per payload: `from_end_ns` (not positive) from the end of the trace."""
    head = encode_varint(field << 3 | _FIXED64)
    return Piece(head + bytes(8), (Mark(len(head), Patch.TIME, value=from_end_ns),))


def trace_id(field: int, trace: int = OWN) -> Piece:
    """The 16 bytes of a trace's id, to be written per payload."""
    head = encode_head(field, 16)
    return Piece(head + bytes(16), (Mark(len(head), Patch.TRACE_ID, trace),))


def span_id(field: int, span: int = OWN) -> Piece:
    """The 8 bytes of a span's id, to be written per payload."""
    head = encode_head(field, 8)
    return Piece(head + bytes(8), (Mark(len(head), Patch.SPAN_ID, span),))


@lru_cache(maxsize=4096)
def text(field: int, content: str) -> Piece:
    """A string field; proto3 leaves the empty one out. Slots in it become marks."""
    return _text(field, content) if content else EMPTY


def _text(field: int, content: str) -> Piece:
    data = content.encode()
    slots = enumerate(_SLOT.finditer(data))
    return join(
        (Piece(data, tuple(Mark(match.start(), _SLOT_PATCH[match[0][0]], value=place % 4) for place, match in slots)),),
        encode_head(field, len(data)),
    )


@lru_cache(maxsize=20_000, typed=True)  # typed: True and 1 are different attribute values
def attribute(field: int, key: str, value: Value) -> Piece:
    """A KeyValue. A float is varied per payload around its value; slots in a string are marked."""
    match value:
        case bool():
            any_value = Piece(bytes((2 << 3 | _VARINT, value)))
        case int():
            any_value = Piece(encode_varint(3 << 3 | _VARINT) + encode_varint(value))
        case float():
            any_value = Piece(bytes((4 << 3 | _FIXED64,)) + struct.pack("<d", value), (Mark(1, Patch.DOUBLE, value=value),))
        case str():
            any_value = _text(1, value)
        case _:
            assert_never(value)
    return message(field, (text(1, key), message(2, (any_value,))))

"""A walk over protobuf bytes, for the few answers that commands read: acknowledgements, statuses and traces.

Knows the wire format and no message. Encoding: https://protobuf.dev/programming-guides/encoding/.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TypeAlias

from spanlake.model.errors import InvalidInput

Field: TypeAlias = tuple[int, int | memoryview]
_VARINT, _FIXED64, _LENGTH, _FIXED32 = 0, 1, 2, 5


def fields(data: bytes | memoryview) -> Iterator[Field]:
    """(number, value) of each field in order: varints and fixed-width values as unsigned integers, the rest as bytes.

    Raises InvalidInput where the bytes are not a protobuf message.
    """
    view = memoryview(data)
    at = 0
    while at < len(view):
        tag, at = _varint(view, at)
        value: int | memoryview
        match tag & 7:
            case 0:
                value, at = _varint(view, at)
            case 2:
                length, at = _varint(view, at)
                value, at = _run(view, at, length)
            case 1 | 5 as fixed:
                run, at = _run(view, at, 8 if fixed == _FIXED64 else 4)
                value = int.from_bytes(run, "little")
            case wire_type:
                raise InvalidInput(f"byte {at}: wire type {wire_type} is not protobuf")
        yield tag >> 3, value


def messages(data: bytes | memoryview, number: int) -> Iterator[memoryview]:
    """The values of a length-delimited field, in order."""
    for found, value in fields(data):
        if found == number and isinstance(value, memoryview):
            yield value


def text_of(data: bytes | memoryview, number: int) -> str:
    """The last value of a string field; empty when it is not there."""
    return "".join(bytes(value).decode("utf-8", "replace") for value in list(messages(data, number))[-1:])


def integer_of(data: bytes | memoryview, number: int) -> int:
    """The last value of an integer field as a signed 64-bit number; 0 when it is not there."""
    last = 0
    for found, value in fields(data):
        if found == number and isinstance(value, int):
            last = value
    return last - (1 << 64) if last >> 63 else last


def _varint(view: memoryview, at: int) -> tuple[int, int]:
    number = 0
    for shift in range(0, 70, 7):
        if at >= len(view):
            break
        byte = view[at]
        at += 1
        number |= (byte & 0x7F) << shift
        if byte < 0x80:
            return number & (1 << 64) - 1, at
    raise InvalidInput(f"byte {at}: the message ends within a number, or the number is longer than 64 bits")


def _run(view: memoryview, at: int, length: int) -> tuple[memoryview, int]:
    if length > len(view) - at:
        raise InvalidInput(f"byte {at}: a field of {length} bytes begins {len(view) - at} bytes before the end of the message")
    return view[at : at + length], at + length

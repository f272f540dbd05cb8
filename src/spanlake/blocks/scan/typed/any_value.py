"""Reading serialized OTLP AnyValue messages of type array: storage keeps arrays as they came.

Only the shape is read here. The messages were validated when they were decoded on arrival, so whatever does not fit is a value that TraceQL
cannot hold, not an error.
"""

from __future__ import annotations

import struct
from typing import TypeAlias

from spanlake.model.spans import BOOL, DOUBLE, INT, STRING

Elements: TypeAlias = tuple[int, list[str | int | float]]
"""(type number, values): STRING, BOOL, INT or DOUBLE; booleans are 0 or 1."""

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_ARRAY_FIELD, _VALUES_FIELD = 5, 1


def read_array(message: bytes) -> Elements | None:
    """The elements of an AnyValue with an array of one scalar type. None if it is empty, mixed, or has other elements.

    An int64 element is as in the message, a two's complement number.
    """
    array = _last_field(message, _ARRAY_FIELD)
    if array is None:
        return None
    kinds: set[int] = set()
    values: list[str | int | float] = []
    for number, body in _fields(array):
        if number != _VALUES_FIELD or not isinstance(body, bytes):
            continue
        element = _scalar(body)
        if element is None:
            return None
        kinds.add(element[0])
        values.append(element[1])
    if len(kinds) != 1:
        return None
    return kinds.pop(), values


def _scalar(message: bytes) -> tuple[int, str | int | float] | None:
    """(type, value) of an AnyValue that holds a scalar."""
    found: tuple[int, str | int | float] | None = None
    for number, body in _fields(message):
        if number == STRING and isinstance(body, bytes):
            found = STRING, body.decode("utf-8", "replace")
        elif number == BOOL and isinstance(body, int):
            found = BOOL, int(body != 0)
        elif number == INT and isinstance(body, int):
            found = INT, body - (1 << 64) if body >> 63 else body
        elif number == DOUBLE and isinstance(body, bytes):
            found = DOUBLE, struct.unpack("<d", body)[0]
        else:
            return None
    return found


def _last_field(message: bytes, wanted: int) -> bytes | None:
    """The last length-delimited field of that number."""
    bodies = [body for number, body in _fields(message) if number == wanted and isinstance(body, bytes)]
    return bodies[-1] if bodies else None


def _fields(message: bytes) -> list[tuple[int, int | bytes]]:
    """(field number, body) of each field; fixed-width bodies are bytes."""
    fields: list[tuple[int, int | bytes]] = []
    at = 0
    while at < len(message):
        tag, at = _varint(message, at)
        wire = tag & 7
        if wire == _VARINT:
            value, at = _varint(message, at)
            fields.append((tag >> 3, value))
            continue
        if wire == _BYTES:
            width, at = _varint(message, at)
        else:
            assert wire in (_FIXED64, _FIXED32), f"wire type {wire} in a stored attribute value"
            width = 8 if wire == _FIXED64 else 4
        fields.append((tag >> 3, message[at : at + width]))
        at += width
    return fields


def _varint(message: bytes, at: int) -> tuple[int, int]:
    """(value, position after it)."""
    value = shift = 0
    while True:
        byte = message[at]
        value |= (byte & 0x7F) << shift
        at += 1
        shift += 7
        if byte < 0x80:
            return value & 0xFFFF_FFFF_FFFF_FFFF, at

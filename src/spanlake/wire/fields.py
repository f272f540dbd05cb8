"""Protobuf fields written and read in Python, for small messages and cold paths; hot paths have kernels (`protobuf`). Knows no message.

A *tag* is the encoded field number and wire type, as bytes. Source: protobuf.dev/programming-guides/encoding.
"""

from __future__ import annotations

from collections.abc import Iterator

from spanlake.model.errors import InvalidInput

VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5
"""Wire types."""


def encode_varint(number: int) -> bytes:
    """`number` as a base-128 varint; a negative one as its 64-bit two's complement, ten bytes long."""
    if 0 <= number < 128:
        return bytes((number,))
    number &= 0xFFFF_FFFF_FFFF_FFFF
    out = bytearray()
    while number > 127:
        out.append(number & 127 | 128)
        number >>= 7
    out.append(number)
    return bytes(out)


def encode_tag(number: int, wire_type: int) -> bytes:
    """The tag of field `number`."""
    return encode_varint(number << 3 | wire_type)


def encode_bytes(tag: bytes, content: bytes | bytearray) -> bytes:
    """A length-delimited field: bytes, text or a message."""
    return tag + encode_varint(len(content)) + content


def decode_fields(data: bytes | memoryview) -> Iterator[tuple[int, int | memoryview]]:
    """(number, value) of each field in order: varints and fixed-width values as unsigned integers, the rest as bytes.

    Raises InvalidInput where the bytes are not a protobuf message. Groups, which proto3 does not have, count as that.
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
                run, at = _run(view, at, 8 if fixed == FIXED64 else 4)
                value = int.from_bytes(run, "little")
            case wire_type:
                raise InvalidInput(f"byte {at}: wire type {wire_type} is not protobuf")
        yield tag >> 3, value


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

"""Protobuf fields written from Python, for small messages and cold paths; hot paths have kernels (`protobuf`). Knows no message.

A *tag* is the encoded field number and wire type, as bytes. Source: protobuf.dev/programming-guides/encoding.
"""

from __future__ import annotations

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

"""A walk over protobuf bytes, for the few answers that commands read: acknowledgements, statuses and traces.

Knows the wire format and no message. Encoding: https://protobuf.dev/programming-guides/encoding/.
"""

from __future__ import annotations

from collections.abc import Iterator

from spanlake.wire.fields import decode_fields


def messages(data: bytes | memoryview, number: int) -> Iterator[memoryview]:
    """The values of a length-delimited field, in order."""
    for found, value in decode_fields(data):
        if found == number and isinstance(value, memoryview):
            yield value


def text_of(data: bytes | memoryview, number: int) -> str:
    """The last value of a string field; empty when it is not there."""
    return "".join(bytes(value).decode("utf-8", "replace") for value in list(messages(data, number))[-1:])


def integer_of(data: bytes | memoryview, number: int) -> int:
    """The last value of an integer field as a signed 64-bit number; 0 when it is not there."""
    last = 0
    for found, value in decode_fields(data):
        if found == number and isinstance(value, int):
            last = value
    return last - (1 << 64) if last >> 63 else last

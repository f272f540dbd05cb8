"""The text of strings and numbers: Go's escapes to Python strings, and the canonical text of every literal.

Strings are Unicode: an escape sequence that forms bytes which are not UTF-8 is refused, since no stored value could equal it.
"""

from __future__ import annotations

import math
import re
from decimal import Decimal
from typing import assert_never

from spanlake.traceql.ast import Literal
from spanlake.traceql.durations import format_duration
from spanlake.traceql.vocabulary import INT_MIN, NUMERIC, ValueType

_SIMPLE_ESCAPES = {"a": 7, "b": 8, "f": 12, "n": 10, "r": 13, "t": 9, "v": 11, "\\": 92, '"': 34}
_CODED_ESCAPE = re.compile(r"x([0-9a-fA-F]{2})|u([0-9a-fA-F]{4})|U([0-9a-fA-F]{8})|([0-7]{3})")
_PRINTED_ESCAPES = {"\\": "\\\\", '"': '\\"', "\n": "\\n", "\r": "\\r", "\t": "\\t"}
NAME_SPECIAL = re.compile(r'[\s{}()=~!<>&|^,"]')  # ends an attribute name, or starts a quoted part of one
_G_DIGITS = 6  # Go's %g writes an exponent from 1e6 on


class BadEscape(ValueError):
    """`offset` is where in the text the bad escape starts."""

    def __init__(self, message: str, offset: int) -> None:
        super().__init__(message)
        self.offset = offset


def unquote(text: str) -> str:
    """The string of a Go interpreted string literal, given without its quotes.

    Raises BadEscape for an unknown escape, and where the bytes of `\\x` and octal escapes are not UTF-8.
    """
    if "\\" not in text:
        return text
    result = bytearray()
    position = 0
    while position < len(text):
        escape = text.find("\\", position)
        if escape < 0:
            result += text[position:].encode()
            break
        result += text[position:escape].encode()
        encoded, length = _escape_bytes(text, escape)
        result += encoded
        position = escape + length
    try:
        return result.decode()
    except UnicodeDecodeError:
        raise BadEscape("the escapes of this string do not form valid UTF-8 text, and no stored string can equal it", 0) from None


def _escape_bytes(text: str, offset: int) -> tuple[bytes, int]:
    """The bytes that the escape at the offset stands for, and its length in the text."""
    letter = text[offset + 1 : offset + 2]
    if letter in _SIMPLE_ESCAPES:
        return bytes([_SIMPLE_ESCAPES[letter]]), 2
    coded = _CODED_ESCAPE.match(text, offset + 1)
    if coded is None:
        raise BadEscape(rf"unknown escape \{letter}; for a backslash write \\ or use back-ticks", offset)
    length = coded.end() - offset
    byte, short, long, octal = coded.groups()
    if byte or octal:
        number = int(byte, 16) if byte else int(octal, 8)
        if number > 0xFF:
            raise BadEscape(rf"octal escape \{octal} is above \377", offset)
        return bytes([number]), length
    point = int(short or long, 16)
    if point > 0x10FFFF or 0xD800 <= point <= 0xDFFF:
        raise BadEscape(f"{text[offset : offset + length]} is not a Unicode character", offset)
    return chr(point).encode(), length


def format_string(text: str) -> str:
    """In back-ticks; where it holds what cannot stand in them, in double quotes with escapes."""
    if not any(c in text for c in "`\r\0"):
        return f"`{text}`"
    return '"' + "".join(_PRINTED_ESCAPES.get(c) or (f"\\x{ord(c):02x}" if ord(c) < 0x20 else c) for c in text) + '"'


def format_float(value: float) -> str:
    """Go's shortest %g, always with a point or an exponent: `0.5`, `200.0`, `1e+06`."""
    if not math.isfinite(value):
        return "NaN" if math.isnan(value) else "+Inf" if value > 0 else "-Inf"
    sign = "-" if math.copysign(1.0, value) < 0 else ""
    _, digit_tuple, last_exponent = Decimal(repr(abs(value))).as_tuple()
    digits = "".join(map(str, digit_tuple))
    exponent = len(digits) + int(last_exponent) - 1
    digits = digits.rstrip("0") or "0"
    if digits == "0":
        return sign + "0.0"
    if -4 <= exponent < 0:
        return f"{sign}0.{'0' * (-exponent - 1)}{digits}"
    if 0 <= exponent < _G_DIGITS:
        return f"{sign}{digits[: exponent + 1].ljust(exponent + 1, '0')}.{digits[exponent + 1 :] or '0'}"
    mantissa = f"{digits[0]}.{digits[1:]}" if digits[1:] else digits
    return f"{sign}{mantissa}e{'-' if exponent < 0 else '+'}{abs(exponent):02d}"


def format_literal(literal: Literal) -> str:
    """Text that parses to the literal; of a negative number, text with a minus in front."""
    match literal.type:
        case ValueType.STRING:
            return format_string(str(literal.value))
        case ValueType.FLOAT:
            return format_float(float(literal.value or 0))
        case ValueType.DURATION:
            return format_duration(int(literal.value or 0))
        case ValueType.INT:
            return {INT_MIN: "minInt"}.get(int(literal.value or 0), str(literal.value))
        case ValueType.BOOL:
            return "true" if literal.value else "false"
        case ValueType.NIL:
            return "nil"
        case ValueType.STATUS | ValueType.KIND:
            return str(literal.value)
        case _:
            assert_never(literal.type)


def format_name(name: str, *, quoted: bool = False) -> str:
    """An attribute name as it stands after its scope: in quotes where it holds a character that ends a name, or where asked for."""
    if name and not quoted and not NAME_SPECIAL.search(name):
        return name
    escaped = name.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def is_negative(literal: Literal) -> bool:
    """Whether the literal's text starts with a minus."""
    number = literal.type in NUMERIC and literal.value is not None
    return number and literal.value != INT_MIN and math.copysign(1.0, float(literal.value or 0)) < 0

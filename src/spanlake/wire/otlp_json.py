"""OTLP/JSON request bodies become OTLP protobuf, so that there is one decode path (the kernel) behind every receiver.

This is a Python loop over spans, which the protobuf path must never be: JSON is what browsers and scripts send, at low volume, and its
text has to be parsed into objects anyway. One row per field in the tables below says all there is to know about the mapping; both
`traceId` and `trace_id` are accepted, `null` and unknown names are ignored.

Faults: what is wrong inside a span costs that span only (it is left out and counted; an id of a wrong length is passed on, the decoder
refuses it with the reason it has for protobuf). What is wrong outside of spans refuses the request. Every fault names its place.
Source: opentelemetry.io/docs/specs/otlp#json-protobuf-encoding.
"""

from __future__ import annotations

import binascii
import re
import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

import orjson

from spanlake.model.errors import InvalidInput
from spanlake.wire.fields import BYTES, FIXED32, FIXED64, VARINT, encode_bytes, encode_tag, encode_varint

VALUE_DEPTH_MAX = 64
"""Deepest nesting of attribute values that is encoded; what the server accepts is the decoder's setting, which is at most this.
Each level takes up to seven Python frames."""

SHOWN_CHARACTERS_MAX = 40


@dataclass(frozen=True, slots=True)
class JsonPayload:
    """An ExportTraceServiceRequest, the number of spans left out of it, and the place and fault of the first of those."""

    protobuf: bytes
    rejected: int
    reason: str


def decode_request(body: bytes) -> JsonPayload:
    """Decode an OTLP/JSON ExportTraceServiceRequest; InvalidInput if it is not JSON or not of that shape."""
    try:
        root = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise InvalidInput(f"malformed JSON: {error}") from None
    out = bytearray()
    faults: list[str] = []
    for index, item in enumerate(_items(root, "resourceSpans", "resource_spans", "the request")):
        out += encode_bytes(b"\x0a", _resource_spans(item, f"resourceSpans[{index}]", faults))
    return JsonPayload(bytes(out), len(faults), faults[0] if faults else "")


def _resource_spans(content: object, place: str, faults: list[str]) -> bytearray:
    out = _placed(place, _RESOURCE_SPANS, content)
    for index, item in enumerate(_items(content, "scopeSpans", "scope_spans", place)):
        out += encode_bytes(b"\x12", _scope_spans(item, f"{place}.scopeSpans[{index}]", faults))
    return out


def _scope_spans(content: object, place: str, faults: list[str]) -> bytearray:
    out = _placed(place, _SCOPE_SPANS, content)
    for index, item in enumerate(_items(content, "spans", "spans", place)):
        try:
            out += encode_bytes(b"\x12", _message(_SPAN, item, VALUE_DEPTH_MAX))
        except InvalidInput as fault:
            faults.append(f"{place}.spans[{index}]{fault}")
    return out


def _items(content: object, name: str, name_in_snake_case: str, place: str) -> list[object]:
    """The array under either name, empty if it is absent or null."""
    if type(content) is not dict:
        raise InvalidInput(f"{place}: expected an object, not {_shown(content)}")
    items = content.get(name)
    if items is None:
        items = content.get(name_in_snake_case)
    if items is None:
        return []
    if type(items) is not list:
        raise InvalidInput(f"{place}.{name}: expected an array, not {_shown(items)}")
    return items


def _placed(place: str, fields: Table, content: object) -> bytearray:
    try:
        return _message(fields, content, VALUE_DEPTH_MAX)
    except InvalidInput as fault:
        raise InvalidInput(f"{place}{fault}") from None


# --- Encoders. Each takes (tag, content, levels of values left) and returns the complete field. The text of a fault that they raise
# begins with the place relative to the content, `.name`, `[index]` or nothing, then a colon.

Encoder: TypeAlias = Callable[[bytes, object, int], bytes | bytearray]
Table: TypeAlias = dict[str, tuple[bytes, Encoder]]


def _message(fields: Table, content: object, depth: int) -> bytearray:
    """The fields of a message, without tag and length."""
    if type(content) is not dict:
        raise InvalidInput(f": expected an object, not {_shown(content)}")
    out = bytearray()
    for name, value in content.items():
        field = fields.get(name)
        if field is None or value is None:
            continue
        try:
            out += field[1](field[0], value, depth)
        except InvalidInput as fault:
            raise InvalidInput(f".{name}{fault}") from None
    return out


def _one(fields: Table) -> Encoder:
    """A singular message."""

    def encode(tag: bytes, content: object, depth: int) -> bytes:
        return encode_bytes(tag, _message(fields, content, depth))

    return encode


def _each(encode_item: Encoder) -> Encoder:
    """A repeated field."""

    def encode(tag: bytes, content: object, depth: int) -> bytearray:
        if type(content) is not list:
            raise InvalidInput(f": expected an array, not {_shown(content)}")
        out = bytearray()
        for index, item in enumerate(content):
            try:
                out += encode_item(tag, item, depth)
            except InvalidInput as fault:
                raise InvalidInput(f"[{index}]{fault}") from None
        return out

    return encode


def _any_value(tag: bytes, content: object, depth: int) -> bytes:
    """An AnyValue; null is the empty one, as in an array with a null in it."""
    if content is None:
        return encode_bytes(tag, b"")
    if depth == 0:
        raise InvalidInput(f": values are nested deeper than {VALUE_DEPTH_MAX} levels")
    out = _message(_ANY_VALUE, content, depth - 1)
    if (
        type(content) is dict
        and len(content) > 1
        and sum(_ANY_VALUE.get(name) is not None and content[name] is not None for name in content) > 1
    ):
        raise InvalidInput(": expected one kind of value, not several")
    return encode_bytes(tag, out)


def _text(tag: bytes, content: object, _depth: int) -> bytes:
    if type(content) is not str:
        raise InvalidInput(f": expected a string, not {_shown(content)}")
    return encode_bytes(tag, content.encode())


def _hex(tag: bytes, content: object, _depth: int) -> bytes:
    """An id; the empty string is an absent one."""
    if content == "":
        return b""
    try:
        return encode_bytes(tag, binascii.unhexlify(content))  # type: ignore[arg-type]
    except (TypeError, ValueError):
        raise InvalidInput(f": expected hex digits, an even number of them, not {_shown(content)}") from None


def _base64(tag: bytes, content: object, _depth: int) -> bytes:
    """Standard or URL-safe alphabet, padded or not."""
    if type(content) is not str:
        raise InvalidInput(f": expected base64 text, not {_shown(content)}")
    digits = content.rstrip("=").translate(_TO_STANDARD_ALPHABET)
    try:
        return encode_bytes(tag, binascii.a2b_base64(digits + "=" * (-len(digits) % 4), strict_mode=True))
    except ValueError:
        raise InvalidInput(f": {_shown(content)} is not base64") from None


def _bool(tag: bytes, content: object, _depth: int) -> bytes:
    if type(content) is not bool:
        raise InvalidInput(f": expected true or false, not {_shown(content)}")
    return tag + (b"\x01" if content else b"\x00")


def _double(tag: bytes, content: object, _depth: int) -> bytes:
    number: float
    if type(content) is float or type(content) is int:
        number = float(content)
    elif type(content) is str and content in _DOUBLE_NAMES:
        number = _DOUBLE_NAMES[content]
    elif type(content) is str and _DECIMAL.fullmatch(content) and abs(float(content)) != float("inf"):
        number = float(content)
    else:
        raise InvalidInput(f": {_shown(content)} is not a double")
    return tag + struct.pack("<d", number)


def _integer(content: object, least: int, most: int) -> int:
    """An integer written as a number (2.0 and 2e3 are integers too) or as a string."""
    if type(content) is int:
        number = content
    elif (type(content) is float and content.is_integer()) or (type(content) is str and _DIGITS.fullmatch(content)):
        number = int(content)
    else:
        raise InvalidInput(f": {_shown(content)} is not an integer")
    if not least <= number <= most:
        raise InvalidInput(f": {number} is not between {least} and {most}")
    return number


def _int64(tag: bytes, content: object, _depth: int) -> bytes:
    return tag + encode_varint(_integer(content, -(1 << 63), (1 << 63) - 1))


def _uint32(tag: bytes, content: object, _depth: int) -> bytes:
    return tag + encode_varint(_integer(content, 0, (1 << 32) - 1))


def _fixed32(tag: bytes, content: object, _depth: int) -> bytes:
    return tag + _integer(content, 0, (1 << 32) - 1).to_bytes(4, "little")


def _fixed64(tag: bytes, content: object, _depth: int) -> bytes:
    return tag + _integer(content, 0, (1 << 64) - 1).to_bytes(8, "little")


def _enum(*names: str) -> Encoder:
    """A number, known or not, or one of `names`, which stand for 0, 1, 2…"""
    numbers = {name: number for number, name in enumerate(names)}

    def encode(tag: bytes, content: object, _depth: int) -> bytes:
        number = numbers.get(content) if type(content) is str else None
        return tag + encode_varint(_integer(content, -(1 << 31), (1 << 31) - 1) if number is None else number)

    return encode


def _shown(content: object) -> str:
    """The value as a fault names it: short, whatever it is."""
    match content:
        case None:
            return "null"
        case dict():
            return "an object"
        case list():
            return "an array"
        case str() if len(content) > SHOWN_CHARACTERS_MAX:
            return f'"{content[:SHOWN_CHARACTERS_MAX]}…"'
        case _:
            return orjson.dumps(content).decode()


_DIGITS = re.compile(r"-?[0-9]{1,20}")
_DECIMAL = re.compile(r"-?[0-9]{1,400}(\.[0-9]{1,400})?([eE][+-]?[0-9]{1,4})?")
_DOUBLE_NAMES = {"NaN": float("nan"), "Infinity": float("inf"), "-Infinity": float("-inf")}
_TO_STANDARD_ALPHABET = str.maketrans("-_", "+/")


def _table(*rows: tuple[str, int, int, Encoder]) -> Table:
    """Rows of (name in the .proto file, field number, wire type, encoder), under that name and in lowerCamelCase."""
    table: Table = {}
    for name, number, wire_type, encode in rows:
        first, *others = name.split("_")
        table[name] = table[first + "".join(word.title() for word in others)] = (encode_tag(number, wire_type), encode)
    return table


# --- The messages, from the leaves up. Field numbers: opentelemetry/proto/trace/v1, common/v1 and resource/v1, release 1.11.

_KEY_VALUE = _table(("key", 1, BYTES, _text), ("value", 2, BYTES, _any_value))
_attributes = _each(_one(_KEY_VALUE))
_ANY_VALUE = _table(
    ("string_value", 1, BYTES, _text),
    ("bool_value", 2, VARINT, _bool),
    ("int_value", 3, VARINT, _int64),
    ("double_value", 4, FIXED64, _double),
    ("array_value", 5, BYTES, _one(_table(("values", 1, BYTES, _each(_any_value))))),
    ("kvlist_value", 6, BYTES, _one(_table(("values", 1, BYTES, _attributes)))),
    ("bytes_value", 7, BYTES, _base64),
)
_ENTITY_REF = _table(
    ("schema_url", 1, BYTES, _text),
    ("type", 2, BYTES, _text),
    ("id_keys", 3, BYTES, _each(_text)),
    ("description_keys", 4, BYTES, _each(_text)),
)
_RESOURCE = _table(
    ("attributes", 1, BYTES, _attributes),
    ("dropped_attributes_count", 2, VARINT, _uint32),
    ("entity_refs", 3, BYTES, _each(_one(_ENTITY_REF))),
)
_SCOPE = _table(
    ("name", 1, BYTES, _text),
    ("version", 2, BYTES, _text),
    ("attributes", 3, BYTES, _attributes),
    ("dropped_attributes_count", 4, VARINT, _uint32),
)
_EVENT = _table(
    ("time_unix_nano", 1, FIXED64, _fixed64),
    ("name", 2, BYTES, _text),
    ("attributes", 3, BYTES, _attributes),
    ("dropped_attributes_count", 4, VARINT, _uint32),
)
_LINK = _table(
    ("trace_id", 1, BYTES, _hex),
    ("span_id", 2, BYTES, _hex),
    ("trace_state", 3, BYTES, _text),
    ("attributes", 4, BYTES, _attributes),
    ("dropped_attributes_count", 5, VARINT, _uint32),
    ("flags", 6, FIXED32, _fixed32),
)
_STATUS = _table(
    ("message", 2, BYTES, _text),
    ("code", 3, VARINT, _enum("STATUS_CODE_UNSET", "STATUS_CODE_OK", "STATUS_CODE_ERROR")),
)
_kind = _enum(
    "SPAN_KIND_UNSPECIFIED",
    "SPAN_KIND_INTERNAL",
    "SPAN_KIND_SERVER",
    "SPAN_KIND_CLIENT",
    "SPAN_KIND_PRODUCER",
    "SPAN_KIND_CONSUMER",
)
_SPAN = _table(
    ("trace_id", 1, BYTES, _hex),
    ("span_id", 2, BYTES, _hex),
    ("trace_state", 3, BYTES, _text),
    ("parent_span_id", 4, BYTES, _hex),
    ("name", 5, BYTES, _text),
    ("kind", 6, VARINT, _kind),
    ("start_time_unix_nano", 7, FIXED64, _fixed64),
    ("end_time_unix_nano", 8, FIXED64, _fixed64),
    ("attributes", 9, BYTES, _attributes),
    ("dropped_attributes_count", 10, VARINT, _uint32),
    ("events", 11, BYTES, _each(_one(_EVENT))),
    ("dropped_events_count", 12, VARINT, _uint32),
    ("links", 13, BYTES, _each(_one(_LINK))),
    ("dropped_links_count", 14, VARINT, _uint32),
    ("status", 15, BYTES, _one(_STATUS)),
    ("flags", 16, FIXED32, _fixed32),
)
_SCOPE_SPANS = _table(("scope", 1, BYTES, _one(_SCOPE)), ("schema_url", 3, BYTES, _text))
_RESOURCE_SPANS = _table(("resource", 1, BYTES, _one(_RESOURCE)), ("schema_url", 3, BYTES, _text))

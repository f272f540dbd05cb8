"""Traces as Tempo's JSON and its version 2 protobuf: OTLP `TracesData` bytes in, the body of a trace-by-id answer out.

The dialect is protobuf's JSON mapping as Tempo writes it: lowerCamelCase, 64-bit integers as strings, every bytes field (ids too!) as
standard base64, enums by name, default-valued fields left out, empty messages kept as `{}`. This is not OTLP/JSON, whose ids are hex.

It is a Python walk over every field, for people with `curl` and small tools: Grafana asks for protobuf, which is passed on as it is.
Attributes recur from span to span, so each distinct one is read once (`Known`).
Sources: wire-contract section 1.3; protobuf.dev/programming-guides/json.
"""

from __future__ import annotations

import binascii
import math
import struct
from collections.abc import Callable
from enum import Enum
from typing import Any, TypeAlias

import orjson

from spanlake.model.errors import CorruptData
from spanlake.model.trace import TraceAnswer
from spanlake.wire.fields import BYTES, FIXED32, FIXED64, VARINT, encode_bytes, encode_varint

KNOWN_ATTRIBUTES_MAX = 100_000
"""Distinct attributes remembered while one trace is encoded."""

PARTIAL = 1
"""tempopb.PartialStatus; 0 is COMPLETE."""


def encode_trace_v1(trace: bytes) -> bytes:
    """`{"batches":[…]}`; CorruptData if `trace` is not a TracesData message."""
    return orjson.dumps({"batches": _resource_spans(trace)})


def encode_trace_v2(answer: TraceAnswer) -> bytes:
    """tempopb.TraceByIDResponse as JSON; a trace that is not there is `"trace":{}`."""
    resource_spans = _resource_spans(answer.encoded)
    body: dict[str, Any] = {"trace": {"resourceSpans": resource_spans} if resource_spans else {}}
    body["metrics"] = {"inspectedBytes": str(answer.inspected_bytes)} if answer.inspected_bytes else {}
    if not answer.complete:
        body["status"] = "PARTIAL"
    if answer.message:
        body["message"] = answer.message
    return orjson.dumps(body)


def encode_trace_v2_protobuf(answer: TraceAnswer) -> bytes:
    """tempopb.TraceByIDResponse. Field 1 is there even for no spans: Grafana reads it unguarded."""
    parts = [encode_bytes(b"\x0a", answer.encoded)]
    if answer.inspected_bytes:
        parts.append(encode_bytes(b"\x12", b"\x08" + encode_varint(answer.inspected_bytes)))
    if not answer.complete:
        parts.append(b"\x18" + encode_varint(PARTIAL))
    if answer.message:
        parts.append(encode_bytes(b"\x22", answer.message.encode()))
    return b"".join(parts)


def _resource_spans(trace: bytes) -> list[Any]:
    try:
        items: list[Any] = _message(trace, _TRACES_DATA, {}).get("resourceSpans", [])
    except (IndexError, struct.error, RecursionError) as error:
        raise CorruptData(f"an encoded trace of {len(trace)} bytes is cut or nested too deeply: {type(error).__name__}") from error
    return items


# --- Reading. A decoder takes the raw content of one field (an int for varints, else bytes) and returns its JSON value, or None for a
# value that the mapping leaves out.

Known: TypeAlias = dict[bytes, orjson.Fragment]
"""Encoded KeyValue → its JSON text, shared by all its occurrences."""
Decoder: TypeAlias = Callable[[Any, Known], Any]


class Rule(Enum):
    """How occurrences of a field combine."""

    LAST = 1
    ALL = 2
    ONE_OF = 3


Field: TypeAlias = tuple[str, Decoder, Rule]
Table: TypeAlias = dict[int, Field]
"""Fields by tag, the wire type included, so that a field of a wrong wire type is unknown."""


def _message(data: bytes, fields: Table, known: Known) -> dict[str, Any]:
    """One message; unknown fields are skipped. IndexError or struct.error if it is cut."""
    out: dict[str, Any] = {}
    at, end = 0, len(data)
    raw: int | bytes
    while at < end:
        tag = data[at]
        at += 1
        if tag > 127:
            tag, at = _varint(data, at - 1)
        wire_type = tag & 7
        if wire_type == BYTES:
            size = data[at]
            at += 1
            if size > 127:
                size, at = _varint(data, at - 1)
            raw = data[at : at + size]
            at += size
        elif wire_type == VARINT:
            raw, at = _varint(data, at)
        elif wire_type in _WIDTHS:
            raw = data[at : at + _WIDTHS[wire_type]]
            at += _WIDTHS[wire_type]
        else:
            raise CorruptData(f"an encoded trace has a field of wire type {wire_type}")
        field = fields.get(tag)
        if field is not None:
            _store(out, field, raw, known)
    if at > end:
        raise IndexError(at)
    return out


def _store(out: dict[str, Any], field: Field, raw: int | bytes, known: Known) -> None:
    name, decode, rule = field
    value = decode(raw, known)
    if rule is Rule.ALL:
        out.setdefault(name, []).append(value)
        return
    if rule is Rule.ONE_OF:
        out.clear()
    if value is None:
        out.pop(name, None)
    else:
        out[name] = value


def _varint(data: bytes, at: int) -> tuple[int, int]:
    """(unsigned 64-bit value, position behind it)."""
    number = 0
    for shift in range(0, 70, 7):
        byte = data[at]
        at += 1
        number |= (byte & 127) << shift
        if byte < 128:
            return number & 0xFFFF_FFFF_FFFF_FFFF, at
    raise CorruptData("an encoded trace has a varint of more than ten bytes")


def _nested(fields: Table) -> Decoder:
    def decode(raw: bytes, known: Known) -> dict[str, Any]:
        return _message(raw, fields, known)

    return decode


def _attribute(raw: bytes, known: Known) -> orjson.Fragment:
    """A KeyValue, read once per distinct one. Text rather than objects, so that maps in maps stay within orjson's 254 levels."""
    text = known.get(raw)
    if text is None:
        text = orjson.Fragment(orjson.dumps(_message(raw, _KEY_VALUE, known)))
        if len(known) < KNOWN_ATTRIBUTES_MAX:
            known[raw] = text
    return text


def _any_text(raw: bytes, _known: Known) -> str:
    return raw.decode("utf-8", "replace")


def _text(raw: bytes, _known: Known) -> str | None:
    return raw.decode("utf-8", "replace") or None


def _any_base64(raw: bytes, _known: Known) -> str:
    return binascii.b2a_base64(raw, newline=False).decode()


def _base64(raw: bytes, _known: Known) -> str | None:
    return binascii.b2a_base64(raw, newline=False).decode() or None


def _any_bool(raw: int, _known: Known) -> bool:
    return raw != 0


def _any_int64(raw: int, _known: Known) -> str:
    return str(raw - (1 << 64) if raw >> 63 else raw)


def _any_double(raw: bytes, _known: Known) -> float | str:
    (number,) = struct.unpack("<d", raw)
    if math.isfinite(number):
        return float(number)
    return "NaN" if math.isnan(number) else "Infinity" if number > 0 else "-Infinity"


def _uint32(raw: int, _known: Known) -> int | None:
    return raw & 0xFFFF_FFFF or None


def _fixed32(raw: bytes, _known: Known) -> int | None:
    (number,) = struct.unpack("<I", raw)
    return number or None


def _fixed64(raw: bytes, _known: Known) -> str | None:
    (number,) = struct.unpack("<Q", raw)
    return str(number) if number else None


def _enum(*names: str) -> Decoder:
    """`names` stand for 0, 1, 2…; other numbers stay numbers."""

    def decode(raw: int, _known: Known) -> str | int | None:
        number = raw & 0xFFFF_FFFF
        if number == 0:
            return None
        return names[number] if number < len(names) else number - (1 << 32) if number >> 31 else number

    return decode


def _one(name: str, number: int, wire_type: int, decode: Decoder) -> tuple[int, Field]:
    return number << 3 | wire_type, (name, decode, Rule.LAST)


def _each(name: str, number: int, wire_type: int, decode: Decoder) -> tuple[int, Field]:
    return number << 3 | wire_type, (name, decode, Rule.ALL)


def _either(name: str, number: int, wire_type: int, decode: Decoder) -> tuple[int, Field]:
    return number << 3 | wire_type, (name, decode, Rule.ONE_OF)


_WIDTHS = {FIXED64: 8, FIXED32: 4}

# --- The messages, from the leaves up. Field numbers: opentelemetry/proto/trace/v1, common/v1 and resource/v1, release 1.11.


def _any_value(raw: bytes, known: Known) -> dict[str, Any]:
    return _message(raw, _ANY_VALUE, known)


_ANY_VALUE: Table = dict(
    (
        _either("stringValue", 1, BYTES, _any_text),
        _either("boolValue", 2, VARINT, _any_bool),
        _either("intValue", 3, VARINT, _any_int64),
        _either("doubleValue", 4, FIXED64, _any_double),
        _either("arrayValue", 5, BYTES, _nested(dict((_each("values", 1, BYTES, _any_value),)))),
        _either("kvlistValue", 6, BYTES, _nested(dict((_each("values", 1, BYTES, _attribute),)))),
        _either("bytesValue", 7, BYTES, _any_base64),
    )
)
_KEY_VALUE: Table = dict((_one("key", 1, BYTES, _text), _one("value", 2, BYTES, _any_value)))
_ENTITY_REF: Table = dict(
    (
        _one("schemaUrl", 1, BYTES, _text),
        _one("type", 2, BYTES, _text),
        _each("idKeys", 3, BYTES, _any_text),
        _each("descriptionKeys", 4, BYTES, _any_text),
    )
)
_RESOURCE: Table = dict(
    (
        _each("attributes", 1, BYTES, _attribute),
        _one("droppedAttributesCount", 2, VARINT, _uint32),
        _each("entityRefs", 3, BYTES, _nested(_ENTITY_REF)),
    )
)
_SCOPE: Table = dict(
    (
        _one("name", 1, BYTES, _text),
        _one("version", 2, BYTES, _text),
        _each("attributes", 3, BYTES, _attribute),
        _one("droppedAttributesCount", 4, VARINT, _uint32),
    )
)
_EVENT: Table = dict(
    (
        _one("timeUnixNano", 1, FIXED64, _fixed64),
        _one("name", 2, BYTES, _text),
        _each("attributes", 3, BYTES, _attribute),
        _one("droppedAttributesCount", 4, VARINT, _uint32),
    )
)
_LINK: Table = dict(
    (
        _one("traceId", 1, BYTES, _base64),
        _one("spanId", 2, BYTES, _base64),
        _one("traceState", 3, BYTES, _text),
        _each("attributes", 4, BYTES, _attribute),
        _one("droppedAttributesCount", 5, VARINT, _uint32),
        _one("flags", 6, FIXED32, _fixed32),
    )
)
_STATUS: Table = dict(
    (
        _one("message", 2, BYTES, _text),
        _one("code", 3, VARINT, _enum("STATUS_CODE_UNSET", "STATUS_CODE_OK", "STATUS_CODE_ERROR")),
    )
)
_kind = _enum(
    "SPAN_KIND_UNSPECIFIED",
    "SPAN_KIND_INTERNAL",
    "SPAN_KIND_SERVER",
    "SPAN_KIND_CLIENT",
    "SPAN_KIND_PRODUCER",
    "SPAN_KIND_CONSUMER",
)
_SPAN: Table = dict(
    (
        _one("traceId", 1, BYTES, _base64),
        _one("spanId", 2, BYTES, _base64),
        _one("traceState", 3, BYTES, _text),
        _one("parentSpanId", 4, BYTES, _base64),
        _one("name", 5, BYTES, _text),
        _one("kind", 6, VARINT, _kind),
        _one("startTimeUnixNano", 7, FIXED64, _fixed64),
        _one("endTimeUnixNano", 8, FIXED64, _fixed64),
        _each("attributes", 9, BYTES, _attribute),
        _one("droppedAttributesCount", 10, VARINT, _uint32),
        _each("events", 11, BYTES, _nested(_EVENT)),
        _one("droppedEventsCount", 12, VARINT, _uint32),
        _each("links", 13, BYTES, _nested(_LINK)),
        _one("droppedLinksCount", 14, VARINT, _uint32),
        _one("status", 15, BYTES, _nested(_STATUS)),
        _one("flags", 16, FIXED32, _fixed32),
    )
)
_SCOPE_SPANS: Table = dict(
    (
        _one("scope", 1, BYTES, _nested(_SCOPE)),
        _each("spans", 2, BYTES, _nested(_SPAN)),
        _one("schemaUrl", 3, BYTES, _text),
    )
)
_RESOURCE_SPANS: Table = dict(
    (
        _one("resource", 1, BYTES, _nested(_RESOURCE)),
        _each("scopeSpans", 2, BYTES, _nested(_SCOPE_SPANS)),
        _one("schemaUrl", 3, BYTES, _text),
    )
)
_TRACES_DATA: Table = dict((_each("resourceSpans", 1, BYTES, _nested(_RESOURCE_SPANS)),))

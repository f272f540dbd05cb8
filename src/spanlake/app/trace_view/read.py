"""Spans out of a trace-by-id answer, for display.

A Python walk, because a command should answer at once: loading the decode kernel takes half a second, and seconds where it was never
compiled. Only what every line of the tree needs is read here; attributes, events and links stay bytes until they are shown.

Texts come from strangers, so whatever could steer a terminal is escaped. Sources: opentelemetry-proto trace/v1, wire-contract 1.3.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TypeAlias

from spanlake.app.load.fields import integer_of, messages, text_of
from spanlake.wire.fields import decode_fields

Encoded: TypeAlias = memoryview
Attribute: TypeAlias = tuple[str, str]

PARTIAL = 1  # tempopb.PartialStatus
STATUS_ERROR = 2
EXCEPTION = "exception"
_NOTHING = memoryview(b"")


@dataclass(frozen=True, slots=True)
class TraceResource:
    """What sent spans. `service` is empty if the resource does not name one."""

    service: str
    attributes: tuple[Encoded, ...]


@dataclass(frozen=True, slots=True)
class TraceSpan:
    """One span. Ids are as in OTLP; `parent_id` is empty for a root. `scope` is the name and version of what recorded it."""

    resource: TraceResource
    scope: str
    span_id: bytes
    parent_id: bytes
    name: str
    kind: int
    start_ns: int
    end_ns: int
    status_code: int
    status_message: str
    attributes: tuple[Encoded, ...]
    events: tuple[Encoded, ...]
    links: tuple[Encoded, ...]

    @property
    def failed(self) -> bool:
        return self.status_code == STATUS_ERROR

    @property
    def duration_ns(self) -> int:
        """Negative when the sender's end is before its start."""
        return self.end_ns - self.start_ns


@dataclass(frozen=True, slots=True)
class TraceEvent:
    """An event of a span."""

    time_ns: int
    name: str
    attributes: tuple[Attribute, ...]

    def attribute(self, key: str) -> str:
        """The text of an attribute on one line; empty if it is not there."""
        return printable(dict(self.attributes).get(key, ""))


@dataclass(frozen=True, slots=True)
class ReadTrace:
    """All spans of an answer in its order. `message` says why a partial answer is partial."""

    spans: tuple[TraceSpan, ...]
    partial: bool
    message: str


def read_trace(answer: bytes) -> ReadTrace:
    """The content of a TraceByIDResponse; InvalidInput if the bytes are no protobuf."""
    spans = (span for trace in messages(answer, 1) for resource_spans in messages(trace, 1) for span in _spans_of(resource_spans))
    return ReadTrace(tuple(spans), integer_of(answer, 3) == PARTIAL, printable(text_of(answer, 4)))


def _spans_of(resource_spans: Encoded) -> Iterator[TraceSpan]:
    attributes = tuple(one for resource in messages(resource_spans, 1) for one in messages(resource, 1))
    service = next((printable(value) for key, value in read_attributes(attributes) if key == "service.name"), "")
    resource = TraceResource(service, attributes)
    for scope_spans in messages(resource_spans, 2):
        scope = "".join(f"{text_of(one, 1)} {text_of(one, 2)}" for one in messages(scope_spans, 1))
        for span in messages(scope_spans, 2):
            yield _span(span, resource, printable(scope.strip()))


def _span(data: Encoded, resource: TraceResource, scope: str) -> TraceSpan:
    last: dict[int, int | Encoded] = {}
    repeated: dict[int, list[Encoded]] = {9: [], 11: [], 13: []}
    for number, value in decode_fields(data):
        if number in repeated and isinstance(value, memoryview):
            repeated[number].append(value)
        else:
            last[number] = value
    parent_id = bytes(_bytes(last, 4))
    status = _bytes(last, 15)
    return TraceSpan(
        resource=resource,
        scope=scope,
        span_id=bytes(_bytes(last, 2)),
        parent_id=parent_id if any(parent_id) else b"",
        name=printable(_text(_bytes(last, 5))),
        kind=_integer(last, 6),
        start_ns=_integer(last, 7),
        end_ns=_integer(last, 8),
        status_code=integer_of(status, 3),
        status_message=printable(text_of(status, 2)),
        attributes=tuple(repeated[9]),
        events=tuple(repeated[11]),
        links=tuple(repeated[13]),
    )


def _bytes(found: dict[int, int | Encoded], number: int) -> Encoded:
    value = found.get(number, _NOTHING)
    return value if isinstance(value, memoryview) else _NOTHING


def _integer(found: dict[int, int | Encoded], number: int) -> int:
    value = found.get(number, 0)
    return value if isinstance(value, int) else 0


def _text(data: Encoded) -> str:
    return bytes(data).decode("utf-8", "replace")


def read_event(data: Encoded) -> TraceEvent:
    """An Event message."""
    return TraceEvent(integer_of(data, 1), printable(text_of(data, 2)), read_attributes(messages(data, 3)))


def read_link(data: Encoded) -> tuple[str, str, tuple[Attribute, ...]]:
    """(trace id, span id, attributes) of a Link message, ids in hex."""
    trace_id, span_id = (b"".join(bytes(one) for one in messages(data, number)).hex() for number in (1, 2))
    return trace_id, span_id, read_attributes(messages(data, 4))


def read_attributes(data: tuple[Encoded, ...] | Iterator[Encoded]) -> tuple[Attribute, ...]:
    """(key, value as text) of KeyValue messages, in their order. Values keep their line breaks and nothing else that is not printable."""
    return tuple((printable(text_of(one, 1)), "\n".join(map(printable, value_text(_last(one, 2)).split("\n")))) for one in data)


def _last(data: Encoded, number: int) -> Encoded:
    return next(reversed(list(messages(data, number))), _NOTHING)


def value_text(data: Encoded, *, inside: bool = False) -> str:
    """An AnyValue as text: arrays and maps as JSON would write them, bytes as 0x…; strings are quoted only `inside` one of those."""
    text = ""
    for number, value in decode_fields(data):
        match number, value:
            case 1, memoryview():
                text = f'"{_text(value)}"' if inside else _text(value)
            case 2, int():
                text = "true" if value else "false"
            case 3, int():
                text = str(value - (1 << 64) if value >> 63 else value)
            case 4, int():
                text = repr(struct.unpack("<d", value.to_bytes(8, "little"))[0])
            case 5, memoryview():
                text = f"[{', '.join(value_text(one, inside=True) for one in messages(value, 1))}]"
            case 6, memoryview():
                pairs = (f'"{text_of(one, 1)}": {value_text(_last(one, 2), inside=True)}' for one in messages(value, 1))
                text = f"{{{', '.join(pairs)}}}"
            case 7, memoryview():
                text = f"0x{bytes(value).hex()}"
    return text


def printable(text: str) -> str:
    """The text on one line, with control characters (escape sequences of terminals among them) written as in Python."""
    return text if text.isprintable() else "".join(one if one.isprintable() else one.encode("unicode_escape").decode() for one in text)

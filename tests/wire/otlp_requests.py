"""Requests for the tests of the OTLP kernels: messages of the official classes, what must become of them, and ways to write them
that no encoder uses but every parser must take."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from random import Random
from typing import Any

from google.protobuf.descriptor import FieldDescriptor
from hypothesis import strategies as st
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, ArrayValue, KeyValue, KeyValueList
from opentelemetry.proto.resource.v1.resource_pb2 import Resource
from opentelemetry.proto.trace.v1.trace_pb2 import ResourceSpans, ScopeSpans, Span, Status
from otlp_messages import attributes, events, links, lists, messages, resources, scopes, texts, uint32s, uint64s

from spanlake.wire.fields import BYTES, FIXED32, FIXED64, VARINT, encode_tag, encode_varint

int32s = st.integers(-(1 << 31), (1 << 31) - 1)
long_texts = texts | st.integers(120, 140).map(lambda length: "é" * (length // 2)) | st.just("x" * 20_000)
valid_ids = (st.integers(1, 3) | st.integers(1, (1 << 64) - 1)).map(lambda number: number.to_bytes(8, "big"))
trace_ids = st.builds(lambda high, low: high + low, st.just(bytes(8)) | valid_ids, valid_ids)
wide_spans = messages(
    Span,
    trace_state=texts,
    parent_span_id=valid_ids | st.sampled_from([b"", bytes(8)]),
    name=long_texts,
    kind=int32s,
    start_time_unix_nano=uint64s,
    end_time_unix_nano=uint64s,
    attributes=attributes,
    dropped_attributes_count=uint32s,
    events=lists(events),
    dropped_events_count=uint32s,
    links=lists(links),
    dropped_links_count=uint32s,
    status=messages(Status, message=texts, code=int32s),
    flags=uint32s,
)


def _with_ids(span: Span, trace_id: bytes, span_id: bytes) -> Span:
    span.trace_id, span.span_id = trace_id, span_id
    return span


spans = st.builds(_with_ids, wide_spans, trace_ids, valid_ids)
requests = messages(
    ExportTraceServiceRequest,
    resource_spans=lists(
        messages(
            ResourceSpans,
            resource=resources,
            scope_spans=lists(messages(ScopeSpans, scope=scopes, spans=lists(spans), schema_url=texts)),
            schema_url=texts,
        )
    ),
)
"""Requests whose spans all have valid ids; every field takes every value of its type, and any of them may be unset."""


def random_request(random: Random) -> ExportTraceServiceRequest:
    """A small request with something in most fields, some hundred times as fast as drawing one from `requests`."""
    request = ExportTraceServiceRequest()
    for _ in range(random.randint(1, 2)):
        resource_spans = request.resource_spans.add(schema_url=_text(random))
        resource_spans.resource.CopyFrom(Resource(attributes=_attributes(random), dropped_attributes_count=random.randrange(3)))
        for _ in range(random.randrange(2)):
            resource_spans.resource.entity_refs.add(type=_text(random), id_keys=[_text(random)], description_keys=[_text(random)])
        for _ in range(random.randint(1, 2)):
            scope_spans = resource_spans.scope_spans.add(schema_url=_text(random))
            scope_spans.scope.name, scope_spans.scope.version = _text(random), _text(random)
            scope_spans.scope.attributes.extend(_attributes(random))
            scope_spans.spans.extend(_span(random) for _ in range(random.randint(1, 3)))
    return request


def _span(random: Random) -> Span:
    start = random.getrandbits(64)
    span = Span(
        trace_id=random.randbytes(16),
        span_id=random.randbytes(8),
        parent_span_id=random.choice([b"", bytes(8), random.randbytes(8)]),
        trace_state=random.choice(["", "a=b"]),
        name=_text(random),
        kind=random.choice([0, 1, 2, 3, 4, 5, 9, -1]),  # type: ignore[arg-type]
        start_time_unix_nano=start,
        end_time_unix_nano=random.choice([0, start, random.getrandbits(64)]),
        attributes=_attributes(random),
        dropped_attributes_count=random.randrange(2),
        dropped_events_count=random.choice([0, 1, (1 << 32) - 1]),
        dropped_links_count=random.randrange(2),
        flags=random.choice([0, 257]),
    )
    for _ in range(random.randrange(3)):
        span.events.add(time_unix_nano=random.getrandbits(64), name=_text(random), attributes=_attributes(random))
    for _ in range(random.randrange(2)):
        span.links.add(
            trace_id=random.randbytes(16), span_id=random.randbytes(8), flags=random.randrange(2), attributes=_attributes(random)
        )
    if random.random() < 0.5:
        span.status.code, span.status.message = random.choice([0, 1, 2, -5]), _text(random)  # type: ignore[assignment]
    return span


def _text(random: Random) -> str:
    return random.choice(["", "a", "http.route", "é€😀", "x" * random.randrange(20), "long " * 30])


def _attributes(random: Random) -> list[KeyValue]:
    return [KeyValue(key=_text(random), value=_any_value(random, 3)) for _ in range(random.randrange(4))]


def _any_value(random: Random, depth: int) -> AnyValue:
    value = AnyValue()
    match random.randrange(8 if depth else 6):
        case 0:
            value.string_value = _text(random)
        case 1:
            value.bool_value = random.random() < 0.5
        case 2:
            value.int_value = random.choice([0, 1, 200, -1, (1 << 63) - 1, -(1 << 63)])
        case 3:
            value.double_value = random.choice([0.0, -1.5, float("inf"), float("nan")])
        case 4:
            value.bytes_value = random.randbytes(random.randrange(10))
        case 5:
            pass
        case 6:
            value.array_value.values.extend(_any_value(random, depth - 1) for _ in range(random.randrange(3)))
            value.array_value.SetInParent()
        case _:
            value.kvlist_value.SetInParent()
            for _ in range(random.randrange(3)):
                value.kvlist_value.values.add(key=_text(random), value=_any_value(random, depth - 1))
    return value


def canonical(payload: bytes) -> bytes:
    """The same request as the official serializer writes it, without unknown fields."""
    request = ExportTraceServiceRequest.FromString(payload)
    request.DiscardUnknownFields()
    return request.SerializeToString(deterministic=True)


def stored(request: ExportTraceServiceRequest, *, keeps: Callable[[Span], bool] = lambda span: True) -> ExportTraceServiceRequest:
    """What must come back when `request` is decoded and encoded: spans that are kept, with every sub-message that clients dereference."""
    kept = ExportTraceServiceRequest()
    for resource_spans in request.resource_spans:
        scopes_kept = []
        for scope_spans in resource_spans.scope_spans:
            chosen = [span for span in scope_spans.spans if keeps(span)]
            if chosen:
                scopes_kept.append(ScopeSpans(scope=scope_spans.scope, spans=chosen, schema_url=scope_spans.schema_url))
        if scopes_kept:
            kept.resource_spans.add(resource=resource_spans.resource, scope_spans=scopes_kept, schema_url=resource_spans.schema_url)
    for resource_spans in kept.resource_spans:
        _present(resource_spans.resource)
        for scope_spans in resource_spans.scope_spans:
            _present(scope_spans.scope)
            for span in scope_spans.spans:
                span.status.SetInParent()
                for owner in (span, *span.events, *span.links):
                    _present(owner)
                if not any(span.parent_span_id):
                    span.ClearField("parent_span_id")
    kept.DiscardUnknownFields()
    return kept


def _present(owner: Any) -> None:
    """Makes a message and the values of its attributes explicit, without what only profiles may use."""
    owner.SetInParent()
    for attribute in owner.attributes:
        attribute.value.SetInParent()
        attribute.ClearField("key_strindex")


def spans_in(request: ExportTraceServiceRequest) -> Iterator[Span]:
    for resource_spans in request.resource_spans:
        for scope_spans in resource_spans.scope_spans:
            yield from scope_spans.spans


class OddWriter:
    """Writes messages as no encoder does, but as the protobuf specification allows.

    `odds` is the chance that a varint is over-long, that an unknown field slips in, that a sub-message is written in two parts, and that
    the fields of a message are out of order. Fields of the same number keep their order.
    """

    def __init__(self, random: Random, odds: float) -> None:
        self._random = random
        self._odds = odds

    def write(self, message: Any) -> bytes:
        """The message's bytes."""
        runs = [[self._field(field, value) for value in values] for field, values in _values(message)]
        if self._odd():
            self._random.shuffle(runs)
        if self._odd():
            runs.append([self._unknown() for _ in range(2)])
        # Entity references that are not in one run are refused (SCATTERED).
        mixes = self._odd() and not isinstance(message, Resource)
        return b"".join(self._interleaved(runs) if mixes else (part for run in runs for part in run))

    def _odd(self) -> bool:
        return self._random.random() < self._odds

    def _interleaved(self, runs: list[list[bytes]]) -> Iterator[bytes]:
        runs = [run for run in runs if run]
        while runs:
            run = self._random.choice(runs)
            yield run.pop(0)
            runs = [run for run in runs if run]

    def _field(self, field: FieldDescriptor, value: Any) -> bytes:
        match field.type:
            case FieldDescriptor.TYPE_MESSAGE:
                return self._message(field, value)
            case FieldDescriptor.TYPE_STRING:
                return self._content(field.number, value.encode())
            case FieldDescriptor.TYPE_BYTES:
                return self._content(field.number, value)
            case FieldDescriptor.TYPE_FIXED64:
                return self._tag(field.number, FIXED64) + struct.pack("<Q", value)
            case FieldDescriptor.TYPE_DOUBLE:
                return self._tag(field.number, FIXED64) + struct.pack("<d", value)
            case FieldDescriptor.TYPE_FIXED32:
                return self._tag(field.number, FIXED32) + struct.pack("<I", value)
            case _:
                return self._tag(field.number, VARINT) + self._varint(int(value))

    def _message(self, field: FieldDescriptor, value: Any) -> bytes:
        """A sub-message; a singular one may come in parts, which parsers merge. (Values do not: see SCATTERED.)"""
        if field.is_repeated or isinstance(value, AnyValue | ArrayValue | KeyValueList) or not self._odd():
            return self._content(field.number, self.write(value))
        parts = []
        for part_field, _ in value.ListFields():
            part = type(value)()
            part.CopyFrom(value)
            for other, _ in value.ListFields():
                if other.name != part_field.name:
                    part.ClearField(other.name)
            parts.append(self._content(field.number, self.write(part)))
        return b"".join(parts) + self._content(field.number, b"")

    def _content(self, number: int, content: bytes) -> bytes:
        return self._tag(number, BYTES) + self._longer(encode_varint(len(content)), 5) + content

    def _tag(self, number: int, wire_type: int) -> bytes:
        return self._longer(encode_tag(number, wire_type), 5)

    def _varint(self, number: int) -> bytes:
        return self._longer(encode_varint(number), 10)

    def _longer(self, varint: bytes, most: int) -> bytes:
        if len(varint) == most or not self._odd():
            return varint
        return varint[:-1] + bytes((varint[-1] | 128,)) + b"\x80" * self._random.randint(0, most - 1 - len(varint)) + b"\x00"

    def _unknown(self) -> bytes:
        number = self._random.choice([17, 99, 1000, (1 << 29) - 1])
        match self._random.randrange(5):
            case 0:
                return self._tag(number, VARINT) + self._varint(self._random.getrandbits(64))
            case 1:
                return self._tag(number, FIXED64) + self._random.randbytes(8)
            case 2:
                return self._tag(number, FIXED32) + self._random.randbytes(4)
            case 3:
                inside = [self._unknown() for _ in range(self._random.randrange(2))]
                return self._tag(number, 3) + b"".join(inside) + self._tag(number, 4)
            case _:
                return self._content(number, self._random.randbytes(self._random.randrange(5)))


def _values(message: Any) -> Iterator[tuple[FieldDescriptor, list[Any]]]:
    """The fields that are set, with their one or many values."""
    for field, value in message.ListFields():
        yield field, list(value) if field.is_repeated else [value]

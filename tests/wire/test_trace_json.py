"""Tempo's JSON of a trace, against protobuf's own JSON mapping and against exact texts."""

from __future__ import annotations

import json

import pytest
from google.protobuf import json_format
from hypothesis import given, settings
from hypothesis import strategies as st
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, ArrayValue, InstrumentationScope, KeyValue
from opentelemetry.proto.resource.v1.resource_pb2 import Resource
from opentelemetry.proto.trace.v1.trace_pb2 import ResourceSpans, ScopeSpans, Span, Status, TracesData
from otlp_messages import traces_data

from spanlake.model.errors import CorruptData
from spanlake.model.trace import TraceAnswer
from spanlake.wire.trace_json import encode_trace_v1, encode_trace_v2, encode_trace_v2_protobuf

SPAN = Span(
    trace_id=bytes(range(16)),
    span_id=b"\xff\xfe\xfd\xfc\xfb\xfa\xf9\xf8",
    name="GET /",
    kind=Span.SPAN_KIND_SERVER,
    start_time_unix_nano=1_700_000_000_000_000_001,
    status=Status(code=Status.STATUS_CODE_ERROR),
)
TRACE = TracesData(
    resource_spans=[
        ResourceSpans(
            resource=Resource(attributes=[KeyValue(key="service.name", value=AnyValue(string_value="shop"))]),
            scope_spans=[ScopeSpans(scope=InstrumentationScope(), spans=[SPAN])],
        )
    ]
).SerializeToString()
RESOURCE_SPANS_JSON = (
    '[{"resource":{"attributes":[{"key":"service.name","value":{"stringValue":"shop"}}]},"scopeSpans":[{"scope":{},"spans":['
    '{"traceId":"AAECAwQFBgcICQoLDA0ODw==","spanId":"//79/Pv6+fg=","name":"GET /","kind":"SPAN_KIND_SERVER",'
    '"startTimeUnixNano":"1700000000000000001","status":{"code":"STATUS_CODE_ERROR"}}]}]}]'
)


@settings(max_examples=150, deadline=None)
@given(traces_data)
def test_v1_agrees_with_the_protobuf_json_mapping_when_given_any_trace(trace: TracesData) -> None:
    expected = json_format.MessageToDict(trace, always_print_fields_with_no_presence=False)
    ours = json.loads(encode_trace_v1(trace.SerializeToString()))
    assert {"resourceSpans": ours["batches"]} == {"resourceSpans": expected.get("resourceSpans", [])}


def test_json_has_the_documented_text_when_encoded() -> None:
    assert encode_trace_v1(TRACE).decode() == f'{{"batches":{RESOURCE_SPANS_JSON}}}'
    partial = TraceAnswer(TRACE, 1, complete=False, message="cut", inspected_bytes=123)
    expected = (
        f'{{"trace":{{"resourceSpans":{RESOURCE_SPANS_JSON}}},"metrics":{{"inspectedBytes":"123"}},"status":"PARTIAL","message":"cut"}}'
    )
    assert encode_trace_v2(partial).decode() == expected


def test_v2_is_an_empty_trace_when_nothing_was_found() -> None:
    assert encode_trace_v2(TraceAnswer(b"", 0)) == b'{"trace":{},"metrics":{}}'
    assert encode_trace_v2_protobuf(TraceAnswer(b"", 0)) == b"\x0a\x00"


def test_v2_protobuf_has_every_field_when_partial() -> None:
    answer = TraceAnswer(TRACE, 1, complete=False, message="cut", inspected_bytes=300)
    assert (
        encode_trace_v2_protobuf(answer) == b"\x0a" + bytes((len(TRACE),)) + TRACE + b"\x12\x03\x08\xac\x02" + b"\x18\x01" + b"\x22\x03cut"
    )


VALUE_CASES: list[tuple[AnyValue, object]] = [
    (AnyValue(), {}),
    (AnyValue(string_value=""), {"stringValue": ""}),
    (AnyValue(bool_value=False), {"boolValue": False}),
    (AnyValue(int_value=0), {"intValue": "0"}),
    (AnyValue(int_value=-(1 << 63)), {"intValue": "-9223372036854775808"}),
    (AnyValue(double_value=0), {"doubleValue": 0.0}),
    (AnyValue(double_value=float("nan")), {"doubleValue": "NaN"}),
    (AnyValue(double_value=float("inf")), {"doubleValue": "Infinity"}),
    (AnyValue(double_value=float("-inf")), {"doubleValue": "-Infinity"}),
    (AnyValue(bytes_value=b""), {"bytesValue": ""}),
    (AnyValue(array_value=ArrayValue()), {"arrayValue": {}}),
    (AnyValue(array_value=ArrayValue(values=[AnyValue()])), {"arrayValue": {"values": [{}]}}),
]


def trace_of(span: bytes) -> bytes:
    """TracesData of one span, which may be anything."""
    scope_spans = b"\x12" + bytes((len(span),)) + span
    resource_spans = b"\x12" + bytes((len(scope_spans),)) + scope_spans
    return b"\x0a" + bytes((len(resource_spans),)) + resource_spans


def span_json(span: bytes) -> dict[str, object]:
    (answer,) = json.loads(encode_trace_v1(trace_of(span)))["batches"][0]["scopeSpans"][0]["spans"]
    assert isinstance(answer, dict)
    return answer


@pytest.mark.parametrize(("value", "expected"), VALUE_CASES)
def test_value_keeps_its_type_when_it_is_a_default(value: AnyValue, expected: object) -> None:
    span = Span(attributes=[KeyValue(key="k", value=value)])
    assert span_json(span.SerializeToString()) == {"attributes": [{"key": "k", "value": expected}]}


SPAN_CASES = [
    (b"", {}),
    (b"\x30\x63", {"kind": 99}),
    (b"\x30" + b"\xff" * 9 + b"\x01", {"kind": -1}),
    (b"\x30\x02\x30\x00", {}),  # the last occurrence counts, and it is the default
    (b"\x2a\x01a\x2a\x01b", {"name": "b"}),
    (b"\x2a\x02\xff\xfe", {"name": "\ufffd\ufffd"}),
    (b"\x28\x05", {}),  # `name` of a wrong wire type is an unknown field
    (b"\xa0\x06\x05\xad\x06\x01\x02\x03\x04", {}),  # fields 100 and 101
    (b"\x4a\x0b\x0a\x01k\x12\x06\x0a\x01a\x0a\x01b", {"attributes": [{"key": "k", "value": {"stringValue": "b"}}]}),
    (b"\x4a\x0a\x0a\x01k\x12\x05\x0a\x01a\x10\x01", {"attributes": [{"key": "k", "value": {"boolValue": True}}]}),
    (b"\x85\x01\x01\x01\x00\x00", {"flags": 257}),
]


@pytest.mark.parametrize(("span", "expected"), SPAN_CASES)
def test_span_reads_as_protobuf_does_when_its_bytes_are_unusual(span: bytes, expected: dict[str, object]) -> None:
    assert span_json(span) == expected


@pytest.mark.parametrize("span", [b"\x2a", b"\x2a\x05a", b"\x39\x00", b"\x30\x80", b"\x30" + b"\x80" * 11, b"\x33", b"\x85\x01\x00"])
def test_encoding_fails_as_corrupt_when_a_field_is_cut_or_not_protobuf(span: bytes) -> None:
    with pytest.raises(CorruptData):
        encode_trace_v1(trace_of(span))


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=60))
def test_encoding_never_fails_otherwise_when_given_any_bytes(data: bytes) -> None:
    try:
        json.loads(encode_trace_v1(data))
    except CorruptData:
        return

"""Why spans and payloads are refused, case by case, and that their neighbours are kept."""

from __future__ import annotations

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span
from otlp_requests import spans_in

from spanlake.model.errors import InvalidInput
from spanlake.wire.fields import encode_bytes, encode_varint
from spanlake.wire.otlp import control
from spanlake.wire.otlp.decode import REASON_TEXT, Decoded, decode_otlp
from spanlake.wire.otlp.encode import encode_otlp

TRACE_ID, SPAN_ID = bytes(range(1, 17)), bytes(range(1, 9))
GOOD = Span(trace_id=TRACE_ID, span_id=SPAN_ID, name="good").SerializeToString()


def spans_of(*spans: bytes) -> bytes:
    """A ScopeSpans field."""
    return encode_bytes(b"\x12", b"".join(encode_bytes(b"\x12", span) for span in spans))


def request_of(*resource_spans: bytes) -> bytes:
    return b"".join(encode_bytes(b"\x0a", content) for content in resource_spans)


def names(decoded: Decoded) -> list[str]:
    return [span.name for span in spans_in(ExportTraceServiceRequest.FromString(encode_otlp(decoded.batch)))]


def attribute(value: bytes) -> bytes:
    """A span's attribute with the key "k" and these bytes as its value message."""
    return encode_bytes(b"\x4a", b"\x0a\x01k" + encode_bytes(b"\x12", value))


def nested(levels: int, outer: bytes, *inner: bytes) -> bytes:
    """A value message: `levels` arrays or maps in each other."""
    value = b""
    for _ in range(levels):
        for tag in reversed(inner):
            value = encode_bytes(tag, value)
        value = encode_bytes(outer, value)
    return value


BAD_SPANS = {
    "nothing": (b"", control.BAD_TRACE_ID),
    "no span id": (encode_bytes(b"\x0a", TRACE_ID), control.BAD_SPAN_ID),
    "short trace id": (encode_bytes(b"\x0a", TRACE_ID[:15]) + encode_bytes(b"\x12", SPAN_ID), control.BAD_TRACE_ID),
    "long span id": (encode_bytes(b"\x0a", TRACE_ID) + encode_bytes(b"\x12", SPAN_ID * 2), control.BAD_SPAN_ID),
    "zero trace id": (encode_bytes(b"\x0a", bytes(16)) + encode_bytes(b"\x12", SPAN_ID), control.ZERO_TRACE_ID),
    "zero span id": (encode_bytes(b"\x0a", TRACE_ID) + encode_bytes(b"\x12", bytes(8)), control.ZERO_SPAN_ID),
    "short parent id": (GOOD + encode_bytes(b"\x22", b"1234567"), control.BAD_PARENT_ID),
    "a later id wins": (GOOD + encode_bytes(b"\x0a", b"short"), control.BAD_TRACE_ID),
    "name is no UTF-8": (GOOD + encode_bytes(b"\x2a", b"\xc0\x80"), control.INVALID_UTF8),
    "surrogate": (GOOD + encode_bytes(b"\x2a", b"\xed\xa0\x80"), control.INVALID_UTF8),
    "above the last code point": (GOOD + encode_bytes(b"\x2a", b"\xf4\x90\x80\x80"), control.INVALID_UTF8),
    "cut character": (GOOD + encode_bytes(b"\x2a", b"123456789\xe2\x82"), control.INVALID_UTF8),
    "key is no UTF-8": (GOOD + encode_bytes(b"\x4a", b"\x0a\x01\xff\x12\x03\x0a\x01v"), control.INVALID_UTF8),
    "text is no UTF-8": (GOOD + attribute(b"\x0a\x01\xff"), control.INVALID_UTF8),
    "nested text is no UTF-8": (GOOD + attribute(encode_bytes(b"\x2a", encode_bytes(b"\x0a", b"\x0a\x01\xff"))), control.INVALID_UTF8),
    "event name is no UTF-8": (GOOD + encode_bytes(b"\x5a", b"\x12\x01\x80"), control.INVALID_UTF8),
    "name is a number": (GOOD + b"\x28\x01", control.WRONG_WIRE_TYPE),
    "kind is text": (GOOD + b"\x32\x01x", control.WRONG_WIRE_TYPE),
    "start is a varint": (GOOD + b"\x38\x01", control.WRONG_WIRE_TYPE),
    "event is a number": (GOOD + b"\x58\x01", control.WRONG_WIRE_TYPE),
    "trace id is a number": (b"\x08\x01" + GOOD, control.WRONG_WIRE_TYPE),
    "attribute is a number": (GOOD + b"\x48\x01", control.WRONG_WIRE_TYPE),
    "value is a number": (GOOD + encode_bytes(b"\x4a", b"\x10\x01"), control.WRONG_WIRE_TYPE),
    "number is text": (GOOD + attribute(b"\x1a\x01x"), control.WRONG_WIRE_TYPE),
    "nested text is a number": (GOOD + attribute(encode_bytes(b"\x2a", encode_bytes(b"\x0a", b"\x08\x01"))), control.WRONG_WIRE_TYPE),
    "cut field": (GOOD + b"\x39\x00\x00", control.MALFORMED),
    "cut tag": (GOOD + b"\x80", control.MALFORMED),
    "long tag": (GOOD + b"\xaa\x80\x80\x80\x80\x00\x00", control.MALFORMED),
    "large tag": (GOOD + b"\xaa\x80\x80\x80\x10\x00", control.MALFORMED),
    "field 0": (GOOD + b"\x02\x00", control.MALFORMED),
    "wire type 6": (GOOD + b"\x9e\x06", control.MALFORMED),
    "long varint": (GOOD + b"\x30" + b"\x80" * 10 + b"\x00", control.MALFORMED),
    "huge length": (GOOD + b"\x2a\xff\xff\xff\xff\x0f", control.MALFORMED),
    "length of 64 bits": (GOOD + b"\x2a" + encode_varint(-1), control.MALFORMED),
    "group without end": (GOOD + b"\x9b\x06\x08\x01", control.MALFORMED),
    "group with another end": (GOOD + b"\x9b\x06\xa4\x06", control.MALFORMED),
    "end without group": (GOOD + b"\x9c\x06", control.MALFORMED),
    "groups too deep": (GOOD + b"\x9b\x06" * 65 + b"\x9c\x06" * 65, control.MALFORMED),
    "arrays too deep": (GOOD + attribute(nested(31, b"\x2a", b"\x0a")), control.TOO_DEEP),
    "maps too deep": (GOOD + attribute(nested(31, b"\x32", b"\x0a", b"\x12")), control.TOO_DEEP),
    "deep enough to overflow any stack": (GOOD + attribute(nested(10_000, b"\x32", b"\x0a", b"\x12")), control.TOO_DEEP),
    "array in two values": (GOOD + encode_bytes(b"\x4a", b"\x12\x02\x2a\x00\x12\x02\x2a\x00"), control.SCATTERED),
}


@pytest.mark.parametrize("name", BAD_SPANS)
def test_span_is_refused_and_its_neighbours_kept_when_it_is_bad(name: str) -> None:
    bad, reason = BAD_SPANS[name]
    decoded = decode_otlp(request_of(spans_of(GOOD, bad, GOOD), spans_of(bad)))
    assert decoded.rejected == ((REASON_TEXT[reason], 2),)
    assert decoded.rejected_spans == 2
    assert decoded.rejection_message == f"2 spans refused: {REASON_TEXT[reason]}"
    assert names(decoded) == ["good", "good"]


@pytest.mark.parametrize(
    "value",
    [
        nested(30, b"\x2a", b"\x0a"),
        nested(30, b"\x32", b"\x0a", b"\x12"),
        b"\x2a\x00\x2a\x00",  # one value with two arrays: they merge
        b"\x2a\x00\x32\x00",
        b"\x0a\x01x\x2a\x00",
        b"\x2a\x00\x0a\x01x",
        b"\x9b\x06" * 64 + b"\x9c\x06" * 64,
    ],
)
def test_span_is_kept_when_its_value_is_only_odd(value: bytes) -> None:
    payload = request_of(spans_of(GOOD + attribute(value)))
    decoded = decode_otlp(payload)
    assert decoded.rejected == ()
    (sent,) = spans_in(ExportTraceServiceRequest.FromString(payload))
    (kept,) = spans_in(ExportTraceServiceRequest.FromString(encode_otlp(decoded.batch)))
    sent.DiscardUnknownFields()
    assert list(kept.attributes) == list(sent.attributes)


@pytest.mark.parametrize(
    ("attribute_bytes", "expected"),
    [
        (b"\x12\x02\x18\x05\x12\x02\x18\x06", 6),  # the last one wins
        (b"\x12\x02\x18\x05\x12\x00", 5),  # an empty one changes nothing
        (b"\x12\x02\x2a\x00\x12\x02\x18\x06", 6),
    ],
)
def test_values_merge_when_an_attribute_has_several(attribute_bytes: bytes, expected: int) -> None:
    decoded = decode_otlp(request_of(spans_of(GOOD + encode_bytes(b"\x4a", attribute_bytes))))
    assert decoded.batch.attrs["value"].tolist() == [expected]


OWNERS = {
    "resource": (b"\x0a\x02\x08\x01", control.WRONG_WIRE_TYPE),
    "resource attribute": (encode_bytes(b"\x0a", encode_bytes(b"\x0a", b"\x0a\x01\xff")), control.INVALID_UTF8),
    "resource schema": (b"\x1a\x01\xff", control.INVALID_UTF8),
    "entity reference": (encode_bytes(b"\x0a", encode_bytes(b"\x1a", b"\x0a\x01\xff")), control.INVALID_UTF8),
    "entity references apart": (encode_bytes(b"\x0a", b"\x1a\x00\x10\x01\x1a\x00"), control.SCATTERED),
}


@pytest.mark.parametrize("name", OWNERS)
def test_spans_of_a_resource_are_refused_when_it_is_bad(name: str) -> None:
    owner, reason = OWNERS[name]
    for bad in (owner + spans_of(GOOD, GOOD) + spans_of(GOOD), spans_of(GOOD, GOOD) + spans_of(GOOD) + owner):
        decoded = decode_otlp(request_of(spans_of(GOOD), bad, spans_of(GOOD)))
        assert decoded.rejected == ((REASON_TEXT[reason], 3),)
        assert names(decoded) == ["good", "good"]


def test_spans_of_a_scope_are_refused_when_it_is_bad() -> None:
    scope = encode_bytes(b"\x12", b"\x0a\x03\x0a\x01\xff" + encode_bytes(b"\x12", GOOD))
    decoded = decode_otlp(request_of(spans_of(GOOD) + scope + spans_of(GOOD)))
    assert decoded.rejected == ((REASON_TEXT[control.INVALID_UTF8], 1),)
    assert names(decoded) == ["good", "good"]
    assert decoded.batch.scopes["resource"][decoded.batch.spans["scope"]].tolist() == [0, 0]


def test_reasons_are_listed_most_frequent_first_when_there_are_several() -> None:
    no_text, zero = GOOD + encode_bytes(b"\x2a", b"\xff"), BAD_SPANS["zero span id"][0]
    decoded = decode_otlp(request_of(spans_of(no_text, zero, zero, GOOD)))
    assert decoded.rejected == ((REASON_TEXT[control.ZERO_SPAN_ID], 2), (REASON_TEXT[control.INVALID_UTF8], 1))


@pytest.mark.parametrize(
    ("payload", "reason"),
    [
        (b"\x0a", control.MALFORMED),
        (b"\x0a\x05\x12", control.MALFORMED),
        (request_of(spans_of(GOOD))[:-1], control.MALFORMED),
        (request_of(b"\x12\x09"), control.MALFORMED),
        (request_of(spans_of(GOOD)) + b"\x9b\x06", control.MALFORMED),
        (b"\x08\x01", control.WRONG_WIRE_TYPE),
        (request_of(b"\x10\x01"), control.WRONG_WIRE_TYPE),
        (request_of(encode_bytes(b"\x12", b"\x15\x00\x00\x00\x00")), control.WRONG_WIRE_TYPE),
        (b'{"resourceSpans":[]}', control.MALFORMED),
    ],
)
def test_payload_is_refused_when_its_framing_is_broken(payload: bytes, reason: int) -> None:
    with pytest.raises(InvalidInput, match=REASON_TEXT[reason]):
        decode_otlp(payload)


def test_depth_is_the_callers_when_it_says_so() -> None:
    payload = request_of(spans_of(GOOD + attribute(nested(5, b"\x2a", b"\x0a"))))
    assert decode_otlp(payload, depth_max=5).rejected == ()
    assert decode_otlp(payload, depth_max=4).rejected == ((REASON_TEXT[control.TOO_DEEP], 1),)


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
def test_payload_is_any_buffer(kind: type) -> None:
    assert names(decode_otlp(kind(request_of(spans_of(GOOD))))) == ["good"]

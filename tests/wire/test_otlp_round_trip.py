"""What is decoded from an OTLP request and encoded again is what the official parser reads in it."""

from __future__ import annotations

from random import Random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from opentelemetry.proto.trace.v1.trace_pb2 import Span
from otlp_requests import OddWriter, canonical, requests, spans_in, stored

from spanlake.model.spans import SpanBatch, empty_batch
from spanlake.wire.fields import encode_bytes
from spanlake.wire.otlp.decode import decode_otlp
from spanlake.wire.otlp.encode import encode_otlp

TRACE_ID, SPAN_ID = bytes(range(1, 17)), bytes(range(1, 9))


def decode_whole(payload: bytes) -> SpanBatch:
    decoded = decode_otlp(payload)
    assert decoded.rejected == ()
    return decoded.batch


def request_of(*spans: Span) -> ExportTraceServiceRequest:
    request = ExportTraceServiceRequest()
    request.resource_spans.add().scope_spans.add().spans.extend(spans)
    return request


def round_trip(**fields: object) -> Span:
    """One span with these fields, decoded and encoded."""
    span = Span(trace_id=TRACE_ID, span_id=SPAN_ID, **fields)  # type: ignore[arg-type]
    encoded = encode_otlp(decode_whole(request_of(span).SerializeToString()))
    (made,) = spans_in(ExportTraceServiceRequest.FromString(encoded))
    return made


@settings(max_examples=100, deadline=None)
@given(requests)
def test_encoding_what_was_decoded_equals_the_official_parse_when_given_any_request(request: ExportTraceServiceRequest) -> None:
    batch = decode_whole(request.SerializeToString())
    expected = stored(request)
    assert len(batch) == len(list(spans_in(expected)))
    assert encode_otlp(batch) == expected.SerializeToString(deterministic=True)


@pytest.mark.slow
@settings(max_examples=100, deadline=None)
@given(requests, st.randoms(use_true_random=False), st.sampled_from([0.05, 0.3, 0.8]))
def test_batch_is_the_same_when_the_request_is_written_oddly(request: ExportTraceServiceRequest, random: Random, odds: float) -> None:
    """Odd writing takes the general path where the fast paths would have applied."""
    payload = OddWriter(random, odds).write(request)
    assert canonical(payload) == request.SerializeToString(deterministic=True), "the test writes what it means to"
    batch = decode_whole(payload)
    assert canonical(encode_otlp(batch)) == stored(request).SerializeToString(deterministic=True)
    check_codes(batch)


def check_codes(batch: SpanBatch) -> None:
    """Every code, index and range of a batch is within its table."""
    strings = len(batch.strings)
    assert batch.strings.bytes_at(0) == b""
    assert np.all(batch.strings.offset + batch.strings.length <= max(len(batch.strings.data), 0))
    for records, names in (
        (batch.spans, ("name", "trace_state", "status_message")),
        (batch.scopes, ("name", "version", "schema_url")),
        (batch.resources, ("schema_url", "entity_refs")),
        (batch.events, ("name",)),
        (batch.links, ("trace_id", "span_id", "trace_state")),
        (batch.attrs, ("key",)),
    ):
        assert all(0 <= int(records[name].max(initial=0)) < strings for name in names)
    for owners, part, table in (
        *((owners, "attr", batch.attrs) for owners in (batch.spans, batch.scopes, batch.resources, batch.events, batch.links)),
        (batch.spans, "event", batch.events),
        (batch.spans, "link", batch.links),
    ):
        ends = owners[f"{part}_first"].astype(np.int64) + owners[f"{part}_count"]
        assert 0 <= int(ends.max(initial=0)) <= len(table)
    assert int(batch.spans["scope"].max(initial=-1)) < len(batch.scopes)
    assert int(batch.scopes["resource"].max(initial=-1)) < len(batch.resources)


def test_sub_messages_are_present_when_they_are_empty() -> None:
    encoded = encode_otlp(decode_whole(request_of(Span(trace_id=TRACE_ID, span_id=SPAN_ID)).SerializeToString()))
    (resource_spans,) = ExportTraceServiceRequest.FromString(encoded).resource_spans
    assert resource_spans.HasField("resource")
    assert resource_spans.scope_spans[0].HasField("scope")
    assert resource_spans.scope_spans[0].spans[0].HasField("status")


@pytest.mark.parametrize("parent", [b"", bytes(8)])
def test_parent_is_absent_when_its_id_is_empty_or_zero(parent: bytes) -> None:
    assert round_trip(parent_span_id=parent).parent_span_id == b""


@pytest.mark.parametrize(
    ("start", "end", "duration"),
    [(5, 9, 4), (9, 5, -4), (0, 0, 0), ((1 << 64) - 1, 3, 4), (3, (1 << 64) - 1, -4), (1 << 63, (1 << 63) + 7, 7)],
)
def test_times_are_kept_when_they_are_strange(start: int, end: int, duration: int) -> None:
    span = round_trip(start_time_unix_nano=start, end_time_unix_nano=end)
    assert (span.start_time_unix_nano, span.end_time_unix_nano) == (start, end)
    batch = decode_whole(
        request_of(Span(trace_id=TRACE_ID, span_id=SPAN_ID, start_time_unix_nano=start, end_time_unix_nano=end)).SerializeToString()
    )
    assert batch.spans["duration_ns"].tolist() == [duration]


def test_ids_are_big_endian_numbers_when_decoded() -> None:
    batch = decode_whole(request_of(Span(trace_id=TRACE_ID, span_id=SPAN_ID, parent_span_id=b"\xff" + bytes(7))).SerializeToString())
    row = batch.spans[0]
    assert (int(row["trace_hi"]), int(row["trace_lo"])) == (0x0102030405060708, 0x090A0B0C0D0E0F10)
    assert (int(row["span_id"]), int(row["parent_id"])) == (0x0102030405060708, 0xFF << 56)


@pytest.mark.parametrize("most", [0, 1, 5, 40])
def test_rows_keep_their_owners_when_there_are_many_scopes(most: int) -> None:
    request = ExportTraceServiceRequest()
    for i in range(most):
        resource_spans = request.resource_spans.add(schema_url=f"r{i}")
        for j in range(i % 3):
            scope_spans = resource_spans.scope_spans.add(schema_url=f"s{j}")
            for k in range(j * i % 4):
                scope_spans.spans.add(trace_id=TRACE_ID, span_id=SPAN_ID, name=f"{i}.{j}.{k}")
    assert encode_otlp(decode_whole(request.SerializeToString())) == stored(request).SerializeToString(deterministic=True)


@pytest.mark.parametrize("length", [0, 1, 7, 8, 127, 128, 129, 16_370, 16_383, 16_384, 70_000, 3_000_000])
def test_strings_are_kept_when_they_have_any_length(length: int) -> None:
    key, text = "k" * min(length, 70_000), "é" * (length // 2) + "x" * (length % 2)
    span = round_trip(name=text, attributes=[KeyValue(key=key, value=AnyValue(string_value=text)), KeyValue(value=AnyValue(int_value=-1))])
    assert (span.name, span.attributes[0].key, span.attributes[0].value.string_value) == (text, key, text)
    assert span.attributes[1].value.int_value == -1


@pytest.mark.parametrize("record", ["4a00", "5a00", "6a00", "4a020a00", "4a021200", "7a00"])
def test_tables_grow_when_a_payload_is_denser_than_any_encoder_writes(record: str) -> None:
    """Many parts of two bytes: more rows than the first estimate of room."""
    span = Span(trace_id=TRACE_ID, span_id=SPAN_ID).SerializeToString() + bytes.fromhex(record) * 50_000
    batch = decode_whole(framed(span))
    check_codes(batch)
    expected = stored(request_of(Span.FromString(span))).SerializeToString(deterministic=True)
    equal = encode_otlp(batch) == expected
    assert equal, "not shown: it is long"


def framed(span: bytes) -> bytes:
    """A request with one span of these bytes."""
    return encode_bytes(b"\x0a", encode_bytes(b"\x12", encode_bytes(b"\x12", span)))


def test_bytes_are_none_when_there_are_no_rows() -> None:
    assert encode_otlp(empty_batch()) == b""
    assert len(decode_whole(b"")) == 0


def test_selection_is_encoded_when_rows_are_taken() -> None:
    request = request_of(*(Span(trace_id=TRACE_ID, span_id=bytes(7) + bytes((i,)), name=str(i)) for i in range(1, 9)))
    chosen = decode_whole(request.SerializeToString()).take(np.array([6, 1, 2]))
    names = [span.name for span in spans_in(ExportTraceServiceRequest.FromString(encode_otlp(chosen)))]
    assert names == ["7", "2", "3"]


def test_value_is_null_when_only_profiles_may_use_its_field() -> None:
    payload = request_of(Span(trace_id=TRACE_ID, span_id=SPAN_ID, attributes=[KeyValue(value=AnyValue(string_value_strindex=3))]))
    (span,) = spans_in(ExportTraceServiceRequest.FromString(encode_otlp(decode_whole(payload.SerializeToString()))))
    assert span.attributes[0].value.WhichOneof("value") is None

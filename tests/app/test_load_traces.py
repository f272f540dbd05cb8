"""The generated payloads: valid OTLP, whole traces, distinct ids, sane times, and a pure function of seed, number and time."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status

from spanlake.app.load.generate import pieces
from spanlake.app.load.traces import TraceTemplates

NOW_NS = 1_790_000_000_000_000_000
MINUTE_NS = 60_000_000_000
PAYLOADS = 12


def spans_of(payload: bytes) -> list[tuple[dict[str, Any], Span]]:
    """(resource attributes, span) of each span, by the official parser."""
    request = ExportTraceServiceRequest.FromString(payload)
    return [
        ({attribute.key: attribute.value.string_value for attribute in group.resource.attributes}, span)
        for group in request.resource_spans
        for scope in group.scope_spans
        for span in scope.spans
    ]


@pytest.fixture(scope="module")
def templates() -> TraceTemplates:
    return TraceTemplates(7, 500, templates=4)


@pytest.fixture(scope="module")
def everything(templates: TraceTemplates) -> list[tuple[dict[str, Any], Span]]:
    return [span for number in range(PAYLOADS) for span in spans_of(templates.payload(number, NOW_NS))]


def test_expected_names_exactly_the_spans_of_the_payload(templates: TraceTemplates) -> None:
    for number in (0, 3, 5, 1 << 40):
        spans = [span for _, span in spans_of(templates.payload(number, NOW_NS))]
        expected = templates.expected(number)
        assert Counter((span.trace_id, span.span_id) for span in spans) == Counter(
            (trace_id, span_id) for trace_id, span_ids in expected.items() for span_id in span_ids
        )
        assert list(expected) == templates.trace_ids_in(number)
        assert len(spans) == templates.spans_in(number)
        assert len(expected) == templates.traces_in(number)
        assert 500 <= len(spans) < 565


def test_ids_are_distinct_over_payloads_and_seeds() -> None:
    many = [TraceTemplates(seed, 200, templates=2) for seed in (1, 2)]
    traces = [trace_id for templates in many for number in range(50) for trace_id in templates.trace_ids_in(number)]
    spans = [span_id for templates in many for number in range(50) for ids in templates.expected(number).values() for span_id in ids]
    assert len(set(traces)) == len(traces)
    assert len(set(spans)) == len(spans)
    assert bytes(16) not in traces
    assert bytes(8) not in spans


def test_parents_and_links_exist(everything: list[tuple[dict[str, Any], Span]]) -> None:
    ids = {(span.trace_id, span.span_id) for _, span in everything}
    roots = Counter(span.trace_id for _, span in everything if not span.parent_span_id)
    assert set(roots.values()) == {1}
    assert roots.keys() == {trace_id for trace_id, _ in ids}
    assert all((span.trace_id, span.parent_span_id) in ids for _, span in everything if span.parent_span_id)
    links = [(span.trace_id, link) for _, span in everything for link in span.links]
    assert links
    assert all((link.trace_id, link.span_id) in ids for _, link in links)
    assert any(link.trace_id != trace_id for trace_id, link in links)


def test_times_are_ordered_and_recent(everything: list[tuple[dict[str, Any], Span]]) -> None:
    spans = {span.span_id: span for _, span in everything}
    for span in spans.values():
        assert NOW_NS - 10 * MINUTE_NS < span.start_time_unix_nano <= span.end_time_unix_nano <= NOW_NS
        for event in span.events:
            assert span.start_time_unix_nano <= event.time_unix_nano <= span.end_time_unix_nano
        if span.parent_span_id and span.kind != Span.SPAN_KIND_CONSUMER:
            parent = spans[span.parent_span_id]
            assert parent.start_time_unix_nano <= span.start_time_unix_nano
            assert span.end_time_unix_nano <= parent.end_time_unix_nano


def test_traces_look_like_those_of_a_shop(everything: list[tuple[dict[str, Any], Span]]) -> None:
    sizes = Counter(span.trace_id for _, span in everything)
    assert min(sizes.values()) >= 3
    assert 40 < max(sizes.values()) <= 64
    assert 10 <= len(everything) / len(sizes) <= 15
    services = {(span.trace_id, resource["service.name"]) for resource, span in everything}
    assert len({service for _, service in services}) >= 12
    assert len(services) / len(sizes) > 3
    assert {span.kind for _, span in everything} == set(range(1, 6))
    attributes = sum(len(resource) + len(span.attributes) for resource, span in everything) / len(everything)
    assert 12 <= attributes <= 15
    errors = [span for _, span in everything if span.status.code == Status.STATUS_CODE_ERROR]
    assert 0.002 < len(errors) / len(everything) < 0.05
    assert any(event.name == "exception" for span in errors for event in span.events)
    durations_ns = [span.end_time_unix_nano - span.start_time_unix_nano for _, span in everything]
    assert max(durations_ns) > 100 * np.median(durations_ns)


def test_attributes_have_their_types(everything: list[tuple[dict[str, Any], Span]]) -> None:
    types = {(attribute.key, attribute.value.WhichOneof("value")) for _, span in everything for attribute in span.attributes}
    assert len({key for key, _ in types}) == len(types), "a key has one type"
    assert {
        ("http.response.status_code", "int_value"),
        ("http.route", "string_value"),
        ("db.query.text", "string_value"),
        ("app.cache.hit", "bool_value"),
        ("app.pool.wait_ms", "double_value"),
        ("messaging.batch.message_count", "int_value"),
    } <= types
    users = {attribute.value.string_value for _, span in everything for attribute in span.attributes if attribute.key == "user.id"}
    assert len(users) > 50
    assert all(user.removeprefix("user-").isdecimal() and len(user) == 7 for user in users)
    texts = {attribute.value.string_value for _, span in everything for attribute in span.attributes if attribute.key == "db.query.text"}
    assert len(texts) > 500
    assert not any(ord(character) < 0x20 for text in texts for character in text), "every slot is filled"


def test_bytes_per_span_are_as_measured_traffic(templates: TraceTemplates) -> None:
    size = sum(len(templates.payload(number, NOW_NS)) for number in range(PAYLOADS))
    assert 380 < size / sum(templates.spans_in(number) for number in range(PAYLOADS)) < 480


def test_payload_is_a_function_of_seed_number_and_time() -> None:
    one, other = TraceTemplates(5, 50, templates=3), TraceTemplates(5, 50, templates=3)
    # In another order, so that lazily built templates cannot depend on what was asked for before.
    forward = {number: one.payload(number, NOW_NS) for number in range(7)}
    backward = {number: other.payload(number, NOW_NS) for number in reversed(range(7))}
    assert forward == backward
    assert len(set(forward.values())) == 7
    assert TraceTemplates(6, 50, templates=3).payload(0, NOW_NS) != forward[0]


def test_time_moves_every_time_and_nothing_else() -> None:
    templates = TraceTemplates(5, 50, templates=1)
    later_ns = 987_654_321
    before, after = (spans_of(templates.payload(0, now_ns)) for now_ns in (NOW_NS, NOW_NS + later_ns))
    for (_, early), (_, late) in zip(before, after, strict=True):
        assert late.start_time_unix_nano - early.start_time_unix_nano == later_ns
        late.start_time_unix_nano, late.end_time_unix_nano = early.start_time_unix_nano, early.end_time_unix_nano
        for early_event, late_event in zip(early.events, late.events, strict=True):
            late_event.time_unix_nano = early_event.time_unix_nano
        assert early == late


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(-(1 << 70), 1 << 70), number=st.integers(0, (1 << 44) - 1), spans=st.integers(1, 40))
def test_any_seed_number_and_size_is_valid(seed: int, number: int, spans: int) -> None:
    templates = TraceTemplates(seed, spans, templates=1)
    found = [(span.trace_id, span.span_id) for _, span in spans_of(templates.payload(number, NOW_NS))]
    assert sorted(found) == sorted((trace_id, span_id) for trace_id, ids in templates.expected(number).items() for span_id in ids)


@given(st.lists(st.tuples(st.integers(1, 2000), st.text(st.sampled_from("ab\x01\x02\x03é"), max_size=300)), max_size=5))
def test_marks_stay_on_their_slots_when_pieces_are_wrapped(texts: list[tuple[int, str]]) -> None:
    wrapped = pieces.message(3, (pieces.message(400, (pieces.text(field, text) for field, text in texts)), pieces.time(7, -5)))
    assert {wrapped.data[mark.offset] for mark in wrapped.marks if mark.patch is not pieces.Patch.TIME} <= {1, 2, 3}
    assert wrapped.data[wrapped.marks[-1].offset :] == bytes(8)
    assert all(one.offset < other.offset for one, other in pairwise(wrapped.marks))


@pytest.mark.parametrize(("number", "encoded"), [(0, "00"), (127, "7f"), (128, "8001"), (-1, "ff" * 9 + "01")])
def test_varints(number: int, encoded: str) -> None:
    assert pieces.encode_varint(number).hex() == encoded

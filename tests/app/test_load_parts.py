"""The parts of a load run that need no server: answers, retry pauses, schedules, counts, and what counts as read back."""

from __future__ import annotations

import contextlib
import io
import math
from email.utils import formatdate
from random import Random

import pytest
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.duration_pb2 import Duration
from google.rpc.error_details_pb2 import ErrorInfo, RetryInfo  # type: ignore[import-untyped]
from google.rpc.status_pb2 import Status  # type: ignore[import-untyped]
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTracePartialSuccess, ExportTraceServiceResponse
from opentelemetry.proto.trace.v1.trace_pb2 import ResourceSpans, ScopeSpans, Span, TracesData
from rich.console import Console

from spanlake.app.load.display import RateWindow, open_display, share_done
from spanlake.app.load.schedule import BEHIND_SECONDS_MAX, Feed, Goal, NoGoal, SpanGoal, TimeGoal
from spanlake.app.load.send.address import parse_address
from spanlake.app.load.send.answers import decode_response, decode_retry_seconds, decode_status_message
from spanlake.app.load.send.deliver import Delivery, RetryPolicy
from spanlake.app.load.send.http_transport import read_retry_after
from spanlake.app.load.send.outcome import Acknowledged, Refused
from spanlake.app.load.tally import Latencies, Tally
from spanlake.app.load.traces import TraceTemplates
from spanlake.app.load.verify import VerifyPlan, choose_traces, compare, span_ids_of
from spanlake.model.errors import InvalidInput
from spanlake.wire.fields import decode_fields


def packed(detail: RetryInfo | ErrorInfo) -> AnyMessage:
    message = AnyMessage()
    message.Pack(detail)
    return message


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b"", Acknowledged()),
        (bytes.fromhex("0a00"), Acknowledged()),
        (
            ExportTraceServiceResponse(
                partial_success=ExportTracePartialSuccess(rejected_spans=300, error_message="bad ids")
            ).SerializeToString(),
            Acknowledged(300, "bad ids"),
        ),
        (b"<html>", Acknowledged()),
    ],
)
def test_response_tells_what_was_rejected(body: bytes, expected: Acknowledged) -> None:
    assert decode_response(body) == expected


@pytest.mark.parametrize(
    ("details", "expected"),
    [
        ([], None),
        ([packed(ErrorInfo(reason="QUOTA"))], None),
        ([packed(RetryInfo(retry_delay=Duration(seconds=2, nanos=500_000_000)))], 2.5),
        ([packed(ErrorInfo(reason="QUOTA")), packed(RetryInfo(retry_delay=Duration(nanos=1_000_000)))], 0.001),
        ([packed(RetryInfo())], 0.0),
        ([packed(RetryInfo(retry_delay=Duration(seconds=-3)))], 0.0),
    ],
)
def test_retry_info_is_found_in_a_status(details: list[AnyMessage], expected: float | None) -> None:
    status = Status(code=8, message="RATE_LIMITED: slow down", details=details).SerializeToString()
    assert decode_retry_seconds(status) == expected
    assert decode_status_message(status) == "RATE_LIMITED: slow down"


@given(st.binary(max_size=60))
def test_unreadable_answers_are_never_an_error(body: bytes) -> None:
    decode_response(body)
    decode_retry_seconds(body)
    decode_status_message(body)


@given(
    st.integers(0, (1 << 64) - 1),
    st.binary(max_size=200),
    st.integers(0, (1 << 32) - 1),
    st.integers(0, (1 << 64) - 1),
    st.integers(0, 300),
)
def test_fields_agree_with_the_official_encoder(start: int, name: bytes, flags: int, end: int, cut: int) -> None:
    span = Span(start_time_unix_nano=start, trace_id=name, flags=flags, end_time_unix_nano=end, dropped_events_count=flags)
    data = span.SerializeToString()
    found = {number: bytes(value) if isinstance(value, memoryview) else value for number, value in decode_fields(data)}
    every = {1: name, 7: start, 8: end, 12: flags, 16: flags}
    assert found == {number: value for number, value in every.items() if value}
    if 0 < cut < len(data):
        with contextlib.suppress(InvalidInput):
            assert len(list(decode_fields(data[:cut]))) < len(found)


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        (None, None),
        ("7", 7.0),
        ("0", 0.0),
        ("-5", 0.0),
        ("soon", None),
        ("inf", None),
        (formatdate(1_000_030, usegmt=True), 30.0),
        (formatdate(900_000, usegmt=True), 0.0),
    ],
)
def test_retry_after_takes_seconds_and_dates(header: str | None, expected: float | None) -> None:
    assert read_retry_after(header, 1_000_000) == expected


def test_retry_pauses_grow_are_bounded_and_follow_the_receiver() -> None:
    policy = RetryPolicy(retries_max=10, first_pause_seconds=0.2, longest_pause_seconds=5)
    pauses = [policy.pause_seconds(retry, None, Random(1)) for retry in range(10)]
    assert all(0.1 * 2**retry <= pause <= 0.2 * 2**retry for retry, pause in enumerate(pauses[:4]))
    assert max(pauses) == 5
    assert policy.pause_seconds(0, 3.5, Random(1)) == 3.5
    assert policy.pause_seconds(0, 3600, Random(1)) == 5


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("http://127.0.0.1:4317", "http://127.0.0.1:4317"),
        ("https://traces.example.com/", "https://traces.example.com:4317"),
        ("localhost:99", "http://localhost:99"),
        ("http://[::1]:5/otlp/v1/traces/", "http://[::1]:5/otlp/v1/traces"),
        ("ftp://example.com", None),
        ("http://", None),
        ("http://host:http", None),
        ("http://host:99999", None),
        ("http://host/?a=b", None),
    ],
)
def test_addresses_are_parsed_or_refused(text: str, expected: str | None) -> None:
    if expected is None:
        with pytest.raises(InvalidInput, match="URL"):
            parse_address(text, 4317)
    else:
        assert str(parse_address(text, 4317)) == expected


class Clock:
    """A clock that stands still until it is set."""

    def __init__(self) -> None:
        self.seconds = 100.0

    def __call__(self) -> float:
        return self.seconds


@pytest.mark.parametrize(("goal", "payloads"), [(SpanGoal(1), 1), (SpanGoal(20), 2), (SpanGoal(21), 3), (TimeGoal(0.35), 4)])
def test_feed_ends_at_the_goal(goal: Goal, payloads: int) -> None:
    feed = Feed(lambda number: 10, goal, 100, Clock())
    tickets = [feed.take() for _ in range(10)]
    assert [ticket.number for ticket in tickets if ticket] == list(range(payloads))
    assert [round(ticket.due_seconds - 100, 3) for ticket in tickets if ticket] == [0, 0.1, 0.2, 0.3][:payloads]
    assert tickets[payloads:] == [None] * (10 - payloads)


def test_feed_ends_on_time_when_the_sender_is_behind_its_rate() -> None:
    clock = Clock()
    feed = Feed(lambda number: 10, TimeGoal(5), 100, clock)
    assert feed.take()
    clock.seconds += 5
    assert feed.take() is None


def test_feed_without_a_rate_is_due_at_once() -> None:
    clock = Clock()
    feed = Feed(lambda number: 10, NoGoal(), None, clock)
    for seconds in (100.0, 100.0, 500.0):
        clock.seconds = seconds
        ticket = feed.take()
        assert ticket is not None
        assert ticket.due_seconds == seconds


def test_feed_does_not_catch_up_on_a_long_stall() -> None:
    clock = Clock()
    feed = Feed(lambda number: 10, NoGoal(), 100, clock)
    feed.take()
    clock.seconds += 60
    dues = [ticket.due_seconds - clock.seconds for ticket in (feed.take() for _ in range(20)) if ticket]
    assert dues[0] == -BEHIND_SECONDS_MAX
    assert dues[-1] == pytest.approx(0.9)


@given(st.lists(st.floats(1e-4, 500), min_size=1, max_size=200), st.sampled_from([0.5, 0.9, 0.99, 1.0]))
def test_latency_quantiles_are_within_one_percent(seconds: list[float], q: float) -> None:
    latencies = Latencies()
    for value in seconds:
        latencies.add(value)
    exact = sorted(seconds)[max(1, math.ceil(q * len(seconds))) - 1]
    assert exact * 0.9999 <= latencies.quantile_seconds(q) <= exact * 1.0101
    assert latencies.max_seconds == max(seconds)


def test_tally_counts_by_outcome() -> None:
    clock = Clock()
    tally = Tally(clock)
    feed = Feed(lambda number: 10, NoGoal(), None, clock)
    for outcome, retries in (
        (Acknowledged(), ()),
        (Refused("HTTP 400", "malformed at byte 7"), ("HTTP 429",)),
        (Refused("HTTP 400", "malformed at byte 9"), ()),
        (Acknowledged(4, "too long"), ("HTTP 429", "HTTP 503")),
    ):
        ticket = feed.take()
        assert ticket is not None
        tally.record(ticket, 5000, Delivery(outcome, 0.25, retries))
    clock.seconds += 2
    figures = tally.figures()
    assert (figures.spans_acknowledged, figures.spans_rejected, figures.spans_failed) == (16, 4, 20)
    assert (figures.payloads_acknowledged, figures.payload_bytes, figures.seconds) == (2, 10_000, 2)
    assert (figures.failures_total, figures.failures["HTTP 400"].example) == (2, "malformed at byte 7")
    assert figures.retries == {"HTTP 429": 2, "HTTP 503": 1}
    assert figures.rejections == {"too long": 4}
    assert figures.max_seconds == 0.25
    assert tally.numbers_acknowledged() == [0], "a payload with rejected spans cannot be verified"
    assert tally.failures_in_a_row == 0
    assert share_done(SpanGoal(80), figures) == 0.5
    assert share_done(TimeGoal(8), figures) == 0.25
    assert share_done(NoGoal(), figures) is None
    assert RateWindow().text(figures) == ("8 spans/s · 0.0 MB/s · p50 250.0 ms · p99 250.0 ms · 2 errors · 3 retries · 16 spans")


def test_plain_display_writes_a_line_now_and_then() -> None:
    clock, written = Clock(), io.StringIO()
    with open_display("sending", Console(file=written), clock) as display:
        for second in range(12):
            clock.seconds = 100.0 + second
            display.show(second / 20, f"{second} [spans]")
    assert written.getvalue().splitlines() == ["sending", "sending: 25% 5 [spans]", "sending: 50% 10 [spans]"]


def test_terminal_display_draws_a_bar() -> None:
    written = io.StringIO()
    with open_display("sending", Console(file=written, force_terminal=True, width=120)) as display:
        display.show(0.5, "7 [spans]")
        display.show(None, "8 [spans]")
    assert "sending" in written.getvalue()
    assert "8 [spans]" in written.getvalue()


A, B, C = b"a" * 8, b"b" * 8, b"c" * 8


@pytest.mark.parametrize(
    ("found", "problem"),
    [
        ([B, A], None),
        ([A], f"1 missing: {B.hex()}"),
        ([A, B, A, A], f"1 more than once: {A.hex()}"),
        ([A, B, C], f"1 never sent: {C.hex()}"),
        ([], f"2 missing: {A.hex()}, {B.hex()}"),
        ("HTTP 500: oh", "cannot be read: HTTP 500: oh"),
    ],
)
def test_comparison_names_what_is_wrong(found: list[bytes] | str, problem: str | None) -> None:
    finding = compare(b"t" * 16, 3, (A, B), found)
    assert (finding and str(finding)) == (problem and f"trace {(b't' * 16).hex()} (payload 3): {problem}")


def trace_by_id(spans: list[bytes], rest: bytes = b"") -> bytes:
    """A TraceByIDResponse by the official encoder: one ResourceSpans per span, as of several pushes."""
    groups = [ResourceSpans(scope_spans=[ScopeSpans(spans=[Span(trace_id=b"t" * 16, span_id=span, name="GET")])]) for span in spans]
    trace = TracesData(resource_spans=groups).SerializeToString()
    return b"\x0a" + length_prefix(len(trace)) + trace + rest


def length_prefix(length: int) -> bytes:
    return bytes([length]) if length < 128 else bytes([length & 127 | 128, length >> 7])


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (trace_by_id([]), []),
        (trace_by_id([A, B, A]), [A, B, A]),
        (trace_by_id([A], bytes.fromhex("1801") + b"\x22\x03big"), "only a part of it was returned: big"),
        (b"\x0a\x7f", "the answer is not protobuf: byte 2: a field of 127 bytes begins 0 bytes before the end of the message"),
    ],
)
def test_span_ids_are_read_from_an_answer(body: bytes, expected: list[bytes] | str) -> None:
    assert span_ids_of(body) == expected


def test_all_traces_or_a_seeded_sample_are_chosen() -> None:
    templates = TraceTemplates(1, 40, templates=3)
    numbers = [0, 2, 7]
    plan = VerifyPlan(parse_address("localhost", 3200))
    every = choose_traces(templates, numbers, plan)
    assert every == [(index, place) for index, number in enumerate(numbers) for place in range(templates.traces_in(number))]
    sampled = VerifyPlan(plan.address, sample=4, seed=9)
    assert len(choose_traces(templates, numbers, sampled)) == 4
    assert set(choose_traces(templates, numbers, sampled)) <= set(every)
    assert choose_traces(templates, numbers, sampled) == choose_traces(templates, numbers, sampled)
    assert choose_traces(templates, [], plan) == []

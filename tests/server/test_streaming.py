"""`tempopb.StreamingQuerier` on real sockets, on both of its ports: methods, defaults, errors, cancellation. Wire-contract section 2."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import grpc
import numpy as np
import pytest
from serving import WAIT_SECONDS, Served, eventually, read_status, serving
from tempo_proto import tempo_message

from spanlake.model.errors import NotFound, Overloaded, QueryError, QueryTimeout, TooLarge, Unavailable
from spanlake.model.metrics import InstantQuery, MetricsAnswer, RangeQuery, Series
from spanlake.model.queries import (
    Inspected,
    SearchAnswer,
    SearchQuery,
    TagNamesAnswer,
    TagNamesQuery,
    TagValue,
    TagValuesAnswer,
    TagValuesQuery,
)
from spanlake.model.results import ResultType, SpanFound, SpansetFound, TraceFound, TypedValue
from spanlake.model.settings import QuerySettings
from spanlake.model.trace import TimeRange

pytestmark = pytest.mark.slow

S = 1_000_000_000
TENANT = "single-tenant"
SEEN = Inspected(traces=10, spans=77, bytes=9999, blocks=2, block_bytes=12345, jobs=5, jobs_total=6)
NONE_FOUND = SearchAnswer((), Inspected())
NO_METRICS = MetricsAnswer((), Inspected())
MESSAGES = {
    "Search": ("SearchRequest", "SearchResponse"),
    "SearchTags": ("SearchTagsRequest", "SearchTagsResponse"),
    "SearchTagsV2": ("SearchTagsRequest", "SearchTagsV2Response"),
    "SearchTagValues": ("SearchTagValuesRequest", "SearchTagValuesResponse"),
    "SearchTagValuesV2": ("SearchTagValuesRequest", "SearchTagValuesV2Response"),
    "MetricsQueryRange": ("QueryRangeRequest", "QueryRangeResponse"),
    "MetricsQueryInstant": ("QueryInstantRequest", "QueryInstantResponse"),
}


@pytest.fixture(scope="module")
def server() -> Iterator[Served]:
    with serving() as served:
        yield served


@pytest.fixture
def served(server: Served) -> Served:
    recording = server.queries
    recording.outcome, recording.waits, recording.told = NONE_FOUND, False, ()
    recording.asked.clear()
    recording.gave_up.clear()
    return server


@pytest.fixture(scope="module", params=["http", "grpc"])
def channel(server: Served, request: pytest.FixtureRequest) -> Iterator[grpc.Channel]:
    """To the port that serves HTTP as well, and to the one for gRPC alone."""
    with grpc.insecure_channel(f"127.0.0.1:{getattr(server.ports, request.param)}") as opened:
        yield opened


@contextmanager
def opened(served: Served) -> Iterator[grpc.Channel]:
    with grpc.insecure_channel(f"127.0.0.1:{served.ports.http}") as opened:
        yield opened


def start(channel: grpc.Channel, method: str, metadata: tuple[tuple[str, str], ...] = (), **fields: Any) -> Any:
    """The running call."""
    request, response = (tempo_message(name) for name in MESSAGES[method])
    call = channel.unary_stream(f"/tempopb.StreamingQuerier/{method}", request.SerializeToString, response.FromString)
    return call(request(**fields), timeout=WAIT_SECONDS, metadata=metadata)


def ask(channel: grpc.Channel, method: str, metadata: tuple[tuple[str, str], ...] = (), **fields: Any) -> list[Any]:
    """The messages of the answer."""
    return list(start(channel, method, metadata, **fields))


def trace(number: int, *, text: str = "x") -> TraceFound:
    span = SpanFound(number, "GET /", 5 * S, 7, (("text", TypedValue(ResultType.STRING, text)),))
    return TraceFound(number, "shop", "GET /", number * S, 3_000_000, (), (SpansetFound((), 1, (span,)),))


def answer_of(*numbers: int) -> SearchAnswer:
    return SearchAnswer(tuple(trace(number) for number in numbers), SEEN)


def ids(message: Any) -> list[int]:
    return [int(found.traceID, 16) for found in message.traces]


# --- what is asked and answered

ASKED = [
    ("Search", {"Query": "{}"}, (SearchQuery("{}"),)),
    (
        "Search",
        {"Query": "{ .a = 1 }", "Limit": 5, "SpansPerSpanSet": 7, "start": 100, "end": 200},
        (SearchQuery("{ .a = 1 }", TimeRange(100 * S, 200 * S + 1), 5, 7),),
    ),
    ("Search", {"MinDurationMs": 10}, (SearchQuery("{ traceDuration >= 10000000ns }"),)),
    ("SearchTags", {"maxTagsPerScope": 5}, (TagNamesQuery(limit=5),)),
    ("SearchTagsV2", {"scope": "span", "query": "{}", "start": 1, "end": 2}, (TagNamesQuery("span", "{}", TimeRange(S, 2 * S + 1)),)),
    ("SearchTagValues", {"tagName": "foo", "maxTagValues": 3}, (TagValuesQuery("foo", limit=3), "v1")),
    ("SearchTagValuesV2", {"tagName": ".foo", "query": "{ .a"}, (TagValuesQuery(".foo", "{ .a"),)),
    (
        "MetricsQueryRange",
        {"query": "{} | rate()", "start": 100 * S, "end": 160 * S, "step": 15 * S, "exemplars": 3},
        (RangeQuery("{} | rate()", TimeRange(100 * S, 160 * S), 15 * S, 3),),
    ),
    (
        "MetricsQueryRange",
        {"query": "{} | rate()", "start": 100 * S, "end": 340 * S},
        (RangeQuery("{} | rate()", TimeRange(100 * S, 340 * S), S),),
    ),
    ("MetricsQueryInstant", {"query": "{} | rate()", "start": 5, "end": 7}, (InstantQuery("{} | rate()", TimeRange(5, 7)),)),
]
EMPTY = {
    "Search": NONE_FOUND,
    "SearchTags": TagNamesAnswer((), Inspected()),
    "SearchTagsV2": TagNamesAnswer((), Inspected()),
    "SearchTagValues": TagValuesAnswer((), Inspected()),
    "SearchTagValuesV2": TagValuesAnswer((), Inspected()),
    "MetricsQueryRange": NO_METRICS,
    "MetricsQueryInstant": NO_METRICS,
}


@pytest.mark.parametrize(("method", "fields", "asked"), ASKED, ids=[f"{row[0]}-{place}" for place, row in enumerate(ASKED)])
def test_call_asks_for_what_its_request_says_and_has_one_message_with_metrics_at_least(
    served: Served, channel: grpc.Channel, method: str, fields: dict[str, Any], asked: tuple[Any, ...]
) -> None:
    served.queries.outcome = EMPTY[method]
    messages = ask(channel, method, **fields)
    assert len(messages) == 1
    assert messages[0].HasField("metrics")
    assert served.queries.asked == [(TENANT, *asked)]


def test_search_answer_has_the_fields_of_the_contract(served: Served, channel: grpc.Channel) -> None:
    served.queries.outcome = answer_of(0x2F3E)
    (message,) = ask(channel, "Search", Query="{}", Limit=1)
    (found,) = message.traces
    assert (found.traceID, found.rootServiceName, found.durationMs, found.spanSet.matched) == ("2f3e", "shop", 3, 1)
    assert found.spanSets[0] == found.spanSet
    metrics = message.metrics
    assert (metrics.inspectedTraces, metrics.completedJobs, metrics.totalJobs, metrics.totalBlocks) == (10, 5, 6, 2)


def test_tag_answers_are_complete_in_one_message(served: Served, channel: grpc.Channel) -> None:
    served.queries.outcome = TagNamesAnswer((("span", ("a", "b")), ("intrinsic", ("name",))), SEEN)
    assert list(ask(channel, "SearchTags")[0].tagNames) == ["a", "b"]
    assert [(scope.name, list(scope.tags)) for scope in ask(channel, "SearchTagsV2")[0].scopes] == [
        ("span", ["a", "b"]),
        ("intrinsic", ["name"]),
    ]
    served.queries.outcome = TagValuesAnswer((TagValue("int", "5"), TagValue("string", "x")), SEEN)
    assert list(ask(channel, "SearchTagValues", tagName="a")[0].tagValues) == ["5", "x"]
    values = ask(channel, "SearchTagValuesV2", tagName=".a")[0].tagValues
    assert [(value.type, value.value) for value in values] == [("int", "5"), ("string", "x")]


def series(name: str, points: int) -> Series:
    labels = (("name", TypedValue(ResultType.STRING, name)),)
    return Series(labels, np.arange(points, dtype=np.int64) * 1000 + 1_700_000_000_000, np.arange(points, dtype=np.float64))


def test_metrics_answers_have_series_and_what_is_missing(served: Served, channel: grpc.Channel) -> None:
    served.queries.outcome = MetricsAnswer((series("a", 3), series("b", 1)), SEEN, "too many series")
    (message,) = ask(channel, "MetricsQueryRange", query="{} | rate()", start=1, end=60 * S)
    assert [[(sample.timestamp_ms, sample.value) for sample in one.samples] for one in message.series] == [
        [(1_700_000_000_000, 0), (1_700_000_001_000, 1), (1_700_000_002_000, 2)],
        [(1_700_000_000_000, 0)],
    ]
    assert (message.status, message.message) == (1, "too many series")
    (message,) = ask(channel, "MetricsQueryInstant", query="{} | rate()", start=1, end=60 * S)
    assert [one.labels[0].value.string_value for one in message.series] == ["a", "b"]


# --- searches that take their time


def test_search_sends_each_trace_once_when_it_tells_of_some_before(served: Served, channel: grpc.Channel) -> None:
    served.queries.told = (answer_of(9), answer_of(9, 8), answer_of(7))
    served.queries.outcome = answer_of(9, 8, 7, 6)
    messages = ask(channel, "Search", Query="{}")
    assert [ids(message) for message in messages] == [[9], [8], [7], [6]]
    assert all(message.HasField("metrics") for message in messages)


def test_search_sends_no_more_traces_than_its_limit_when_it_began_again(served: Served, channel: grpc.Channel) -> None:
    served.queries.told = (answer_of(9, 8),)
    served.queries.outcome = answer_of(12, 11, 9)
    assert [ids(message) for message in ask(channel, "Search", Query="{}", Limit=3)] == [[9, 8], [12]]


def test_search_ends_with_its_final_figures_when_nothing_new_is_left(served: Served, channel: grpc.Channel) -> None:
    served.queries.told = (
        replace(answer_of(9), inspected=Inspected(jobs=1, jobs_total=9)),
        SearchAnswer((), Inspected(jobs=2, jobs_total=9)),
    )
    served.queries.outcome = answer_of(9)
    messages = ask(channel, "Search", Query="{}")
    assert ids(messages[0]) == [9]
    assert ids(messages[-1]) == []
    assert (messages[-1].metrics.completedJobs, messages[-1].metrics.totalJobs) == (5, 6)


def test_search_sends_what_it_has_while_it_goes_on(served: Served, channel: grpc.Channel) -> None:
    served.queries.told = (answer_of(9),)
    served.queries.waits = True
    call = start(channel, "Search", Query="{}")
    assert ids(next(call)) == [9]
    call.cancel()
    assert served.queries.gave_up.wait(WAIT_SECONDS)


def test_metrics_over_time_say_how_far_they_are_while_they_go_on(served: Served, channel: grpc.Channel) -> None:
    served.queries.told = (SearchAnswer((), Inspected(jobs=1, jobs_total=9)),)
    served.queries.waits = True
    call = start(channel, "MetricsQueryRange", query="{} | rate()", start=1, end=60 * S)
    message = next(call)
    assert (list(message.series), message.metrics.completedJobs, message.metrics.totalJobs) == ([], 1, 9)
    served.queries.outcome, served.queries.waits = MetricsAnswer((series("a", 3),), SEEN), False
    assert [len(message.series) for message in call] == [1]


# --- big answers


def test_search_is_cut_in_packets_when_its_answer_is_big(served: Served, channel: grpc.Channel) -> None:
    big = SearchAnswer(tuple(trace(number, text="x" * 100_000) for number in range(50, 0, -1)), SEEN)
    served.queries.outcome = big
    messages = ask(channel, "Search", Query="{}", Limit=50)
    assert [number for message in messages for number in ids(message)] == list(range(50, 0, -1))
    assert len(messages) == 10  # a trace has its spanset twice
    assert all(message.ByteSize() <= 1 << 20 and message.metrics.completedJobs == 5 for message in messages)


def test_metrics_say_how_they_ended_in_the_last_packet_when_the_answer_is_big(served: Served, channel: grpc.Channel) -> None:
    served.queries.outcome = MetricsAnswer(tuple(series(str(number), 5000) for number in range(20)), SEEN, "cut")
    messages = ask(channel, "MetricsQueryRange", query="{} | rate()", start=1, end=60 * S)
    assert [one.labels[0].value.string_value for message in messages for one in message.series] == [str(number) for number in range(20)]
    assert [message.message for message in messages] == ["", "cut"]
    assert all(message.ByteSize() <= 1 << 20 for message in messages)


def test_instant_answer_is_refused_when_it_is_too_large_for_one_message(served: Served, channel: grpc.Channel) -> None:
    served.queries.outcome = MetricsAnswer(tuple(series("x" * 1_000_000 + str(number), 1) for number in range(4)), SEEN)
    assert len(ask(channel, "MetricsQueryInstant", query="{} | rate()", start=1, end=60 * S)[0].series) == 4
    served.queries.outcome = MetricsAnswer(tuple(series("x" * 1_000_000 + str(number), 1) for number in range(5)), SEEN)
    assert refused(channel, "MetricsQueryInstant", query="{} | rate()", start=1, end=60 * S)[0] is grpc.StatusCode.RESOURCE_EXHAUSTED


# --- errors


def refused(channel: grpc.Channel, method: str, metadata: tuple[tuple[str, str], ...] = (), **fields: Any) -> tuple[grpc.StatusCode, str]:
    """(code, text) of a call that fails."""
    with pytest.raises(grpc.RpcError) as raised:
        ask(channel, method, metadata, **fields)
    error: Any = raised.value
    return error.code(), error.details()


C = grpc.StatusCode
BAD_REQUESTS = [
    ("Search", {"Query": "{}", "Limit": 300_000}, "limit 300000 exceeds max limit 262144"),
    ("Search", {"Query": "{}", "SpansPerSpanSet": 101}, "spans per span set exceeds 100. received 101"),
    ("Search", {"Query": "{}", "start": 5}, "http parameter start must be before end. received start=5 end=0"),
    (
        "Search",
        {"Query": "{}", "start": 1, "end": 700_000},
        "range specified by start and end exceeds 168h0m0s. received start=1 end=700000",
    ),
    ("MetricsQueryRange", {"query": "{} | rate()", "start": 7, "end": 5}, "end must be greater than start"),
    ("MetricsQueryInstant", {"query": "{} | rate()", "start": 7, "end": 5}, "end must be greater than start"),
]


@pytest.mark.parametrize(("method", "fields", "text"), BAD_REQUESTS, ids=[row[2] for row in BAD_REQUESTS])
def test_call_is_refused_with_the_text_of_http_when_its_request_is_bad(
    served: Served, channel: grpc.Channel, method: str, fields: dict[str, Any], text: str
) -> None:
    assert refused(channel, method, **fields) == (C.INVALID_ARGUMENT, text)


ERRORS: list[tuple[Exception, grpc.StatusCode, str]] = [
    (
        QueryError("unexpected }", source="{ }}", line=1, column=4),
        C.INVALID_ARGUMENT,
        "invalid TraceQL query: 1:4: unexpected }\n  { }}\n     ^",
    ),
    (TooLarge("too many spans"), C.RESOURCE_EXHAUSTED, "too many spans"),
    (QueryTimeout("too long"), C.DEADLINE_EXCEEDED, "too long"),
    (Unavailable("the write-ahead log is being replayed"), C.UNAVAILABLE, "the write-ahead log is being replayed"),
    (NotFound("nothing – here"), C.NOT_FOUND, "nothing – here"),
    (ZeroDivisionError("secret"), C.INTERNAL, "internal error, described in the log of the server"),
]


@pytest.mark.parametrize(("error", "code", "text"), ERRORS, ids=[str(row[1]) for row in ERRORS])
def test_error_becomes_its_status_and_text(
    served: Served, channel: grpc.Channel, error: Exception, code: grpc.StatusCode, text: str
) -> None:
    served.queries.outcome = error
    assert refused(channel, "Search", Query="{}") == (code, text)


def test_error_says_when_to_try_again_when_the_server_is_overloaded(served: Served, channel: grpc.Channel) -> None:
    served.queries.outcome = Overloaded("job queue full", retry_after_seconds=3)
    call = start(channel, "Search", Query="{}")
    assert call.code() is C.RESOURCE_EXHAUSTED
    details = dict(call.trailing_metadata())["grpc-status-details-bin"]
    assert read_status(details) == (8, "job queue full", 3)


def test_error_follows_what_was_sent_when_it_comes_late(served: Served, channel: grpc.Channel) -> None:
    served.queries.told = (answer_of(9),)
    served.queries.outcome = QueryTimeout("too long")
    call = start(channel, "Search", Query="{}")
    assert ids(next(call)) == [9]
    assert (call.code(), call.details()) == (C.DEADLINE_EXCEEDED, "too long")


def test_method_is_unimplemented_when_nobody_knows_it(served: Served, channel: grpc.Channel) -> None:
    call: Any = channel.unary_stream("/tempopb.Querier/FindTraceByID")
    assert call(b"").code() is C.UNIMPLEMENTED


@pytest.mark.parametrize("message", [b"\xff", b"\x42\xff", bytes(range(1, 100))])
def test_request_is_refused_when_it_is_not_protobuf(served: Served, channel: grpc.Channel, message: bytes) -> None:
    call: Any = channel.unary_stream("/tempopb.StreamingQuerier/Search")
    assert call(message).code() is C.INVALID_ARGUMENT


def test_request_is_refused_when_it_is_too_large(served: Served, channel: grpc.Channel) -> None:
    assert refused(channel, "Search", Query="{" + " " * (1 << 20) + "}")[0] is C.RESOURCE_EXHAUSTED


# --- tenants

TENANTS = [
    ((("x-scope-orgid", "a"),), "a"),
    ((("x-scope-orgid", "a"), ("x-scope-orgid", "a")), "a"),
    ((("x-scope-orgid", ""), ("x-scope-orgid", "a")), "a"),
]


@pytest.mark.parametrize(("metadata", "tenant"), TENANTS)
def test_tenant_comes_from_the_metadata_when_there_are_several(metadata: tuple[tuple[str, str], ...], tenant: str) -> None:
    with serving(multitenancy=True) as served, opened(served) as channel:
        served.queries.outcome = NONE_FOUND
        ask(channel, "Search", metadata, Query="{}")
        assert served.queries.asked[0][0] == tenant
        for missing in ((), (("x-scope-orgid", ""),)):
            assert refused(channel, "Search", missing, Query="{}") == (C.UNAUTHENTICATED, "no org id")


def test_tenant_is_ignored_when_there_is_one(served: Served, channel: grpc.Channel) -> None:
    ask(channel, "Search", (("x-scope-orgid", "a"), ("x-scope-orgid", "b"), ("authorization", "Basic Og==")), Query="{}")
    assert served.queries.asked[0][0] == TENANT


# --- giving up


def test_query_stops_when_the_client_cancels(served: Served, channel: grpc.Channel) -> None:
    served.queries.waits = True
    call = start(channel, "Search", Query="{}")
    eventually(lambda: bool(served.queries.asked))
    call.cancel()
    assert served.queries.gave_up.wait(WAIT_SECONDS)


def test_query_stops_when_the_client_goes_away(served: Served) -> None:
    served.queries.waits = True
    with opened(served) as channel:
        _call = start(channel, "Search", Query="{}")
        eventually(lambda: bool(served.queries.asked))
    assert served.queries.gave_up.wait(WAIT_SECONDS)


def test_query_stops_when_it_takes_too_long() -> None:
    with serving(query=QuerySettings(timeout_seconds=0.1)) as served, opened(served) as channel:
        served.queries.waits = True
        assert refused(channel, "Search", Query="{}") == (C.DEADLINE_EXCEEDED, "the query took longer than 0.1 seconds")


def test_query_is_refused_when_too_many_wait() -> None:
    with serving(query_threads=1, query_queue_max=0) as served, opened(served) as channel:
        served.queries.waits = True
        running = start(channel, "Search", Query="{}")
        eventually(lambda: bool(served.queries.asked))
        assert refused(channel, "Search", Query="{}")[0] is C.RESOURCE_EXHAUSTED
        running.cancel()


def test_call_ends_when_the_client_does_not_read() -> None:
    with serving(stall_seconds=0.1, query_threads=1, query_queue_max=0) as served, opened(served) as channel:
        served.queries.outcome = SearchAnswer(tuple(trace(number, text="x" * 1_000_000) for number in range(20)), SEEN)
        unread = start(channel, "Search", Query="{}")
        next(unread)
        served.queries.outcome = NONE_FOUND
        with opened(served) as other:
            eventually(lambda: answers(other))
            assert unread.code() is C.UNAVAILABLE


def answers(channel: grpc.Channel) -> bool:
    try:
        return bool(ask(channel, "Search", Query="{}"))
    except grpc.RpcError:
        return False

"""Searches and tags on real sockets: parameters, limits, errors and shapes of wire-contract sections 1.0, 1.4 and 1.6."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote, urlencode

import pytest
from serving import Served, eventually, serving

from spanlake.model.errors import QueryError, QueryTimeout, TooLarge
from spanlake.model.metrics import RangeQuery
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
from spanlake.model.results import ResultType, ServiceStatistics, SpanFound, SpansetFound, TraceFound, TypedValue
from spanlake.model.settings import QuerySettings
from spanlake.model.trace import TimeRange, TraceAnswer, TraceFilter

S = 1_000_000_000
SEEN = Inspected(traces=10, spans=77, bytes=9999, blocks=2, block_bytes=12345, jobs=5, jobs_total=5)
NONE_FOUND = SearchAnswer((), Inspected())
TEXT_VALUE = TypedValue(ResultType.STRING, "x")


@pytest.fixture(scope="module")
def server() -> Iterator[Served]:
    with serving() as served:
        yield served


@pytest.fixture
def served(server: Served) -> Served:
    server.queries.outcome = NONE_FOUND
    server.queries.asked.clear()
    server.queries.waits = False
    return server


def path_of(path: str, **parameters: Any) -> str:
    return f"{path}?{urlencode(parameters)}"


ASKED = [
    ({"q": " { .a = 1 } "}, SearchQuery("{ .a = 1 }")),
    ({"q": "{ }", "limit": "5", "spss": "0", "start": "100", "end": "200"}, SearchQuery("{ }", TimeRange(100 * S, 200 * S + 1), 5, 0)),
    ({"q": "{ }", "limit": "", "spss": "", "start": "", "end": "", "unknown": "x"}, SearchQuery("{ }")),
    ({}, SearchQuery("{ }")),
    ({"minDuration": "10ms", "maxDuration": "1m"}, SearchQuery("{ traceDuration >= 10000000ns } && { traceDuration <= 60000000000ns }")),
    ({"tags": "name=a"}, SearchQuery("{ name =~ `.*a.*` }")),
    ({"tags": 'a=b "c d"="e.f"'}, None),
    (
        {"tags": 'a="b c" n=5 error=true'},
        SearchQuery("{ .a =~ `.*b c.*` } && { .n =~ `.*5.*` || .n = 5 } && { .error =~ `.*true.*` || .error = true || status = error }"),
    ),
]


@pytest.mark.parametrize(("parameters", "query"), ASKED, ids=[str(row[0]) for row in ASKED])
def test_search_asks_for_what_the_parameters_say(served: Served, parameters: dict[str, str], query: SearchQuery | None) -> None:
    reply = served.get(path_of("/api/search", **parameters))
    assert (reply.status, served.queries.asked) == ((200, [("single-tenant", query)]) if query else (400, []))


REFUSED = [
    ({"q": "{ }", "tags": "a=b"}, "invalid request: can't specify tags and q in the same query"),
    ({"limit": "0"}, "invalid limit: must be a positive number"),
    ({"limit": "262145"}, "limit 262145 exceeds max limit 262144"),
    ({"limit": "x"}, "invalid limit: 'x' is not a number"),
    ({"spss": "101"}, "spans per span set exceeds 100. received 101"),
    ({"start": "5"}, "http parameter start must be before end. received start=5 end=0"),
    ({"end": "5"}, "error parsing date range: only one of start and end provided: must provide both or neither"),
    ({"start": "9", "end": "5"}, "http parameter start must be before end. received start=9 end=5"),
    ({"start": "1", "end": "700000"}, "range specified by start and end exceeds 168h0m0s. received start=1 end=700000"),
    ({"since": "soon"}, "invalid since: 'soon' is not a duration such as 30m or 1h"),
    ({"minDuration": "fast"}, "invalid minDuration: 'fast' is not a duration such as 300ms or 1m30s"),
]


@pytest.mark.parametrize(("parameters", "text"), REFUSED, ids=[row[1] for row in REFUSED])
def test_search_is_400_with_a_plain_text_when_a_parameter_is_bad(served: Served, parameters: dict[str, str], text: str) -> None:
    reply = served.get(path_of("/api/search", **parameters))
    assert (reply.status, reply.body.decode(), served.queries.asked) == (400, text, [])


ERRORS = [
    (QueryError("unexpected }", source="{ }}", line=1, column=4), 400, "invalid TraceQL query: 1:4: unexpected }\n  { }}\n     ^"),
    (TooLarge("too many spans"), 413, "too many spans"),
    (QueryTimeout("too long"), 504, "too long"),
]


@pytest.mark.parametrize(("error", "status", "text"), ERRORS)
def test_search_error_becomes_its_status_and_text(served: Served, error: Exception, status: int, text: str) -> None:
    served.queries.outcome = error
    reply = served.get("/api/search?q=%7B%7D")
    assert (reply.status, reply.body.decode()) == (status, text)


def test_search_answer_has_exactly_the_fields_of_the_contract(served: Served) -> None:
    span = SpanFound(0x563D, "HTTP GET", 5 * S, 7, (("service.name", TEXT_VALUE), ("n", TypedValue(ResultType.INT, 5))))
    spanset = SpansetFound((("count()", TypedValue(ResultType.INT, 3)),), 3, (span,))
    nameless = SpanFound(
        1, None, S, 0, (("f", TypedValue(ResultType.DOUBLE, float("nan"))), ("b", TypedValue(ResultType.BOOL, value=False)))
    )
    services = (ServiceStatistics("frontend", 3, 1), ServiceStatistics("db", 1, 0))
    found = TraceFound(0xA1, "frontend", "GET /", 4 * S, 12_999_999, services, (spanset,))
    rootless = TraceFound(2, "", "", S, 0, (), (SpansetFound((), 1, (nameless,)),))
    served.queries.outcome = SearchAnswer((found, rootless), SEEN)
    reply = served.get("/api/search?q=%7B%7D", accept="application/json")
    shown_set = {
        "spans": [
            {
                "spanID": "000000000000563d",
                "name": "HTTP GET",
                "startTimeUnixNano": "5000000000",
                "durationNanos": "7",
                "attributes": [{"key": "service.name", "value": {"stringValue": "x"}}, {"key": "n", "value": {"intValue": "5"}}],
            }
        ],
        "matched": 3,
        "attributes": [{"key": "count()", "value": {"intValue": "3"}}],
    }
    odd = [{"key": "f", "value": {"doubleValue": "NaN"}}, {"key": "b", "value": {"boolValue": False}}]
    rootless_set = {"spans": [{"spanID": "0000000000000001", "startTimeUnixNano": "1000000000", "attributes": odd}], "matched": 1}
    assert json.loads(reply.body) == {
        "traces": [
            {
                "traceID": "a1",
                "rootServiceName": "frontend",
                "rootTraceName": "GET /",
                "startTimeUnixNano": "4000000000",
                "durationMs": 12,
                "spanSet": shown_set,
                "spanSets": [shown_set],
                "serviceStats": {"frontend": {"spanCount": 3, "errorCount": 1}, "db": {"spanCount": 1}},
            },
            {
                "traceID": "2",
                "rootServiceName": "<root span not yet received>",
                "startTimeUnixNano": "1000000000",
                "spanSet": rootless_set,
                "spanSets": [rootless_set],
            },
        ],
        "metrics": {
            "inspectedTraces": 10,
            "inspectedBytes": "9999",
            "totalBlocks": 2,
            "completedJobs": 5,
            "totalJobs": 5,
            "totalBlockBytes": "12345",
            "inspectedSpans": "77",
        },
    }
    served.queries.outcome = SearchAnswer((found,), SEEN)
    (legacy,) = json.loads(served.get("/api/search?tags=a%3Db").body)["traces"]
    assert not {"spanSet", "spanSets"} & legacy.keys()


def test_search_gives_up_when_the_client_goes_away(served: Served) -> None:
    served.queries.waits = True
    served.queries.gave_up.clear()
    with socket.create_connection(("127.0.0.1", served.ports.http)) as connection:
        connection.sendall(b"GET /api/search?q=%7B%7D HTTP/1.1\r\nhost: x\r\n\r\n")
        eventually(lambda: len(served.queries.asked) == 1)
    assert served.queries.gave_up.wait(20)


def test_search_gives_up_when_it_takes_too_long() -> None:
    with serving(query=QuerySettings(timeout_seconds=0.1)) as served:
        served.queries.waits = True
        reply = served.get("/api/search?q=%7B%7D")
        assert (reply.status, reply.body) == (504, b"the query took longer than 0.1 seconds")


NAMES = TagNamesAnswer((("resource", ("a", "b")), ("span", ("b", "c")), ("intrinsic", ("duration", "name"))), Inspected(bytes=6))


def test_tag_names_have_the_shapes_of_both_versions(served: Served) -> None:
    served.queries.outcome = NAMES
    metrics = {"inspectedBytes": "6"}
    assert json.loads(served.get("/api/search/tags").body) == {"tagNames": ["a", "b", "c"], "metrics": metrics}
    assert json.loads(served.get("/api/search/tags?scope=intrinsic").body)["tagNames"] == ["a", "b", "c", "duration", "name"]
    scopes = [{"name": scope, "tags": list(names)} for scope, names in NAMES.scopes]
    assert json.loads(served.get("/api/v2/search/tags?scope=none&limit=5000").body) == {"scopes": scopes, "metrics": metrics}
    assert served.queries.asked[-1] == ("single-tenant", TagNamesQuery(limit=5000))


TAGS = ["resource.service.name", ".foo", 'span."x y"', "span.a/b", "event:name"]


@pytest.mark.parametrize("tag", TAGS)
@pytest.mark.parametrize("encodings", [1, 2])
def test_tag_values_take_any_tag_in_the_path(served: Served, tag: str, encodings: int) -> None:
    served.queries.outcome = TagValuesAnswer((TagValue("int", "5"), TagValue("string", "a")), Inspected(bytes=6))
    encoded = tag
    for _ in range(encodings):
        encoded = quote(encoded)
    reply = served.get(path_of(f"/api/v2/search/tag/{encoded}/values", limit=5, tag=tag, q="{ .a ="))
    values = [{"type": "int", "value": "5"}, {"type": "string", "value": "a"}]
    assert json.loads(reply.body) == {"tagValues": values, "metrics": {"inspectedBytes": "6"}}
    assert served.queries.asked == [("single-tenant", TagValuesQuery(tag, "{ .a =", None, 5))]


def test_tag_values_of_version_1_are_texts(served: Served) -> None:
    served.queries.outcome = TagValuesAnswer((TagValue("int", "5"), TagValue("string", "5"), TagValue("string", "a")), Inspected())
    assert json.loads(served.get("/api/search/tag/foo/values").body) == {"tagValues": ["5", "a"], "metrics": {}}
    assert served.queries.asked == [("single-tenant", TagValuesQuery("foo"), "v1")]


def test_trace_filter_is_asked_for_when_there_is_a_q(served: Served) -> None:
    served.queries.outcome = TraceAnswer(b"", 0, complete=False, message="Trace filtered")
    reply = served.get(path_of("/api/v2/traces/a1", q="{ name = `x` }", keep_hierarchy="true", match_depth=2, ancestor_depth=1))
    assert json.loads(reply.body)["status"] == "PARTIAL"
    wanted = TraceFilter("{ name = `x` }", keep_hierarchy=True, match_depth=2, ancestor_depth=1)
    assert served.queries.asked == [("single-tenant", (0, 0xA1), None, wanted)]
    bad = served.get(path_of("/api/v2/traces/a1", q="{ }", match_depth=-2))
    assert (bad.status, bad.body) == (400, b"invalid match_depth: must be -1 or greater, received -2")


def test_explanation_is_text(served: Served) -> None:
    served.queries.outcome = "search\n  { true }\n"
    reply = served.get(path_of("/api/explain", q="{ }"))
    assert (reply.status, reply.headers["content-type"], reply.body) == (200, "text/plain; charset=utf-8", b"search\n  { true }\n")
    assert served.queries.asked == [("single-tenant", SearchQuery("{ }"), "explain")]
    served.queries.asked.clear()
    served.get(path_of("/api/explain", q="{ } | rate()", start=100, end=200, step=20))
    assert served.queries.asked == [("single-tenant", RangeQuery("{ } | rate()", TimeRange(100 * S, 200 * S), 20 * S), "explain")]
    bad = served.get(path_of("/api/explain", q="{ } | rate()", step=0))
    assert (bad.status, bad.body) == (400, b"step must be greater than 0")

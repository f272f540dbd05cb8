"""Calls around the trace view that newer Grafanas and their assistants make: pruned traces, traces compared, the way from version 2 to 1,
drill-downs; and tenants that share the query threads."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from live import Live, live_server
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status
from serving import WAIT_SECONDS, Served, eventually, send, serving
from strict_json import decode_strictly
from tempo_proto import tempo_message

from node import attribute, request, span
from spanlake.model.settings import QuerySettings

pytestmark = pytest.mark.slow

MS, S = 1_000_000, 1_000_000_000
NOW = time.time_ns() // S // 60 * 60 - 60
HOUR = {"start": NOW - 3600, "end": NOW}
PROTOBUF = "application/protobuf"
LOOPS = 0xA, 12
"""A trace with so many similar queries."""


def trace_of(trace: int, queries: int) -> bytes:
    """A request whose handler queries a table in a loop; the last query fails."""
    begin_ns = NOW * S - 600 * S

    def one(number: int, parent: int, name: str, milliseconds: int, **fields: Any) -> Span:
        times = {"start_time_unix_nano": begin_ns + number * MS, "end_time_unix_nano": begin_ns + (number + milliseconds) * MS}
        return span(trace, number, parent=parent, name=name, **times, **fields)

    raised = Span.Event(
        name="exception",
        time_unix_nano=begin_ns,
        attributes=[attribute("exception.message", "deadlock"), attribute("exception.type", "SQLError")],
    )
    failed = {"status": Status(code=Status.STATUS_CODE_ERROR), "events": [raised]}
    loop = [
        one(
            number,
            2,
            "SELECT cart",
            10 + number,
            kind=3,
            attributes={"db.system": "postgresql"},
            **(failed if number == queries + 2 else {}),
        )
        for number in range(3, queries + 3)
    ]
    return request(one(1, 0, "GET /cart", 500, kind=2), one(2, 1, "handler", 400), *loop, service="shop")


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    with live_server(tmp_path_factory.mktemp("calls")) as live:
        live.push(trace_of(*LOOPS))
        live.system.pipeline.cut(everything=True)
        live.push(trace_of(0xB, 3))
        yield live


def spans_of(live: Live, trace: int, **parameters: Any) -> tuple[Any, list[Any]]:
    """(the response, its spans) of version 2, as the data source asks for it."""
    reply = live.get(f"/api/v2/traces/{trace:x}", parameters, accept=PROTOBUF)
    assert (reply.status, reply.headers["content-type"]) == (200, PROTOBUF), reply.body
    found = tempo_message("TraceByIDResponse").FromString(reply.body)
    return found, [one for part in found.trace.resource_spans for scope in part.scope_spans for one in scope.spans]


def test_trace_view_is_pruned_when_grafana_asks_for_it(live: Live) -> None:
    trace, queries = LOOPS
    found, spans = spans_of(live, trace, span_pruning="true")
    assert sorted(one.name for one in spans) == ["GET /cart", "SELECT cart", "SELECT cart", "handler"]
    summary = next(one for one in spans if any(pair.key == "aggregation.is_summary" for pair in one.attributes))
    values = {pair.key: pair.value for pair in summary.attributes}
    assert values["aggregation.span_count"].int_value == queries - 1, "the one that failed is another kind"
    assert values["db.system"].string_value == "postgresql"
    assert {one.span_id for one in spans} >= {summary.parent_span_id}
    assert (found.status, found.message.startswith(f"Trace pruned: {queries - 1} similar spans")) == (1, True)
    assert all(one.HasField("status") for one in spans)


@pytest.mark.parametrize("parameters", [{}, {"span_pruning": "false"}, {"span_pruning": "true", "span_pruning_min_spans": "50"}])
def test_trace_view_has_every_span_otherwise(live: Live, parameters: dict[str, str]) -> None:
    found, spans = spans_of(live, LOOPS[0], **parameters)
    assert (len(spans), found.status, found.message) == (LOOPS[1] + 2, 0, "")


def test_pruned_trace_in_json_says_that_it_is_partial(live: Live) -> None:
    reply = live.get(f"/api/v2/traces/{LOOPS[0]:x}", {"span_pruning": "true", "q": "{ kind = client }"})
    body = json.loads(reply.body)
    assert body["status"] == "PARTIAL"
    assert [text.partition(" ")[2][:8] for text in body["message"].split("; ")[:2]] == ["filtered", "pruned: "]


def test_traces_are_compared_wherever_they_are(live: Live) -> None:
    body = {"base": {"traceId": f"{LOOPS[0]:x}"}, "compare": {"traceId": "b", "start": NOW - 3600, "end": NOW}}
    for answer_format in ("trace-patch-v0", "trace-summary-v0-native", "trace-summary-v0-composed"):
        reply = send(live.ports.http, "POST", "/api/v2/traces/diff", json.dumps({**body, "format": answer_format}), {})
        assert (reply.status, reply.headers["content-type"]) == (200, "application/json"), reply.body
        found = json.loads(reply.body)
        assert found["version"] == answer_format
    assert found["summary"]["stats"]["removedSpans"] == LOOPS[1] - 3
    assert [one["code"] for one in found["patch"]["warnings"]] == ["ambiguous_span_match"]
    missing = send(live.ports.http, "POST", "/api/v2/traces/diff", json.dumps({**body, "compare": {"traceId": "dead"}}), {})
    assert (missing.status, missing.body.decode()) == (404, f"the compare trace {'dead':0>32} was not found")
    assert live.get("/api/v2/traces/diff").status == 405


def test_an_id_that_is_not_there_is_empty_in_version_2_and_404_in_version_1(live: Live) -> None:
    found, spans = spans_of(live, 0xDEAD, span_pruning="true")
    assert (spans, found.HasField("trace")) == ([], True)
    reply = live.get("/api/traces/dead", accept=PROTOBUF)
    assert (reply.status, reply.body) == (404, b"")


DRILLDOWNS = [
    (
        'true && name="SELECT cart" && status = error && event.exception.message = "deadlock" && event.exception.type = "SQLError"',
        2,
    ),
    ('true && true && status = error && event.exception.message =~ "^dead.*$"', 2),
    ("nestedSetParent<0 && true&& duration > 100ms", 2),
    ("true && true&& duration >= 10ms && duration <= 15ms", 2),
    ('kind=server && span.db.system="postgresql"', 0),
]


@pytest.mark.parametrize(("q", "traces"), DRILLDOWNS, ids=[row[0] for row in DRILLDOWNS])
def test_drill_downs_list_their_spans(live: Live, q: str, traces: int) -> None:
    columns = "resource.service.name, name, status, event.exception.message"
    reply = live.get("/api/search", {"q": f"{{{q}}} | select({columns})", "limit": 200, "spss": 10, **HOUR}, accept="application/json")
    found = decode_strictly("SearchResponse", reply.body).get("traces", [])
    assert len(found) == traces
    for trace in found:
        assert trace["spanSet"] == trace["spanSets"][0]
        for one in trace["spanSet"]["spans"]:
            assert {"service.name", "status"} <= {pair["key"] for pair in one["attributes"]}
            assert one["name"]


@pytest.mark.parametrize("attribute_name", ["span.db.system", "name", "status"])
def test_breakdown_tiles_are_labelled_with_their_value(live: Live, attribute_name: str) -> None:
    value = {"span.db.system": '"postgresql"', "name": '"SELECT cart"', "status": "error"}[attribute_name]
    q = f"{{true && true && {attribute_name}={value}}} | rate() by({attribute_name})"
    reply = live.get("/api/metrics/query_range", {"q": q, **HOUR, "step": "56s"}, accept="application/json")
    (series,) = decode_strictly("QueryRangeResponse", reply.body)["series"]
    (label,) = series["labels"]
    assert (label["key"], label["value"]["stringValue"]) == (attribute_name, value.strip('"'))


# --- Tenants share the threads


@pytest.fixture
def crowded() -> Iterator[Served]:
    with serving(multitenancy=True, query_threads=3) as served:
        yield served


def test_a_tenant_with_many_queries_leaves_a_thread_to_others(crowded: Served) -> None:
    crowded.reader.gate.clear()
    with ThreadPoolExecutor(20) as pool:
        many = [pool.submit(crowded.get, "/api/traces/1", x_scope_orgid="busy") for _ in range(10)]
        eventually(lambda: crowded.metric("spanlake_query_queue_length") == 8)
        one = pool.submit(crowded.get, "/api/traces/2", x_scope_orgid="other")
        eventually(lambda: crowded.metric("spanlake_work_tasks", pool="query") == 3)
        assert crowded.metric("spanlake_query_queue_length") == 8
        crowded.reader.gate.set()
        assert {reply.result(WAIT_SECONDS).status for reply in [one, *many]} == {404}
    assert crowded.metric("spanlake_query_queue_seconds_count") == 11


def test_a_query_that_waits_leaves_the_line_when_its_client_goes(crowded: Served) -> None:
    import socket

    crowded.reader.gate.clear()
    with ThreadPoolExecutor(2) as pool:
        running = [pool.submit(crowded.get, "/api/traces/1", x_scope_orgid="a") for _ in range(2)]
        eventually(lambda: crowded.metric("spanlake_work_tasks", pool="query") == 2)
        with socket.create_connection(("127.0.0.1", crowded.ports.http), WAIT_SECONDS) as connection:
            connection.sendall(b"GET /api/traces/3 HTTP/1.1\r\nHost: x\r\nX-Scope-OrgID: a\r\n\r\n")
            eventually(lambda: crowded.metric("spanlake_query_queue_length") == 1)
        eventually(lambda: crowded.metric("spanlake_query_queue_length") == 0)
        crowded.reader.gate.set()
        assert [reply.result(WAIT_SECONDS).status for reply in running] == [404, 404]
    assert {asked[1] for asked in crowded.reader.asked} == {(0, 1)}, "nobody looked for the third"


def test_the_wait_counts_towards_the_timeout() -> None:
    with serving(query=QuerySettings(timeout_seconds=0.3), query_threads=1) as served, ThreadPoolExecutor(3) as pool:
        served.reader.gate.clear()
        replies = [pool.submit(served.get, "/api/traces/1") for _ in range(3)]
        assert [reply.result(WAIT_SECONDS).status for reply in replies] == [504, 504, 504]
        assert served.metric("spanlake_query_queue_length") == 0
        assert served.metric("spanlake_work_tasks", pool="query") == 1, "a thread cannot be taken from what it does"
        served.reader.gate.set()
        eventually(lambda: served.get("/api/traces/1").status == 404)


def test_threads_end_when_the_server_stops() -> None:
    before = set(threading.enumerate())  # also those of another server

    def count_started() -> int:
        return sum(thread.name.startswith("query-") for thread in set(threading.enumerate()) - before)

    with serving(query_threads=2) as served:
        assert served.get("/api/traces/1").status == 404
        assert count_started() == 1
    eventually(lambda: count_started() == 0)

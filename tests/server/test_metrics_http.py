"""Metrics queries on real sockets: wire contract sections 1.0 and 1.5. Parameters in detail: test_metrics_parameters."""

from __future__ import annotations

import gzip
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlencode

import numpy as np
import pytest
from serving import Served, serving
from strict_json import decode_strictly

from spanlake.model.errors import InvalidInput, QueryError, TooLarge
from spanlake.model.metrics import InstantQuery, MetricsAnswer, RangeQuery, Series
from spanlake.model.queries import Inspected
from spanlake.model.results import ResultType, TypedValue
from spanlake.model.trace import TimeRange

S = 1_000_000_000
RANGE, INSTANT = "/api/metrics/query_range", "/api/metrics/query"
RATE = "{ } | rate()"
NAME = (("__name__", TypedValue(ResultType.STRING, "rate")),)
ANSWER = MetricsAnswer((Series(NAME, np.array([40_000, 60_000]), np.array([0.5, 0.0])),), Inspected(), "too many series")


@pytest.fixture(scope="module")
def server() -> Iterator[Served]:
    with serving() as served:
        yield served


@pytest.fixture
def served(server: Served) -> Served:
    server.queries.outcome = ANSWER
    server.queries.asked.clear()
    return server


def path_of(path: str, **parameters: Any) -> str:
    return f"{path}?{urlencode(parameters)}"


@pytest.mark.parametrize("accept", ["application/json", "application/protobuf", "*/*"])
def test_metrics_are_json_whatever_is_accepted(served: Served, accept: str) -> None:
    reply = served.get(path_of(RANGE, q=RATE, start=100, end=200, step="20s"), accept=accept)
    assert (reply.status, reply.headers["content-type"]) == (200, "application/json")
    labels = [{"key": "__name__", "value": {"stringValue": "rate"}}]
    assert decode_strictly("QueryRangeResponse", reply.body) == {
        "series": [{"labels": labels, "samples": [{"timestampMs": "40000", "value": 0.5}, {"timestampMs": "60000"}]}],
        "metrics": {},
        "status": "PARTIAL",
        "message": "too many series",
    }
    assert served.queries.asked == [("single-tenant", RangeQuery(RATE, TimeRange(100 * S, 200 * S), 20 * S))]
    served.queries.asked.clear()
    reply = served.get(path_of(INSTANT, query=RATE, start=100, end=200, step=""), accept=accept)
    assert decode_strictly("QueryInstantResponse", reply.body)["series"] == [{"labels": labels, "value": 0.5}]
    assert served.queries.asked == [("single-tenant", InstantQuery(RATE, TimeRange(100 * S, 200 * S)))]


UNPARSABLE = QueryError("expected a stage", source="{ } |", line=1, column=6)
UNSOUND = QueryError("cannot compare", source="{ name = 1 } | rate()", line=1, column=3)
ERRORS = [
    # path, query, error of the meter, status, text
    (RANGE, "{ } |", UNPARSABLE, 400, "1:6: expected a stage\n  { } |\n       ^"),
    (INSTANT, "{ } |", UNPARSABLE, 400, "compiling query: 1:6: expected a stage\n  { } |\n       ^"),
    (RANGE, "{ name = 1 } | rate()", UNSOUND, 400, "compiling query: 1:3: cannot compare\n  { name = 1 } | rate()\n    ^"),
    (RANGE, "{ }", InvalidInput("not a metrics query"), 400, "not a metrics query"),
    (INSTANT, "{ }", InvalidInput("not a metrics query"), 400, "not a metrics query"),
    (RANGE, RATE, TooLarge("too many series"), 413, "too many series"),
    (RANGE, RATE, ZeroDivisionError("secret"), 500, "internal error, described in the log of the server"),
]


@pytest.mark.parametrize(("path", "query", "error", "status", "text"), ERRORS)
def test_error_is_its_status_and_a_plain_text(served: Served, path: str, query: str, error: Exception, status: int, text: str) -> None:
    served.queries.outcome = error
    reply = served.get(path_of(path, q=query))
    assert (reply.status, reply.headers["content-type"], reply.body.decode()) == (status, "text/plain; charset=utf-8", text)


def test_large_answer_is_gzipped_when_that_is_accepted(served: Served) -> None:
    times = np.arange(1000, dtype=np.int64)
    served.queries.outcome = MetricsAnswer((Series(NAME, times, times.astype(np.float64)),), Inspected())
    plain = served.get(path_of(RANGE, q=RATE))
    packed = served.get(path_of(RANGE, q=RATE), accept_encoding="gzip")
    assert (plain.headers.get("content-encoding"), packed.headers["content-encoding"]) == (None, "gzip")
    assert gzip.decompress(packed.body) == plain.body
    assert len(packed.body) < len(plain.body) / 4

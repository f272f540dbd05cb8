"""Hostile questions over HTTP, to a whole server: whatever a parameter, path or header is, the answer is 200 or a plain 4xx, and it comes.

That it comes is seen by the connection's own time limit.
"""

from __future__ import annotations

import http.client
import json
from collections.abc import Iterator
from urllib.parse import quote_from_bytes

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from live import Live, live_server
from serving import WAIT_SECONDS, send

from node import NOW_NS, request, span
from spanlake.model.settings import OverrideSettings, Settings

pytestmark = pytest.mark.slow

S = 1_000_000_000
TIMES = ("start", "end", "since")
PRUNING = ("span_pruning", "span_pruning_group_by", "span_pruning_min_spans", "span_pruning_max_parent_depth")
ROUTES = {
    "/api/search": ("q", "tags", "minDuration", "maxDuration", "limit", "spss", *TIMES),
    "/api/explain": ("q", "limit", "spss", *TIMES),
    "/api/search/tags": ("scope", "q", "limit", "maxStaleValues", *TIMES),
    "/api/v2/search/tags": ("scope", "q", "limit", *TIMES),
    "/api/search/tag/{}/values": ("q", "limit", "tag", *TIMES),
    "/api/v2/search/tag/{}/values": ("q", "limit", "tag", *TIMES),
    "/api/traces/{}": ("start", "end"),
    "/api/v2/traces/{}": ("start", "end", "q", "match_depth", "keep_hierarchy", "ancestor_depth", *PRUNING),
    "/api/metrics/query_range": ("q", "query", "step", "exemplars", "maxSeries", *TIMES),
    "/api/metrics/query": ("q", "query", "step", "exemplars", "maxSeries", *TIMES),
}
QUERIES = [
    *(
        "{ }",
        "{ .a = 1 }",
        '{ span.text =~ "v.*" } | by(name) | count() > 1',
        "{ } >> { }",
        "{ } | select(.a, event.b)",
        "{",
        "{ .a = ",
        "nil",
    ),
    *("{ } | rate()", "{ } | rate() by (name, .a) with (exemplars=true)", "{ } | quantile_over_time(duration, .5, .9) by (span.number)"),
    *("{ } | compare({ status = error })", "({ } | rate()) / ({ } | count_over_time())", "{ } | histogram_over_time(.number) | topk(3)"),
    *(
        "{ } | compare({ }, 5, 1, 9223372036854775807)",
        "{ .a =~ `(a{1,1000}){1,1000}` }",
        "{ .a =~ `(((((a*)*)*)*)*)*b` }",
        "{ 1 / 0 = 1 % 0 }",
    ),
    *(
        "{ } | quantile_over_time(duration, 0, 1)",
        "{ } | min_over_time(.text)",
        "{ duration > -9223372036854775808ns }",
        "{ } | rate() | topk(9999999999)",
    ),
    *("{ trace:id = `" + "f" * 200 + "` }", "{ span:id = `` }", "(" * 500, "{ " + "!" * 500 + "true }", "{ .a = " + "9" * 400 + " }"),
]
NUMBERS = [
    *(
        "0",
        "-0",
        "1",
        "-1",
        "+1",
        "00",
        "20",
        "4294967295",
        "4294967296",
        "9223372036854775807",
        "9223372036854775808",
        "-9223372036854775808",
    ),
    *(
        "18446744073709551615",
        "9" * 19,
        "9" * 20,
        "9" * 5000,
        "1e3",
        "1e400",
        "1E-400",
        "NaN",
        "nan",
        "inf",
        "-inf",
        "Infinity",
        "0x10",
        "1_000",
    ),
    *("0.0000000001", "1.5", ".", ".5", "5.", "1.7e9", "१२", "１", "true", "None", "null", "[]", "{}", "1;2", "1,5"),
]
MOMENTS = [str(NOW_NS // S - 60), str(NOW_NS // S + 60), str(NOW_NS), f"{NOW_NS // S}.5", "2026-11-22T13:00:00Z", "9999-12-31T23:59:59Z"]
MOMENTS += [
    "0001-01-01T00:00:00Z",
    "2026-02-30T00:00:00Z",
    "2026-11-22T13:00:00+99:99",
    "2026-11-22T24:00:00Z",
    "now",
    "now-1h",
    "1970-01-01T00:00:00-23:59",
]
DURATIONS = ["1h", "1ms", "0s", "-1s", "1y", "300y", "1d12h", "1h1h", "9" * 30 + "s", "1ns", "0.1ns", "1.5", "15", "5 s", "µs", "1µs", "1M"]
ODD = [
    "",
    " ",
    "\x00",
    "a\x00b",
    "\r\nx: y",
    "\u2028",
    "\ufeff",
    "🦆",
    "é" * 300,
    "../../etc/passwd",
    "%",
    "%25",
    "%zz",
    "&",
    "=",
    "a=b",
    'a="',
    "x" * 9000,
]
SCOPES = ["resource", "span", "none", "intrinsic", "Resource"]
IDS = [
    "a1",
    "A1",
    "0" * 32,
    "f" * 32,
    "f" * 33,
    "g",
    "resource.service.name",
    "span.text",
    "status",
    ".",
    "..",
    "/",
    "a/b",
    "name",
    "event:name",
    'span."x y"',
]

texts = st.sampled_from([*QUERIES, *NUMBERS, *MOMENTS, *DURATIONS, *ODD, *SCOPES, *IDS]).map(str.encode) | st.text(max_size=30).map(
    lambda text: text.encode("utf-8", "surrogatepass")
)
values = texts | st.binary(max_size=20)
fitting = {
    **{name: st.sampled_from(QUERIES).map(str.encode) | values for name in ("q", "query")},
    **{name: st.sampled_from(MOMENTS).map(str.encode) | values for name in ("start", "end")},
    **{name: st.sampled_from(DURATIONS).map(str.encode) | values for name in ("since", "step")},
    "span_pruning": st.sampled_from([b"true", b"true", b"false", b"x"]),
}


@st.composite
def targets(draw: st.DrawFn) -> bytes:
    """A path with some of the parameters that it knows, perhaps several times, and perhaps an unknown one."""
    path = draw(st.sampled_from(sorted(ROUTES)))
    names = draw(st.lists(st.sampled_from((*ROUTES[path], "unknown")), max_size=5))
    pairs = [f"{name}={quote_from_bytes(draw(fitting.get(name, values)))}" for name in names]
    part = quote_from_bytes(draw(values), safe=draw(st.sampled_from(["", "/%"])))
    return f"{path.format(part)}?{'&'.join(pairs)}".encode()


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    with live_server(tmp_path_factory.mktemp("fuzz"), Settings(overrides=OverrideSettings(api=True))) as live:
        live.push(request(*(span(trace, number) for trace in (0xA1, 2, 3) for number in range(1, 6))))
        yield live


def answer_to(live: Live, target: bytes, **headers: str) -> tuple[int, str, bytes]:
    """(status, content type, body) for a target that is sent as it is."""
    connection = http.client.HTTPConnection("127.0.0.1", live.ports.http, timeout=WAIT_SECONDS)
    try:
        connection.putrequest("GET", target.decode("ascii"))
        for name, value in headers.items():
            connection.putheader(name.replace("_", "-"), value)
        connection.endheaders()
        response = connection.getresponse()
        return response.status, response.headers.get("content-type", ""), response.read()
    finally:
        connection.close()


@settings(max_examples=250, deadline=None, suppress_health_check=list(HealthCheck))
@given(target=targets(), accept=st.sampled_from(["application/json", "application/protobuf"]))
@example(target=b"/api/search?q=%ff%fe", accept="application/json")
@example(target=b"/api/search?q=%ed%a0%80", accept="application/json")
@example(target=b"/api/search?%00=%00&&&=&q", accept="application/json")
@example(target=b"/api/v2/search/tag/%2F%2F/values", accept="application/json")
@example(target=b"/api/v2/search/tag//values", accept="application/json")
@example(target=b"/api/v2/search/tag/%ed%a0%80/values?q=%ed%a0%80", accept="application/protobuf")
def test_question_is_answered_or_refused(live: Live, target: bytes, accept: str) -> None:
    status, content_type, body = answer_to(live, target, accept=accept)
    assert status in {200, 400, 404, 413, 414, 431}, (status, body[:500])
    assert status == 200 or (content_type in {"text/plain; charset=utf-8", ""} and len(body) < 5_000)


HEADERS = [
    "",
    " ",
    "*/*",
    "gzip;q=",
    "gzip;q=x",
    ",,,;;;",
    "application/protobuf" * 200,
    "\x7f",
    "x" * 8000,
    "bytes=0-5",
    "=?utf-8?q?=FF?=",
]


@pytest.mark.parametrize(
    "name", ["accept", "accept_encoding", "x_scope_orgid", "range", "if_none_match", "content_type", "te", "connection"]
)
@pytest.mark.parametrize("value", HEADERS)
def test_header_does_not_matter_whatever_it_is(live: Live, name: str, value: str) -> None:
    status, _, body = answer_to(live, b"/api/search?q=%7B%7D", **{name: value})
    assert status in {200, 400, 431}, body[:500]


LIMIT_NAMES = ["ingest_bytes_per_second", "retention_seconds", "query_range_seconds_max", "trace_spans_max", "nosuch", ""]
LIMIT_VALUES = st.one_of(
    st.none() | st.booleans() | st.integers() | st.floats(),
    st.sampled_from([*NUMBERS, *DURATIONS, *ODD, "10MiB", "7d", "-1d", "1e9MiB", "9" * 400 + "MiB"]),
    st.lists(st.integers(), max_size=2) | st.dictionaries(st.text(max_size=2), st.integers(), max_size=2),
)
LIMITS = st.dictionaries(st.sampled_from(LIMIT_NAMES) | st.text(max_size=5), LIMIT_VALUES, max_size=3).map(json.dumps).map(str.encode)
DEEP = [b"[" * 60_000, b'{"a":' * 9_000, b'{"trace_spans_max": 1, "trace_spans_max": 2}', b"\xff\xfe{}", b"null", b"1" * 5000]


@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    method=st.sampled_from(["POST", "PATCH", "DELETE"]),
    body=LIMITS | st.binary(max_size=20) | st.sampled_from(DEEP),
    match=st.sampled_from("*0x"),
)
def test_limits_are_changed_or_refused_whatever_is_sent(live: Live, method: str, body: bytes, match: str) -> None:
    reply = send(live.ports.http, method, "/api/overrides", body, {"if-match": match})
    assert reply.status in {200, 204, 400, 404, 412, 413}, reply
    assert reply.status < 400 or len(reply.body) < 5_000
    assert live.get("/api/overrides", {"scope": "merged"}).status == 200

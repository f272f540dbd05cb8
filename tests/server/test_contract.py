"""The acceptance list of the wire contract (section 8), as far as it concerns HTTP queries, against a whole server on real sockets.

Points 6 and 7, on metrics, are in test_contract_metrics; point 10 is that of the streaming tests, 12 to 14 have tests of their own.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

import pytest
from live import Live, live_server
from opentelemetry.proto.trace.v1.trace_pb2 import Status
from strict_json import decode_strictly
from tempo_proto import tempo_message

from node import NOW_NS, request, span

S = 1_000_000_000
START = NOW_NS // S
WINDOW = {"start": START - 60, "end": START + 60}
TEXT = "text/plain; charset=utf-8"
BARE_ID = 0xBA4E
# A ResourceSpans without resource, with a ScopeSpans without scope, with a span without status.
BARE = b"\x0a\x2b\x12\x29\x12\x27\x0a\x10" + BARE_ID.to_bytes(16) + b"\x12\x08" + (9).to_bytes(8) + b"\x2a\x09no status"
ODD_TAGS = {
    "a/b": "slash",
    "x y": "space",
    'say "hi"': "quotes",
    "a//b": "slashes",
    "ünïcode": "letters",
    "50%": "percent",
    "a?b&c=d#e": "url",
}


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    with live_server(tmp_path_factory.mktemp("contract")) as live:
        failed = Status(code=Status.STATUS_CODE_ERROR)
        shop = [
            span(0xA1, 1, name="GET /", kind=2, start_time_unix_nano=NOW_NS, end_time_unix_nano=NOW_NS + S),
            span(
                0xA1,
                2,
                parent=1,
                name="pay",
                kind=3,
                status=failed,
                attributes={"http.status_code": 500, "a": "b", "ratio": 0.5, "ok": False},
            ),
            span(0xA1, 3, parent=2, name="store", status=failed),
            span(0xA1, 4, parent=2, name="send"),
            span(0xA1, 5, parent=99, name="orphan"),
        ]
        odd = [span(0xA2, 1, name="odd", attributes=dict(ODD_TAGS))]
        live.push(request(*shop))
        live.push(request(*odd, service="odd"))
        live.push(BARE)
        yield live


def found(live: Live, **parameters: Any) -> list[dict[str, Any]]:
    reply = live.get("/api/search", parameters, accept="application/json")
    assert (reply.status, reply.headers["content-type"]) == (200, "application/json"), reply.body
    traces: list[dict[str, Any]] = decode_strictly("SearchResponse", reply.body)["traces"]
    return traces


# --- 1 and 2


def test_point_1_health_check_and_build_info(live: Live) -> None:
    echo = live.get("/api/echo")
    assert (echo.status, echo.headers["content-type"], echo.body) == (200, TEXT, b"echo\n")
    version = json.loads(live.get("/api/status/buildinfo").body)["version"]
    assert [int(part) for part in version.split(".")] >= [2, 7, 0]


@pytest.mark.parametrize("text", ["a1", "0a1", "A1", f"{0xA1:032x}", f"{0xA1:032X}"])
def test_point_2_ids_are_found_however_they_are_written(live: Live, text: str) -> None:
    for version in ("", "v2/"):
        reply = live.get(f"/api/{version}traces/{text}", accept="application/protobuf")
        assert (reply.status, reply.headers["content-type"]) == (200, "application/protobuf")
        message = tempo_message("TraceByIDResponse").FromString(reply.body).trace if version else None
        assert message is None or len(message.resource_spans[0].scope_spans[0].spans) == 5


def test_point_2_unknown_and_bad_ids(live: Live) -> None:
    unknown = live.get("/api/v2/traces/dead", accept="application/protobuf")
    assert (unknown.status, unknown.body[:2]) == (200, b"\x0a\x00")
    absent = live.get("/api/traces/dead", accept="application/protobuf")
    assert (absent.status, absent.body) == (404, b"")
    for text in ("1" * 33, "xyz", "a1-"):
        bad = live.get(f"/api/v2/traces/{text}")
        assert (bad.status, bad.headers["content-type"]) == (400, TEXT)


# --- 3


def test_point_3_resource_scope_and_status_are_there_though_they_were_not_sent(live: Live) -> None:
    reply = live.get(f"/api/v2/traces/{BARE_ID:x}", accept="application/protobuf")
    (resource_spans,) = tempo_message("TraceByIDResponse").FromString(reply.body).trace.resource_spans
    (scope_spans,) = resource_spans.scope_spans
    (only,) = scope_spans.spans
    assert only.name == "no status"
    assert resource_spans.HasField("resource")
    assert scope_spans.HasField("scope")
    assert only.HasField("status")


# --- 4 and 5


def test_point_4_search_answers_pass_a_strict_decoder(live: Live) -> None:
    (trace,) = found(live, q='{ span.a = "b" && span.http.status_code >= 500 && span.ratio < 1.5 && span.ok = false }', **WINDOW)
    assert trace["spanSet"] == trace["spanSets"][0]
    assert (trace["traceID"], trace["rootServiceName"], trace["rootTraceName"], trace["durationMs"]) == ("a1", "shop", "GET /", 1000)
    attributes = {one["key"]: one["value"] for one in trace["spanSet"]["spans"][0]["attributes"]}
    assert attributes == {
        "a": {"stringValue": "b"},
        "http.status_code": {"intValue": "500"},
        "ratio": {"doubleValue": 0.5},
        "ok": {"boolValue": False},
    }
    assert trace["serviceStats"] == {"shop": {"spanCount": 5, "errorCount": 2}}


SEARCHES: list[dict[str, Any]] = [
    {"q": "{}", "spss": 0, **WINDOW},  # tempo-cli
    {"q": "{}", "limit": 20, "spss": 3, **WINDOW},
    {"q": "{}", "limit": "", "spss": "", "start": "", "end": "", "mode": "", "unknown": "x"},
    {"q": "{}"},
    {},
    {"tags": ""},
]


@pytest.mark.parametrize("parameters", SEARCHES)
def test_point_5_parameters_may_be_left_out_empty_or_unknown(live: Live, parameters: dict[str, Any]) -> None:
    traces = found(live, **parameters)
    timeless = [] if parameters.get("start") else ["ba4e"]
    assert [trace["traceID"] for trace in traces] == ["a2", "a1", *timeless]


def test_point_5_spans_per_spanset_are_three_when_spss_is_0_and_matched_counts_all(live: Live) -> None:
    spanset = found(live, q='{ resource.service.name = "shop" }', spss=0)[0]["spanSet"]
    assert (len(spanset["spans"]), spanset["matched"]) == (3, 5)


def test_point_5_first_of_duplicate_parameters_counts(live: Live) -> None:
    reply = live.get("/api/search?q=%7B%7D&q=nonsense&limit=1&limit=x&%6Cimit=x&tag=a&tag=b&&=&limit")
    assert (reply.status, len(json.loads(reply.body)["traces"])) == (200, 1)


def test_point_5_legacy_searches_have_no_spansets(live: Live) -> None:
    for parameters in (
        {"tags": "a=b"},
        {"tags": "a=b http.status_code=500", **WINDOW},
        {"minDuration": "10ms"},
        {"minDuration": "1s", "maxDuration": "2s"},
    ):
        (trace,) = found(live, **parameters)
        assert trace["traceID"] == "a1"
        assert not {"spanSet", "spanSets"} & trace.keys()
    assert found(live, tags="a=c") == []


REFUSED = [
    ({"q": "{}", "start": START}, "http parameter start must be before end. received start={start} end=0"),
    ({"q": "{}", "end": START}, "error parsing date range: only one of start and end provided: must provide both or neither"),
    ({"q": "{}", "start": START, "end": START}, "http parameter start must be before end. received start={start} end={start}"),
    ({"q": "{}", "start": START - 700_000, "end": START}, "range specified by start and end exceeds 168h0m0s. received start="),
    ({"q": "{}", "limit": 0}, "invalid limit: must be a positive number"),
    ({"q": "{}", "limit": 262_145}, "limit 262145 exceeds max limit 262144"),
    ({"q": "{}", "spss": 101}, "spans per span set exceeds 100. received 101"),
    ({"q": "{}", "tags": "a=b"}, "invalid request: can't specify tags and q in the same query"),
    ({"q": "{ name = "}, "invalid TraceQL query: "),
    ({"q": "{ status = 1 }"}, "invalid TraceQL query: "),
    ({"q": "{nestedSetParent<0 && true&& duration > }"}, "invalid TraceQL query: "),  # Drilldown before it knows the durations
    ({"q": "{" + " " * 131_072 + "}"}, ""),
]


@pytest.mark.parametrize(("parameters", "text"), REFUSED, ids=[str(row[0])[:60] for row in REFUSED])
def test_point_11_errors_are_plain_text(live: Live, parameters: dict[str, Any], text: str) -> None:
    for accept in ("application/json", "application/protobuf"):
        reply = live.get("/api/search", parameters, accept=accept)
        assert (reply.status, reply.headers["content-type"]) in {(400, TEXT), (414, TEXT), (431, TEXT)}
        assert reply.body.decode().startswith(text.format(start=START))
        assert b"localblocks" not in reply.body


# --- 8


COLUMNS = "select(status, resource.service.name, name, nestedSetParent, nestedSetLeft, nestedSetRight)"
STRUCTURE = f"({{nestedSetParent<0 && true && status = error}} &>> {{ status = error }}) || ({{nestedSetParent<0 && true}}) | {COLUMNS}"
STRUCTURE_RATE = f"({{true }} &>> {{ kind = server }}) || ({{true }}) | {COLUMNS}"


def test_point_8_structure_query_has_one_span_set_per_trace_with_nested_set_numbers(live: Live) -> None:
    (shop,) = [trace for trace in found(live, q=STRUCTURE_RATE, limit=200, spss=20, **WINDOW) if trace["traceID"] == "a1"]
    assert len(shop["spanSets"]) == 1
    numbers = {}
    for one in shop["spanSets"][0]["spans"]:
        attributes = {attribute["key"]: attribute["value"] for attribute in one["attributes"]}
        assert attributes["service.name"] == {"stringValue": "shop"}
        assert attributes["status"]["stringValue"] in {"error", "unset"}
        numbers[one["name"]] = tuple(int(attributes[f"nestedSet{name}"]["intValue"]) for name in ("Left", "Right", "Parent"))
    orphan = numbers.pop("orphan")
    assert numbers == {"GET /": (1, 8, -1), "pay": (2, 7, 1), "store": (3, 4, 2), "send": (5, 6, 2)}
    assert orphan == (9, 10, 0)
    assert all(len(trace["spanSets"]) == 1 for trace in found(live, q=STRUCTURE, limit=200, spss=20, **WINDOW))


# --- 9


@pytest.mark.parametrize("tag", ODD_TAGS)
@pytest.mark.parametrize("encodings", [1, 2])
def test_point_9_values_of_tags_with_odd_names(live: Live, tag: str, encodings: int) -> None:
    plain = tag.replace("/", "").replace(".", "").isalnum()
    written = f"span.{tag}" if plain else f"span.{json.dumps(tag, ensure_ascii=False)}"
    path = written
    for _ in range(encodings):
        path = quote(path, safe="/" if encodings == 1 else "")
    reply = live.get(f"/api/v2/search/tag/{path}/values", {"limit": 5000, "tag": written, "q": "{}"})
    assert reply.status == 200, reply.body
    answer = decode_strictly("SearchTagValuesV2Response", reply.body)
    assert answer["tagValues"] == [{"type": "string", "value": ODD_TAGS[tag]}]


BROKEN = [
    '{resource.a= && name="x"}',
    "{ span.http.status_code = ",
    '{ name = "unfinished',
    "{",
    "}",
    "{ .a = 1 } | rate(",
    "\x00",
    "(((((",
]


@pytest.mark.parametrize("q", BROKEN)
def test_point_9_broken_filters_never_fail(live: Live, q: str) -> None:
    for path in (
        "/api/v2/search/tag/resource.service.name/values",
        "/api/v2/search/tags",
        "/api/search/tags",
        "/api/search/tag/service.name/values",
    ):
        reply = live.get(path, {"q": q})
        assert reply.status == 200, (path, reply.body)


VALUES = [
    ("resource.service.name", [("string", "odd"), ("string", "shop")]),
    ("span.http.status_code", [("int", "500")]),
    ("span.ratio", [("float", "0.5")]),
    ("span.ok", [("bool", "false")]),
    (".a", [("string", "b")]),
    ("status", [("keyword", "error"), ("keyword", "ok"), ("keyword", "unset")]),
    ("span:kind", [("keyword", text) for text in ("client", "consumer", "internal", "producer", "server", "unspecified")]),
    ("duration", []),
    ("traceDuration", []),
]


@pytest.mark.parametrize(("tag", "values"), VALUES)
def test_point_9_values_have_types(live: Live, tag: str, values: list[tuple[str, str]]) -> None:
    answer = decode_strictly("SearchTagValuesV2Response", live.get(f"/api/v2/search/tag/{tag}/values").body)
    shown = [(one["type"], one["value"]) for one in answer["tagValues"]]
    assert [one for one in shown if one != ("string", "")] == values


def test_point_9_tags_and_scopes(live: Live) -> None:
    answer = decode_strictly("SearchTagsV2Response", live.get("/api/v2/search/tags", {"limit": 5000}).body)
    scopes = {scope["name"]: scope["tags"] for scope in answer["scopes"]}
    assert set(ODD_TAGS) <= set(scopes["span"])
    assert scopes["resource"] == ["service.name"]
    assert (len(scopes["intrinsic"]), scopes["intrinsic"][0], scopes["intrinsic"][-1]) == (25, "duration", "trace:duration")
    flat = decode_strictly("SearchTagsResponse", live.get("/api/search/tags").body)["tagNames"]
    assert "service.name" in flat
    assert "duration" not in flat
    for scope in ("resource", "span", "event", "link", "instrumentation", "intrinsic", "none", "trace"):
        assert live.get("/api/v2/search/tags", {"scope": scope}).status == 200
    bad = live.get("/api/v2/search/tags", {"scope": "x"})
    assert (bad.status, bad.headers["content-type"], bad.body) == (400, TEXT, b"invalid scope: x")
    bad = live.get("/api/v2/search/tag/nothing/values")
    assert (bad.status, bad.headers["content-type"], bad.body[:32]) == (400, TEXT, b"please provide a valid tagName: ")


def test_point_9_values_of_version_1_are_texts(live: Live) -> None:
    for tag, values in (("a", ["b"]), ("status.code", ["error", "ok", "unset"]), ("error", ["true"]), ("a/b", ["slash"])):
        answer = decode_strictly("SearchTagValuesResponse", live.get(f"/api/search/tag/{tag}/values").body)
        assert answer["tagValues"] == values

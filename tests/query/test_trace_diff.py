"""What differs between two traces: matching, changes, summaries, and the endpoint."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status
from serving import Reply, Served, send, serving

from node import NOW_NS, request, span
from spanlake.model.errors import TooLarge
from spanlake.model.settings import QuerySettings
from spanlake.model.trace import TraceAnswer
from spanlake.query.trace_diff import FORMATS, diff_traces
from spanlake.query.trace_diff.tree import plain, tree_of

MS = 1_000_000
ERROR = Status(code=Status.STATUS_CODE_ERROR)


def timed(number: int, parent: int, name: str, milliseconds: float = 10, **fields: Any) -> Span:
    start = NOW_NS + number
    end = start + round(milliseconds * MS)
    fields.setdefault("attributes", {})
    return span(1, number, parent=parent, name=name, start_time_unix_nano=start, end_time_unix_nano=end, **fields)


def diff(base: bytes, compare: bytes, answer_format: str = "trace-patch-v0") -> dict[str, Any]:
    found: dict[str, Any] = json.loads(diff_traces(("a", base), ("b", compare), answer_format))
    return found


BASE = [timed(1, 0, "root", 100), timed(2, 1, "GET", attributes={"k": "v", "n": 1}), timed(3, 1, "PUT"), timed(4, 2, "SELECT")]


def test_a_trace_does_not_differ_from_itself() -> None:
    found = diff(request(*BASE), request(*BASE))
    assert found == {
        "version": "trace-patch-v0",
        "base": {"traceId": "a", "spanCount": 4},
        "compare": {"traceId": "b", "spanCount": 4},
        "stats": {
            "spanCountA": 4,
            "spanCountB": 4,
            "matchedSpans": 4,
            "modifiedSpans": 0,
            "addedSpans": 0,
            "removedSpans": 0,
            "fieldChanges": 0,
            "attributeChanges": 0,
            "eventChanges": 0,
            "truncated": False,
        },
        "modified": [],
        "added": [],
        "removed": [],
        "warnings": [],
    }


def changed(field: str, before: Any, after: Any) -> dict[str, Any]:
    return {"op": "modify", "target": {"type": "field", "name": field}, "before": before, "after": after}


def attribute_changed(op: str, key: str, before: Any, after: Any) -> dict[str, Any]:
    return {"op": op, "target": {"type": "attribute", "scope": "span", "key": key}, "before": before, "after": after}


CHANGES: list[tuple[dict[str, Any], list[dict[str, Any]]]] = [
    ({"milliseconds": 12.4}, []),
    ({"milliseconds": 13}, [changed("duration_nanos", 10 * MS, 13 * MS)]),
    ({"status": ERROR}, [changed("status", "unset", "error")]),
    ({"events": [Span.Event(name="retry")]}, [changed("events", [], ["retry"])]),
    ({"attributes": {"k": "w", "n": 1}}, [attribute_changed("modify", "k", "v", "w")]),
    ({"attributes": {"k": "v", "n": 1.0}}, [attribute_changed("modify", "n", 1, 1.0)]),
    ({"attributes": {"k": "v"}}, [attribute_changed("remove", "n", 1, None)]),
    ({"attributes": {"k": "v", "n": 1, "z": 5}}, [attribute_changed("add", "z", None, 5)]),
]


@pytest.mark.parametrize(("fields", "changes"), CHANGES, ids=[str(row[0]) for row in CHANGES])
def test_changes_within_a_span_are_listed(fields: dict[str, Any], changes: list[dict[str, Any]]) -> None:
    after = timed(2, 1, "GET", **({"attributes": {"k": "v", "n": 1}} | fields))
    found = diff(request(*BASE), request(BASE[0], after, *BASE[2:]))
    expected = [{"span": {"path": [0, 0], "service": "shop", "name": "GET", "kind": "internal"}, "changes": changes}] if changes else []
    assert found["modified"] == expected
    assert (found["stats"]["matchedSpans"], found["added"], found["removed"]) == (4, [], [])


def test_spans_are_added_and_removed_with_what_is_below() -> None:
    found = diff(request(*BASE), request(*BASE[:1], *BASE[2:3], timed(7, 3, "INSERT", 5, status=ERROR)))
    snapshot = {"service": "shop", "kind": "internal"}
    assert found["added"] == [
        {
            "target": {"type": "span", "parentPath": [0, 0], "index": 0},
            "span": {"path": [0, 0, 0], "name": "INSERT", "duration_nanos": 5 * MS, "status": "error", **snapshot},
        }
    ]
    assert [(one["target"], one["span"]["name"]) for one in found["removed"]] == [
        ({"type": "span", "path": [0, 0]}, "GET"),
        ({"type": "span", "path": [0, 0, 0]}, "SELECT"),
    ]
    assert found["stats"]["matchedSpans"] == 2


def test_siblings_that_look_alike_are_matched_by_start_whatever_their_order_in_the_answer() -> None:
    ones = [timed(1, 0, "root"), timed(2, 1, "GET", 10), timed(3, 1, "GET", 50)]
    assert diff(request(*ones), request(*reversed(ones)))["modified"] == []
    found = diff(request(*ones), request(*ones[:2]))
    assert [one["span"]["path"] for one in found["removed"]] == [[0, 1]]
    assert [one["code"] for one in found["warnings"]] == ["ambiguous_span_match"]


WARNINGS = [
    ("duplicate_span_id", [timed(1, 0, "root"), timed(1, 0, "other", kind=2)]),
    ("invalid_duration", [timed(1, 0, "root", -5)]),
    ("high_cardinality_span_name", [timed(1, 0, "root"), *(timed(number, 1, f"GET /user/{number}") for number in range(2, 30))]),
]


@pytest.mark.parametrize(("code", "spans"), WARNINGS)
def test_what_makes_a_comparison_doubtful_is_told(code: str, spans: list[Span]) -> None:
    found = diff(request(*spans), request(*spans))
    assert [one["code"] for one in found["warnings"]] == [code, code]
    assert all(side in one["message"] for side, one in zip(("base", "compare"), found["warnings"], strict=True))


def test_summary_says_which_way_the_trace_went_and_where() -> None:
    slower = [timed(1, 0, "root", 150), timed(2, 1, "GET", 20, status=ERROR, attributes={"k": "v", "n": 2}), *BASE[2:]]
    found = diff(request(*BASE), request(*slower), "trace-summary-v0-native")
    assert found["version"] == "trace-summary-v0-native"
    assert found["signals"] == {
        "duration": "increased",
        "spanDurationSum": "increased",
        "errors": "increased",
        "spans": "unchanged",
        "structure": "unchanged",
    }
    assert found["trust"] == {"matchedSpanRatio": 1.0, "structureOverlap": 1.0}
    assert found["changedServices"] == ["shop"]
    (shop,) = found["services"]
    assert {name: shop[name] for name in ("modifiedSpans", "newErrorSpans", "resolvedErrorSpans", "attributeChangedSpans")} == {
        "modifiedSpans": 2,
        "newErrorSpans": 1,
        "resolvedErrorSpans": 0,
        "attributeChangedSpans": 1,
    }
    assert shop["spanDurationSumDeltaNanos"] == 60 * MS
    assert (found["base"]["rootService"], found["base"]["rootName"], found["base"]["errorSpanCount"]) == ("shop", "root", 0)


def test_composed_summary_has_the_patch_unless_it_is_large() -> None:
    found = diff(request(*BASE), request(*BASE), "trace-summary-v0-composed")
    assert found["summary"] == diff(request(*BASE), request(*BASE), "trace-summary-v0-native")
    assert found["patch"] == diff(request(*BASE), request(*BASE))
    many = [timed(number, 1, "GET") for number in range(2, 1000)]
    large = diff(request(BASE[0]), request(BASE[0], *many), "trace-summary-v0-composed")
    assert "patch" not in large
    assert large["patchOmitted"]["bytes"] > large["patchOmitted"]["bytesMax"] == 65536


def test_very_deep_traces_are_compared_but_not_span_by_span() -> None:
    chain = [timed(number, number - 1, f"level {number % 3}") for number in range(1, 3001)]
    other = [timed(1, 0, "else", status=ERROR), *chain[1:]]
    assert diff(request(*chain), request(*chain))["stats"]["matchedSpans"] == 3000
    with pytest.raises(TooLarge, match="ask for a summary"):
        diff(request(*chain), request(*other))
    composed = diff(request(*chain), request(*other), "trace-summary-v0-composed")
    assert composed["summary"]["stats"]["removedSpans"] == 3000
    assert "ask for a summary" in composed["patchOmitted"]["reason"]


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ({"intValue": "5"}, 5),
        ({"arrayValue": {"values": [{"boolValue": True}, {}]}}, [True, None]),
        ({"arrayValue": {}}, []),
        ({"kvlistValue": {"values": [{"key": "a", "value": {"doubleValue": 1.5}}, {"key": "b"}]}}, {"a": 1.5, "b": None}),
        ({}, None),
    ],
)
def test_values_are_plain(value: dict[str, Any], expected: Any) -> None:
    assert plain(value) == expected


TREES = st.lists(st.tuples(st.integers(0, 10), st.sampled_from("abc"), st.integers(-3, 40)), min_size=1, max_size=10).map(
    lambda rows: [timed(number, parent, name, length) for number, (parent, name, length) in enumerate(rows, 1)]
)


@given(base=TREES, compare=TREES)
def test_every_span_is_matched_added_or_removed_whatever_the_trees(base: list[Span], compare: list[Span]) -> None:
    """Parents may be absent, the span itself, or form rings."""
    stats = diff(request(*base), request(*compare))["stats"]
    assert stats["matchedSpans"] + stats["removedSpans"] == stats["spanCountA"] == len(base)
    assert stats["matchedSpans"] + stats["addedSpans"] == stats["spanCountB"] == len(compare)
    paths = [tuple(node.path) for node in tree_of(request(*base)).nodes]
    assert paths == sorted(set(paths)), "from the top down, each once"
    same = diff(request(*base), request(*base))
    assert (same["stats"]["matchedSpans"], same["modified"]) == (len(base), [])
    for answer_format in FORMATS:
        assert diff(request(*base), request(*compare), answer_format)["version"] == answer_format


# --- The endpoint

PATH = "/api/v2/traces/diff"
FOUND = TraceAnswer(request(*BASE), 4)
BOTH = {"base": {"traceId": "a1"}, "compare": {"traceID": "B2"}}


@pytest.fixture(scope="module")
def server() -> Iterator[Served]:
    with serving(query=QuerySettings(trace_diff_bytes_max=2 * len(FOUND.encoded))) as served:
        yield served


def post(served: Served, body: Any, method: str = "POST") -> Reply:
    return send(served.ports.http, method, PATH, body if isinstance(body, bytes) else json.dumps(body), {})


def test_endpoint_compares_the_traces_that_are_named(server: Served) -> None:
    server.reader.outcome = FOUND
    server.reader.asked.clear()
    reply = post(server, {**BOTH, "compare": {"traceId": "B2", "start": 100, "end": "200"}})
    assert (reply.status, reply.headers["content-type"]) == (200, "application/json")
    found = json.loads(reply.body)
    assert (found["version"], found["compare"]["traceId"]) == ("trace-patch-v0", "b2".zfill(32))
    assert [(asked[1], asked[2] is None) for asked in server.reader.asked] == [((0, 0xA1), True), ((0, 0xB2), False)]
    assert json.loads(post(server, {**BOTH, "format": "trace-summary-v0-native"}).body)["version"] == "trace-summary-v0-native"


REFUSED: list[tuple[Any, TraceAnswer, int, str]] = [
    (b"{", FOUND, 400, "invalid body: not JSON"),
    ([], FOUND, 400, "invalid body: expected an object"),
    ({"base": {"traceId": "1"}}, FOUND, 400, "invalid compare: expected an object"),
    ({"base": {}, "compare": {}}, FOUND, 400, "invalid base: traceId is missing"),
    ({**BOTH, "base": {"traceId": "xyz"}}, FOUND, 400, "trace IDs can only contain hex characters"),
    ({**BOTH, "base": {"traceId": "1", "start": 9, "end": 5}}, FOUND, 400, "http parameter start must be before end"),
    ({**BOTH, "base": {"traceId": "1", "start": {}}}, FOUND, 400, "invalid start"),
    ({**BOTH, "format": "x"}, FOUND, 400, "invalid format: 'x' is none of trace-patch-v0"),
    (b"[" * 1000, FOUND, 400, "invalid body"),
    (b" " * 20_000, FOUND, 413, "the body has 20000 bytes"),
    (BOTH, TraceAnswer(b"", 0), 404, "the base trace 000000000000000000000000000000a1 was not found"),
    (BOTH, TraceAnswer(FOUND.encoded, 4, complete=False, message="too large"), 422, "the base trace cannot be compared: too large"),
    (BOTH, TraceAnswer(FOUND.encoded * 2, 8), 429, "(query.trace_diff_bytes_max)"),
]


@pytest.mark.parametrize(("body", "outcome", "status", "text"), REFUSED, ids=[f"{row[2]} {row[3]}" for row in REFUSED])
def test_endpoint_refuses_with_a_plain_text(server: Served, body: Any, outcome: TraceAnswer, status: int, text: str) -> None:
    server.reader.outcome = outcome
    reply = post(server, body)
    assert (reply.status, reply.headers["content-type"]) == (status, "text/plain; charset=utf-8")
    assert text in reply.body.decode()


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE"])
def test_endpoint_is_405_for_other_methods(server: Served, method: str) -> None:
    reply = post(server, BOTH, method)
    assert (reply.status, reply.headers["allow"]) == (405, "POST")

"""Every query that Grafana's Traces Drilldown builds (wire contract, section 3.2), verbatim, through a whole server over the corpus.

The answers are those of the naive evaluator, and have what the screens depend on.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from functools import cache
from typing import Any

import pytest
from answers import differences
from live import Live, live_server
from naive import search_traces
from naive_metrics import query_range
from naive_otlp import spans_of_json
from naive_series import Labels
from naive_spans import Trace, traces_of
from pushed_corpus import ASKED, BASE_NS, FOLDER, SECOND_NS, payloads, shifted
from series_answers import EXACT, SKETCHED, series_differences
from tempo_json import read_query_range, read_search

from spanlake.traceql import check, parse

pytestmark = pytest.mark.slow

PRIMARIES = ("nestedSetParent<0", "true", "kind=server", "kind=consumer", 'span.db.system.name!=""')
FILTERS = (
    "true",
    'resource.service.name="gateway"',
    "span.http.status_code>=400",
    "status=error&&duration>100ms",
    'span."foo bar"="v"',
    'span.http.route="/items/{id}"&&resource.replicas=2&&resource.spot!=true',
    'name="quo\\"te \\\\ \\n"',
    'span.network.protocol.version="2"',
)
ATTRIBUTES = ("resource.service.name", "name", "status", "kind", "span.http.status_code", 'span."foo bar"', "rootName", ".service.name")
COLUMNS = "status, resource.service.name, name, nestedSetParent, nestedSetLeft, nestedSetRight"
SECONDS = (ASKED.end_ns - ASKED.start_ns) // SECOND_NS
WINDOW = {"start": ASKED.start_ns // SECOND_NS, "end": ASKED.end_ns // SECOND_NS}
BUCKETS = {2.0**exponent / SECOND_NS for exponent in range(1, 64)}


def condition(primary: str, filters: str = "true") -> str:
    return f"{primary} && {filters}"


CONDITIONS = [*(condition(primary) for primary in PRIMARIES), *(condition(PRIMARIES[0], filters) for filters in FILTERS[1:])]
FEW_OR_SLOW = [*CONDITIONS[:2], *(pytest.param(where, marks=pytest.mark.slow) for where in CONDITIONS[2:])]
FIRST_OR_SLOW = [PRIMARIES[0], *(pytest.param(primary, marks=pytest.mark.slow) for primary in PRIMARIES[1:])]


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    with live_server(tmp_path_factory.mktemp("drilldown")) as live:
        for payload in payloads():
            live.push(payload)
        yield live


@cache
def traces() -> list[Trace]:
    pushes = [json.loads(line) for line in (FOLDER / "pushes.jsonl").read_text().splitlines()]
    return traces_of(span for push in pushes for span in spans_of_json(shifted(push)))


def ask_range(live: Live, query: str, step_seconds: int, **parameters: Any) -> dict[Labels, dict[int, float]]:
    """The answer, after a look at its shape and at the naive evaluator's."""
    check(parse(query))
    reply = live.get(
        "/api/metrics/query_range", {"q": query, **WINDOW, "step": f"{step_seconds}s", **parameters}, accept="application/json"
    )
    assert reply.status == 200, reply.body
    series, _ = read_query_range(reply.body)
    expected = query_range(query, traces(), window_ns=(ASKED.start_ns, ASKED.end_ns), step_ns=step_seconds * SECOND_NS)
    assert not series_differences(expected, series, tolerance=SKETCHED if "quantile" in query else EXACT)
    return series


def ask_search(live: Live, query: str, limit: int, spss: int) -> list[dict[str, Any]]:
    """The raw traces, after a comparison with the naive evaluator of those that it would find first."""
    check(parse(query))
    reply = live.get("/api/search", {"q": query, **WINDOW, "limit": limit, "spss": spss}, accept="application/json")
    assert reply.status == 200, reply.body
    whole = live.get("/api/search", {"q": query, **WINDOW, "limit": limit, "spss": 100}, accept="application/json")
    naive = search_traces(query, traces(), overlaps_ns=(ASKED.start_ns, ASKED.end_ns), limit=limit)
    expected = {
        trace_id: {**trace, "start": trace["start"] - BASE_NS, "sets": _shifted_sets(trace["sets"])} for trace_id, trace in naive.items()
    }
    assert not differences(expected, read_search(whole.body, BASE_NS))
    found: list[dict[str, Any]] = json.loads(reply.body)["traces"]
    return found


def _shifted_sets(sets: list[dict[str, Any]]) -> list[dict[str, Any]]:
    def moved(span: list[Any]) -> list[Any]:
        return [span[0], span[1], span[2] - BASE_NS, *span[3:]]

    return [{**one, "spans": None if one["spans"] is None else [moved(span) for span in one["spans"]]} for one in sets]


def step_of(seconds: int, points: int) -> int:
    """The step of a panel."""
    return max(seconds // points, 1)


# ---- panels ----


def test_config_probe(live: Live) -> None:
    reply = live.get("/api/metrics/query_range", {"q": "{} | rate()", "start": WINDOW["end"] - 60, "end": WINDOW["end"]})
    assert reply.status == 200
    assert b"localblocks" not in reply.body
    assert [label for labels in read_query_range(reply.body)[0] for label in labels] == [("__name__", ("string", "rate"))]


@pytest.mark.parametrize("where", CONDITIONS)
def test_rate_and_errors_panels_have_a_number_at_every_point(live: Live, where: str) -> None:
    step = step_of(SECONDS, 64)
    for query in (f"{{{where}}} | rate()  with(sample=true)", f"{{{where} && status=error}} | rate()  with(sample=true)"):
        ((labels, points),) = ask_range(live, query, step).items()
        assert labels == (("__name__", ("string", "rate")),)
        assert sorted(points) == list(range(ASKED.start_ns, ASKED.end_ns + 1, step * SECOND_NS))


@pytest.mark.parametrize("where", FEW_OR_SLOW)
def test_duration_heat_map_has_one_label_with_bounds_in_seconds(live: Live, where: str) -> None:
    series = ask_range(live, f"{{{where}}} | histogram_over_time(duration) with(sample=true)", step_of(SECONDS, 24))
    for labels, points in series.items():
        ((key, (kind, bound)),) = labels
        assert (key, kind) == ("__bucket", "double")
        assert bound in BUCKETS
        assert all(number == math.floor(number) for number in points.values())


@pytest.mark.parametrize(
    "query",
    [
        "{nestedSetParent<0 && true} | rate()  with(sample=true)",
        "{nestedSetParent<0 && true && status=error} | rate()  with(sample=true)",
        "{nestedSetParent<0 && true} | quantile_over_time(duration, 0.9)  with(sample=true)",
    ],
)
def test_time_seeker_asks_for_a_day_at_steps_of_30_seconds(live: Live, query: str) -> None:
    ask_range(live, query, 30)
    day = {"start": WINDOW["end"] - 24 * 3600, "end": WINDOW["end"], "step": "30s"}
    reply = live.get("/api/metrics/query_range", {"q": query, **day})
    assert reply.status == 200
    too_long = live.get("/api/metrics/query_range", {"q": query, **day, "start": WINDOW["end"] - 24 * 3600 - 60})
    assert too_long.status == 400
    assert b"metrics query time range exceeds the maximum allowed duration of" in too_long.body


# ---- breakdown ----


@pytest.mark.parametrize("attribute", ATTRIBUTES)
def test_breakdown_labels_are_the_text_of_by(live: Live, attribute: str) -> None:
    where, step = condition("nestedSetParent<0"), step_of(SECONDS, 64)
    nil = "" if attribute in ("name", "status", "kind", "rootName") else f" && {attribute} != nil"
    for query in (
        f"{{{where} && {attribute} != nil}} | rate() by({attribute})",
        f"{{{where} && status=error{nil}}} | rate() by({attribute})",
    ):
        for labels in ask_range(live, query, step):
            assert [key for key, _ in labels] == [attribute]


@pytest.mark.parametrize("quantiles", ["0.9", "0.5, 0.9", "0.5,0.75,0.9,0.95,0.99"])
@pytest.mark.parametrize("attribute", ATTRIBUTES[:4])
def test_breakdown_of_durations_has_a_quantile_label_behind_the_attribute(live: Live, attribute: str, quantiles: str) -> None:
    query = f"{{{condition('true')} && {attribute} != nil}} | quantile_over_time(duration, {quantiles}) by({attribute})"
    for labels in ask_range(live, query, step_of(SECONDS, 64)):
        assert [key for key, _ in labels] == [attribute, "p"]
        assert labels[1][1][0] == "double"


def test_breakdown_without_a_group_and_of_one_value(live: Live) -> None:
    where = condition("true")
    assert len(ask_range(live, f"{{{where}}} | rate() ", 10)) == 1
    series = ask_range(live, f'{{{where} && resource.service.name="gateway"}} | rate() by(resource.service.name)', 10)
    assert list(series) == [(("resource.service.name", ("string", "gateway")),)]


# ---- comparison ----

SELECTIONS = (
    "{status = error}, 10",
    "{duration >= 2s && duration <= 5s}, 10",
    f"{{status = error}}, 10, {BASE_NS + 10 * SECOND_NS}, {BASE_NS + 30 * SECOND_NS}",
    "{}",
)


@pytest.mark.parametrize("selection", SELECTIONS)
@pytest.mark.parametrize("primary", FIRST_OR_SLOW[:3])
def test_comparison_has_values_with_totals_over_the_whole_range(live: Live, primary: str, selection: str) -> None:
    """The step is the whole range, and the newest data is in the answer."""
    series = ask_range(live, f"{{{condition(primary)}}} | compare({selection})", SECONDS)
    keys = set()
    for labels in series:
        (meta, (kind, side)), (key, value) = labels
        assert (meta, kind) == ("__meta_type", "string")
        assert not key.startswith("__")
        assert side in {"baseline", "selection", "baseline_total", "selection_total"}
        assert not str(side).endswith("_total") or value == ("string", "nil")
        keys.add(key)
    assert {"resource.service.name", "status", "kind", "name"} <= keys
    assert not keys & {"duration", "traceDuration", "trace:id", "span:id", "span:parentID", "nestedSetParent", "nestedSetLeft"}
    counted = sum(
        sum(points.values()) for labels, points in series.items() if (labels[1][0], str(labels[0][1][1])[-5:]) == ("kind", "total")
    )
    rate = ask_range(live, f"{{{condition(primary)}}} | count_over_time()", SECONDS)
    assert counted == sum(sum(points.values()) for points in rate.values()) > 0


# ---- structure ----

STRUCTURES = (
    "({{{f} && status = error}} &>> {{ status = error }}) || ({{{f} && status = error}}) | select({columns})",
    "({{{f} }} &>> {{ kind = server }}) || ({{{f} }}) | select({columns})",
    "({{{f} && duration > 500ms}} &>> {{ duration > 150ms }}) || ({{{f} && duration > 500ms}}) | select({columns})",
    "({{{f} && duration > 1s}} &>> {{ duration > 0 }}) || ({{{f} && duration > 1s}}) | select({columns})",
)


@pytest.mark.parametrize("template", STRUCTURES)
@pytest.mark.parametrize("primary", FIRST_OR_SLOW)
def test_structure_has_one_spanset_per_trace_with_places_in_the_tree(live: Live, primary: str, template: str) -> None:
    for trace in ask_search(live, template.format(f=condition(primary), columns=COLUMNS), 200, 20):
        (spanset,) = trace["spanSets"]
        assert spanset["matched"] >= len(spanset["spans"]) > 0
        for span in spanset["spans"]:
            shown = {one["key"]: one["value"] for one in span["attributes"]}
            left, right, parent = (int(shown[f"nestedSet{place}"]["intValue"]) for place in ("Left", "Right", "Parent"))
            assert left >= 1
            assert left < right
            assert -1 <= parent < left
            assert shown["status"]["stringValue"] in {"error", "ok", "unset"}
            assert "stringValue" in shown.get("service.name", {"stringValue": ""}) or "intValue" in shown["service.name"]


# ---- exceptions and spans ----

EXCEPTION = "resource.service.name, event.exception.message,event.exception.stacktrace,event.exception.type"
SEARCHES = (
    f"{{{{{{f}} && status = error}}}} | select({EXCEPTION}) with(most_recent=true)",
    '{{{f} && status = error && event.exception.message = "boom 1" && event.exception.type = "Timeout"}} | select({columns})',
    '{{{f} && status = error && event.exception.message =~ "^boom [12]$" && event.exception.type = "IOError"}} | select({columns})',
    "{{{f}}} | select({columns})",
    "{{{f} && status = error}} | select({columns})",
    "{{{f}&& duration > 1s}} | select({columns})",
    "{{{f}&& duration >= 0}} | select({columns})",
    "{{{f}&& duration >= 100ms && duration <= 500ms}} | select({columns})",
)


@pytest.mark.parametrize("template", SEARCHES)
@pytest.mark.parametrize("primary", FIRST_OR_SLOW)
def test_lists_of_spans_and_exceptions(live: Live, primary: str, template: str) -> None:
    for trace in ask_search(live, template.format(f=condition(primary), columns=COLUMNS), 400, 10):
        assert trace["spanSet"] == trace["spanSets"][0]
        assert all(len(one["spans"]) <= 10 for one in trace["spanSets"])


def test_exceptions_have_plain_keys(live: Live) -> None:
    rows = ask_search(live, SEARCHES[0].format(f=condition("true")), 400, 10)
    shown = {one["key"] for trace in rows for one_set in trace["spanSets"] for span in one_set["spans"] for one in span["attributes"]}
    assert {"exception.message", "exception.type", "service.name", "status"} <= shown


@pytest.mark.parametrize(
    "query",
    [
        "{nestedSetParent<0 && true&& duration > } | select(status)",
        "({nestedSetParent<0 && true && duration > } &>> { duration >  }) || ({nestedSetParent<0 && true && duration > })",
    ],
)
def test_queries_without_the_durations_that_they_need_are_refused(live: Live, query: str) -> None:
    reply = live.get("/api/search", {"q": query, **WINDOW, "limit": 200})
    assert (reply.status, reply.headers["content-type"]) == (400, "text/plain; charset=utf-8")


def test_root_filter_finds_spans_without_a_parent_id_only(live: Live) -> None:
    found = ask_search(live, "{nestedSetParent<0}", 5000, 100)
    spans = {(int(trace["traceID"], 16), int(span["spanID"], 16)) for trace in found for span in trace["spanSet"]["spans"]}
    roots = {(trace.id, span.span_id) for trace in traces() for span in trace.spans if span.parent_id == 0}
    in_window = {trace.id for trace in traces() if trace.start_ns <= ASKED.end_ns and trace.end_ns >= ASKED.start_ns}
    assert spans == {pair for pair in roots if pair[0] in in_window}

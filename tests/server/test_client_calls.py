"""What Grafana's screens ask, in the shapes and with the parameters of the wire contract (sections 1 and 3), and what they need for that.

The server is whole and loaded, half of its spans in blocks and half live.
"""

from __future__ import annotations

import gzip
import json
import time
from collections.abc import Iterator
from typing import Any

import pytest
from live import Live, live_server
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status
from strict_json import decode_strictly
from tempo_proto import tempo_message

from node import attribute, request, span

pytestmark = pytest.mark.slow

MS, S = 1_000_000, 1_000_000_000
NOW = time.time_ns() // S // 60 * 60 - 60  # a whole minute, and Grafana's "now"
HOUR = {"start": NOW - 3600, "end": NOW}
TRACES = 60
GRAFANA = {"accept": "application/json, text/plain, */*", "accept_encoding": "gzip"}
FAILED = Status(code=Status.STATUS_CODE_ERROR, message="declined")


def exception(begin_ns: int, text: str) -> Span.Event:
    attributes = {"exception.type": "CardError", "exception.message": text, "exception.stacktrace": "at pay()\n  at cart()"}
    return Span.Event(name="exception", time_unix_nano=begin_ns, attributes=[attribute(key, value) for key, value in attributes.items()])


def trace_of(number: int) -> tuple[bytes, bytes]:
    """The spans of two services: a web request every minute that pays; each fifth payment is declined, each third request is slow."""
    begin_ns = (NOW - 60 * number) * S - 30 * S
    trace = 0xC0FFEE0000 + number
    slow = 2_500 if number % 3 == 0 else 200
    failed = number % 5 == 0

    def one(place: int, name: str, kind: int, duration_ms: int, **fields: Any) -> Span:
        times = {"start_time_unix_nano": begin_ns + place * MS, "end_time_unix_nano": begin_ns + (place + duration_ms) * MS}
        return span(trace, 16 * trace + place, parent=16 * trace + place - 1 if place > 1 else 0, name=name, kind=kind, **times, **fields)

    web = one(1, "GET /cart", Span.SPAN_KIND_SERVER, slow, attributes={"http.method": "GET", "http.status_code": 500 if failed else 200})
    call = one(2, "POST /pay", Span.SPAN_KIND_CLIENT, slow - 50, status=FAILED if failed else None)
    events = [exception(begin_ns, 'card "gold" was declined')] if failed else []
    pay = one(3, "pay", Span.SPAN_KIND_SERVER, slow - 60, status=FAILED if failed else None, events=events)
    store = one(4, "INSERT", Span.SPAN_KIND_CLIENT, 20, attributes={"db.system.name": "postgresql", "db.rows": 1})
    told = one(5, "notify", Span.SPAN_KIND_CONSUMER, 5)
    return request(web, call, service="shop"), request(pay, store, told, service="pay")


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    with live_server(tmp_path_factory.mktemp("clients")) as live:
        for number in range(TRACES):
            for payload in trace_of(number):
                live.push(payload)
            if number == TRACES // 2:
                live.system.pipeline.cut(everything=True)
        yield live


def search(live: Live, q: str, **parameters: Any) -> list[dict[str, Any]]:
    reply = live.get("/api/search", {"q": q, **HOUR, **parameters}, accept="application/json")
    assert (reply.status, reply.headers["content-type"]) == (200, "application/json"), (q, reply.body[:300])
    traces: list[dict[str, Any]] = decode_strictly("SearchResponse", reply.body)["traces"]
    return traces


def metrics(live: Live, q: str, step: str, **parameters: Any) -> list[dict[str, Any]]:
    reply = live.get("/api/metrics/query_range", {"q": q, **HOUR, "step": step, **parameters}, accept="application/json")
    assert (reply.status, reply.headers["content-type"]) == (200, "application/json"), (q, reply.body[:300])
    series: list[dict[str, Any]] = decode_strictly("QueryRangeResponse", reply.body).get("series", [])
    return series


def values_of(series: dict[str, Any]) -> list[float]:
    return [sample.get("value", 0) for sample in series["samples"]]


def labels_of(series: dict[str, Any]) -> dict[str, Any]:
    return {label["key"]: next(iter(label["value"].values())) for label in series["labels"]}


# --- The data source: settings page, query editor, trace view, links


def test_save_and_test_and_the_version_that_old_frontends_ask_for(live: Live) -> None:
    assert live.get("/api/echo").status == 200
    assert json.loads(live.get("/api/status/buildinfo").body)["version"] >= "2.7.0"


def test_editor_offers_tags_then_values_of_the_chosen_one_then_searches(live: Live) -> None:
    scopes = decode_strictly("SearchTagsV2Response", live.get("/api/v2/search/tags", {"limit": 5000}, accept=GRAFANA["accept"]).body)[
        "scopes"
    ]
    names = {scope["name"]: scope["tags"] for scope in scopes}
    assert "service.name" in names["resource"]
    assert {"http.method", "db.system.name"} <= set(names["span"])
    assert {"exception.message", "exception.type"} <= set(names["event"])
    asked = {"limit": 5000, "tag": "resource.service.name", "q": "{}"}
    values = live.get("/api/v2/search/tag/resource.service.name/values", asked, accept=GRAFANA["accept"])
    assert [one["value"] for one in decode_strictly("SearchTagValuesV2Response", values.body)["tagValues"]] == ["pay", "shop"]
    asked = {"limit": 5000, "tag": "name", "q": '{resource.service.name="shop"}'}
    values = live.get("/api/v2/search/tag/name/values", asked, accept=GRAFANA["accept"])
    assert [one["value"] for one in decode_strictly("SearchTagValuesV2Response", values.body)["tagValues"]] == ["GET /cart", "POST /pay"]
    found = search(live, '{resource.service.name="shop" && name="GET /cart"}', limit=20, spss=3)
    assert len(found) == 20
    starts = [int(trace["startTimeUnixNano"]) for trace in found]
    assert starts == sorted(starts, reverse=True)


PARTS = [
    ('resource.service.name="shop"', TRACES),
    ("span.http.status_code>=500", TRACES / 5),
    ('event.exception.type="CardError"', TRACES / 5),
    ('.http.method="GET"', TRACES),
    ("status=error", TRACES / 5),
    ("kind=server", TRACES),
    ("duration>1.2s", TRACES / 3),
    ("traceDuration>100ms", TRACES),
    ('(resource.service.name="shop" || resource.service.name="pay")', TRACES),
    ('(resource.service.name!="shop" && resource.service.name!="pay")', 0),
    ('name=~"GET.*"', TRACES),
    ('name=~"GET /cart|pay"', TRACES),
    ('span.db.name="X" || span.db.system="X" || span.peer.service="X" || span.messaging.system="X" || span.net.peer.name="X"', 0),
    ('event.exception.message = "card \\"gold\\" was declined"', TRACES / 5),
]


@pytest.mark.parametrize(("part", "count"), PARTS)
def test_query_builder_finds_what_its_parts_say(live: Live, part: str, count: float) -> None:
    assert len(search(live, f"{{{part}}}", limit=200)) == count
    assert len(search(live, f"{{{part} && true}}", limit=200)) == count


def test_trace_view_has_what_it_draws(live: Live) -> None:
    found = search(live, '{resource.service.name="shop" && status=error}', limit=1)[0]
    start = int(found["startTimeUnixNano"]) // S
    for range_parameters in (None, {"start": start - 1800, "end": start + 1800}):
        reply = live.get(f"/api/v2/traces/{found['traceID']}", range_parameters, accept="application/protobuf", accept_encoding="gzip")
        assert (reply.status, reply.headers["content-type"]) == (200, "application/protobuf")
        body = gzip.decompress(reply.body) if reply.headers.get("content-encoding") == "gzip" else reply.body
        trace = tempo_message("TraceByIDResponse").FromString(body).trace
        services = [one.resource.attributes[0].value.string_value for one in trace.resource_spans]
        assert sorted(services) == ["pay", "shop"]
        spans = {one.name: one for part in trace.resource_spans for scope in part.scope_spans for one in scope.spans}
        assert set(spans) == {"GET /cart", "POST /pay", "pay", "INSERT", "notify"}
        assert spans["pay"].parent_span_id == spans["POST /pay"].span_id
        assert spans["GET /cart"].parent_span_id == b""
        assert (spans["pay"].status.code, spans["pay"].status.message, len(spans["pay"].events)) == (2, "declined", 1)


# --- Traces Drilldown


PRIMARIES = ["nestedSetParent<0", "true", "kind=server", "kind=consumer", 'span.db.system.name!=""']
FILTERS = [
    "true",
    'resource.service.name="shop"',
    'resource.service.name="shop"&&kind=server',
    "duration>100ms&&status=error",
    "span.db.rows=1",
]
SHOWN = "status, resource.service.name, name, nestedSetParent, nestedSetLeft, nestedSetRight"
BY = ["resource.service.name", "name", "span.http.status_code", "status", "kind", "span.db.rows", "event.exception.type"]


SCREENS = [*((primary, FILTERS[0]) for primary in PRIMARIES), *((PRIMARIES[0], filters) for filters in FILTERS[1:])]


@pytest.mark.parametrize(("primary", "filters"), SCREENS)
def test_every_screen_answers_for_every_filter(live: Live, primary: str, filters: str) -> None:
    f = f"{primary} && {filters}"
    for q, step in (
        (f"{{{f}}} | rate()  with(sample=true)", "56s"),
        (f"{{{f} && status=error}} | rate()  with(sample=true)", "56s"),
        (f"{{{f}}} | histogram_over_time(duration) with(sample=true)", "150s"),
        (f"{{{f}}} | quantile_over_time(duration, 0.9)  with(sample=true)", "30s"),
        (f"{{{f}}} | rate() ", "56s"),
        (f"{{{f}}} | compare({{status = error}}, 10)", "3600s"),
        (f"{{{f}}} | compare({{duration >= 2s && duration <= 5s}}, 10)", "3600s"),
        (f"{{{f}}} | compare({{status = error}}, 10, {(NOW - 600) * S}, {NOW * S})", "3600s"),
        (f"{{{f}}} | compare({{}})", "3600s"),
    ):
        metrics(live, q, step)
    for q in (
        f"({{{f} && status = error}} &>> {{ status = error }}) || ({{{f} && status = error}}) | select({SHOWN})",
        f"({{{f} }} &>> {{ kind = server }}) || ({{{f} }}) | select({SHOWN})",
        f"({{{f} && duration > 2s}} &>> {{ duration > 600ms }}) || ({{{f} && duration > 2s}}) | select({SHOWN})",
    ):
        assert all(len(trace["spanSets"]) == 1 for trace in search(live, q, limit=200, spss=20))
    search(live, f"{{{f}&& duration > 0}} | select({SHOWN})", limit=200, spss=10)


def test_configuration_probe_and_the_first_panels(live: Live) -> None:
    (probe,) = metrics(live, "{} | rate()", "", start=NOW - 60, end=NOW)
    assert sum(values_of(probe)) > 0
    (rate,) = metrics(live, "{nestedSetParent<0 && true} | rate()  with(sample=true)", "60s")
    assert sum(values_of(rate)) * 60 == pytest.approx(TRACES)
    assert len(values_of(rate)) == 61
    (errors,) = metrics(live, "{nestedSetParent<0 && true && status=error} | rate()  with(sample=true)", "60s")
    assert set(values_of(errors)) == {0}


def test_heat_map_has_one_bucket_label_in_powers_of_two_nanoseconds(live: Live) -> None:
    series = metrics(live, "{nestedSetParent<0 && true} | histogram_over_time(duration) with(sample=true)", "150s")
    assert [list(labels_of(one)) for one in series] == [["__bucket"]] * len(series)
    assert {labels_of(one)["__bucket"]: sum(values_of(one)) for one in series} == {0.268435456: TRACES * 2 / 3, 4.294967296: TRACES / 3}


@pytest.mark.parametrize("attribute_name", BY)
def test_breakdown_is_labelled_with_the_text_of_by(live: Live, attribute_name: str) -> None:
    for q in (
        f"{{true && true && {attribute_name} != nil}} | rate() by({attribute_name})",
        f"{{true && true && status=error && {attribute_name} != nil}} | rate() by({attribute_name})",
        f"{{true && true && {attribute_name} != nil}} | quantile_over_time(duration, 0.5,0.75,0.9,0.95,0.99) by({attribute_name})",
    ):
        series = metrics(live, q, "56s")
        assert {labels_of(one).keys() - {"p"} == {attribute_name} for one in series} <= {True}
        assert all(isinstance(labels_of(one).get("p", 0.5), float) for one in series)
    assert metrics(live, f"{{true && true && {attribute_name} != nil}} | rate() by({attribute_name})", "56s")


def test_comparison_sums_to_its_totals_by_scoped_names(live: Live) -> None:
    sums: dict[tuple[str, str], dict[str, float]] = {}
    for one in metrics(live, "{true && true} | compare({status = error}, 10)", "3600s"):
        labels = labels_of(one)
        (name,) = labels.keys() - {"__meta_type"}
        assert not name.startswith("__")
        assert name not in {"duration", "traceDuration", "trace:id", "span:parentID", "nestedSetLeft"}
        sums.setdefault((labels["__meta_type"], name), {})[str(labels[name])] = sum(values_of(one))
    assert sums["selection", "resource.service.name"] == {"shop": TRACES / 5, "pay": TRACES / 5}
    assert sums["baseline_total", "resource.service.name"] == {"nil": TRACES * 5 - TRACES * 2 / 5}
    assert sums["selection", "name"] == {"POST /pay": TRACES / 5, "pay": TRACES / 5}


def test_structure_is_one_nested_set_per_trace(live: Live) -> None:
    q = f"({{nestedSetParent<0 && true }} &>> {{ kind = server }}) || ({{nestedSetParent<0 && true }}) | select({SHOWN})"
    found = search(live, q, limit=200, spss=20)
    assert len(found) == TRACES
    for trace in found:
        (spanset,) = trace["spanSets"]
        rows = {one["name"]: {each["key"]: each["value"] for each in one["attributes"]} for one in spanset["spans"]}
        assert set(rows) == {"GET /cart", "pay"}
        left, right = ({name: int(row[f"nestedSet{side}"]["intValue"]) for name, row in rows.items()} for side in ("Left", "Right"))
        assert left["GET /cart"] < left["pay"] < right["pay"] < right["GET /cart"]
        assert (rows["GET /cart"]["nestedSetParent"], rows["pay"]["service.name"]) == ({"intValue": "-1"}, {"stringValue": "pay"})


def test_exceptions_have_their_attributes_without_scope(live: Live) -> None:
    columns = "resource.service.name, event.exception.message,event.exception.stacktrace,event.exception.type"
    found = search(live, f"{{true && true && status = error}} | select({columns}) with(most_recent=true)", limit=400, spss=10)
    assert len(found) == TRACES / 5
    rows = [
        {each["key"]: each["value"]["stringValue"] for each in one["attributes"]} for trace in found for one in trace["spanSet"]["spans"]
    ]
    raised = [row for row in rows if "exception.message" in row]
    assert len(raised) == TRACES / 5
    assert raised[0]["exception.message"] == 'card "gold" was declined'
    assert {"service.name", "exception.type", "exception.stacktrace"} <= raised[0].keys()


def test_unfinished_query_of_drilldown_is_refused_at_once(live: Live) -> None:
    reply = live.get("/api/search", {"q": "{nestedSetParent<0 && true&& duration > }", **HOUR})
    assert (reply.status, reply.headers["content-type"]) == (400, "text/plain; charset=utf-8")

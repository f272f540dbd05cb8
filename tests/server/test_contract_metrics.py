"""Points 6 and 7 of the wire contract's acceptance list, with the numbers of sections 1.5 and 5, against a whole server on real sockets."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from live import Live, live_server
from opentelemetry.proto.trace.v1.trace_pb2 import Status
from strict_json import decode_strictly

from node import NOW_NS, request, span

MS, S = 1_000_000, 1_000_000_000
RANGE, INSTANT = "/api/metrics/query_range", "/api/metrics/query"
BEGIN = NOW_NS // S // 60 * 60 - 600  # a whole minute
WINDOW = {"start": BEGIN, "end": BEGIN + 120}
TEXT = "text/plain; charset=utf-8"
SPANS = 24
FAILED = Status(code=Status.STATUS_CODE_ERROR)


def spans_of(service: int) -> list[Any]:
    """One span every five seconds, from one second after the beginning; every fourth fails; the durations are 64 ms and 100 ms."""
    begin_ns = (BEGIN + 1) * S
    return [
        span(
            0x1000 * service + number,
            number,
            start_time_unix_nano=begin_ns + 5 * number * S,
            end_time_unix_nano=begin_ns + 5 * number * S + (64 if number % 2 else 100) * MS,
            status=None if number % 4 else FAILED,
        )
        for number in range(1, SPANS // 2 + 1)
    ]


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    with live_server(tmp_path_factory.mktemp("metrics")) as live:
        live.push(request(*spans_of(1), service="shop"))
        live.push(request(*spans_of(2), service="bank"))
        yield live


def labels_of(series: dict[str, Any]) -> dict[str, Any]:
    """Key → value, without its type."""
    return {label["key"]: next(iter(label["value"].values())) for label in series["labels"]}


def total_of(series: dict[str, Any]) -> float:
    return float(sum(sample.get("value", 0) for sample in series["samples"]))


def range_series(live: Live, q: str, **parameters: Any) -> list[dict[str, Any]]:
    reply = live.get(RANGE, {"q": q, **WINDOW, "step": "20s", **parameters})
    assert (reply.status, reply.headers["content-type"]) == (200, "application/json"), reply.body
    series: list[dict[str, Any]] = decode_strictly("QueryRangeResponse", reply.body).get("series", [])
    return series


def instant_series(live: Live, q: str, **parameters: Any) -> list[dict[str, Any]]:
    reply = live.get(INSTANT, {"q": q, **WINDOW, **parameters})
    assert (reply.status, reply.headers["content-type"]) == (200, "application/json"), reply.body
    series: list[dict[str, Any]] = decode_strictly("QueryInstantResponse", reply.body).get("series", [])
    return series


COUNT = "{ } | count_over_time()"
SAME_WINDOW = [
    {},
    {"step": ""},
    {"step": "20"},
    {"step": "20.0"},
    {"start": f"{BEGIN}000000000", "end": f"{BEGIN + 120}000000000"},
    {"start": f"{BEGIN}.0", "end": f"{BEGIN + 120}.000"},
    {
        "mode": "",
        "blockID": "",
        "startPage": 0,
        "pagesToSearch": 0,
        "encoding": "none",
        "size": 0,
        "exemplars": 0,
        "maxSeries": 0,
    },  # tempo-cli
]


@pytest.mark.parametrize("parameters", SAME_WINDOW, ids=map(str, SAME_WINDOW))
def test_point_6_parameters_have_several_forms(live: Live, parameters: dict[str, Any]) -> None:
    (series,) = range_series(live, COUNT, **parameters)
    assert labels_of(series) == {"__name__": "count_over_time"}
    assert total_of(series) == SPANS


def test_point_6_query_is_an_alias_and_q_wins(live: Live) -> None:
    reply = live.get(RANGE, {"query": COUNT, **WINDOW})
    assert total_of(decode_strictly("QueryRangeResponse", reply.body)["series"][0]) == SPANS
    reply = live.get(INSTANT, {"query": "nonsense", "q": COUNT, **WINDOW})
    assert decode_strictly("QueryInstantResponse", reply.body)["series"][0]["value"] == SPANS


def test_point_6_points_are_aligned_right_closed_and_filled_with_zeros(live: Live) -> None:
    (series,) = range_series(live, "{ } | rate()")
    times = [int(sample["timestampMs"]) // 1000 - BEGIN for sample in series["samples"]]
    assert times == [0, 20, 40, 60, 80, 100, 120]
    counts = [round(sample.get("value", 0) * 20) for sample in series["samples"]]
    assert counts == [0, 6, 8, 8, 2, 0, 0]
    assert series["samples"][0].keys() == {"timestampMs"}


def test_point_6_ungrouped_series_is_named_for_its_function(live: Live) -> None:
    for call in ("rate()", "count_over_time()", "min_over_time(duration)", "avg_over_time(duration)", "sum_over_time(span.number)"):
        (series,) = range_series(live, f"{{ }} | {call}")
        assert series["labels"] == [{"key": "__name__", "value": {"stringValue": call.partition("(")[0]}}]


def test_point_6_histogram_has_only_a_bucket_and_quantile_a_p(live: Live) -> None:
    buckets = range_series(live, "{ } | histogram_over_time(duration)")
    assert all([label["key"] for label in one["labels"]] == ["__bucket"] for one in buckets)
    assert {one["labels"][0]["value"]["doubleValue"]: total_of(one) for one in buckets} == {0.067108864: SPANS / 2, 0.134217728: SPANS / 2}
    assert [labels_of(one) for one in range_series(live, "{ } | quantile_over_time(duration, .25, .9)")] == [{"p": 0.25}, {"p": 0.9}]
    low, high = instant_series(live, "{ } | quantile_over_time(duration, .25, .9)")
    assert (low["value"], high["value"]) == (pytest.approx(0.064, rel=0.01), pytest.approx(0.1, rel=0.01))


def test_point_6_labels_are_the_text_of_by(live: Live) -> None:
    series = range_series(live, "{ } | rate() by(resource.service.name, status, span.number)")
    assert [label["key"] for label in series[0]["labels"]] == ["resource.service.name", "status", "span.number"]
    assert {next(iter(label["value"])) for label in series[0]["labels"]} == {"stringValue", "intValue"}
    assert range_series(live, "{ } | rate() by(span.nothing)")[0]["labels"] == [{"key": "span.nothing", "value": {"stringValue": "nil"}}]


@pytest.mark.parametrize("call", ["rate()", "count_over_time()", "histogram_over_time(duration)", "quantile_over_time(duration, .9)"])
def test_point_6_exemplars_link_to_traces_and_have_values(live: Live, call: str) -> None:
    series = range_series(live, f"{{ }} | {call} by(resource.service.name)", exemplars=5)
    exemplars = [exemplar for one in series for exemplar in one.get("exemplars", [])]
    assert 1 <= len(exemplars) <= 5
    for one in exemplars:
        labels = labels_of(one)
        assert len(labels["trace:id"]) == 32
        assert one["value"] != 0
        assert BEGIN * 1000 < int(one["timestampMs"]) <= (BEGIN + 120) * 1000
        assert live.get(f"/api/traces/{labels['trace:id']}").status == 200
    for hint in ("exemplars=false", "exemplars=0"):
        assert all("exemplars" not in one for one in range_series(live, f"{{ }} | {call} with ({hint})"))


def test_point_6_instant_values_are_of_the_whole_window(live: Live) -> None:
    (count,) = instant_series(live, COUNT)
    (rate,) = instant_series(live, "{ } | rate()", step="20s", exemplars=5)
    assert (count["value"], rate["value"]) == (SPANS, pytest.approx(SPANS / 120))
    by_service = instant_series(live, "{ status = error } | count_over_time() by(resource.service.name)")
    assert {labels_of(one)["resource.service.name"]: one["value"] for one in by_service} == {"bank": 3, "shop": 3}


def test_series_beyond_the_limit_are_left_out_and_the_answer_says_so(live: Live) -> None:
    reply = live.get(RANGE, {"q": "{ } | rate() by(span.number)", **WINDOW, "maxSeries": 2})
    answer = decode_strictly("QueryRangeResponse", reply.body)
    assert (len(answer["series"]), answer["status"]) == (2, "PARTIAL")
    assert answer["message"].startswith("Response exceeds maximum series limit of 2, a partial response is returned.")


@pytest.mark.parametrize("step", ["", "120s", "20s"])
def test_point_7_compare_counts_current_spans_and_totals_are_nil(live: Live, step: str) -> None:
    series = range_series(live, "{true && true} | compare({status = error}, 10)", step=step)
    totals = {}
    for one in series:
        keys = [label["key"] for label in one["labels"]]
        assert (len(keys), keys[0]) == (2, "__meta_type")
        if keys[1] == "resource.service.name":
            totals[tuple(labels_of(one).values())] = total_of(one)
    assert totals == {
        ("selection", "shop"): 3,
        ("selection", "bank"): 3,
        ("selection_total", "nil"): 6,
        ("baseline", "shop"): 9,
        ("baseline", "bank"): 9,
        ("baseline_total", "nil"): 18,
    }


def test_metrics_add_up_to_what_a_search_matches(live: Live) -> None:
    """What tempo-vulture checks."""
    q = "{ span.number = 3 || status = error }"
    traces = decode_strictly("SearchResponse", live.get("/api/search", {"q": q, **WINDOW}).body)["traces"]
    matched = sum(spanset["matched"] for trace in traces for spanset in trace["spanSets"])
    (series,) = range_series(live, f"{q} | count_over_time()", step="10s")
    assert total_of(series) == matched == 8


def test_explanation_has_the_plan_and_what_it_took(live: Live) -> None:
    reply = live.get("/api/explain", {"q": "{ status = error } | rate() by(name)", **WINDOW, "step": "20s"})
    assert (reply.status, reply.headers["content-type"]) == (200, TEXT)
    text = reply.body.decode()
    assert "spans per second by (name)" in text
    assert "series of" in text
    assert "one every 20 s" in text


REFUSED = [
    ({"start": BEGIN, "end": BEGIN}, "end must be greater than start"),
    ({"start": BEGIN - 90_000, "end": BEGIN}, "metrics query time range exceeds the maximum allowed duration of 24h0m0s"),
    ({"start": BEGIN, "end": BEGIN + 80, "step": "1ms"}, "step of 1ms is too small, minimum step for given range is 8ms"),
    ({"step": 0}, "step must be greater than 0"),
    ({"q": "{ }"}, "not a metrics query"),
    ({"q": "{ status = 1 } | rate()"}, "compiling query: 1:12: "),
    ({"q": "{ } | rate("}, "1:12: "),
    ({"q": ""}, "not a metrics query"),
]


@pytest.mark.parametrize(("parameters", "text"), REFUSED, ids=[str(row[0]) for row in REFUSED])
def test_point_11_errors_are_plain_text(live: Live, parameters: dict[str, Any], text: str) -> None:
    reply = live.get(RANGE, {"q": COUNT, **WINDOW, **parameters})
    assert (reply.status, reply.headers["content-type"]) == (400, TEXT)
    assert reply.body.decode().startswith(text)
    if "step" not in parameters:
        reply = live.get(INSTANT, {"q": COUNT, **WINDOW, **parameters})
        assert (reply.status, reply.headers["content-type"]) == (400, TEXT)

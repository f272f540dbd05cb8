"""Metrics over a real node: alignment, limits and their texts, what bounds an answer, what clients send."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from engine_answers import sources_of

from node import NOW_NS, TENANT, Node, span
from spanlake.model.errors import InvalidInput, QueryCancelled, QueryError, TooLarge
from spanlake.model.metrics import InstantQuery, MetricsAnswer, RangeQuery
from spanlake.model.settings import QuerySettings
from spanlake.model.stop import Stop
from spanlake.model.trace import TimeRange
from spanlake.query.metrics import Meter

SECOND = 10**9
MINUTE = 60 * SECOND
SETTINGS = QuerySettings()
SPANS = 240


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    """240 traces of one span, one a second, the last starting NOW; the first half in blocks of 40. Durations are 10 ms, 20 ms, … 240 ms
    and so on again; every fourth is an error; `unique` differs everywhere, `group` has eight values."""
    with Node(tmp_path_factory.mktemp("node")) as node:
        for number in range(SPANS):
            start_ns = NOW_NS - (SPANS - 1 - number) * SECOND
            times: dict[str, Any] = {"start_time_unix_nano": start_ns, "end_time_unix_nano": start_ns + 10_000_000 * (number % 24 + 1)}
            attributes = {"unique": f"u{number:03}", "group": number % 8, "http.status_code": 200 + number % 3}
            one = span(number + 1, 1, attributes=attributes, status={"code": 2 if number % 4 == 0 else 0}, kind=2, **times)
            node.push(one, service=f"service-{number % 2}")
            if number < SPANS // 2 and number % 40 == 39:
                node.clock.advance(1)
                node.cut()
        yield node


WHOLE = TimeRange(NOW_NS - 4 * MINUTE, NOW_NS)


def asked(node: Node, text: str, *, settings: QuerySettings = SETTINGS, **changes: Any) -> MetricsAnswer:
    query = replace(RangeQuery(text, WHOLE, MINUTE), **changes)
    return Meter(sources_of(node), settings).query_range(TENANT, query, Stop())


def points(node: Node, text: str, **changes: Any) -> dict[str, list[tuple[int, float]]]:
    """Values of labels → (seconds from NOW, value)."""
    return {
        " ".join(str(one.value) for _, one in series.labels): [(at // 1000 - NOW_NS // SECOND, value) for at, value in series.points()]
        for series in asked(node, text, **changes).series
    }


def test_points_stand_at_multiples_of_the_step_from_the_one_before_the_start(node: Node) -> None:
    window = TimeRange(NOW_NS - 130 * SECOND, NOW_NS - 30 * SECOND)
    assert points(node, "{ } | count_over_time()", window=window) == {"count_over_time": [(-180, 60), (-120, 60), (-60, 60), (0, 60)]}
    assert points(node, "{ } | rate()", window=window)["rate"][0] == (-180, 1.0)


def test_instant_query_counts_the_window_without_its_first_instant(node: Node) -> None:
    answer = Meter(sources_of(node), SETTINGS).query_instant(TENANT, InstantQuery("{ } | count_over_time()", WHOLE), Stop())
    assert [(one.points(), one.exemplars) for one in answer.series] == [([(NOW_NS // 10**6, 240.0)], ())]
    shorter = TimeRange(NOW_NS - 60 * SECOND, NOW_NS)
    answer = Meter(sources_of(node), SETTINGS).query_instant(TENANT, InstantQuery("{ } | rate()", shorter), Stop())
    assert answer.series[0].values.tolist() == [1.0]


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"window": TimeRange(0, 24 * 3600 * SECOND + 1)}, "metrics query time range exceeds the maximum allowed duration of 24h0m0s"),
        ({"window": TimeRange(0, 80 * SECOND), "step_ns": 10**6}, "step of 1ms is too small, minimum step for given range is 8ms"),
        ({"window": TimeRange(0, 3600 * SECOND), "step_ns": 10**8}, "step of 100ms is too small, minimum step for given range is 360ms"),
        ({"step_ns": 0}, "step must be greater than 0"),
        ({"window": TimeRange(0, SECOND), "step_ns": 100_000}, "step of 100µs is too small, minimum step is 1ms"),
    ],
)
def test_a_query_beyond_the_limits_is_refused(node: Node, changes: dict[str, Any], text: str) -> None:
    with pytest.raises(InvalidInput, match=text):
        asked(node, "{ } | rate()", **changes)


def test_the_whole_range_and_the_least_step_are_allowed(node: Node) -> None:
    day = TimeRange(NOW_NS - 24 * 3600 * SECOND, NOW_NS)
    assert asked(node, "{ } | rate()", window=day).series
    assert len(asked(node, "{ } | rate()", window=TimeRange(NOW_NS - 80 * SECOND, NOW_NS), step_ns=8_000_000).series[0].values) == 10_001


def test_a_search_is_no_metrics_query(node: Node) -> None:
    with pytest.raises(InvalidInput, match="not a metrics query"):
        asked(node, "{ }")


def test_bad_text_is_a_query_error(node: Node) -> None:
    for text in ("{ duration > } | rate()", "{ } | rate() | topk(0)", "{ } | compare({ true }) | topk(1)"):
        with pytest.raises(QueryError):
            asked(node, text)


def test_a_cancelled_query_stops(node: Node) -> None:
    stop = Stop()
    stop.cancel()
    with pytest.raises(QueryCancelled):
        Meter(sources_of(node), SETTINGS).query_range(TENANT, RangeQuery("{ } | rate()", WHOLE, MINUTE), stop)


# ---- bounds ----


def test_series_beyond_the_maximum_are_missing_and_the_answer_says_so(node: Node) -> None:
    whole = asked(node, "{ } | count_over_time() by (span.unique)")
    assert (len(whole.series), whole.partial) == (SPANS, "")
    cut = asked(node, "{ } | count_over_time() by (span.unique)", series_max=10)
    assert cut.partial.startswith("Response exceeds maximum series limit of 10, a partial response is returned. Warning: the accuracy")
    assert [one.labels for one in cut.series] == [one.labels for one in whole.series[:10]]
    assert [one.points() for one in cut.series] == [one.points() for one in whole.series[:10]]


@pytest.mark.parametrize(
    "settings", [replace(SETTINGS, metrics_series_max=10), replace(SETTINGS, metrics_samples_max=55)], ids=["series", "samples"]
)
def test_settings_bound_the_answer(node: Node, settings: QuerySettings) -> None:
    answer = asked(node, "{ } | count_over_time() by (span.unique)", settings=settings, series_max=20)
    assert len(answer.series) in (10, 11)
    assert "series limit of 1" in answer.partial


def test_limit_counts_series_of_the_answer_not_of_its_parts(node: Node) -> None:
    answer = asked(node, "{ } | count_over_time() by (span.unique) | topk(3)", series_max=20)
    assert answer.partial == ""
    assert 0 < len(answer.series) <= 3 * 5


def test_one_series_that_is_too_large_fails(node: Node) -> None:
    settings = replace(SETTINGS, metrics_bytes_max=1000)
    with pytest.raises(TooLarge, match="metrics_bytes_max"):
        asked(node, "{ } | quantile_over_time(duration, .5)", settings=settings, step_ns=SECOND)


def test_compare_beyond_its_memory_keeps_the_most_frequent_values_and_says_so(node: Node) -> None:
    text = "{ } | compare({ status = error }, 2)"
    exact, short = (
        {one.labels: one.points() for one in answer.series}
        for answer in (asked(node, text), asked(node, text, settings=replace(SETTINGS, metrics_bytes_max=5_000)))
    )
    assert asked(node, text).partial == ""
    assert "metrics_bytes_max" in asked(node, text, settings=replace(SETTINGS, metrics_bytes_max=5_000)).partial
    totals = {labels for labels in exact if str(labels[0][1].value).endswith("_total")}
    assert totals
    assert {labels: exact[labels] for labels in totals} == {labels: short[labels] for labels in totals}
    frequent = {labels for labels in exact if labels[1][0] in ("status", "kind", "span.http.status_code", "resource.service.name")}
    assert {labels: exact[labels] for labels in frequent} == {labels: short[labels] for labels in frequent}


# ---- exemplars ----


def test_exemplars_are_spread_over_time_and_show_what_the_query_loads(node: Node) -> None:
    answer = asked(node, "{ span.group < 4 } | max_over_time(duration) by (resource.service.name)", exemplars_max=10)
    shown = [one for series in answer.series for one in series.exemplars]
    assert len(shown) == 8  # one per series and point with spans
    for series in answer.series:
        assert len({one.time_ms // 60_000 for one in series.exemplars}) == 4
        for one in series.exemplars:
            labels = dict(one.labels)
            assert one.labels[0][0] == "trace:id"
            assert len(str(one.labels[0][1].value)) == 32
            assert list(labels) == ["trace:id", "span.group", "duration", "resource.service.name"]
            assert labels["resource.service.name"] == series.labels[0][1]
            assert one.value == pytest.approx(float(str(labels["duration"].value).removesuffix("ms")) / 1000)


def test_exemplars_of_counts_have_the_value_of_their_point(node: Node) -> None:
    for text in ("{ } | rate()", "{ } | count_over_time()", "{ } | histogram_over_time(duration)"):
        answer = asked(node, text)
        assert sum(len(series.exemplars) for series in answer.series) == 4
        for series in answer.series:
            values = dict(series.points())
            for one in series.exemplars:
                assert one.value == values[-(-one.time_ms // 60_000) * 60_000]


@pytest.mark.parametrize(
    ("text", "asked_for", "shown"),
    [
        ("{ } | rate()", 100, 4),
        ("{ } | rate()", 3, 3),
        ("{ } | rate()", 0, 0),
        ("{ } | rate() with (exemplars=2)", 100, 2),
        ("{ } | rate() with (exemplars=false)", 100, 0),
        ("{ } | rate() with (exemplars=true)", 3, 3),
        ("{ } | rate() > 100", 100, 0),
        ("{ } | compare({ status = error })", 100, 0),
    ],
)
def test_number_of_exemplars(node: Node, text: str, asked_for: int, shown: int) -> None:
    assert sum(len(one.exemplars) for one in asked(node, text, exemplars_max=asked_for).series) == shown


def test_exemplars_are_never_more_than_the_settings_allow(node: Node) -> None:
    answer = asked(node, "{ } | rate() with (exemplars=100000)", settings=replace(SETTINGS, metrics_exemplars_max=4), exemplars_max=10**6)
    assert len(answer.series[0].exemplars) == 4


# ---- what Grafana's Drilldown sends ----

PRIMARY = ("nestedSetParent<0", "true", "kind=server", 'span.db.system.name!=""')
DRILLDOWN = (
    "{F} | rate()  with(sample=true)",
    "{F && status=error} | rate()  with(sample=true)",
    "{F} | histogram_over_time(duration) with(sample=true)",
    "{F} | quantile_over_time(duration, 0.9)  with(sample=true)",
    "{F && resource.service.name != nil} | rate() by(resource.service.name)",
    "{F && status=error && resource.service.name != nil} | rate() by(resource.service.name)",
    "{F && resource.service.name != nil} | quantile_over_time(duration, 0.5,0.75,0.9,0.95,0.99) by(resource.service.name)",
    "{F} | rate() ",
    '{F && resource.service.name="service-1"} | rate() by(resource.service.name)',
    "{F} | compare({status = error}, 10)",
    "{F} | compare({duration >= 20ms && duration <= 50ms}, 10)",
    f"{{F}} | compare({{duration >= 0}}, 10, {NOW_NS - MINUTE}, {NOW_NS})",
    "{F} | compare({})",
)


@pytest.mark.parametrize("primary", PRIMARY)
@pytest.mark.parametrize("shape", DRILLDOWN)
def test_drilldown_is_answered(node: Node, shape: str, primary: str) -> None:
    answer = asked(node, shape.replace("F", f"{primary} && true"))
    assert answer.partial == ""
    finds = primary != 'span.db.system.name!=""' or ("rate" in shape and "by(" not in shape)
    assert bool(answer.series) is finds


def test_compare_in_a_window_selects_only_what_starts_in_it(node: Node) -> None:
    text = f"{{ }} | compare({{ status = error }}, 10, {NOW_NS - MINUTE}, {NOW_NS})"
    found = points(node, text)
    assert sum(value for _, value in found["selection error"]) == 15
    assert sum(value for _, value in found["baseline error"]) == 45
    assert sum(value for _, value in found["selection_total nil"]) == 15


def test_what_no_span_can_be_found_for_reads_nothing(node: Node) -> None:
    answer = asked(node, "{ false } | rate()")
    assert answer.inspected.spans == 0
    assert [one.values.tolist() for one in answer.series] == [[0.0] * 5]


def test_blocks_outside_of_the_range_are_not_read(node: Node) -> None:
    answer = asked(node, "{ } | rate()", window=TimeRange(NOW_NS - 3 * SECOND, NOW_NS), step_ns=SECOND)
    assert answer.inspected.blocks == answer.inspected.blocks_skipped == 3

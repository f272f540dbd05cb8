"""Plans of metrics: leaves that are the same are one, what is read and required, hints, the text of explain."""

from __future__ import annotations

import pytest

from spanlake.engine import regex_problem
from spanlake.model.errors import InvalidInput
from spanlake.model.scan import Field
from spanlake.traceql import check, parse
from spanlake.traceql.plan.metrics import (
    MetricsPlan,
    finds_no_span,
    metrics_any_of,
    metrics_needs,
    metrics_trace_ids,
    plan_metrics,
    show_metrics,
)
from spanlake.traceql.plan.metrics.compared import compared_fields
from spanlake.traceql.plan.metrics.nodes import Combine, MetricsHints, Number, SeriesPlan


def plan_of(text: str) -> MetricsPlan:
    query = parse(text)
    check(query, regex_problem=regex_problem)
    return plan_metrics(query)


def series_plan(text: str) -> SeriesPlan:
    plan = plan_of(text)
    assert isinstance(plan, SeriesPlan)
    return plan


START = Field("intrinsic", "start_ns")


def test_leaves_that_are_the_same_are_one() -> None:
    plan = series_plan("(({ status = error } | rate()) / ({ } | rate())) + ({ error = status } | rate())")
    assert len(plan.leaves) == 2
    assert len(series_plan("({ } | rate()) + ({ } | count_over_time())").leaves) == 2


@pytest.mark.parametrize(
    ("query", "fields"),
    [
        ("{ } | rate()", set()),
        ("{ } | rate() by (.a)", {Field("span", "a"), Field("resource", "a")}),
        ("{ span.a > 1 } | sum_over_time(span.b)", {Field("span", "a"), Field("span", "b")}),
        ("({ span.a > 1 } | rate()) / ({ span.b > 1 } | rate())", {Field("span", "a"), Field("span", "b")}),
        ("{ } | rate() with (extrapolate=true)", {Field("intrinsic", "trace_state")}),
        ("{ } | compare({ span.a > 1 })", {Field("span", "a")}),
    ],
)
def test_one_pass_reads_what_all_leaves_need(query: str, fields: set[Field]) -> None:
    assert metrics_needs(plan_of(query)) == fields | {START}


@pytest.mark.parametrize(
    ("query", "alternatives"),
    [
        ("{ span.a = 1 } | rate()", 1),
        ("({ span.a = 1 } | rate()) / ({ span.b = 1 } | rate())", 2),
        ("({ span.a = 1 } | rate()) / ({ } | rate())", 0),
        ("({ span.a = 1 } | rate()) / ({ false } | rate())", 1),
        ("{ span.a = 1 } | compare({ span.b = 1 })", 1),
    ],
)
def test_a_trace_matters_if_it_does_to_some_leaf(query: str, alternatives: int) -> None:
    assert len(metrics_any_of(plan_of(query))) == alternatives


def test_traces_are_known_only_if_they_are_for_every_leaf() -> None:
    one, other = "{ trace:id = `1` } | rate()", "{ trace:id = `2` } | rate()"
    assert metrics_trace_ids(plan_of(f"({one}) + ({other})")) == frozenset({(0, 1), (0, 2)})
    assert metrics_trace_ids(plan_of(f"({one}) + ({{ }} | rate())")) is None


def test_nothing_is_read_only_if_no_leaf_finds_a_span() -> None:
    assert finds_no_span(plan_of("{ false } | rate()"))
    assert not finds_no_span(plan_of("({ false } | rate()) + ({ } | rate())"))


@pytest.mark.parametrize(
    ("hints", "expected"),
    [
        ("exemplars=5", MetricsHints(exemplars=5)),
        ("exemplars=false", MetricsHints(exemplars=0)),
        ("exemplars=5, exemplars=true", MetricsHints()),
        ("exemplars=`5`", MetricsHints()),
        ("extrapolate=true", MetricsHints(extrapolate=True)),
        ("extrapolate=1", MetricsHints()),
        ("sample=true, span_sample=0.1, trace_sample=0.1, no_such_hint=1", MetricsHints()),
    ],
)
def test_hints(hints: str, expected: MetricsHints) -> None:
    assert plan_of(f"{{ }} | rate() with ({hints})").hints == expected


@pytest.mark.parametrize(
    ("scalar", "value"),
    [("2 * 3", 6), ("1 / 2", 0), ("1.0 / 2", 0.5), ("7 % 4", 3), ("2 ^ 0.5", 2**0.5), ("1 / 0", None), ("1.0 % 0", None)],
)
def test_constants(scalar: str, value: float | None) -> None:
    tree = series_plan(f"({scalar}) * ({{ }} | rate())").tree
    assert isinstance(tree, Combine)
    assert tree.left == Number(value)


def test_a_search_has_no_metrics_plan() -> None:
    with pytest.raises(InvalidInput, match="not a metrics query"):
        plan_of("{ }")


def test_compare_counts_intrinsics_and_attributes_but_not_of_events() -> None:
    keys = [Field("span", "b c"), Field("resource", "r"), Field("instrumentation", "i"), Field("event", "e"), Field("link", "l")]
    assert [label.key for label in compared_fields(keys)] == sorted(
        [
            *("name", "status", "statusMessage", "kind", "rootName", "rootServiceName", "span:childCount"),
            *("instrumentation:name", "instrumentation:version", "instrumentation.i"),
            *('span."b c"', "resource.r", "resource.service.name"),
        ]
    )


def test_explain_shows_leaves_and_what_is_made_of_them() -> None:
    text = show_metrics(plan_of("100 * ({ status = error } | rate() by (name)) / ({ } | max_over_time(duration)) > 5 | topk(2)"))
    assert text.splitlines() == [
        "metrics",
        "  series 0: spans per second by (name)",
        "    filter status_code = error",
        "  series 1: max_over_time of duration_ns",
        "    filter true",
        "  answer: ((100 * series 0) / series 1) > 5 | topk(2)",
        "reads: duration_ns, name, start_ns, status_code",
        "requires nothing of a trace",
    ]

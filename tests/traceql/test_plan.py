"""Plans: what is computed, read, shown and required of a trace."""

from __future__ import annotations

import pytest

from spanlake.model.errors import InvalidInput
from spanlake.model.scan import Comparison, Field, Predicate
from spanlake.traceql import check, parse
from spanlake.traceql.plan import SearchPlan, any_of, needs, plan_search, show, trace_ids
from spanlake.traceql.plan.prune import CONJUNCTIONS_MAX, finds_nothing
from spanlake.traceql.plan.show import show_expression


def plan_of(text: str) -> SearchPlan:
    query = parse(text)
    check(query)
    return plan_search(query)


def stage_lines(text: str) -> list[str]:
    lines = show(plan_of(text)).splitlines()
    return [line.strip() for line in lines[1 : next(place for place, line in enumerate(lines) if line.startswith("reads to find"))]]


@pytest.mark.parametrize(
    ("query", "lines"),
    [
        ("{ }", ["filter true"]),
        ("count() > 2", ["keep where count() > 2"]),
        ("{ .a }", ["filter first(span.a, resource.a)"]),
        ("{ 1 < span.a }", ["filter span.a > 1"]),
        ("{ nil != span.a && span.b = nil }", ["filter (span.a != nil && span.b = nil)"]),
        ("{ status = error || kind != server }", ["filter (status_code = error || kind != server)"]),
        ("{ duration > 10ms * 20 }", ["filter duration_ns > 2e+08"]),
        ("{ span.a = 1 || span.b = 2 && span.c = 3 }", ["filter ((span.a = 1 || span.b = 2) && span.c = 3)"]),
        ("{ 1 = 1 && span.a = 1 }", ["filter span.a = 1"]),
        ("{ 1 = 2 || span.a = 1 }", ["filter span.a = 1"]),
        ("{ 1 = 1 && span.a }", ["filter (span.a)"]),
        ("{ 1 = 2 && span.a = 1 }", ["filter false"]),
        ("{ 1 = 1 || span.a = 1 }", ["filter true"]),
        ("{ span.a = `x` || span.a = `y` || span.a = `x` }", ["filter span.a one of (`x`, `y`)"]),
        ("{ span.a = `x` || span.b = 1 || span.a = `y` }", ["filter (span.a one of (`x`, `y`) || span.b = 1)"]),
        ("{ span.a = 1 || span.a = 2 }", ["filter (span.a = 1 || span.a = 2)"]),
        ("{ !(span.a = `x`) }", ["filter !(span.a = `x`)"]),
        ("{ parent.a !~ `x.*` }", ["filter first(parent of span.a, parent of resource.a) !~ `x.*`"]),
        ("{ event:timeSinceStart > 1s }", ["filter event:time_ns - start_ns > 1s"]),
        ("{ span.a } !>> { span.b }", ["relate !>>", "filter span.a", "filter span.b"]),
        ("{ span.a } && { span.b }", ["combine &&", "filter span.a", "filter span.b"]),
        ("{ } | by(name, .a) | coalesce() | select(.b)", ["filter true", "group by(name), by(.a)", "coalesce"]),
        (
            "({ status = error } | count()) * 2 > -max(span.a)",
            ["keep where ((filter status_code = error | ({ status = error } | count())) * 2) > -(max(span.a))"],
        ),
        (
            "({ } | count() > 1) || ({ kind = client })",
            ["combine ||", "pipeline", "filter true", "keep where count() > 1", "filter kind = client"],
        ),
    ],
)
def test_plan_says_what_is_computed_when_shown(query: str, lines: list[str]) -> None:
    assert stage_lines(query) == lines


def test_metrics_query_is_planned_as_its_search() -> None:
    assert plan_of("{ span.a = 1 } | rate() by (name)").stages == plan_of("{ span.a = 1 }").stages


def test_arithmetic_between_metrics_is_no_search() -> None:
    with pytest.raises(InvalidInput, match="query_range"):
        plan_of("({ } | rate()) / ({ } | rate())")


@pytest.mark.parametrize(
    ("query", "shown"),
    [
        ("{ span.a = 1 }", {"a": "span.a = 1"}),
        ("{ 1 < span.a || span.a = `x` }", {"a": "span.a > 1 || span.a = `x`"}),
        ("{ span.a = `x` || span.a = `y` }", {"a": "span.a one of (`x`, `y`)"}),
        ("{ span.a = 1 && span.a != nil }", {"a": None}),
        ("{ span.a = nil }", {}),
        ("{ !(span.a = 1) }", {"a": None}),
        ("{ span.a }", {"a": None}),
        ("{ span.a + 1 = 2 }", {"a": None}),
        ("{ span.a = span.b }", {"a": None, "b": None}),
        ("{ } | by(span.a) | max(span.b) > 1 | select(span.c)", {"a": None, "b": None, "c": None}),
        ("{ } | by(span.a > 1)", {"a": "span.a > 1"}),
        ("{ parent.span.a = 1 }", {"a": "parent of span.a = 1"}),
        ("{ name = `x` && status = error }", {None: "name = `x`", "status": "status_code = error"}),
        ("{ duration > 1s && rootName = `x` && trace:id = `1` && span:id = `2` && traceDuration > 1s && rootServiceName = `x` }", {}),
        ("{ span:childCount > 1 && event:name = `x` }", {"span:childCount": "child_count > 1", "event:name": "event:name = `x`"}),
    ],
)
def test_shown_fields_follow_their_mentions(query: str, shown: dict[str | None, str | None]) -> None:
    found = {
        one.key: None if one.tests is None else " || ".join(show_expression(test) for test in one.tests) for one in plan_of(query).shown
    }
    assert found == shown


def test_unscoped_field_is_shown_for_span_and_resource() -> None:
    assert [show_expression(one.source) for one in plan_of("{ .a = 1 }").shown] == ["span.a", "resource.a"]


def fields(*names: str) -> set[Field]:
    return {Field("intrinsic", name) for name in names}


TRACE_TIMES = fields("trace_start_ns", "trace_duration_ns")
STRUCTURE = fields("nested_left", "nested_right", "nested_parent")


@pytest.mark.parametrize(
    ("query", "find"),
    [
        ("{ }", set()),
        ("{ .a = 1 }", {Field("span", "a"), Field("resource", "a")}),
        ("{ name = `x` } >> { }", fields("name") | STRUCTURE),
        ("{ } ~ { }", fields("parent_span_id") | STRUCTURE),
        ("{ parent.span.a = 1 }", {Field("span", "a")} | STRUCTURE),
        ("{ trace:id = `1` }", set()),
        ("{ event:timeSinceStart > 1s }", {Field("event", ":time_ns")} | fields("start_ns")),
        ("{ link:traceID = `1` }", {Field("link", ":trace_id")}),
        ("{ } | by(span.a) | max(span.b) > min(span.c) | select(span.d)", {Field("span", "a"), Field("span", "b"), Field("span", "c")}),
        ("({ span.a } | count()) > 1", {Field("span", "a")}),
    ],
)
def test_finding_reads_only_what_is_asked(query: str, find: set[Field]) -> None:
    reads = needs(plan_of(query))
    assert reads.find == find | TRACE_TIMES
    assert reads.find < reads.answer


def test_answer_reads_what_is_shown() -> None:
    reads = needs(plan_of("{ } | select(span.d, event:name)"))
    assert {Field("span", "d"), Field("event", ":name"), Field("resource", "service.name")} <= reads.answer - reads.find


def span(name: str, comparison: Comparison, operand: str | float | bool | None = None) -> Predicate:
    return Predicate(Field("span", name), comparison, operand)


EQUAL, EXISTS = Comparison.EQUAL, Comparison.EXISTS
A, B = span("a", EQUAL, 1), span("b", EQUAL, 2)


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("{ span.a = 1 }", [{A}]),
        ("{ 1 = span.a && span.b = 2 }", [{A, B}]),
        ("{ span.a = 1 || span.b = 2 }", [{A}, {B}]),
        ("{ span.a = 1 } && { span.b = 2 }", [{A, B}]),
        ("{ span.a = 1 } || { span.b = 2 }", [{A}, {B}]),
        ("{ span.a = 1 } >> { span.b = 2 }", [{A, B}]),
        ("{ span.a = 1 } &~ { span.b = 2 }", [{A, B}]),
        ("{ span.a = 1 } !>> { span.b = 2 }", [{B}]),
        ("{ span.a = 1 } | by(name) | { span.b = 2 }", [{A, B}]),
        ("({ span.a = 1 } | count() > 1) && ({ span.b = 2 })", [{A, B}]),
        ("{ span.a = 1 || true }", []),
        ("{ !(span.a = 1) }", []),
        ("{ (span.a = 1) = false }", []),
        ("{ span.a = nil }", []),
        ("{ span.a != nil }", [{span("a", EXISTS)}]),
        ("{ span.a !~ `x` }", [{span("a", EXISTS)}]),
        ("{ span.a =~ `x` }", [{span("a", Comparison.MATCH, "x")}]),
        ("{ span.a + span.b > 3 }", [{span("a", EXISTS), span("b", EXISTS)}]),
        ("{ span.a < span.b }", [{span("a", EXISTS), span("b", EXISTS)}]),
        ("{ span.a }", [{span("a", EQUAL, operand=True)}]),
        ("{ parent.span.a = 1 }", [{A}]),
        ("{ .a = 1 }", [{A}, {Predicate(Field("resource", "a"), EQUAL, 1)}]),
        ("{ status = error }", [{Predicate(Field("intrinsic", "status_code"), EQUAL, 2)}]),
        ("{ duration > 1s }", [{Predicate(Field("intrinsic", "duration_ns"), Comparison.GREATER, 10**9)}]),
        ("{ resource.service.name = `x` }", [{Predicate(Field("resource", "service.name"), EQUAL, "x")}]),
        ("{ resource.service.name = `` }", []),
        ("{ resource.service.name != `x` }", []),
        ("{ resource.service.name < `x` }", []),
        ("{ span:id = `FF` }", [{Predicate(Field("intrinsic", "span_id"), EQUAL, 255)}]),
        ("{ span:id != `FF` }", []),
        ("max(span.a) > 1", [{span("a", EXISTS)}]),
        ("count() > 1", []),
        ("({ span.a = 1 } | count()) = 0", []),
        (" || ".join(f"{{ span.a = {number} }}" for number in range(CONJUNCTIONS_MAX + 1)), []),
    ],
)
def test_predicates_are_what_every_found_trace_satisfies(query: str, expected: list[set[Predicate]]) -> None:
    assert {frozenset(one) for one in any_of(plan_of(query))} == {frozenset(one) for one in expected}


def test_too_many_alternatives_of_one_side_leave_the_other_side() -> None:
    many = " || ".join(f"span.b = {number}" for number in range(40))
    other = " || ".join(f"span.c = {number}" for number in range(40))
    assert len(any_of(plan_of(f"{{ ({many}) && ({other}) && span.a = 1 }}"))) == 40


@pytest.mark.parametrize("query", ["{ false }", "{ 1 = 2 }", "{ } && { false }", "{ span:id = `no id` }"])
def test_impossible_search_is_known(query: str) -> None:
    assert finds_nothing(plan_of(query))
    assert "finds nothing" in show(plan_of(query))


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("{ trace:id = `A1` }", {(0, 0xA1)}),
        ("{ trace:id = `a1` || trace:id = `10000000000000000` }", {(0, 0xA1), (1, 0)}),
        ("{ trace:id = `a1` && span.a = 1 } >> { }", {(0, 0xA1)}),
        ("{ trace:id = `a1` || span.a = 1 }", None),
        ("{ trace:id != `a1` }", None),
        ("{ }", None),
    ],
)
def test_trace_ids_restrict_the_scan(query: str, expected: set[tuple[int, int]] | None) -> None:
    assert trace_ids(plan_of(query)) == expected

"""Laws of searches over random traces and queries: how traces are cut into batches, what is read and what is skipped changes nothing."""

from __future__ import annotations

from collections.abc import Iterable
from random import Random

import numpy as np
import pytest
from naive import search_traces
from naive_fields import Try, attribute_value, intrinsic_value
from naive_spans import Span, Trace, traces_of
from naive_values import Value, compare
from plain_batches import answer_of, batch_of, corpus_form, plan_of
from random_queries import random_query
from random_traces import random_spans

from spanlake.engine import SearchPartial, evaluate_search, find_traces, finish, merge, newest, tries
from spanlake.model.results import SearchResult
from spanlake.model.scan import Comparison, Field, Predicate
from spanlake.model.trace import TimeRange
from spanlake.traceql import fold, format_query, parse
from spanlake.traceql.ast import Attribute, Operator, Pipeline
from spanlake.traceql.plan import SearchPlan, any_of, needs, show, trace_ids
from spanlake.traceql.plan.build import build_stages
from spanlake.traceql.vocabulary import KIND_VALUES, STATUS_VALUES, IntrinsicName, Scope

SEEDS = range(25)
MANY = 10**6


def drawn(seed: int) -> tuple[str, list[Trace]]:
    chance = Random(seed)
    traces = traces_of(random_spans(chance, traces_max=6))
    return random_query(chance), traces


def searched(plan: SearchPlan, traces: Iterable[Trace], *, spss: int = 3, limit: int = MANY) -> SearchResult:
    """One batch per trace."""
    partials = [evaluate_search(plan, batch_of([trace], needs(plan).answer), spss=spss) for trace in traces]
    return finish(merge(partials), limit)


@pytest.mark.parametrize("seed", SEEDS)
def test_answer_is_the_same_however_traces_are_cut_into_batches(seed: int) -> None:
    query, traces = drawn(seed)
    plan = plan_of(query)
    whole = evaluate_search(plan, batch_of(traces, needs(plan).answer), spss=3)
    assert repr(finish(merge([whole]), MANY)) == repr(searched(plan, traces))  # repr, because NaN is not itself


@pytest.mark.parametrize("seed", SEEDS)
def test_traces_found_are_those_of_the_answer(seed: int) -> None:
    query, traces = drawn(seed)
    plan = plan_of(query)
    partials = [evaluate_search(plan, batch_of(traces, needs(plan).answer), spss=3, limit=2)]
    found = newest([find_traces(plan, batch_of([trace], needs(plan).find)) for trace in traces], 2)
    answered = finish(merge(partials), 2).traces
    assert [(int(high) << 64) | int(low) for high, low in zip(found.high, found.low, strict=True)] == [one.trace_id for one in answered]
    assert found.spans.tolist() == [sum(one.matched for one in trace.spansets) for trace in answered]


@pytest.mark.parametrize("seed", SEEDS)
def test_found_traces_satisfy_what_the_plan_requires_of_them(seed: int) -> None:
    query, traces = drawn(seed)
    plan = plan_of(query)
    by_id = {trace.id: trace for trace in traces}
    only = trace_ids(plan)
    for found in searched(plan, traces).traces:
        alternatives = any_of(plan)
        trace = by_id[found.trace_id]
        assert alternatives == () or any(satisfies(trace, conjunction) for conjunction in alternatives), (query, found)
        assert only is None or divmod(trace.id, 1 << 64) in only


def satisfies(trace: Trace, conjunction: frozenset[Predicate]) -> bool:
    return all(any(span_satisfies(trace, span, predicate) for span in trace.spans) for predicate in conjunction)


def span_satisfies(trace: Trace, span: Span, predicate: Predicate) -> bool:
    for event in span.events or (None,):
        for link in span.links or (None,):
            value = field_value(predicate.field, Try(trace, span, event, link))
            if predicate.comparison is Comparison.EXISTS and value is not None:
                return True
            if value is not None and compare(Operator(predicate.comparison.value), value, operand(predicate, value)):
                return True
    return False


_INTRINSICS = {
    "trace_id": IntrinsicName.TRACE_ID,
    "span_id": IntrinsicName.SPAN_ID,
    "parent_span_id": IntrinsicName.SPAN_PARENT_ID,
    "duration_ns": IntrinsicName.DURATION,
    "trace_duration_ns": IntrinsicName.TRACE_DURATION,
    "name": IntrinsicName.NAME,
    "kind": IntrinsicName.KIND,
    "status_code": IntrinsicName.STATUS,
    "status_message": IntrinsicName.STATUS_MESSAGE,
    "root_name": IntrinsicName.ROOT_NAME,
    "root_service": IntrinsicName.ROOT_SERVICE_NAME,
    "nested_left": IntrinsicName.NESTED_SET_LEFT,
    "nested_right": IntrinsicName.NESTED_SET_RIGHT,
    "nested_parent": IntrinsicName.NESTED_SET_PARENT,
    "child_count": IntrinsicName.SPAN_CHILD_COUNT,
    "scope_name": IntrinsicName.INSTRUMENTATION_NAME,
    "scope_version": IntrinsicName.INSTRUMENTATION_VERSION,
    ":name": IntrinsicName.EVENT_NAME,
    ":trace_id": IntrinsicName.LINK_TRACE_ID,
    ":span_id": IntrinsicName.LINK_SPAN_ID,
}


def field_value(field: Field, attempt: Try) -> Value | None:
    if field.scope == "intrinsic" or field.name.startswith(":"):
        return intrinsic_value(_INTRINSICS[field.name], attempt)
    return attribute_value(Attribute(Scope(field.scope), field.name), attempt)


def operand(predicate: Predicate, beside: Value) -> Value:
    content = predicate.operand
    if beside.type in {"status", "kind"} and isinstance(content, int):
        return Value(beside.type, (STATUS_VALUES if beside.type == "status" else KIND_VALUES)[content])
    if beside.type in {"span_id", "trace_id"} and isinstance(content, int):
        return Value(beside.type, content)
    kinds = {bool: "bool", int: "int", float: "float", str: "string"}
    return Value(kinds[type(content)], content) if content is not None else Value("opaque")


@pytest.mark.parametrize("seed", SEEDS)
def test_limit_keeps_the_newest_traces_ties_by_id(seed: int) -> None:
    _, traces = drawn(seed)
    result = searched(plan_of("{ }"), traces, limit=3)
    expected = sorted(traces, key=lambda trace: (-trace.start_ns, trace.id))[:3]
    assert [trace.trace_id for trace in result.traces] == [trace.id for trace in expected]


@pytest.mark.parametrize("seed", SEEDS)
def test_canonical_text_finds_the_same(seed: int) -> None:
    query, traces = drawn(seed)
    again = format_query(parse(query))
    assert repr(searched(plan_of(query), traces)) == repr(searched(plan_of(again), traces))


@pytest.mark.parametrize("seed", SEEDS)
def test_folding_keeps_what_a_plan_finds(seed: int) -> None:
    query, traces = drawn(seed)
    parsed = parse(f"{{ 1 + 1 = 2 && 2 * 2.5 > 4 }} | {query}" if seed % 2 else query)
    folded = fold(parsed).root
    assert isinstance(parsed.root, Pipeline)
    assert isinstance(folded, Pipeline)
    shown = plan_of(query).shown
    plain, other = (SearchPlan(build_stages(root), shown) for root in (parsed.root, folded))
    assert repr(searched(plain, traces)) == repr(searched(other, traces))


@pytest.mark.parametrize("seed", SEEDS)
def test_rules_keep_what_a_plan_finds(seed: int) -> None:
    query, traces = drawn(seed)
    simplified = plan_of(query)
    root = fold(parse(query)).root
    assert isinstance(root, Pipeline)
    plain = SearchPlan(build_stages(root), simplified.shown)
    assert repr(searched(simplified, traces)) == repr(searched(plain, traces))
    assert show(plain)


@pytest.mark.parametrize("seed", SEEDS)
def test_events_and_links_tried_in_small_pieces_give_the_same(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    query, traces = drawn(seed)
    condition = "{ event.x = link.x || event.k != nil && link:spanID != span:id } | by(event.k, link.rel, !(event.x = link.x)) | "
    for text in (query, f"{condition} max(event.k) >= min(event.k)"):
        whole = repr(searched(plan_of(text), traces))
        with monkeypatch.context() as small:
            small.setattr(tries, "TRIES_MAX", 3)
            assert repr(searched(plan_of(text), traces)) == whole


def test_spans_of_a_set_are_the_first_in_row_order() -> None:
    traces = [trace for trace in drawn(5)[1] if len(trace.spans) > 3]
    assert traces
    for spss, shown in ((0, 3), (1, 1), (2, 2), (MANY, MANY)):
        for found, trace in zip(searched(plan_of("{ }"), traces[:1], spss=spss).traces, traces[:1], strict=True):
            (one,) = found.spansets
            assert one.matched == len(trace.spans)
            assert [span.span_id for span in one.spans] == [span.span_id for span in trace.spans[:shown]]


def test_window_keeps_traces_that_overlap_it() -> None:
    _, traces = drawn(7)
    for trace in traces:
        for first, last in ((trace.end_ns, trace.end_ns), (trace.start_ns - 9, trace.start_ns), (trace.end_ns + 1, trace.end_ns + 9)):
            window = TimeRange(first, last + 1)
            answer = answer_of("{ }", lambda fields: [batch_of(traces, fields)], window=window)
            expected = search_traces("{ }", traces, overlaps_ns=(first, last))
            assert answer.keys() == expected.keys()
            assert (f"{trace.id:032x}" in answer) is (first <= trace.end_ns)


def test_no_traces_give_an_empty_answer() -> None:
    plan = plan_of("{ .a = 1 } >> { } | by(name) | count() > 1")
    empty = batch_of([], needs(plan).answer)
    assert evaluate_search(plan, empty, spss=3) == SearchPartial()
    assert len(find_traces(plan, empty)) == 0
    assert len(newest([], 5)) == 0
    assert corpus_form(finish(merge([]), 5)) == {}


def test_fields_that_no_span_has_may_be_left_out_of_a_batch() -> None:
    query = "{ .nosuch != nil || name = `a` } | by(.nosuch, event.nosuch) | select(link.nosuch)"
    _, traces = drawn(3)
    plan = plan_of(query)
    full = batch_of(traces, needs(plan).answer)
    missing = {field: values for field, values in full.values.items() if field.name != "nosuch"}
    sparse = type(full)(full.trace_first, full.trace_high, full.trace_low, missing)
    assert evaluate_search(plan, sparse, spss=3) == evaluate_search(plan, full, spss=3)
    assert len(np.unique(full.trace_low)) == len(traces)

"""The naive evaluator: TraceQL searches over lists of plain span objects, one span after the other.

    answer = search("{ name = `x` } >> { }", spans)

gives what the conformance corpus gives: trace id → root, start, ms, stats, sets. Nothing here is fast, and the engine shares nothing
with it but the syntax tree and its canonical text.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, assert_never

from naive_fields import holds, literal_value, value_for
from naive_shown import Mentions, mentions_of, shown_attributes, shown_name
from naive_spans import Span, Trace, traces_of
from naive_values import INT_MAX, INT_MIN, NUMERIC, Value, calculate, compare, display, negate

from spanlake.traceql import check, fold, format_field, format_scalar, parse
from spanlake.traceql.ast import (
    Coalesce,
    Count,
    FieldReference,
    GroupBy,
    Literal,
    LogicalOperator,
    Pipeline,
    Reducer,
    Reduction,
    Relation,
    RelationMode,
    ScalarBinary,
    ScalarExpression,
    ScalarFilter,
    ScalarNegation,
    ScalarPipeline,
    Select,
    SpansetExpression,
    SpansetFilter,
    SpansetLogical,
    SpansetRelation,
    Stage,
    WrappedPipeline,
)
from spanlake.traceql.format import format_stage

Answer = dict[str, dict[str, Any]]
SPANS_PER_SET_MAX = 100
ROOT_MISSING = "<root span not yet received>"


@dataclass(frozen=True, slots=True)
class Spanset:
    """Spans of a trace, each once, and what by() and aggregates attached."""

    spans: tuple[Span, ...]
    attributes: tuple[tuple[str, Value], ...] = ()


def search(query_text: str, spans: Iterable[Span], *, overlaps_ns: tuple[int, int] | None = None, limit: int = 5000) -> Answer:
    """Answer a search over spans in order of arrival; QueryError for a bad query."""
    return search_traces(query_text, traces_of(spans), overlaps_ns=overlaps_ns, limit=limit)


def search_traces(query_text: str, traces: Iterable[Trace], *, overlaps_ns: tuple[int, int] | None = None, limit: int = 5000) -> Answer:
    """Answer a search over whole traces. The answer names traces newest first, ties by id (B17)."""
    query = parse(query_text)
    check(query)
    query = fold(query)
    assert isinstance(query.root, Pipeline)
    mentions = mentions_of(query)
    found: list[tuple[Trace, list[Spanset]]] = []
    for trace in traces:
        if overlaps_ns is not None and not (trace.start_ns <= overlaps_ns[1] and trace.end_ns >= overlaps_ns[0]):
            continue
        sets = run_pipeline(query.root, trace, [Spanset(trace.spans)])
        if sets:
            found.append((trace, sets))
    found.sort(key=lambda pair: (-pair[0].start_ns, pair[0].id))
    return {f"{trace.id:032x}": _describe(trace, sets, mentions) for trace, sets in found[:limit]}


# ---- pipelines ----


def run_pipeline(pipeline: Pipeline, trace: Trace, sets: list[Spanset]) -> list[Spanset]:
    """The spansets that are left; none of them is empty."""
    for stage in pipeline.stages:
        sets = _run_stage(stage, trace, sets)
    return sets


def _run_stage(stage: Stage, trace: Trace, sets: list[Spanset]) -> list[Spanset]:
    match stage:
        case Select():
            return sets
        case Coalesce():
            return [Spanset(_in_order(trace, [span for one in sets for span in one.spans]))] if sets else []
        case GroupBy():
            return [group for one in sets for group in _group(stage, trace, one)]
        case ScalarFilter():
            return [kept for one in sets if (kept := _filter_by_scalar(stage, trace, one)) is not None]
        case SpansetFilter() | SpansetRelation() | SpansetLogical() | WrappedPipeline():
            left = [Spanset(select_spans(stage, trace, one.spans), one.attributes) for one in sets]
            return [one for one in left if one.spans]
        case _:
            assert_never(stage)


def _in_order(trace: Trace, spans: Iterable[Span]) -> tuple[Span, ...]:
    return tuple(sorted(set(spans), key=lambda span: trace.numbers[span].left))


def _group(stage: GroupBy, trace: Trace, spanset: Spanset) -> list[Spanset]:
    """A group per combination of typed values; a missing value, or one that TraceQL cannot hold, is a value of its own (B22, C7)."""
    keys = [f"by({format_field(expression)})" for expression in stage.expressions]
    groups: dict[str, tuple[list[Value], list[Span]]] = {}
    for span in spanset.spans:
        values = [value_for(expression, trace, span) for expression in stage.expressions]
        known = [Value("nil", "nil") if value is None or value.type == "opaque" else value for value in values]
        identity = repr([(value.type, _plain(value)) for value in known])
        groups.setdefault(identity, (known, []))[1].append(span)
    return [
        Spanset(tuple(spans), _attach(spanset, list(zip(keys, values, strict=True))))
        for values, spans in groups.values()
    ]  # fmt: skip


def _plain(value: Value) -> Any:
    """Content under which equal values are equal text: there is one zero."""
    if value.type == "array":
        return [(element.type, _plain(element)) for element in value.content]
    return value.content + 0.0 if value.type == "float" else value.content


# ---- spansets ----


def select_spans(expression: SpansetExpression, trace: Trace, spans: tuple[Span, ...]) -> tuple[Span, ...]:
    """The spans that a spanset expression finds among `spans`."""
    match expression:
        case SpansetFilter():
            return tuple(span for span in spans if holds(expression.condition, trace, span))
        case WrappedPipeline():
            return _spans_after(expression.pipeline, trace, spans)
        case SpansetLogical():
            sides = [select_spans(operand, trace, spans) for operand in expression.operands]
            union = _in_order(trace, [span for side in sides for span in side])
            return union if expression.operator is LogicalOperator.OR or all(sides) else ()
        case SpansetRelation():
            left = select_spans(expression.left, trace, spans)
            right = select_spans(expression.right, trace, spans)
            return _relate(expression, trace, left, right)
        case _:
            assert_never(expression)


def _relate(relation: SpansetRelation, trace: Trace, left: tuple[Span, ...], right: tuple[Span, ...]) -> tuple[Span, ...]:
    pairs = [(one, other) for one in left for other in right if _RELATED[relation.relation](trace, one, other)]
    matched = {other for _, other in pairs}
    match relation.mode:
        case RelationMode.RIGHT:
            return tuple(span for span in right if span in matched)
        case RelationMode.NEGATED:
            return tuple(span for span in right if span not in matched)
        case RelationMode.UNION:
            return _in_order(trace, [span for pair in pairs for span in pair])
        case _:
            assert_never(relation.mode)


_RELATED: dict[Relation, Callable[[Trace, Span, Span], bool]] = {
    Relation.CHILD: lambda trace, left, right: trace.parents[right] is left,
    Relation.PARENT: lambda trace, left, right: trace.parents[left] is right,
    Relation.DESCENDANT: lambda trace, left, right: left in trace.ancestors(right),
    Relation.ANCESTOR: lambda trace, left, right: right in trace.ancestors(left),
    Relation.SIBLING: lambda trace, left, right: trace.are_siblings(left, right),
}

# ---- scalars ----


def _filter_by_scalar(stage: ScalarFilter, trace: Trace, spanset: Spanset) -> Spanset | None:
    """The spanset with the aggregates of the filter attached, or None."""
    left, right = (scalar_value(side, trace, spanset.spans) for side in (stage.left, stage.right))
    if not compare(stage.operator, left, right):
        return None
    attached = [pair for side in (stage.left, stage.right) for pair in _attached(side, trace, spanset.spans)]
    return Spanset(spanset.spans, _attach(spanset, attached))


def _attach(spanset: Spanset, attached: list[tuple[str, Value]]) -> tuple[tuple[str, Value], ...]:
    """The attributes with more; of two under one key the later stays."""
    return tuple({**dict(spanset.attributes), **dict(attached)}.items())


def _attached(scalar: ScalarExpression, trace: Trace, spans: tuple[Span, ...]) -> list[tuple[str, Value]]:
    """Every aggregate in a scalar with its key; the pipeline that one stands behind is part of the key."""
    match scalar:
        case Literal():
            return []
        case Count() | Reduction():
            value = scalar_value(scalar, trace, spans)
            return [] if value is None else [(format_scalar(scalar), value)]
        case ScalarPipeline():
            inner = _attached(scalar.result, trace, _spans_after(scalar.pipeline, trace, spans))
            stages = " | ".join(format_stage(stage) for stage in scalar.pipeline.stages)
            return [(f"({stages} | {key})", value) for key, value in inner]
        case ScalarNegation():
            return _attached(scalar.operand, trace, spans)
        case ScalarBinary():
            return _attached(scalar.left, trace, spans) + _attached(scalar.right, trace, spans)
        case _:
            assert_never(scalar)


def _spans_after(pipeline: Pipeline, trace: Trace, spans: tuple[Span, ...]) -> tuple[Span, ...]:
    """What a pipeline leaves of the spans, whatever groups it made."""
    return _in_order(trace, [span for one in run_pipeline(pipeline, trace, [Spanset(spans)]) for span in one.spans])


def scalar_value(scalar: ScalarExpression, trace: Trace, spans: tuple[Span, ...]) -> Value | None:
    """The value of a scalar over spans, None if it has none."""
    match scalar:
        case Literal():
            return literal_value(scalar)
        case Count():
            return Value("int", len(spans))
        case Reduction():
            values = [value_for(scalar.argument, trace, span) for span in spans]
            return reduce_values(scalar.reducer, [value for value in values if value is not None and value.type in NUMERIC])
        case ScalarPipeline():
            return scalar_value(scalar.result, trace, _spans_after(scalar.pipeline, trace, spans))
        case ScalarNegation():
            return negate(scalar_value(scalar.operand, trace, spans))
        case ScalarBinary():
            return calculate(scalar.operator, scalar_value(scalar.left, trace, spans), scalar_value(scalar.right, trace, spans))
        case _:
            assert_never(scalar)


def reduce_values(reducer: Reducer, values: list[Value]) -> Value | None:
    """An aggregate of numbers: the sum of mixed types is a float (B14), the least and the greatest keep their type; NaN is neither."""
    if not values:
        return None
    types = {value.type for value in values}
    match reducer:
        case Reducer.MIN | Reducer.MAX:
            pick = min if reducer is Reducer.MIN else max
            return pick([value for value in values if not math.isnan(value.content)] or values, key=lambda value: value.content)
        case Reducer.SUM:
            return _sum(types, [value.content for value in values])
        case Reducer.AVG:
            total = _sum(types, [value.content for value in values])
            if types == {"duration"} and total.type == "duration":
                return calculate_duration_share(total, len(values))
            return Value("float", float(total.content) / len(values))
        case _:
            assert_never(reducer)


def _sum(types: set[str], contents: list[Any]) -> Value:
    """Exact where it fits into 64 bits, else a float."""
    if len(types) > 1 or types == {"float"}:
        return Value("float", float_sum([float(content) for content in contents]))
    total = sum(contents)
    (kind,) = types
    return Value(kind, total) if INT_MIN <= total <= INT_MAX else Value("float", float(total))


def float_sum(numbers: list[float]) -> float:
    """The sum by IEEE 754, rounded once."""
    special = [number for number in numbers if not math.isfinite(number)]
    return sum(special) if special else math.fsum(numbers)


def calculate_duration_share(total: Value, count: int) -> Value:
    """Whole nanoseconds, cut towards zero."""
    share = abs(total.content) // count
    return Value("duration", share if total.content >= 0 else -share)


# ---- answers ----


def _describe(trace: Trace, sets: list[Spanset], mentions: dict[FieldReference, Mentions]) -> dict[str, Any]:
    stats: dict[str, list[int]] = {}
    for span in trace.spans:
        counts = stats.setdefault(span.service, [0, 0])
        counts[0] += 1
        counts[1] += span.status == 2
    root = trace.root
    return {
        "root": [(root.service if root else "") or ROOT_MISSING, (root.name if root else "") or None],
        "start": trace.start_ns,
        "ms": (trace.end_ns - trace.start_ns) // 1_000_000,
        "stats": stats,
        "sets": sorted((_describe_set(trace, one, mentions) for one in sets), key=repr),
    }


def _describe_set(trace: Trace, spanset: Spanset, mentions: dict[FieldReference, Mentions]) -> dict[str, Any]:
    spans = [
        [
            f"{span.span_id:016x}",
            shown_name(mentions, trace, span),
            span.start_ns,
            span.duration_ns,
            shown_attributes(mentions, trace, span),
        ]
        for span in spanset.spans
    ]
    return {
        "matched": len(spans),
        "attributes": sorted(([key, _set_value(value)] for key, value in spanset.attributes), key=repr),
        "spans": sorted(spans, key=repr) if len(spans) <= SPANS_PER_SET_MAX else None,
    }


def _set_value(value: Value) -> list[Any]:
    return ["string", "nil"] if value.type == "nil" else display(value)

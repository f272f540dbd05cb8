"""Traces of the naive evaluator as scan batches, and results of the engine in the form of the conformance corpus.

Only what was asked for is in a batch, as from a real source. Dictionaries hold a string that no row has, and codes of rows without a value
are out of range, because sources may do so.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from naive import Answer
from naive_spans import Event, Link, Span, Trace
from naive_values import value_of

from spanlake.engine import evaluate_search, finish, merge
from spanlake.model.results import ResultType, SearchResult, SpanFound, SpansetFound, TraceFound, TypedValue
from spanlake.model.scan import Children, Field, Ids, Lists, Numbers, NumberType, Opaque, Part, ScanBatch, Texts, Values
from spanlake.model.trace import TimeRange
from spanlake.traceql import check, parse
from spanlake.traceql.plan import SearchPlan, needs, plan_search

NOWHERE = np.int32(1 << 30)
ROOT_MISSING = "<root span not yet received>"


def plan_of(query: str) -> SearchPlan:
    parsed = parse(query)
    check(parsed)
    return plan_search(parsed)


def answer_of(query: str, batches: Callable[[frozenset[Field]], Iterable[ScanBatch]], *, window: TimeRange | None = None) -> Answer:
    """The engine's answer, over batches that hold the fields that the plan asks for."""
    plan = plan_of(query)
    partials = [evaluate_search(plan, batch, spss=10**6, window=window) for batch in batches(needs(plan).answer)]
    return corpus_form(finish(merge(partials), 10**6))


# ---- traces to batches ----


def batch_of(traces: Sequence[Trace], fields: Iterable[Field]) -> ScanBatch:
    spans = [(trace, span) for trace in traces for span in trace.spans]
    wanted = frozenset(fields)
    return ScanBatch(
        trace_first=np.cumsum([0, *(len(trace.spans) for trace in traces)]).astype(np.int64),
        trace_high=np.array([trace.id >> 64 for trace in traces], np.uint64),
        trace_low=np.array([trace.id & (1 << 64) - 1 for trace in traces], np.uint64),
        values={field: _span_column(field, spans) for field in wanted if field.scope not in {"event", "link"}},
        children={
            scope: found
            for scope, items in (("event", [span.events for _, span in spans]), ("link", [span.links for _, span in spans]))
            if (found := _children(scope, items, wanted)) is not None
        },
    )


def _span_column(field: Field, spans: Sequence[tuple[Trace, Span]]) -> Values:
    if field.scope == "intrinsic":
        return _intrinsic(field.name, spans)
    holders: dict[str, Callable[[Span], Any]] = {
        "span": lambda span: span.attributes,
        "resource": lambda span: span.resource.attributes,
        "instrumentation": lambda span: span.scope.attributes,
    }
    return attribute_column([holders[field.scope](span).get(field.name, ...) for _, span in spans])


_SPAN_FIELDS: dict[str, tuple[NumberType, Callable[[Trace, Span], int]]] = {
    "start_ns": (NumberType.INT, lambda _, span: span.start_ns),
    "duration_ns": (NumberType.DURATION, lambda _, span: span.duration_ns),
    "status_code": (NumberType.STATUS, lambda _, span: span.status),
    "kind": (NumberType.KIND, lambda _, span: span.kind),
    "nested_left": (NumberType.INT, lambda trace, span: trace.numbers[span].left),
    "nested_right": (NumberType.INT, lambda trace, span: trace.numbers[span].right),
    "nested_parent": (NumberType.INT, lambda trace, span: trace.numbers[span].parent),
    "child_count": (NumberType.INT, lambda trace, span: len(trace.children[span])),
    "trace_start_ns": (NumberType.INT, lambda trace, _: trace.start_ns),
    "trace_duration_ns": (NumberType.DURATION, lambda trace, _: trace.end_ns - trace.start_ns),
}
_TEXT_FIELDS: dict[str, Callable[[Trace, Span], str]] = {
    "name": lambda _, span: span.name,
    "status_message": lambda _, span: span.status_message,
    "root_name": lambda trace, _: trace.root.name if trace.root else "",
    "root_service": lambda trace, _: trace.root.service if trace.root else "",
    "scope_name": lambda _, span: span.scope.name,
    "scope_version": lambda _, span: span.scope.version,
}


def _intrinsic(name: str, spans: Sequence[tuple[Trace, Span]]) -> Values:
    rows = len(spans)
    if name in _SPAN_FIELDS:
        number, read = _SPAN_FIELDS[name]
        numbers = np.array([read(trace, span) for trace, span in spans], np.int64)
        return Values(rows, (Numbers(number, np.ones(rows, np.bool_), numbers),))
    if name in _TEXT_FIELDS:
        return Values(rows, (_texts([_TEXT_FIELDS[name](trace, span) for trace, span in spans]),))
    ids = [span.span_id if name == "span_id" else span.parent_id for _, span in spans]
    valid = np.array([name == "span_id" or one != 0 for one in ids], np.bool_)
    return Values(rows, (_ids(ids, valid, 8),))


def _ids(ids: Sequence[int], valid: Any, width: int) -> Ids:
    high = np.array([one >> 64 for one in ids], np.uint64)
    return Ids(valid, high, np.array([one & (1 << 64) - 1 for one in ids], np.uint64), width)


def _children(scope: str, lists: Sequence[Sequence[Event | Link]], fields: Iterable[Field]) -> Children | None:
    wanted = [field for field in fields if field.scope == scope]
    if not wanted:
        return None
    every = [child for one in lists for child in one]
    offsets = np.cumsum([0, *map(len, lists)]).astype(np.int64)
    return Children(offsets, {field: _child_column(field.name, every) for field in wanted})


def _child_column(name: str, every: Sequence[Any]) -> Values:
    rows, valid = len(every), np.ones(len(every), np.bool_)
    match name:
        case ":name":
            return Values(rows, (_texts([child.name for child in every]),))
        case ":time_ns":
            return Values(rows, (Numbers(NumberType.INT, valid, np.array([child.time_ns for child in every], np.int64)),))
        case ":trace_id":
            return Values(rows, (_ids([child.trace_id for child in every], valid, 16),))
        case ":span_id":
            return Values(rows, (_ids([child.span_id for child in every], valid, 8),))
        case _:
            return attribute_column([child.attributes.get(name, ...) for child in every])


def _texts(texts: Sequence[str | None]) -> Texts:
    distinct = list(dict.fromkeys(["never used", *(text for text in texts if text is not None)]))
    code = {text: place for place, text in enumerate(distinct)}
    codes = np.array([NOWHERE if text is None else code[text] for text in texts], np.int32)
    return Texts(np.array([text is not None for text in texts], np.bool_), codes, pa.array(distinct, pa.string()))


_NUMBERS = {"int": NumberType.INT, "float": NumberType.FLOAT, "bool": NumberType.BOOL}


def attribute_column(raw: Sequence[Any]) -> Values:
    """A column of attribute values; ... where there is none."""
    types = [_type_of(one) for one in raw]
    kinds = sorted(set(types) - {"none"})
    return Values(len(raw), tuple(_part(kind, [one if of == kind else ... for one, of in zip(raw, types, strict=True)]) for kind in kinds))


def _type_of(raw: Any) -> str:
    if raw is ...:
        return "none"
    value = value_of(raw)
    return f"list {value_of(raw[0]).type}" if isinstance(raw, list) and value.type != "opaque" else value.type


def _part(kind: str, raw: Sequence[Any]) -> Part:
    valid = np.array([one is not ... for one in raw], np.bool_)
    if kind == "opaque":
        return Opaque(valid)
    if kind.startswith("list "):
        offsets = np.cumsum([0, *(0 if one is ... else len(one) for one in raw)]).astype(np.int64)
        elements = _part(kind.removeprefix("list "), [element for one in raw if one is not ... for element in one])
        assert isinstance(elements, Texts | Numbers)
        return Lists(valid, offsets, elements)
    if kind == "string":
        return _texts([None if one is ... else one for one in raw])
    numbers: Any = np.array([77 if one is ... else one for one in raw], np.float64 if kind == "float" else np.int64)
    return Numbers(_NUMBERS[kind], valid, numbers)


# ---- results to the form of the corpus ----


def corpus_form(result: SearchResult) -> Answer:
    return {f"{trace.trace_id:032x}": _trace(trace) for trace in result.traces}


def _trace(trace: TraceFound) -> dict[str, Any]:
    return {
        "root": [trace.root_service or ROOT_MISSING, trace.root_name or None],
        "start": trace.start_ns,
        "ms": trace.duration_ns // 1_000_000,
        "stats": {one.service: [one.spans, one.errors] for one in trace.services},
        "sets": [_spanset(one) for one in trace.spansets],
    }


def _spanset(spanset: SpansetFound) -> dict[str, Any]:
    return {
        "matched": spanset.matched,
        "attributes": [[key, _value(value)] for key, value in spanset.attributes],
        "spans": [_span(span) for span in spanset.spans] if spanset.matched <= 100 else None,
    }


def _span(span: SpanFound) -> list[Any]:
    attributes = [[key, _value(value)] for key, value in span.attributes]
    return [f"{span.span_id:016x}", span.name or None, span.start_ns, span.duration_ns, attributes]


def _value(value: TypedValue) -> list[Any]:
    if isinstance(value.value, tuple):
        return ["array", [_value(element) for element in value.value]]
    if value.type is ResultType.DOUBLE and isinstance(value.value, float) and not np.isfinite(value.value):
        return ["double", "NaN" if np.isnan(value.value) else "Infinity" if value.value > 0 else "-Infinity"]
    return [value.type.value, value.value]

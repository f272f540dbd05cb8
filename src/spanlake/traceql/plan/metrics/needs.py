"""What a metrics plan reads: the fields of all of its leaves at once, and what a source may skip."""

from __future__ import annotations

from typing import assert_never

from spanlake.model.scan import Field, Predicate
from spanlake.traceql.plan.fields import START
from spanlake.traceql.plan.metrics.nodes import ComparePlan, CountSpans, Histogram, Leaf, MetricsPlan, Quantiles, ReduceField, SeriesPlan
from spanlake.traceql.plan.needs import expression_fields, stage_fields
from spanlake.traceql.plan.nodes import SearchPlan
from spanlake.traceql.plan.prune import CONJUNCTIONS_MAX, any_of, finds_nothing, trace_ids

TRACE_STATE = Field("intrinsic", "trace_state")


def metrics_needs(plan: MetricsPlan) -> frozenset[Field]:
    """The fields that all leaves read; compare() reads those of `compared` besides."""
    fields = frozenset({START, TRACE_STATE}) if plan.hints.extrapolate else frozenset({START})
    match plan:
        case ComparePlan():
            return fields | stage_fields(plan.stages) | expression_fields(plan.selection)
        case SeriesPlan():
            return fields.union(*(_leaf(leaf) for leaf in plan.leaves))
        case _:
            assert_never(plan)


def _leaf(leaf: Leaf) -> frozenset[Field]:
    by = (expression_fields(label.operand) for label in (*leaf.by, *leaf.loaded))
    fields = stage_fields(leaf.stages).union(*by)
    match leaf.function:
        case CountSpans():
            return fields
        case ReduceField() | Histogram() | Quantiles():
            return fields | expression_fields(leaf.function.argument)
        case _:
            assert_never(leaf.function)


def metrics_any_of(plan: MetricsPlan) -> tuple[frozenset[Predicate], ...]:
    """For ScanRequest.any_of: what a trace must have to matter to some leaf; empty where every trace matters."""
    found: dict[frozenset[Predicate], None] = {}
    for search in _searches(plan):
        alternatives = any_of(search)
        if not alternatives:
            return ()
        found.update(dict.fromkeys(alternatives))
    return tuple(found) if len(found) <= CONJUNCTIONS_MAX else ()


def metrics_trace_ids(plan: MetricsPlan) -> frozenset[tuple[int, int]] | None:
    """For ScanRequest.traces: the only traces that can matter, or None if any can."""
    found: frozenset[tuple[int, int]] = frozenset()
    for search in _searches(plan):
        ids = trace_ids(search)
        if ids is None:
            return None
        found |= ids
    return found


def finds_no_span(plan: MetricsPlan) -> bool:
    """Whether no leaf can find a span, whatever there is."""
    return not _searches(plan)


def _searches(plan: MetricsPlan) -> list[SearchPlan]:
    """The leaves, as searches, that can find something."""
    pipelines = [plan.stages] if isinstance(plan, ComparePlan) else [leaf.stages for leaf in plan.leaves]
    searches = (SearchPlan(stages, ()) for stages in pipelines)
    return [search for search in searches if not finds_nothing(search)]

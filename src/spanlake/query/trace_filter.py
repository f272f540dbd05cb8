"""Trace by id as it was asked for: the spans that a TraceQL filter finds in it and those around them, similar spans summarized."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from spanlake.blocks.memory.arrange import Arrangement
from spanlake.blocks.scan.memory import ArrangedSpans, MemoryScan, arranged
from spanlake.engine import regex_problem
from spanlake.engine.matching import matching_rows
from spanlake.model.errors import InvalidInput
from spanlake.model.scan import Field
from spanlake.model.spans import SpanBatch
from spanlake.model.stop import Stop
from spanlake.model.trace import ALL_GENERATIONS, Pruning, TimeRange, TraceAnswer, TraceFilter
from spanlake.query.federated import FederatedFinder
from spanlake.query.pruning import Pruned, prune
from spanlake.query.trace import TraceFinder, bounded_answer, split_twins
from spanlake.traceql import check, parse
from spanlake.traceql.ast import Intrinsic, Pipeline, SpansetFilter, walk
from spanlake.traceql.plan import SearchPlan, needs, plan_search
from spanlake.traceql.vocabulary import IntrinsicName

FILTERED = "Trace filtered, only a subset of spans matching the filter is returned"
PRUNED = "Trace pruned: {spans} similar spans are shown as {summaries} summaries; ask with span_pruning=false to see every span"
PRUNED_BEFORE = "Trace has summaries in place of spans since before it was stored; this is all that is stored of it"
_I = IntrinsicName
_OF_WHOLE_TRACES = frozenset({_I.ROOT_NAME, _I.ROOT_SERVICE_NAME, _I.TRACE_DURATION, _I.TRACE_ID})
_NESTED_SETS = frozenset({_I.NESTED_SET_LEFT, _I.NESTED_SET_RIGHT, _I.NESTED_SET_PARENT})


def plan_of_filter(text: str) -> SearchPlan:
    """The plan of one spanset filter. QueryError for text that is no query, InvalidInput for one that is no plain filter."""
    query = parse(text)
    check(query, regex_problem=regex_problem)
    stages = query.root.stages if isinstance(query.root, Pipeline) else ()
    if len(stages) != 1 or not isinstance(stages[0], SpansetFilter):
        raise InvalidInput("invalid TraceQL filter: expected one filter such as { status = error }, without operators or a pipeline")
    for node in walk(stages[0]):
        if isinstance(node, Intrinsic) and node.name in _OF_WHOLE_TRACES | _NESTED_SETS:
            raise InvalidInput(f"invalid TraceQL filter: {node.name.value} says nothing about single spans of a trace")
    return plan_search(query)


@dataclass(frozen=True, slots=True)
class FilteringFinder:
    """The use case with what finds the traces."""

    finder: TraceFinder | FederatedFinder

    def find_filtered(
        self, tenant: str, trace_id: tuple[int, int], time_range: TimeRange | None, wanted: TraceFilter, stop: Stop
    ) -> TraceAnswer:
        """The wanted spans of the trace with that id; not complete, unless there is no such trace or nothing was left out."""
        plan = plan_of_filter(wanted.text) if wanted.text else None
        fragments, inspected = self.finder.fragments(tenant, trace_id, time_range)
        stop.check()
        if not fragments:
            return TraceAnswer(b"", 0, inspected_bytes=inspected)
        whole = arranged(fragments)
        chosen = np.ones(len(whole.batch), np.bool_) if plan is None else wanted_rows(plan, whole, wanted)
        pruned = _pruned(split_twins(whole.only_rows(chosen)), wanted.pruning)
        answer = bounded_answer(pruned.batch, bytes_max=self.finder.settings.trace_bytes_max, inspected_bytes=inspected)
        told = [answer.message, FILTERED if plan is not None else "", _told_of(pruned)]
        complete = answer.complete and plan is None and not pruned.summaries
        message = "; ".join(text for text in told if text)
        return TraceAnswer(answer.encoded, answer.spans, complete=complete, message=message, inspected_bytes=inspected)


def wanted_rows(plan: SearchPlan, whole: ArrangedSpans, wanted: TraceFilter) -> NDArray[np.bool_]:
    """Which spans of a trace a filter finds, and those around them that were asked for."""
    batch = MemoryScan(whole).batch(needs(plan).find | {Field("intrinsic", "nested_left")})
    chosen = np.zeros(batch.rows, np.bool_)
    chosen[matching_rows(plan, batch)] = True
    chosen |= descendants(whole.arrangement, chosen, wanted.match_depth)
    if wanted.keep_hierarchy:
        chosen |= ancestors(whole.arrangement, chosen, wanted.ancestor_depth)
    return chosen


def _pruned(batch: SpanBatch, pruning: Pruning | None) -> Pruned:
    return Pruned(batch) if pruning is None else prune(batch, pruning)


def _told_of(pruned: Pruned) -> str:
    if pruned.before:
        return PRUNED_BEFORE
    return PRUNED.format(spans=pruned.summarized, summaries=pruned.summaries) if pruned.summaries else ""


def parent_rows(arrangement: Arrangement) -> NDArray[np.int64]:
    """Per row of one trace the row of its parent, -1 without one. Rows are in the order of `nested_left`."""
    rows = np.searchsorted(arrangement.nested_left, arrangement.nested_parent)
    return np.where(arrangement.nested_parent > 0, rows, -1)


def descendants(arrangement: Arrangement, chosen: NDArray[np.bool_], generations: int) -> NDArray[np.bool_]:
    """The rows of one trace below chosen ones, down to so many generations."""
    if generations == ALL_GENERATIONS:
        # A descendant lies within the interval of a chosen row before it.
        ends = np.maximum.accumulate(np.where(chosen, arrangement.nested_right, 0))
        return np.concatenate([[False], ends[:-1] > arrangement.nested_left[1:]])
    parents = parent_rows(arrangement)
    found, layer = np.zeros(len(chosen), np.bool_), chosen
    for _ in range(generations):
        layer = (parents >= 0) & layer[parents] & ~found
        if not layer.any():
            break
        found |= layer
    return found


def ancestors(arrangement: Arrangement, chosen: NDArray[np.bool_], generations: int) -> NDArray[np.bool_]:
    """The rows of one trace above chosen ones, up to so many generations."""
    if generations == ALL_GENERATIONS:
        # An ancestor has a chosen row within its interval.
        lefts = arrangement.nested_left[chosen]
        within = np.searchsorted(lefts, arrangement.nested_right) - np.searchsorted(lefts, arrangement.nested_left, side="right")
        found: NDArray[np.bool_] = within > 0
        return found
    parents = parent_rows(arrangement)
    found, layer = np.zeros(len(chosen), np.bool_), chosen
    for _ in range(generations):
        above = parents[layer]
        layer = np.zeros(len(chosen), np.bool_)
        layer[above[above >= 0]] = True
        layer &= ~found
        if not layer.any():
            break
        found |= layer
    return found

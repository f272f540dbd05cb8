"""Searches: plan × batch to partial results, partial results to the result.

Traces are ordered newest first, by start, and by id where they start together. A trace takes part if it overlaps the window; its spans do
not have to.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from spanlake.engine.answer import trace_found
from spanlake.engine.frame import Frame
from spanlake.engine.pipeline import run_stages
from spanlake.engine.spansets import Spansets, all_spans, kept_sets
from spanlake.engine.values.parts import Mask, Rows
from spanlake.model.results import SearchResult, TraceFound
from spanlake.model.scan import ScanBatch
from spanlake.model.trace import TimeRange
from spanlake.traceql.plan.nodes import SearchPlan

SPSS_DEFAULT = 3


@dataclass(frozen=True, slots=True)
class TracesFound:
    """Traces that a search finds, without what it says about them."""

    high: NDArray[np.uint64]
    low: NDArray[np.uint64]
    start_ns: NDArray[np.int64]
    spans: NDArray[np.int64]  # matched, over all spansets

    def __len__(self) -> int:
        return len(self.high)


@dataclass(frozen=True, slots=True)
class SearchPartial:
    """The result of some batches: different traces, in the order of answers."""

    traces: tuple[TraceFound, ...] = ()


def find_traces(plan: SearchPlan, batch: ScanBatch, *, window: TimeRange | None = None) -> TracesFound:
    """The traces of the batch that the search finds, in no particular order. Needs the fields `needs(plan).find`."""
    frame = Frame(batch)
    spansets = _evaluated(frame, plan, window)
    traces, first = np.unique(spansets.owner, return_index=True)
    spans = np.add.reduceat(np.diff(spansets.first), first) if len(first) else np.zeros(0, np.int64)
    start_ns = frame.integers("trace_start_ns")[batch.trace_first[traces]]
    return TracesFound(batch.trace_high[traces], batch.trace_low[traces], start_ns, spans)


def newest(found: Sequence[TracesFound], limit: int) -> TracesFound:
    """The traces that make the limit, in the order of answers."""
    if not found:
        return TracesFound(np.zeros(0, np.uint64), np.zeros(0, np.uint64), np.zeros(0, np.int64), np.zeros(0, np.int64))
    joined = [np.concatenate([getattr(one, name) for one in found]) for name in TracesFound.__slots__]
    high, low, start_ns, spans = joined
    order = _newest_first(high, low, start_ns)[:limit]
    return TracesFound(high[order], low[order], start_ns[order], spans[order])


def _newest_first(high: NDArray[np.uint64], low: NDArray[np.uint64], start_ns: NDArray[np.int64]) -> Rows:
    return np.lexsort((low, high, ~start_ns))  # ~x orders as -x does, without overflow


def evaluate_search(
    plan: SearchPlan, batch: ScanBatch, *, spss: int, window: TimeRange | None = None, limit: int | None = None
) -> SearchPartial:
    """The found traces of a batch, at most the `limit` newest, with `spss` spans per spanset (0: the default of 3).

    Needs the fields `needs(plan).answer`.
    """
    frame = Frame(batch)
    spansets = _evaluated(frame, plan, window)
    if not len(spansets):
        return SearchPartial()
    traces = np.unique(spansets.owner)
    start_ns = frame.integers("trace_start_ns")[batch.trace_first[traces]]
    order = _newest_first(batch.trace_high[traces], batch.trace_low[traces], start_ns)[:limit]
    chosen = traces[order]
    return SearchPartial(trace_found(frame, plan, spansets, traces=chosen, spss=spss or SPSS_DEFAULT))


def _evaluated(frame: Frame, plan: SearchPlan, window: TimeRange | None) -> Spansets:
    spansets = run_stages(frame, plan.stages, all_spans(frame.batch.trace_first.astype(np.int64)))
    if window is not None and len(spansets):
        # Stages look at one trace at a time, so the window may come last: times are read of batches with something found only.
        spansets = kept_sets(spansets, _overlapping(frame, window, spansets.owner))
    return spansets


def _overlapping(frame: Frame, window: TimeRange, traces: Rows) -> Mask:
    """Which of the traces touch the window: its start is in, its end is out, and both ends of a trace are in the trace."""
    first = frame.batch.trace_first[traces]
    start = frame.integers("trace_start_ns")[first]
    end = start + frame.integers("trace_duration_ns")[first]
    return (start < window.end_ns) & (end >= window.start_ns)


def merge(partials: Sequence[SearchPartial]) -> SearchPartial:
    """The partial result of all batches; no trace is in two of them."""
    traces = [trace for partial in partials for trace in partial.traces]
    return SearchPartial(tuple(sorted(traces, key=lambda trace: (-trace.start_ns, trace.trace_id))))


def finish(partial: SearchPartial, limit: int) -> SearchResult:
    """The result: the `limit` newest traces."""
    return SearchResult(partial.traces[:limit])

"""The text of `explain`: the plan of a query, and what it took to answer it."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

from spanlake.model.metrics import MetricsAnswer, RangeQuery
from spanlake.model.queries import Inspected, SearchAnswer, SearchQuery
from spanlake.traceql.plan import SearchPlan, show
from spanlake.traceql.plan.metrics import MetricsPlan, show_metrics

A = TypeVar("A", bound=SearchAnswer | MetricsAnswer)


def explanation(plan: SearchPlan, query: SearchQuery, search: Callable[[], SearchAnswer]) -> str:
    """Run the search and say how it went."""

    def found(answer: SearchAnswer) -> str:
        return f"found {len(answer.traces)} traces (limit {query.limit})"

    return _explained(show(plan), search, found)


def metrics_explanation(plan: MetricsPlan, query: RangeQuery, measure: Callable[[], MetricsAnswer]) -> str:
    """Run the metrics query and say how it went."""

    def found(answer: MetricsAnswer) -> str:
        points = sum(len(series.times_ms) for series in answer.series)
        text = f"{len(answer.series)} series of {points} points, one every {query.step_ns / 1e9:g} s"
        return f"{text}; partial: {answer.partial}" if answer.partial else text

    return _explained(show_metrics(plan), measure, found)


def _explained(plan: str, ask: Callable[[], A], found: Callable[[A], str]) -> str:
    wall, processor = time.perf_counter(), time.process_time()
    answer = ask()
    wall, processor = time.perf_counter() - wall, time.process_time() - processor
    lines = [plan, found(answer), *_cost(answer.inspected)]
    lines.append(f"took {wall * 1e3:.1f} ms; the process used {processor * 1e3:.1f} ms of CPU meanwhile")
    return "\n".join(lines) + "\n"


def _cost(seen: Inspected) -> list[str]:
    return [
        f"blocks: {seen.blocks - seen.blocks_skipped} read of {seen.blocks} ({seen.block_bytes:,} bytes)",
        f"row groups: {seen.row_groups - seen.row_groups_skipped} read of {seen.row_groups} in blocks that were looked at",
        f"read {seen.bytes:,} bytes in {seen.jobs} pieces: {seen.spans:,} spans of {seen.traces:,} traces",
        f"traces in several places, gathered: {seen.split_traces}",
    ]

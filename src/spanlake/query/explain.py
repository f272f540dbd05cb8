"""The text of `explain`: the plan of a search, and what it took to answer it."""

from __future__ import annotations

import time
from collections.abc import Callable

from spanlake.model.queries import Inspected, SearchAnswer, SearchQuery
from spanlake.traceql.plan import SearchPlan, show


def explanation(plan: SearchPlan, query: SearchQuery, search: Callable[[], SearchAnswer]) -> str:
    """Run the search and say how it went."""
    wall, processor = time.perf_counter(), time.process_time()
    answer = search()
    wall, processor = time.perf_counter() - wall, time.process_time() - processor
    lines = [show(plan), f"found {len(answer.traces)} traces (limit {query.limit})", *_cost(answer.inspected)]
    lines.append(f"took {wall * 1e3:.1f} ms; the process used {processor * 1e3:.1f} ms of CPU meanwhile")
    return "\n".join(lines) + "\n"


def _cost(seen: Inspected) -> list[str]:
    return [
        f"blocks: {seen.blocks - seen.blocks_skipped} read of {seen.blocks} ({seen.block_bytes:,} bytes)",
        f"row groups: {seen.row_groups - seen.row_groups_skipped} read of {seen.row_groups} in blocks that were looked at",
        f"read {seen.bytes:,} bytes in {seen.jobs} pieces: {seen.spans:,} spans of {seen.traces:,} traces",
        f"traces in several places, gathered: {seen.split_traces}",
    ]

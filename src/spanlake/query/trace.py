"""Trace by id: every span of a trace, wherever it is, once, as OTLP.

Live spans and blocks are combined by the rules that storage itself uses (`blocks/memory/arrange`): duplicates go, the ResourceSpans of
different pushes stay apart. On top comes what readers of Zipkin traces expect: where a server span shares its id with a client
span, it gets an id of its own under the shared one (wire contract, section 1.3).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from spanlake.blocks.catalog import Block
from spanlake.blocks.compaction import in_order_of_arrival
from spanlake.blocks.file.reader import find_trace
from spanlake.blocks.footers import FooterCache
from spanlake.blocks.live import LiveView
from spanlake.blocks.memory.append import merge
from spanlake.blocks.memory.arrange import arrange
from spanlake.blocks.memory.trim import trim
from spanlake.model.settings import QuerySettings
from spanlake.model.spans import KIND_CLIENT, KIND_SERVER, Records, SpanBatch
from spanlake.model.trace import TimeRange, TraceAnswer
from spanlake.objectstore.store import ObjectStore
from spanlake.query.fresh_views import from_fresh_view
from spanlake.wire.otlp.encode import encode_otlp


@dataclass(frozen=True, slots=True)
class TraceFinder:
    """The use case with what it reads from. `view` gives a tenant's live spans and table; `refresh` looks for newer blocks."""

    store: ObjectStore
    footers: FooterCache
    view: Callable[[str], LiveView]
    refresh: Callable[[str], object]
    settings: QuerySettings

    def find(self, tenant: str, trace_id: tuple[int, int], time_range: TimeRange | None) -> TraceAnswer:
        """The trace with that id (high and low 64 bits); `time_range` bounds the blocks that are looked at."""
        return answer_of(*self.fragments(tenant, trace_id, time_range), self.settings)

    def fragments(self, tenant: str, trace_id: tuple[int, int], time_range: TimeRange | None) -> tuple[list[SpanBatch], int]:
        """What there is of a trace in every place, in order of arrival, and the bytes that were looked at."""
        return from_fresh_view(lambda: self._fragments(tenant, self.view(tenant), trace_id, time_range), lambda: self.refresh(tenant))

    def _fragments(
        self, tenant: str, view: LiveView, trace_id: tuple[int, int], time_range: TimeRange | None
    ) -> tuple[list[SpanBatch], int]:
        stored: dict[Block, SpanBatch] = {}
        inspected = 0
        blocks = [block for block in view.table.blocks if _overlaps(block, time_range)]
        for block, footer in zip(blocks, self.footers.get_all(tenant, blocks), strict=True):
            if footer.trace_filter.may_have(*trace_id):
                rows, read = find_trace(self.store, footer, *trace_id)
                inspected += read
                if rows is not None:
                    stored[block] = rows
        found = [stored[block] for block in in_order_of_arrival(list(stored))]
        for live in view.rows:
            inspected += live.marks.nbytes
            rows_here = live.of_trace(*trace_id)
            if len(rows_here):
                found.append(trim(live.batch.take(rows_here)))
        return found, inspected


def _overlaps(block: Block, time_range: TimeRange | None) -> bool:
    return time_range is None or (block.trace_start_min_ns < time_range.end_ns and block.trace_end_max_ns >= time_range.start_ns)


def answer_of(fragments: list[SpanBatch], inspected_bytes: int, settings: QuerySettings) -> TraceAnswer:
    """The answer that fragments of one trace, in order of arrival, make."""
    if not fragments:
        return TraceAnswer(b"", 0, inspected_bytes=inspected_bytes)
    return bounded_answer(combine(fragments), bytes_max=settings.trace_bytes_max, inspected_bytes=inspected_bytes)


def combine(batches: list[SpanBatch]) -> SpanBatch:
    """Fragments of one trace, in order of arrival, as one batch without duplicates, rows grouped by resource and scope."""
    whole = merge(batches)
    arrangement = arrange(whole.spans, whole.scopes)
    spans = whole.take(arrangement.rows[np.argsort(arrangement.scope_index, kind="stable")])
    return split_twins(spans)


def split_twins(batch: SpanBatch) -> SpanBatch:
    """Give each server span that shares its id with a client span of the trace an id of its own.

    The new id depends on the old one only. The server span becomes a child of the shared id, and the other children of that id
    become children of the server span.
    """
    spans = batch.spans
    client_ids = np.unique(spans["span_id"][spans["kind"] == KIND_CLIENT])
    twins = (spans["kind"] == KIND_SERVER) & np.isin(spans["span_id"], client_ids)
    if not twins.any():
        return batch
    changed: Records = spans.copy()
    shared = np.unique(spans["span_id"][twins])
    own = fresh_ids(shared, spans["span_id"])
    children = np.isin(spans["parent_id"], shared) & ~twins
    changed["parent_id"][children] = own[np.searchsorted(shared, spans["parent_id"][children])]
    changed["parent_id"][twins] = spans["span_id"][twins]
    changed["span_id"][twins] = own[np.searchsorted(shared, spans["span_id"][twins])]
    return SpanBatch(batch.strings, changed, batch.scopes, batch.resources, batch.events, batch.links, batch.attrs)


def fresh_ids(ids: NDArray[np.uint64], taken: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """For each id another one that is neither zero nor taken, the same in every call."""
    fresh = ids * np.uint64(0x9E3779B97F4A7C15) ^ np.uint64(0xA5A5A5A5A5A5A5A5)
    while True:
        bad = np.isin(fresh, taken) | (fresh == 0)
        if not bad.any():
            return fresh
        fresh[bad] += np.uint64(1)


def bounded_answer(batch: SpanBatch, *, bytes_max: int, inspected_bytes: int) -> TraceAnswer:
    """Encode a trace, or as many of its first spans as the limit allows."""
    encoded = encode_otlp(batch)
    total, spans = len(encoded), len(batch)
    while len(encoded) > bytes_max and spans > 0:
        spans = min(spans - 1, spans * bytes_max // len(encoded))
        encoded = encode_otlp(batch.take(np.arange(spans)))
    if total <= bytes_max:
        return TraceAnswer(encoded, spans, inspected_bytes=inspected_bytes)
    message = f"Trace exceeds maximum size of {bytes_max} bytes, a partial trace is returned"
    return TraceAnswer(encoded, spans, complete=False, message=message, inspected_bytes=inspected_bytes)

"""Putting batches together: remap string codes, shift ranges, copy rows.

`BatchBuffer` is the growing end of live storage: chunks of preallocated record arrays over one string pool. `merge` brings batches with
tables of their own under one pool; `concatenate` joins batches that share one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields

import numpy as np
from numpy.typing import NDArray

from spanlake.blocks.memory.pool import StringPool
from spanlake.model import spans as at
from spanlake.model.kernel import inlined, kernel, load8, load32, load64, store32, store64
from spanlake.model.spans import ATTR, BOOL, DOUBLE, EVENT, INT, LINK, NULL, RESOURCE, SCOPE, SPAN, Records, SpanBatch, Strings

TABLES = ("spans", "scopes", "resources", "events", "links", "attrs")
RECORDS = (SPAN, SCOPE, RESOURCE, EVENT, LINK, ATTR)
_SPANS, _SCOPES, _RESOURCES, _EVENTS, _LINKS, _ATTRS = range(6)


@inlined
def _recode(codes: int, address: int) -> None:
    store32(address, load32(codes + 4 * load32(address)))


@inlined
def _shift(address: int, by: int) -> None:
    store32(address, load32(address) + by)


@kernel
def rebase(tables: int, rows: int, shifts: int, codes: int) -> None:
    """Rewrite records in place: string codes through `codes` (int32), ranges and indexes moved by `shifts`.

    tables, rows, shifts: addresses of int64[6] in the order of TABLES: address of the first record, record count, and how many
    records precede it in its new table. codes == 0 keeps string codes.
    """
    scopes, resources, events = load64(shifts + 8), load64(shifts + 16), load64(shifts + 24)
    links, attrs = load64(shifts + 32), load64(shifts + 40)
    for i in range(load64(rows)):
        span = load64(tables) + i * at.SPAN_BYTES
        _shift(span + at.SPAN_SCOPE, scopes)
        _shift(span + at.SPAN_ATTR_FIRST, attrs)
        _shift(span + at.SPAN_EVENT_FIRST, events)
        _shift(span + at.SPAN_LINK_FIRST, links)
        if codes:
            _recode(codes, span + at.SPAN_NAME)
            _recode(codes, span + at.SPAN_TRACE_STATE)
            _recode(codes, span + at.SPAN_STATUS_MESSAGE)
    for i in range(load64(rows + 8)):
        scope = load64(tables + 8) + i * at.SCOPE_BYTES
        _shift(scope + at.SCOPE_RESOURCE, resources)
        _shift(scope + at.SCOPE_ATTR_FIRST, attrs)
        if codes:
            _recode(codes, scope + at.SCOPE_NAME)
            _recode(codes, scope + at.SCOPE_VERSION)
            _recode(codes, scope + at.SCOPE_SCHEMA_URL)
    for i in range(load64(rows + 16)):
        resource = load64(tables + 16) + i * at.RESOURCE_BYTES
        _shift(resource + at.RESOURCE_ATTR_FIRST, attrs)
        if codes:
            _recode(codes, resource + at.RESOURCE_SCHEMA_URL)
            _recode(codes, resource + at.RESOURCE_ENTITY_REFS)
    for i in range(load64(rows + 24)):
        event = load64(tables + 24) + i * at.EVENT_BYTES
        _shift(event + at.EVENT_ATTR_FIRST, attrs)
        if codes:
            _recode(codes, event + at.EVENT_NAME)
    for i in range(load64(rows + 32)):
        link = load64(tables + 32) + i * at.LINK_BYTES
        _shift(link + at.LINK_ATTR_FIRST, attrs)
        if codes:
            _recode(codes, link + at.LINK_TRACE_ID)
            _recode(codes, link + at.LINK_SPAN_ID)
            _recode(codes, link + at.LINK_TRACE_STATE)
    if codes:
        _recode_attributes(load64(tables + 40), load64(rows + 40), codes)


@kernel
def _recode_attributes(attrs: int, rows: int, codes: int) -> None:
    for i in range(rows):
        attr = attrs + i * at.ATTR_BYTES
        _recode(codes, attr + at.ATTR_KEY)
        kind = load8(attr + at.ATTR_TYPE)
        if kind not in (NULL, BOOL, INT, DOUBLE):
            store64(attr + at.ATTR_VALUE, load32(codes + 4 * load64(attr + at.ATTR_VALUE)))


def tables_of(batch: SpanBatch) -> tuple[Records, ...]:
    """The record arrays of a batch, in the order of TABLES."""
    return batch.spans, batch.scopes, batch.resources, batch.events, batch.links, batch.attrs


class _Room:
    """Record arrays with room for more, and how much of each is filled. Filled records never change."""

    def __init__(self, rows: Sequence[int]) -> None:
        self._tables = [np.empty(size, record) for size, record in zip(rows, RECORDS, strict=True)]
        self._bytes = [table.view(np.uint8) for table in self._tables]  # numpy copies records field by field, bytes in one go
        self._addresses = [table.ctypes.data for table in self._tables]
        self.filled = [0] * len(RECORDS)

    def fits(self, batch: SpanBatch) -> bool:
        sizes = zip(self.filled, tables_of(batch), self._tables, strict=True)
        return all(filled + len(more) <= len(table) for filled, more, table in sizes)

    def add(self, batch: SpanBatch, codes: NDArray[np.int32] | None) -> None:
        """Copy a batch that fits to the end, with its string codes replaced by `codes[code]`."""
        places, rows = [], []
        for i, table in enumerate(tables_of(batch)):
            begin = self.filled[i] * table.itemsize
            if len(table):
                self._bytes[i][begin : begin + table.nbytes] = table.view(np.uint8)
            places.append(self._addresses[i] + begin)
            rows.append(len(table))
        plan = np.array([*places, *rows, *self.filled], np.int64)
        address, width = plan.ctypes.data, 8 * len(RECORDS)
        rebase(address, address + width, address + 2 * width, 0 if codes is None else codes.ctypes.data)
        self.filled = [filled + more for filled, more in zip(self.filled, rows, strict=True)]

    def batch(self, strings: Strings) -> SpanBatch:
        """What is filled."""
        return SpanBatch(strings, *(table[:filled] for table, filled in zip(self._tables, self.filled, strict=True)))


def concatenate(batches: Sequence[SpanBatch], *, pool: StringPool | None = None) -> SpanBatch:
    """Rows of all batches in order. Without a pool, the batches share their string table (the last batch's, the longest, is kept);
    with one, each batch's strings are interned into it."""
    assert batches
    if len(batches) == 1 and pool is None:
        return batches[0]
    room = _Room([sum(map(len, column)) for column in zip(*map(tables_of, batches), strict=True)])
    for batch in batches:
        room.add(batch, None if pool is None else pool.intern(batch.strings))
    return room.batch(batches[-1].strings if pool is None else pool.view())


def merge(batches: Sequence[SpanBatch]) -> SpanBatch:
    """Rows of all batches in order, under one pool of their strings."""
    return concatenate(batches, pool=StringPool(codes=4096))


def compact(batch: SpanBatch) -> SpanBatch:
    """The same rows without the scopes, resources, events, links and attributes that no row refers to.

    For a selection of rows that outlives its source, such as spans carried over a cut. Strings stay shared.
    """
    spans = batch.spans.copy()
    scopes, spans["scope"] = np.unique(spans["scope"], return_inverse=True)
    kept_scopes = batch.scopes[scopes].copy()
    resources, kept_scopes["resource"] = np.unique(kept_scopes["resource"], return_inverse=True)
    kept_resources = batch.resources[resources].copy()
    events = _gather(spans, "event", batch.events)
    links = _gather(spans, "link", batch.links)
    attrs: list[Records] = []
    begin = 0
    for owners in (spans, kept_scopes, kept_resources, events, links):
        attrs.append(_gather(owners, "attr", batch.attrs))
        owners["attr_first"] += begin
        begin += len(attrs[-1])
    return SpanBatch(batch.strings, spans, kept_scopes, kept_resources, events, links, np.concatenate(attrs))


def _gather(owners: Records, part: str, table: Records) -> Records:
    """The parts that `owners` refer to, back to back; the owners' `{part}_first` is rewritten to match."""
    counts = owners[f"{part}_count"].astype(np.int64)
    starts = np.cumsum(counts) - counts
    total = int(counts.sum())
    index = np.repeat(owners[f"{part}_first"] - starts, counts) + np.arange(total)
    owners[f"{part}_first"] = starts
    return table[index].copy()


class BatchBuffer:
    """An append-only store of spans over one pool. One writer; `chunks()` is a consistent view for any thread that the writer's lock
    lets in, and stays valid for ever."""

    def __init__(self, *, chunk_spans: int = 65_536, expected_spans: int = 0) -> None:
        """The first chunk has room for `expected_spans`, so that as many need not be brought together afterwards; later ones grow up to
        `chunk_spans`. Room that is not filled takes address space only."""
        self.pool = StringPool()
        self._chunk_spans = chunk_spans
        self._expected_spans = expected_spans
        self._chunks: list[_Room] = []
        self.spans = 0

    @property
    def memory_bytes(self) -> int:
        """Bytes of filled records and of the pool (room that is not filled yet is not resident)."""
        filled = np.zeros(len(RECORDS), np.int64)
        for chunk in self._chunks:
            filled += chunk.filled
        return int((filled * [record.itemsize for record in RECORDS]).sum()) + self.pool.memory_bytes

    def append(self, batch: SpanBatch) -> None:
        """Copy a batch to the end."""
        codes = self.pool.intern(batch.strings)
        if not self._chunks or not self._chunks[-1].fits(batch):
            self._chunks.append(_Room(self._chunk_sizes(batch)))
        self._chunks[-1].add(batch, codes)
        self.spans += len(batch)

    def _chunk_sizes(self, batch: SpanBatch) -> list[int]:
        """Rows per table of a new chunk: room for this batch, and for ordinary spans up to the chunk size."""
        spans = min(self._chunk_spans, max(1024, self.spans)) if self._chunks else max(1024, self._expected_spans)
        ordinary = (spans, spans // 2, spans // 2, spans, spans, 14 * spans)
        return [max(size, len(table)) for size, table in zip(ordinary, tables_of(batch), strict=True)]

    def chunks(self) -> list[SpanBatch]:
        """What has been appended, oldest first, as batches that share the pool's present strings."""
        strings = self.pool.view()
        return [chunk.batch(strings) for chunk in self._chunks]


assert [field.name for field in fields(SpanBatch)][1:] == list(TABLES)

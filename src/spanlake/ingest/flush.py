"""From the sealed spans of a tenant to committed blocks: carry, arrange, write, upload, commit, publish.

Exactly once through any crash. The commit names this log and the last segment that it replaces, so a restart knows what is
already in the table. Spans that are carried are in the log again, in a later segment, before the commit (`carry`). An upload without
a commit is a stray file that the catalog removes in time.

A flush that fails is tried again with the same rows and the same carried rows under the same number, whatever has become live since:
if the first commit took place after all, the second does nothing.
"""

from __future__ import annotations

import logging
import secrets
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime

import numpy as np

from spanlake.blocks.catalog import Catalog, NewBlock, TableSnapshot, block_key, block_path
from spanlake.blocks.file.writer import WrittenBlock, write_block
from spanlake.blocks.live import Carry, Sealed, TenantSpans, TimedRows, active_traces, select
from spanlake.blocks.memory.arrange import Arrangement, arrange
from spanlake.blocks.wal import CARRY, Wal
from spanlake.ingest.carry import encode_carry
from spanlake.ingest.days import by_day
from spanlake.ingest.tenants import Tenants, flush_of
from spanlake.model.errors import CommitConflict, TooLarge, Unavailable
from spanlake.model.schema import ColumnType
from spanlake.model.settings import BlockSettings, IngestSettings
from spanlake.model.spans import SpanBatch
from spanlake.objectstore.store import ObjectStore

_LOG = logging.getLogger(__name__)
CARRIED_SHARE_MAX = 0.3


@dataclass(frozen=True, slots=True)
class Flusher:
    """What a flush works with."""

    store: ObjectStore
    catalog: Catalog
    wal: Wal
    tenants: Tenants
    blocks: BlockSettings
    ingest: IngestSettings
    clock: Callable[[], float] = time.monotonic
    clock_ns: Callable[[], int] = time.time_ns


@dataclass(frozen=True, slots=True)
class FlushCounts:
    """What a flush wrote and carried."""

    spans: int
    carried_spans: int
    blocks: int
    bytes: int


def flush_tenant(flusher: Flusher, spans: TenantSpans, *, everything: bool) -> FlushCounts | None:
    """Write a tenant's sealed spans to its table and end their being live. None if there are none.

    With `everything`, no trace is carried, unless an earlier try has decided that. StoreError and OSError leave the spans live, sealed
    and in the log; whether they are in the table, too, turns out when this is called again, or when the table is refreshed.
    """
    sealed = spans.sealed
    if sealed is None:
        return None
    rows = spans.gather_sealed(sealed)
    if sealed.carry is None:
        sealed.carry = _decide_carry(flusher, spans.tenant, rows, through=sealed.through, everything=everything)
    carry = sealed.carry
    batch = rows.batch.take(~carry.chosen) if carry.rows else rows.batch
    arrangement = arrange(batch.spans, batch.scopes)
    batch = batch.take(arrangement.rows)
    blocks = _write_and_commit(flusher, spans, sealed, batch, arrangement)
    return FlushCounts(len(batch), len(carry.rows) if carry.rows else 0, len(blocks), sum(block.size_bytes for block in blocks))


def _decide_carry(flusher: Flusher, tenant: str, rows: TimedRows, *, through: int, everything: bool) -> Carry:
    """Choose what to carry, and log it. A log that has no room for it carries nothing: then the flush will free some."""
    nothing = Carry(np.zeros(len(rows), np.bool_), None, 0)
    if everything:
        return nothing
    limits = {"idle_seconds": flusher.ingest.trace_idle_seconds, "age_seconds": flusher.ingest.trace_age_seconds}
    chosen = active_traces(rows, now=flusher.clock(), **limits, share_max=CARRIED_SHARE_MAX)
    if not chosen.any():
        return nothing
    carried = select(rows, chosen)
    try:
        segments = [flusher.wal.append(tenant, body, kind=CARRY) for body in encode_carry(through, carried.batch)]
    except (Unavailable, TooLarge) as failure:
        _LOG.warning("cannot log the spans of active traces, they are cut", extra={"tenant": tenant, "reason": str(failure)})
        return nothing
    # With a lazy fsync policy, what was durable long ago must not depend on the next regular fsync.
    flusher.wal.sync()
    return Carry(chosen, carried, min(segments))


def _write_and_commit(flusher: Flusher, spans: TenantSpans, sealed: Sealed, batch: SpanBatch, arrangement: Arrangement) -> list[NewBlock]:
    """Build, upload and commit blocks. Where the table gets a column of another type meanwhile, they are built again to fit it; the
    last time without any new column, which always fits."""
    fits_always = replace(flusher.blocks, table_columns_max=0)
    for settings in (flusher.blocks, flusher.blocks, fits_always):
        columns = dict(flusher.catalog.snapshot(spans.tenant).columns)
        new: list[NewBlock] = []
        used: dict[str, ColumnType] = {}
        for day, part, part_arrangement in by_day(batch, arrangement):
            path = flusher.store.scratch / f"{secrets.token_hex(16)}.parquet"
            block = write_block(path, part, part_arrangement, table=columns | used, settings=settings)
            used |= block.columns
            new.append(upload(flusher.store, spans.tenant, block, day, created_ms=flusher.clock_ns() // 1_000_000))
        try:
            _commit(flusher, spans, sealed, new, used)
        except CommitConflict as conflict:
            _LOG.info("the table changed during a flush, building again", extra={"tenant": spans.tenant, "reason": str(conflict)})
            flusher.tenants.refresh(spans.tenant)
            if settings is fits_always:
                raise
            continue
        return new
    raise AssertionError


def _commit(flusher: Flusher, spans: TenantSpans, sealed: Sealed, new: list[NewBlock], columns: Mapping[str, ColumnType]) -> None:
    writer = (flusher.wal.writer_id, flush_of(sealed).commit_version)

    def commit() -> TableSnapshot:
        return flusher.catalog.commit(spans.tenant, add=new, remove=[], columns=columns, writer=writer, reason="flush")

    flusher.tenants.commit_flush(spans, sealed, commit)


def upload(store: ObjectStore, tenant: str, block: WrittenBlock, day: date | None, *, created_ms: int, arrived: str = "") -> NewBlock:
    """Move a finished file to its place in the table's storage. If that fails, the file is removed.

    Names of blocks begin with the time at which their first spans were flushed (`arrived`, by default now), so their order is the
    order of arrival even among blocks that compaction has made.
    """
    arrived = arrived or f"{datetime.fromtimestamp(created_ms / 1000, UTC):%Y%m%dT%H%M%S%f}"
    path = block_path(day, f"{arrived}-{secrets.token_hex(8)}")
    try:
        store.put_file(block_key(tenant, path), block.path)
    finally:
        block.path.unlink(missing_ok=True)
    info = block.info
    return NewBlock(
        path=path,
        size_bytes=block.size_bytes,
        rows=info.rows,
        day=day,
        start_min_ns=info.start_min_ns,
        start_max_ns=info.start_max_ns,
        trace_start_min_ns=info.trace_start_min_ns,
        trace_start_max_ns=info.trace_start_max_ns,
        trace_duration_max_ns=info.trace_duration_max_ns,
        created_ms=created_ms,
    )

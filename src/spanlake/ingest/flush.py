"""From the sealed spans of a tenant to committed blocks: carry, arrange, write, upload, commit, publish.

Exactly once through any crash. The commit names this log and the last segment that it replaces, so a restart knows what is
already in the table; the CARRY record, written before the commit, knows what is not. An upload without a commit is a stray
file that the catalog removes in time; a commit without an answer is repeated, which does nothing if the first took place.
"""

from __future__ import annotations

import logging
import secrets
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime
from functools import partial
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from spanlake.blocks.catalog import Catalog, NewBlock, TableSnapshot, block_key, block_path
from spanlake.blocks.file.writer import WrittenBlock, write_block
from spanlake.blocks.live import Carried, TenantSpans, active_traces, carry
from spanlake.blocks.memory.arrange import Arrangement, arrange
from spanlake.blocks.wal import CARRY, Wal
from spanlake.ingest.carry import encode_record, make_record
from spanlake.model.errors import CommitConflict, StoreError, Unavailable
from spanlake.model.schema import ColumnType
from spanlake.model.settings import BlockSettings, IngestSettings
from spanlake.model.spans import SpanBatch
from spanlake.objectstore.store import ObjectStore

_LOG = logging.getLogger(__name__)
T = TypeVar("T")
CARRIED_SHARE_MAX = 0.3
DAY_NS = 86_400_000_000_000
DAY_BLOCKS_MAX = 4
RETRY_FIRST_SECONDS, RETRY_MAX_SECONDS = 0.5, 30.0


@dataclass(frozen=True, slots=True)
class Flusher:
    """What a flush works with."""

    store: ObjectStore
    catalog: Catalog
    wal: Wal
    blocks: BlockSettings
    ingest: IngestSettings
    stopping: threading.Event
    clock: Callable[[], float] = time.monotonic
    clock_ns: Callable[[], int] = time.time_ns


@dataclass(frozen=True, slots=True)
class Flushed:
    """What a flush did. `needed_segment` is the oldest segment that carried rows still need; None if none are carried."""

    spans: int
    carried_spans: int
    blocks: int
    bytes: int
    needed_segment: int | None


def flush_tenant(flusher: Flusher, spans: TenantSpans, *, through: int, everything: bool) -> Flushed | None:
    """Write a tenant's sealed spans to its table; `through` is the last segment that holds any of them. None without any.

    With `everything`, no trace is carried. Store failures are retried until they pass or `stopping` is set, which raises Unavailable
    and leaves the spans sealed and in the log.
    """
    rows = spans.sealed_rows()
    if rows is None:
        return None
    carried: Carried | None = None
    batch = rows.batch
    if not everything:
        limits = {"idle_seconds": flusher.ingest.trace_idle_seconds, "age_seconds": flusher.ingest.trace_age_seconds}
        chosen = active_traces(rows, now=flusher.clock(), **limits, share_max=CARRIED_SHARE_MAX)
        carried = carry(rows, chosen)
        batch = rows.batch.take(~chosen) if carried else rows.batch
    record = make_record(through, carried)
    if carried:
        flusher.wal.append(spans.tenant, encode_record(record), kind=CARRY)
    written, table = _commit(flusher, spans.tenant, batch, through=through)
    spans.publish(table, carried, seconds=flusher.clock())
    kept = len(carried.batch) if carried else 0
    return Flushed(len(batch), kept, len(written), sum(block.size_bytes for block in written), record.oldest_segment)


def _commit(flusher: Flusher, tenant: str, batch: SpanBatch, *, through: int) -> tuple[list[WrittenBlock], TableSnapshot]:
    """Build, upload and commit blocks until it works; a table that changed under the build makes it start over."""
    arrangement = arrange(batch.spans, batch.scopes)
    batch = batch.take(arrangement.rows)
    while True:
        columns = dict(flusher.catalog.snapshot(tenant).columns)
        written = [(day, _write(flusher, part, columns)) for day, part in by_day(batch, arrangement)]
        new = [_upload(flusher, tenant, day, block) for day, block in written]
        used = {name: kind for _, block in written for name, kind in block.columns.items()}
        writer = (flusher.wal.writer_id, through)
        commit = partial(flusher.catalog.commit, tenant, add=new, remove=[], columns=used, writer=writer, reason="flush")
        try:
            table = _retry(flusher, f"commit of {len(new)} blocks to tenant {tenant}", commit)
        except CommitConflict as conflict:
            _LOG.info("the table changed during a flush, building again", extra={"tenant": tenant, "reason": str(conflict)})
            flusher.catalog.refresh(tenant)
            continue
        return [block for _, block in written], table


def by_day(batch: SpanBatch, arrangement: Arrangement) -> Iterator[tuple[date | None, tuple[SpanBatch, Arrangement]]]:
    """Split arranged rows by the UTC day on which their traces start.

    Days that are rare here, and all but the DAY_BLOCKS_MAX commonest, share one part without a day: spans with wild clocks
    must not make thousands of files.
    """
    days = arrangement.trace_start_ns // DAY_NS
    distinct, which, traces = np.unique(days, return_inverse=True, return_counts=True)
    order = np.argsort(-traces, kind="stable")[:DAY_BLOCKS_MAX]
    own = order[traces[order] * 50 >= len(days)] if len(distinct) > 1 else order
    for number in sorted(own):
        day = _date(int(distinct[number]))
        yield day, take_traces(batch, arrangement, which == number)
    rest = ~np.isin(which, own)
    if rest.any():
        yield None, take_traces(batch, arrangement, rest)


def _date(days: int) -> date | None:
    try:
        return datetime.fromtimestamp(days * 86_400, UTC).date()
    except (OverflowError, ValueError, OSError):
        return None


def take_traces(batch: SpanBatch, arrangement: Arrangement, chosen: NDArray[np.bool_]) -> tuple[SpanBatch, Arrangement]:
    """Some traces of arranged rows, still arranged."""
    if chosen.all():
        return batch, arrangement
    lengths = np.diff(arrangement.trace_first)
    rows = np.repeat(chosen, lengths)
    first = np.concatenate([[0], np.cumsum(lengths[chosen])])
    moved = first[:-1] - arrangement.trace_first[:-1][chosen]
    roots = arrangement.trace_root[chosen]
    part = Arrangement(
        rows=arrangement.rows[rows],
        nested_left=arrangement.nested_left[rows],
        nested_right=arrangement.nested_right[rows],
        nested_parent=arrangement.nested_parent[rows],
        child_count=arrangement.child_count[rows],
        resource_index=arrangement.resource_index[rows],
        scope_index=arrangement.scope_index[rows],
        trace_first=first,
        trace_start_ns=arrangement.trace_start_ns[chosen],
        trace_duration_ns=arrangement.trace_duration_ns[chosen],
        trace_root=np.where(roots >= 0, roots + moved, -1),
    )
    return batch.take(rows), part


def _write(flusher: Flusher, part: tuple[SpanBatch, Arrangement], columns: dict[str, ColumnType]) -> WrittenBlock:
    path = flusher.store.scratch / f"{secrets.token_hex(16)}.parquet"
    return _retry(flusher, f"writing {path}", lambda: write_block(path, part[0], part[1], table=columns, settings=flusher.blocks))


def _upload(flusher: Flusher, tenant: str, day: date | None, block: WrittenBlock) -> NewBlock:
    new = new_block(block, day, created_ms=flusher.clock_ns() // 1_000_000)
    _retry(flusher, f"upload of {new.path}", lambda: _put(flusher.store, block_key(tenant, new.path), block.path))
    return new


def _put(store: ObjectStore, key: str, path: Path) -> None:
    """Upload; an earlier try may have taken the file and lost the answer."""
    if path.exists():
        store.put_file(key, path)
    else:
        store.head(key)


def new_block(block: WrittenBlock, day: date | None, *, created_ms: int, arrived: str | None = None) -> NewBlock:
    """What the catalog wants to know of a finished file; gives it its path in the table.

    Names of blocks begin with the time at which their first spans were flushed (`arrived`, by default now), so their order is the
    order of arrival even among blocks that compaction has made.
    """
    info = block.info
    arrived = arrived or f"{datetime.fromtimestamp(created_ms / 1000, UTC):%Y%m%dT%H%M%S%f}"
    return NewBlock(
        path=block_path(day, f"{arrived}-{secrets.token_hex(8)}"),
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


def _retry(flusher: Flusher, what: str, action: Callable[[], T]) -> T:
    """Repeat while the store or the disk fails, with growing pauses; Unavailable once the server is stopping."""
    pause = RETRY_FIRST_SECONDS
    while True:
        try:
            return action()
        except CommitConflict:
            raise
        except (StoreError, OSError) as failure:
            _LOG.warning("flush is waiting for the store", extra={"doing": what, "reason": str(failure), "pause_seconds": pause})
            if flusher.stopping.wait(pause):
                raise Unavailable(f"stopped during the {what}: {failure}") from failure
            pause = min(2 * pause, RETRY_MAX_SECONDS)

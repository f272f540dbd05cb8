"""Compaction and retention: which blocks to merge or drop, and the merge itself.

A merge reads its blocks in windows of trace ids, so memory is bounded by the window and not by the blocks. Rows of a trace come
together whatever blocks they were in; duplicates go, tree numbers and trace columns are computed anew. The result replaces its inputs in
one commit, so a reader sees either.
"""

from __future__ import annotations

import secrets
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from spanlake.blocks.build.choose import add_keys, choose_columns
from spanlake.blocks.catalog import Block, TableSnapshot
from spanlake.blocks.file.reader import Footer, read_row_group
from spanlake.blocks.file.rows import binary_parts, integers, one_chunk, table_to_batch
from spanlake.blocks.file.writer import BlockWriter, WrittenBlock
from spanlake.blocks.memory.append import merge
from spanlake.blocks.memory.arrange import Arrangement, arrange
from spanlake.model.schema import ColumnType
from spanlake.model.settings import BlockSettings, CompactionSettings
from spanlake.model.spans import SpanBatch
from spanlake.objectstore.store import ObjectStore

WINDOW_ROW_GROUPS = 4  # row groups that a merge writes at once
OPEN_ROW_GROUPS_MAX = 8  # row groups' worth of rows that a merge may hold besides: the first of each block
SIZE_TIER = 4.0  # blocks within this factor of one another count as similar
SMALL_BYTES = 1 << 20  # and so do all blocks smaller than this


def plan_compactions(table: TableSnapshot, settings: CompactionSettings, blocks: BlockSettings) -> list[tuple[Block, ...]]:
    """Groups of blocks worth merging, most blocks first: at least `blocks_min` of one day and of similar size.

    Merging equals keeps the work logarithmic: a span is rewritten once per tier of sizes. A group's total stays below the
    greatest block size, and its blocks are so few that a merge stays within its memory.
    """
    by_day: dict[date | None, list[Block]] = {}
    for block in table.blocks:
        by_day.setdefault(block.day, []).append(block)
    groups = [group for own in by_day.values() for group in _similar(own, blocks) if len(group) >= settings.blocks_min]
    return sorted(groups, key=len, reverse=True)


def _similar(blocks: Sequence[Block], settings: BlockSettings) -> Iterator[tuple[Block, ...]]:
    """Runs of similar size, each in order of arrival: the first of two duplicates wins, and siblings keep their order."""
    run: list[Block] = []
    bytes_sum = open_rows = 0
    for block in sorted(blocks, key=lambda block: (block.size_bytes, block.path)):
        open_row_group = min(block.rows, settings.row_group_spans)
        fits = bytes_sum + block.size_bytes <= settings.block_bytes_max
        fits = fits and open_rows + open_row_group <= OPEN_ROW_GROUPS_MAX * settings.row_group_spans
        if run and not (fits and block.size_bytes <= max(SIZE_TIER * run[0].size_bytes, SMALL_BYTES)):
            yield in_order_of_arrival(run)
            run, bytes_sum, open_rows = [], 0, 0
        run.append(block)
        bytes_sum += block.size_bytes
        open_rows += open_row_group
    if run:
        yield in_order_of_arrival(run)


def in_order_of_arrival(blocks: Sequence[Block]) -> tuple[Block, ...]:
    """Blocks in the order in which their first spans were flushed, which their file names begin with."""
    return tuple(sorted(blocks, key=lambda block: block.path.rpartition("/")[2]))


def expired_blocks(table: TableSnapshot, *, now_ns: int, retention_seconds: float) -> list[Block]:
    """Blocks all of whose spans ended, or were stored, before the retention. A retention of 0 keeps everything.

    A clock that runs ahead does not keep a block alive for longer than if its spans had ended when they were stored.
    """
    if retention_seconds == 0:
        return []
    oldest_ns = now_ns - int(retention_seconds * 1e9)
    return [block for block in table.blocks if min(block.trace_end_max_ns, block.created_ms * 1_000_000) < oldest_ns]


@dataclass(frozen=True, slots=True)
class _Window:
    """Rows of one row group and their trace ids."""

    table: pa.Table
    high: NDArray[np.uint64]
    low: NDArray[np.uint64]


class _Cursor:
    """Walks through one block in the order of its trace ids."""

    def __init__(self, store: ObjectStore, footer: Footer) -> None:
        self._store = store
        self._footer = footer
        self._next = 0
        self._pending: list[_Window] = []

    def take_until(self, limit: str | None) -> Iterator[pa.Table]:
        """The rows of all traces up to `limit` (32 hex digits, inclusive; None: all) that have not been taken yet."""
        groups = self._footer.info.row_groups
        while self._next < len(groups) and (limit is None or groups[self._next].first_trace <= limit):
            self._pending.append(_window(read_row_group(self._store, self._footer, self._next)))
            self._next += 1
        kept = []
        for window in self._pending:
            count = window.table.num_rows if limit is None else _rows_until(window, limit)
            if count:
                yield window.table.slice(0, count)
            if count < window.table.num_rows:
                kept.append(_Window(window.table.slice(count), window.high[count:], window.low[count:]))
        self._pending = kept


def _window(table: pa.Table) -> _Window:
    trace_ids = one_chunk(table.column("trace_id"))
    data, offsets = binary_parts(trace_ids.dictionary)
    halves = np.frombuffer(data[int(offsets[0]) : int(offsets[-1])].tobytes(), ">u8").reshape(-1, 2)
    which = integers(trace_ids.indices)
    return _Window(table, halves[which, 0], halves[which, 1])


def _rows_until(window: _Window, limit: str) -> int:
    high, low = np.uint64(int(limit[:16], 16)), np.uint64(int(limit[16:], 16))
    return int(((window.high < high) | ((window.high == high) & (window.low <= low))).sum())


def merge_limits(footers: Iterable[Footer], rows: int) -> list[str | None]:
    """Trace ids at which to cut the merge so that each window has about `rows` rows; the last is None, for the rest."""
    lasts = sorted((group.last_trace, group.rows) for footer in footers for group in footer.info.row_groups)
    limits: list[str | None] = []
    filled = 0
    for last, count in lasts:
        filled += count
        if filled >= rows:
            limits.append(last)
            filled = 0
    return [*limits, None]


def merge_blocks(
    store: ObjectStore, footers: Sequence[Footer], *, table: Mapping[str, ColumnType], settings: BlockSettings
) -> Generator[WrittenBlock | None]:
    """Merge blocks, given in order of arrival, into one file in scratch space.

    Yields None after each window, so that the caller can pace or abandon the work (by closing the iterator), then the finished block.
    """
    keys = add_keys(info for footer in footers for info in footer.info.keys)
    rows = sum(footer.info.rows for footer in footers)
    limits = {"columns_max": settings.columns_max, "table_columns_max": settings.table_columns_max}
    path = store.scratch / f"{secrets.token_hex(16)}.parquet"
    columns = choose_columns(keys, rows=rows, table=table, **limits)
    writer = BlockWriter(path, columns, settings, zstd_level=settings.compacted_zstd_level)
    cursors = [_Cursor(store, footer) for footer in footers]
    finished = False
    try:
        for limit in merge_limits(footers, WINDOW_ROW_GROUPS * settings.row_group_spans):
            pieces = [table_to_batch(piece) for cursor in cursors for piece in cursor.take_until(limit)]
            if pieces:
                writer.write(*_arranged(pieces))
            yield None
        block = writer.finish()
        finished = True
    finally:
        if not finished:
            writer.abandon()
    yield block


def _arranged(pieces: list[SpanBatch]) -> tuple[SpanBatch, Arrangement]:
    batch = merge(pieces)
    arrangement = arrange(batch.spans, batch.scopes)
    return batch.take(arrangement.rows), arrangement

"""Where the spans of a tenant are: each block, and the live spans. A place gives its whole traces, and fragments of those it shares.

Reading is divided into pieces of bounded size, functions that may run on any thread.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Protocol, TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from spanlake.blocks.build.arrays import ranges
from spanlake.blocks.file.footer import BlockInfo
from spanlake.blocks.file.reader import repeated
from spanlake.blocks.file.rows import table_to_batch
from spanlake.blocks.file.trace_filter import hash_traces
from spanlake.blocks.memory.trim import trim
from spanlake.blocks.scan.columns import (
    TRACE_ID,
    BlockChildren,
    BlockColumns,
    BlockRequest,
    Traces,
    leaves_of,
    read_columns,
    values_of_array,
)
from spanlake.blocks.scan.layout import OVERFLOW, OVERFLOW_KEYS, BlockLayout
from spanlake.blocks.scan.memory import CHILD_SCOPES, SERVICE, ArrangedSpans, MemoryScan
from spanlake.blocks.scan.pages import GroupColumns
from spanlake.blocks.scan.pruning import Pruner
from spanlake.blocks.scan.trace_ids import PIECE_ROWS, Hashes, TraceIndex, group_runs, index_traces
from spanlake.blocks.scan.typed.values import offsets_of
from spanlake.model.scan import Field, Predicate, ScanBatch, ScanRequest, ScanStatistics, Values
from spanlake.model.spans import SpanBatch
from spanlake.objectstore.store import ObjectStore

Piece: TypeAlias = Callable[[ScanStatistics], ScanBatch | None]
"""Reads some traces, or none. Each call may be on a thread of its own, with statistics of its own."""


@dataclass(frozen=True, slots=True)
class Times:
    """Bounds over the traces of a place, nanoseconds since the epoch."""

    trace_start_min_ns: int
    trace_start_max_ns: int
    trace_end_max_ns: int


class Place(Protocol):
    """A block or the live spans."""

    @property
    def times(self) -> Times: ...

    def index(self) -> TraceIndex:
        """The traces that are here."""
        ...

    def may_hold(self, predicate: Predicate, statistics: ScanStatistics) -> bool:
        """Whether some span here can satisfy a predicate."""
        ...

    def keys(self, statistics: ScanStatistics) -> frozenset[Field]:
        """The attribute keys of all scopes."""
        ...

    def values(self, field: Field, statistics: ScanStatistics) -> Values | None:
        """The values of a field without their rows, in any order, if they are at hand for less than a scan; else None."""
        ...

    def is_everywhere(self, field: Field) -> bool:
        """Whether every span surely has the attribute."""
        ...

    def pieces(self, request: ScanRequest, without: Hashes, statistics: ScanStatistics) -> list[Piece]:
        """The traces that matter, but for those with one of these hashes."""
        ...

    def fragments(self, hashes: Hashes, fields: frozenset[Field], statistics: ScanStatistics) -> SpanBatch | None:
        """The spans of some traces, with what the fields need."""
        ...


_FRAGMENT_LEAVES = (
    TRACE_ID,
    "span_id",
    "parent_span_id",
    "kind",
    "start_ns",
    "duration_ns",
    "nested_left",
    "scope_index",
    "resource_index",
    "name",
)
_FRAGMENT_ZEROS = {
    "status_code": pa.int32(),
    **dict.fromkeys(
        ("flags", "dropped_attributes", "dropped_events", "dropped_links", "scope_dropped_attributes", "resource_dropped_attributes"),
        pa.int64(),
    ),
    **dict.fromkeys(
        ("trace_state", "status_message", "scope_name", "scope_version", "scope_schema_url", "resource_schema_url"), pa.string()
    ),
}
_BATCH_INTRINSICS = ("status_code", "status_message", "trace_state", "scope_name", "scope_version")


@dataclass(frozen=True, slots=True)
class BlockPlace:
    """One block file."""

    store: ObjectStore
    pruner: Pruner
    read_index: Callable[[], TraceIndex]

    @property
    def layout(self) -> BlockLayout:
        return self.pruner.layout

    @property
    def info(self) -> BlockInfo:
        return self.layout.footer.info

    @property
    def times(self) -> Times:
        return Times(self.info.trace_start_min_ns, self.info.trace_start_max_ns, self.info.trace_end_max_ns)

    def index(self) -> TraceIndex:
        return self.read_index()

    def may_hold(self, predicate: Predicate, statistics: ScanStatistics) -> bool:
        return self.pruner.may_hold(predicate, statistics)

    def keys(self, statistics: ScanStatistics) -> frozenset[Field]:
        found = {Field(info.scope, info.key) for info in self.info.keys}
        for scope in CHILD_SCOPES:
            leaf = f"{scope}s.list.element.attributes.list.element.key"
            if self.layout.statistics(leaf).has_values.any():
                found |= {Field(scope, key) for key in self._distinct_texts(leaf, statistics)}
        if self.layout.crowded:
            found |= self._overflow_keys(statistics)
        return frozenset(found)

    def _distinct_texts(self, leaf: str, statistics: ScanStatistics) -> list[str]:
        values = self.pruner.leaf_values(leaf, statistics)
        if values.known.all():
            return list(pc.unique(values.values).to_pylist())
        found = read_columns(self.store, self.layout, range(len(self.info.row_groups)), [TRACE_ID, leaf])
        statistics.bytes += found.bytes_read
        array = found.table.column(leaf.partition(".")[0]).combine_chunks()
        while not pa.types.is_string(array.type):
            array = array.flatten() if pa.types.is_list(array.type) else array.field(0)
        return list(pc.unique(array).to_pylist())

    def _overflow_keys(self, statistics: ScanStatistics) -> set[Field]:
        """Keys that the footer does not list, because there are too many."""
        leaves = [TRACE_ID, f"{OVERFLOW}.list.element.scope", OVERFLOW_KEYS]
        found = read_columns(self.store, self.layout, range(len(self.info.row_groups)), leaves)
        statistics.bytes += found.bytes_read
        if OVERFLOW not in found.table.column_names:
            return set()
        entries = found.table.column(OVERFLOW).combine_chunks().flatten()
        pairs = pa.table({"scope": entries.field("scope"), "key": entries.field("key")}).group_by(["scope", "key"]).aggregate([])
        return {Field(scope, key) for scope, key in zip(*(pairs.column(name).to_pylist() for name in ("scope", "key")), strict=True)}

    def values(self, field: Field, statistics: ScanStatistics) -> Values | None:
        if field.scope in CHILD_SCOPES:
            leaf = f"{field.scope}s.list.element.name" if field == Field("event", ":name") else None
        elif field.scope == "intrinsic":
            leaf = field.name
        else:
            leaf = self.layout.column_of(field)
            if self.layout.in_overflow(field):
                return None
            if leaf is None:
                return Values(0)
        if leaf is None:
            return None
        found = self.pruner.leaf_values(leaf, statistics)
        return values_of_array(found.values) if found.known.all() else None

    def is_everywhere(self, field: Field) -> bool:
        types = self.layout.key_types(field)
        return types is not None and sum(types.values()) >= self.info.rows

    def pieces(self, request: ScanRequest, without: Hashes, statistics: ScanStatistics) -> list[Piece]:
        statistics.blocks += 1
        statistics.row_groups += len(self.info.row_groups)
        groups = self.pruner.row_groups(request, statistics)
        statistics.row_groups_skipped += len(self.info.row_groups) - len(groups)
        statistics.blocks_skipped += not len(groups)
        if not len(groups):
            return []
        wanted = _wanted_traces(self.index(), request.traces, without)
        return [partial(self._read, numbers, request, wanted) for numbers in group_runs(self.layout, groups.tolist())]

    def _read(
        self, groups: list[int], request: ScanRequest, wanted: NDArray[np.bool_] | None, statistics: ScanStatistics
    ) -> ScanBatch | None:
        rows, traces = _chosen(self.index(), groups, wanted)
        if not len(traces.high):
            return None
        statistics.rows += int(traces.first[-1])
        statistics.traces += len(traces.high)
        piece = GroupColumns(self.store, self.layout, groups, fetch=self._fetched(request.fields))
        asked = BlockRequest(self.store, request.fields, self.pruner.known_values, statistics)
        columns = BlockColumns(piece, asked, rows, traces)
        return ScanBatch(traces.first, traces.high, traces.low, columns, BlockChildren(columns, asked, piece))

    def _fetched(self, fields: frozenset[Field]) -> list[str]:
        """The leaves that a batch with these fields may read page by page."""
        return [leaf for leaf in leaves_of(self.layout, fields) if leaf != TRACE_ID and leaf in self.layout.column_types]

    def fragments(self, hashes: Hashes, fields: frozenset[Field], statistics: ScanStatistics) -> SpanBatch | None:
        index = self.index()
        wanted = np.zeros(len(index.traces.high), np.bool_)
        wanted[index.traces_of(hashes)] = True
        groups = index.groups_of(np.flatnonzero(wanted)).tolist()
        if not groups:
            return None
        found = read_columns(self.store, self.layout, groups, self._fragment_leaves(fields))
        statistics.bytes += found.bytes_read
        rows, _ = _chosen(index, groups, wanted)
        table = found.table if rows is None else found.table.take(pa.array(rows))
        statistics.rows += table.num_rows
        for name, kind in _FRAGMENT_ZEROS.items():
            if name not in table.column_names:
                table = table.append_column(name, repeated("" if kind == pa.string() else 0, kind, table.num_rows))
        return table_to_batch(table)

    def _fragment_leaves(self, fields: Iterable[Field]) -> list[str]:
        """What a span batch with these fields is made of."""
        needed = dict.fromkeys(_FRAGMENT_LEAVES)
        for field in (*fields, Field("resource", SERVICE)):
            if field.scope in ("event", "link"):
                needed.update(dict.fromkeys(self.layout.leaves_under(f"{field.scope}s")))
            elif field.scope != "intrinsic":
                column = self.layout.column_of(field)
                needed.update(dict.fromkeys([column] if column else []))
                needed.update(dict.fromkeys(self.layout.leaves_under(OVERFLOW) if self.layout.in_overflow(field) else []))
            elif field.name in _BATCH_INTRINSICS:
                needed[field.name] = None
        return list(needed)


def _wanted_traces(index: TraceIndex, traces: frozenset[tuple[int, int]] | None, without: Hashes) -> NDArray[np.bool_] | None:
    """Which traces of a place are asked for and not left out; None for all."""
    excluded = index.traces_of(without)
    if traces is None and not len(excluded):
        return None
    wanted = np.ones(len(index.traces.high), np.bool_)
    if traces is not None:
        ids = np.array(sorted(traces), np.uint64).reshape(-1, 2)
        wanted = np.zeros(len(index.traces.high), np.bool_)
        wanted[index.traces_of(np.sort(hash_traces(ids[:, 0].copy(), ids[:, 1].copy())))] = True
    wanted[excluded] = False
    return wanted


def _chosen(index: TraceIndex, groups: Sequence[int], wanted: NDArray[np.bool_] | None) -> tuple[NDArray[np.int64] | None, Traces]:
    """(the rows of the wanted traces, counted from the first row of the row groups, None for all; those traces)."""
    begins, ends = index.groups[groups], index.groups[np.array(groups) + 1]
    numbers = ranges(begins, ends - begins)
    lengths = index.traces.first[numbers + 1] - index.traces.first[numbers]
    rows = None
    if wanted is not None and not (kept := wanted[numbers]).all():
        rows = ranges(offsets_of(lengths)[:-1][kept], lengths[kept])
        numbers, lengths = numbers[kept], lengths[kept]
    return rows, Traces(offsets_of(lengths), index.traces.high[numbers], index.traces.low[numbers])


class LivePlace:
    """The live spans of one view, arranged."""

    def __init__(self, spans: ArrangedSpans) -> None:
        self._spans = spans
        high, low = spans.trace_ids()
        self._index = index_traces(Traces(spans.arrangement.trace_first, high, low), np.array([0, spans.traces]))

    @property
    def times(self) -> Times:
        starts = self._spans.arrangement.trace_start_ns
        ends = starts + self._spans.arrangement.trace_duration_ns
        return Times(int(starts.min()), int(starts.max()), int(ends.max()))

    def index(self) -> TraceIndex:
        return self._index

    def may_hold(self, predicate: Predicate, statistics: ScanStatistics) -> bool:
        del predicate, statistics
        return True

    def keys(self, statistics: ScanStatistics) -> frozenset[Field]:
        del statistics
        return MemoryScan(self._spans).keys()

    def values(self, field: Field, statistics: ScanStatistics) -> Values | None:
        del field, statistics
        return None

    def is_everywhere(self, field: Field) -> bool:
        del field
        return False

    def pieces(self, request: ScanRequest, without: Hashes, statistics: ScanStatistics) -> list[Piece]:
        del statistics
        found = _wanted_traces(self._index, request.traces, without)
        wanted = np.ones(self._spans.traces, np.bool_) if found is None else found
        pieces: list[Piece] = []
        first_rows = self._spans.arrangement.trace_first
        begin = 0
        while begin < self._spans.traces:
            end = int(np.searchsorted(first_rows, first_rows[begin] + PIECE_ROWS))
            end = max(min(end, self._spans.traces), begin + 1)
            if wanted[begin:end].any():
                pieces.append(partial(self._read, begin, wanted[begin:end], request.fields))
            begin = end
        return pieces

    def _read(self, begin: int, wanted: NDArray[np.bool_], fields: frozenset[Field], statistics: ScanStatistics) -> ScanBatch | None:
        part = self._spans.part(begin, begin + len(wanted)).only(wanted)
        statistics.rows += len(part.batch)
        statistics.traces += part.traces
        statistics.bytes += part.batch.spans.nbytes
        return MemoryScan(part).batch(fields)

    def fragments(self, hashes: Hashes, fields: frozenset[Field], statistics: ScanStatistics) -> SpanBatch | None:
        del fields
        traces = self._index.traces_of(hashes)
        if not len(traces):
            return None
        wanted = np.zeros(self._spans.traces, np.bool_)
        wanted[traces] = True
        part = self._spans.only(wanted)
        statistics.rows += len(part.batch)
        in_order_of_arrival = np.argsort(part.arrangement.rows)
        return trim(part.batch.take(in_order_of_arrival))

"""Which traces a source holds, as sorted 64-bit hashes, and which traces lie in more than one source."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from spanlake.blocks.build.arrays import ranges
from spanlake.blocks.file.rows import binary_parts, integers
from spanlake.blocks.file.trace_filter import hash_traces
from spanlake.blocks.scan.columns import TRACE_ID, Traces, read_columns
from spanlake.blocks.scan.layout import BlockLayout
from spanlake.blocks.scan.pages import GroupColumns
from spanlake.blocks.scan.typed.values import offsets_of, one_array
from spanlake.model.errors import CorruptData
from spanlake.objectstore.store import ObjectStore

Hashes = NDArray[np.uint64]
NO_HASHES: Hashes = np.empty(0, np.uint64)
PIECE_ROWS = 131_072
"""Rows that are read and evaluated at once: enough to make what a batch costs anyway small, few enough to stay in memory."""


@dataclass(frozen=True, slots=True)
class TraceIndex:
    """The traces of a source, in the order of their rows, and a way from hashes to them."""

    traces: Traces
    groups: NDArray[np.int64]  # the first trace of each row group and the number of traces
    hashes: Hashes  # ascending
    order: NDArray[np.int64]  # which trace each hash is of

    @property
    def memory_bytes(self) -> int:
        traces = self.traces
        return sum(array.nbytes for array in (traces.first, traces.high, traces.low, self.groups, self.hashes, self.order))

    def traces_of(self, hashes: Hashes) -> NDArray[np.int64]:
        """The traces with one of the hashes, which are ascending; in the order of their rows."""
        begins, ends = (np.searchsorted(self.hashes, hashes, side) for side in ("left", "right"))
        return np.sort(self.order[ranges(begins, ends - begins)])

    def groups_of(self, traces: NDArray[np.int64]) -> NDArray[np.int64]:
        """The row groups of traces, ascending."""
        return np.unique(np.searchsorted(self.groups, traces, side="right") - 1)


def index_traces(traces: Traces, groups: NDArray[np.int64]) -> TraceIndex:
    """The index of these traces."""
    hashes = hash_traces(traces.high, traces.low)
    order = np.argsort(hashes)
    return TraceIndex(traces, groups, hashes[order], order)


def read_trace_index(store: ObjectStore, layout: BlockLayout) -> TraceIndex:
    """The index of a block, from its trace_id column."""
    found = [_read_traces(store, layout, groups) for groups in group_runs(layout, range(len(layout.footer.info.row_groups)))]
    rows = offsets_of(np.array([traces.first[-1] for traces in found], np.int64))
    first = np.concatenate([*(traces.first[:-1] + begin for traces, begin in zip(found, rows, strict=False)), rows[-1:]])
    high, low = (np.concatenate([getattr(traces, name) for traces in found]) for name in ("high", "low"))
    group_rows = offsets_of(np.array([group.rows for group in layout.footer.info.row_groups], np.int64))
    return index_traces(Traces(first, high, low), np.searchsorted(first, group_rows))


def _read_traces(store: ObjectStore, layout: BlockLayout, groups: list[int]) -> Traces:
    try:
        codes, _, dictionary = GroupColumns(store, layout, groups, fetch=[TRACE_ID]).codes(TRACE_ID, None)
    except CorruptData:
        trace_ids = one_array(read_columns(store, layout, groups, [TRACE_ID]).table.column(TRACE_ID))
        return trace_bounds(integers(trace_ids.indices), trace_ids.dictionary)
    return trace_bounds(codes, dictionary)


def trace_bounds(codes: NDArray[Any], dictionary: pa.Array) -> Traces:
    """The traces of rows, given the code of each row's trace id in a dictionary of 16-byte ids."""
    changes = np.flatnonzero(codes[1:] != codes[:-1]) + 1
    trace_first = np.concatenate([[0], changes, [len(codes)]]) if len(codes) else np.zeros(1, np.int64)
    data, offsets = binary_parts(dictionary)
    halves = np.frombuffer(data[int(offsets[0]) : int(offsets[-1])].tobytes(), ">u8").reshape(-1, 2).astype(np.uint64)
    which = codes[trace_first[:-1]]
    return Traces(trace_first.astype(np.int64), halves[which, 0], halves[which, 1])


def group_runs(layout: BlockLayout, groups: Sequence[int]) -> list[list[int]]:
    """Row groups of about PIECE_ROWS rows each."""
    runs: list[list[int]] = []
    rows = PIECE_ROWS
    for number in groups:
        if rows >= PIECE_ROWS:
            runs.append([])
            rows = 0
        runs[-1].append(number)
        rows += layout.footer.info.row_groups[number].rows
    return runs


@dataclass(frozen=True, slots=True)
class Holdings:
    """The traces of some sources, as ascending hashes: all of them, and those that are in more than one source."""

    every: Hashes
    repeated: Hashes


def holdings(sources: Sequence[Hashes]) -> Holdings:
    """No source has a hash twice, but for collisions, which do no harm."""
    together = np.sort(np.concatenate([NO_HASHES, *sources]))
    fresh = np.ones(len(together), np.bool_)
    fresh[1:] = together[1:] != together[:-1]
    return Holdings(together[fresh], np.unique(together[~fresh]))


def is_among(hashes: Hashes, among: Hashes) -> NDArray[np.bool_]:
    """Per hash, whether it is in `among`, which is ascending."""
    if not len(among):
        return np.zeros(len(hashes), np.bool_)
    places = np.minimum(np.searchsorted(among, hashes), len(among) - 1)
    found: NDArray[np.bool_] = among[places] == hashes
    return found

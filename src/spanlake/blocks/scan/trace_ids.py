"""Which traces a source holds, as sorted 64-bit hashes, and which traces lie in more than one source."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from spanlake.blocks.file.trace_filter import hash_traces
from spanlake.blocks.scan.columns import TRACE_ID, read_columns, trace_bounds
from spanlake.blocks.scan.layout import BlockLayout
from spanlake.objectstore.store import ObjectStore

Hashes = NDArray[np.uint64]
NO_HASHES: Hashes = np.empty(0, np.uint64)


@dataclass(frozen=True, slots=True)
class TraceIndex:
    """The traces of a source: hashes ascending, and the row group (of live spans, the ordinal) of each."""

    hashes: Hashes
    places: NDArray[np.int32]
    bytes_read: int = 0

    @property
    def memory_bytes(self) -> int:
        return self.hashes.nbytes + self.places.nbytes

    def places_of(self, hashes: Hashes) -> NDArray[np.int32]:
        """The places of the hashes that are here, each place once, ascending."""
        return np.unique(self.places[is_among(self.hashes, hashes)])


def index_traces(high: NDArray[np.uint64], low: NDArray[np.uint64], places: NDArray[np.int32], *, bytes_read: int = 0) -> TraceIndex:
    """The index of these traces."""
    hashes = hash_traces(high, low)
    order = np.argsort(hashes)
    return TraceIndex(hashes[order], places[order], bytes_read)


def read_trace_index(store: ObjectStore, layout: BlockLayout) -> TraceIndex:
    """The index of a block, from its trace_id column."""
    groups = layout.footer.info.row_groups
    found = read_columns(store, layout, range(len(groups)), [TRACE_ID])
    trace_first, high, low = trace_bounds(found.table)
    ends = np.cumsum([group.rows for group in groups])
    places = np.searchsorted(ends, trace_first[:-1], side="right").astype(np.int32)
    return index_traces(high, low, places, bytes_read=found.bytes_read)


def repeated_hashes(sources: Sequence[Hashes]) -> Hashes:
    """Hashes that are in more than one of the sources, ascending. No source has a hash twice, but for collisions, which do no harm."""
    if len(sources) < 2:
        return NO_HASHES
    together = np.sort(np.concatenate(sources))
    return np.unique(together[1:][together[1:] == together[:-1]])


def is_among(hashes: Hashes, among: Hashes) -> NDArray[np.bool_]:
    """Per hash, whether it is in `among`, which is ascending."""
    if not len(among):
        return np.zeros(len(hashes), np.bool_)
    places = np.minimum(np.searchsorted(among, hashes), len(among) - 1)
    found: NDArray[np.bool_] = among[places] == hashes
    return found

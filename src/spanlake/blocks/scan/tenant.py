"""All spans of a tenant as sources of whole traces, newest first.

Most traces lie in one place: a block, or the live spans. Those that lie in several (a late span, a trace longer than a cut) are left out
of the scans of their places; their fragments are gathered, arranged by the rules of storage, and scanned from memory. Each such trace
belongs to the *unit* of the place where it arrived first, because all spans of its first fragment are kept (a later one may hold nothing
but duplicates): so the trace starts no later than that fragment, a unit's `newest_ns` bounds the start of every trace that it gives, and a
search for the newest traces can stop.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from spanlake.blocks.catalog import TableSnapshot
from spanlake.blocks.compaction import in_order_of_arrival
from spanlake.blocks.file.reader import Footer
from spanlake.blocks.file.trace_filter import hash_trace
from spanlake.blocks.footers import FooterCache
from spanlake.blocks.live import LiveView
from spanlake.blocks.scan.cache import BoundedCache
from spanlake.blocks.scan.layout import BlockLayout, LeafValues
from spanlake.blocks.scan.live_runs import RUN_ROWS_MIN, LiveRuns
from spanlake.blocks.scan.memory import MemoryScan, arranged
from spanlake.blocks.scan.places import BlockPlace, LivePlace, Piece, Place
from spanlake.blocks.scan.pruning import Pruner
from spanlake.blocks.scan.trace_ids import Hashes, Holdings, TraceIndex, holdings, is_among, read_trace_index
from spanlake.model.scan import Field, Predicate, ScanBatch, ScanRequest, ScanStatistics
from spanlake.model.trace import TimeRange
from spanlake.objectstore.store import ObjectStore

SPLIT_TRACES_AT_ONCE = 4096
LIVE = "live"
"""The name of the unit of live spans; others are named by the key of their block."""

_LAYOUT_BYTES = 1 << 16


class ScanCaches:
    """What scans remember of blocks and of the last view of each tenant. Thread-safe; one per process."""

    def __init__(self, store: ObjectStore, footers: FooterCache, *, bytes_max: int, live_rows_min: int = RUN_ROWS_MIN) -> None:
        """`live_rows_min`: as of `LiveRuns`."""
        self._store = store
        self._footers = footers
        self._layouts: BoundedCache[str, BlockLayout] = BoundedCache(bytes_max=bytes_max // 8)
        self._values: BoundedCache[tuple[str, str], LeafValues] = BoundedCache(bytes_max=bytes_max // 4)
        self._indexes: BoundedCache[str, TraceIndex] = BoundedCache(bytes_max=bytes_max // 2)
        self._holdings: BoundedCache[tuple[str, tuple[str, ...]], Holdings] = BoundedCache(bytes_max=bytes_max // 8)
        self._live: dict[str, LiveRuns] = {}
        self._live_rows_min = live_rows_min
        self._lock = threading.Lock()

    @property
    def memory_bytes(self) -> int:
        caches = (self._layouts, self._values, self._indexes, self._holdings)
        return sum(cache.memory_bytes for cache in caches)

    def block_places(self, table: TableSnapshot, near: TimeRange | None) -> list[BlockPlace]:
        """The blocks, of those that have traces in a time, in order of arrival."""
        chosen = [
            block
            for block in table.blocks
            if near is None or (block.trace_start_min_ns < near.end_ns and block.trace_end_max_ns >= near.start_ns)
        ]
        blocks = in_order_of_arrival(chosen)
        return [self._block_place(footer) for footer in self._footers.get_all(table.tenant, blocks)]

    def _block_place(self, footer: Footer) -> BlockPlace:
        layout = self._layouts.get_or_make(footer.key, lambda: (BlockLayout(footer), _LAYOUT_BYTES))
        return BlockPlace(self._store, Pruner(self._store, layout, self._values), partial(self._index, layout))

    def _index(self, layout: BlockLayout) -> TraceIndex:
        def read() -> tuple[TraceIndex, int]:
            index = read_trace_index(self._store, layout)
            return index, index.memory_bytes

        return self._indexes.get_or_make(layout.footer.key, read)

    def live_places(self, view: LiveView) -> tuple[LivePlace, ...]:
        """The live spans, oldest first."""
        with self._lock:
            live = self._live.setdefault(view.table.tenant, LiveRuns(rows_min=self._live_rows_min))
        return live.places(view)

    def forget_live(self, *, idle_seconds: float) -> None:
        """Let go of the live spans of tenants that nobody has queried for so long."""
        with self._lock:
            self._live = {tenant: live for tenant, live in self._live.items() if not live.is_idle(idle_seconds)}

    def holdings(self, tenant: str, blocks: Sequence[BlockPlace]) -> Holdings:
        """The traces of the blocks."""

        def find() -> tuple[Holdings, int]:
            found = holdings([block.index().hashes for block in blocks])
            return found, found.every.nbytes + found.repeated.nbytes + 100 * len(blocks)

        return self._holdings.get_or_make((tenant, tuple(block.layout.footer.key for block in blocks)), find)


@dataclass(frozen=True, slots=True)
class Unit:
    """A source of whole traces, none of which starts after `newest_ns`."""

    name: str
    newest_ns: int
    place: Place
    split: SplitTraces
    own: Hashes  # the split traces that belong to this unit

    def pieces(self, request: ScanRequest, statistics: ScanStatistics) -> list[Piece]:
        """Functions that read the traces that matter, each of which may run on any thread."""
        pieces: list[Piece] = []
        if request.overlaps is None or overlaps(self.place, request.overlaps):
            pieces = self.place.pieces(request, self.split.hashes, statistics)
        elif isinstance(self.place, BlockPlace):
            statistics.blocks += 1
            statistics.blocks_skipped += 1
        return [*pieces, *self.split.pieces(self.own, request, statistics)]

    def scan(self, request: ScanRequest, statistics: ScanStatistics) -> Iterator[ScanBatch]:
        """`model.scan.SpanSource`; the split traces come last."""
        for piece in self.pieces(request, statistics):
            batch = piece(statistics)
            if batch is not None:
                yield batch


def overlaps(place: Place, time_range: TimeRange) -> bool:
    """Whether traces of the place can overlap the range."""
    return place.times.trace_start_min_ns < time_range.end_ns and place.times.trace_end_max_ns >= time_range.start_ns


OF_WHOLE_TRACES = frozenset(
    Field("intrinsic", name) for name in ("nested_left", "nested_right", "nested_parent", "child_count", "trace_duration_ns")
)
"""What the places know of a part of a trace may be true of no span of the whole."""


@dataclass(frozen=True, slots=True)
class SplitTraces:
    """The traces that lie in several places, which are in order of arrival."""

    places: tuple[Place, ...]
    hashes: Hashes

    def homes(self) -> list[Hashes]:
        """Per place, the split traces that belong to its unit: those that arrived nowhere before."""
        homes: list[Hashes] = []
        left = self.hashes
        for place in self.places:
            here = is_among(left, place.index().hashes) if len(left) else np.zeros(0, np.bool_)
            homes.append(left[here])
            left = left[~here]
        return homes

    def pieces(self, own: Hashes, request: ScanRequest, statistics: ScanStatistics) -> list[Piece]:
        """Functions that gather those of the traces that matter."""
        if request.traces is not None and len(own):
            asked = np.array(sorted(hash_trace(high, low) for high, low in request.traces), np.uint64)
            own = own[is_among(own, asked)]
        if not len(own):
            return []
        own = own[self._may_matter(own, request, statistics)]
        runs = [own[begin : begin + SPLIT_TRACES_AT_ONCE] for begin in range(0, len(own), SPLIT_TRACES_AT_ONCE)]
        return [partial(self._gather, run, request) for run in runs]

    def _may_matter(self, own: Hashes, request: ScanRequest, statistics: ScanStatistics) -> NDArray[np.bool_]:
        """Which traces have, wherever it is, a span for each predicate of some conjunction, and overlap the range."""
        member = np.array([is_among(own, place.index().hashes) for place in self.places])
        matter = np.ones(len(own), np.bool_)
        if request.overlaps is not None:
            times = [place.times for place in self.places]
            starts = np.array([time.trace_start_min_ns for time in times], np.int64)[:, None]
            ends = np.array([time.trace_end_max_ns for time in times], np.int64)[:, None]
            limits = np.iinfo(np.int64)
            matter &= np.where(member, starts, limits.max).min(axis=0) < request.overlaps.end_ns
            matter &= np.where(member, ends, limits.min).max(axis=0) >= request.overlaps.start_ns
        if not request.any_of or not matter.any():
            return matter
        near = _any(member[:, matter], 1)
        held: dict[Predicate, NDArray[np.bool_]] = {}
        some = np.zeros(len(own), np.bool_)
        for conjunction in request.any_of:
            every = np.ones(len(own), np.bool_)
            for predicate in conjunction:
                if predicate.field in OF_WHOLE_TRACES:
                    continue
                if predicate not in held:
                    may = [bool(near[i]) and place.may_hold(predicate, statistics) for i, place in enumerate(self.places)]
                    held[predicate] = _any(member & np.array(may, np.bool_)[:, None], 0)
                every &= held[predicate]
            some |= every
        return matter & some

    def _gather(self, hashes: Hashes, request: ScanRequest, statistics: ScanStatistics) -> ScanBatch | None:
        """The traces as one batch, fragments in order of arrival."""
        found = (place.fragments(hashes, request.fields, statistics) for place in self.places)
        fragments = [fragment for fragment in found if fragment is not None and len(fragment)]
        if not fragments:
            return None
        whole = arranged(fragments)
        statistics.split_traces += whole.traces
        statistics.traces += whole.traces
        return MemoryScan(whole).batch(request.fields)


def _any(matrix: NDArray[np.bool_], axis: int) -> NDArray[np.bool_]:
    return np.asarray(matrix.any(axis=axis))


def units_of(caches: ScanCaches, view: LiveView, near: TimeRange | None = None) -> list[Unit]:
    """The units of a view, the one with the newest traces first. KeyMissing if a block of the view is gone.

    `near`: only blocks with traces in that time are looked at; what the others have of a trace is left out of it.
    """
    blocks = caches.block_places(view.table, near)
    live = caches.live_places(view)
    places: tuple[Place, ...] = (*blocks, *live)
    in_blocks = caches.holdings(view.table.tenant, blocks)
    hashes = in_blocks.repeated
    if live:
        recent = [place.index().hashes for place in live]
        shared = [found[is_among(found, in_blocks.every)] for found in recent]
        hashes = np.unique(np.concatenate([hashes, holdings(recent).repeated, *shared]))
    split = SplitTraces(places, hashes)
    units = [
        Unit(_name(place), place.times.trace_start_max_ns, place, split, own) for place, own in zip(places, split.homes(), strict=True)
    ]
    return sorted(units, key=lambda unit: (-unit.newest_ns, unit.name))


def _name(place: Place) -> str:
    return place.layout.footer.key if isinstance(place, BlockPlace) else LIVE

"""Which row groups of a block can hold traces that matter: by keys, statistics, dictionaries and trace ids, without reading rows.

`any_of` is about traces: for one conjunction, every predicate must hold for some span of the trace. A trace lies in one row group of a
block, so a row group that cannot satisfy each predicate of some conjunction has no such trace, unless parts of the trace are in other
blocks; what those need is `blocks_may_hold`, predicate by predicate.
"""

from __future__ import annotations

import bisect
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from spanlake.blocks.scan.cache import BoundedCache
from spanlake.blocks.scan.layout import OVERFLOW_KEYS, BlockLayout, LeafValues, read_leaf_values
from spanlake.blocks.scan.predicates import range_may_hold, types_may_hold, values_may_hold
from spanlake.model.scan import Comparison, Field, Predicate, ScanRequest, ScanStatistics
from spanlake.objectstore.store import ObjectStore

SERVICE_NAME = Field("resource", "service.name")
MATCHED_BYTES_MAX = 1 << 18
"""A regular expression on larger dictionaries (stored bytes in a block) costs as much as reading the rows, where it is asked again."""
_ID_FIELDS = ("trace_id", "span_id", "parent_span_id")
ValuesCache = BoundedCache[tuple[str, str], LeafValues]


@dataclass(frozen=True, slots=True)
class Pruner:
    """One block with what is remembered of its dictionaries."""

    store: ObjectStore
    layout: BlockLayout
    values: ValuesCache

    def leaf_values(self, leaf: str, statistics: ScanStatistics) -> LeafValues:
        """The distinct values of a leaf; what is read of storage is added to the statistics."""

        def read() -> tuple[LeafValues, int]:
            found = read_leaf_values(self.store, self.layout, leaf)
            statistics.bytes += found.bytes_read
            return found, found.values.nbytes + found.offsets.nbytes + 200

        return self.values.get_or_make((self.layout.footer.key, leaf), read)

    def known_values(self, leaf: str) -> LeafValues | None:
        """The distinct values of a leaf if they are remembered."""
        return self.values.get((self.layout.footer.key, leaf))

    def row_groups(self, request: ScanRequest, statistics: ScanStatistics) -> NDArray[np.int64]:
        """The row groups that can hold traces that matter and are whole in this block, ascending."""
        count = len(self.layout.footer.info.row_groups)
        kept = np.ones(count, np.bool_)
        if request.any_of:
            kept = np.zeros(count, np.bool_)
            for conjunction in request.any_of:
                kept |= self._conjunction(conjunction, statistics)
        if request.traces is not None:
            kept &= self._of_traces(request.traces)
        return np.flatnonzero(kept)

    def _conjunction(self, predicates: frozenset[Predicate], statistics: ScanStatistics) -> NDArray[np.bool_]:
        kept = np.ones(len(self.layout.footer.info.row_groups), np.bool_)
        # Footer first: what it rules out costs nothing.
        if not all(self.block_may_hold(predicate) for predicate in predicates):
            return ~kept
        for predicate in predicates:
            kept &= self._by_statistics(predicate)
        for predicate in predicates:
            if kept.any():
                kept &= self._by_dictionaries(predicate, statistics)
        return kept

    def block_may_hold(self, predicate: Predicate) -> bool:
        """Whether any span of the block can satisfy the predicate, by the footer's key counts."""
        field = predicate.field
        if field.scope in ("event", "link"):
            return bool(self._has_children(field.scope).any())
        if field.scope == "intrinsic" or _holds_for_missing(predicate):
            return True
        types = self.layout.key_types(field)
        return types is None or types_may_hold(predicate, tuple(types))

    def may_hold(self, predicate: Predicate, statistics: ScanStatistics) -> bool:
        """Whether any span of the block can satisfy the predicate."""
        if not self.block_may_hold(predicate):
            return False
        kept = self._by_statistics(predicate)
        return bool(kept.any() and (kept & self._by_dictionaries(predicate, statistics)).any())

    def _has_children(self, scope: str) -> NDArray[np.bool_]:
        return self.layout.statistics(f"{scope}s.list.element.dropped_attributes").has_values

    def _by_statistics(self, predicate: Predicate) -> NDArray[np.bool_]:
        field = predicate.field
        if field.scope in ("event", "link"):
            return self._has_children(field.scope)
        everywhere = np.ones(len(self.layout.footer.info.row_groups), np.bool_)
        if _holds_for_missing(predicate) or (field.scope == "intrinsic" and field.name in _ID_FIELDS):
            return everywhere
        leaf = field.name if field.scope == "intrinsic" else self.layout.column_of(field)
        kept = ~everywhere
        if leaf is not None:
            told = self.layout.statistics(leaf)
            held = [
                least is None or range_may_hold(predicate, least, greatest)
                for least, greatest in zip(told.least, told.greatest, strict=True)
            ]
            kept = told.has_values & np.array(held, np.bool_)
        return kept | self._overflow(field)

    def _overflow(self, field: Field) -> NDArray[np.bool_]:
        """Row groups in whose overflow list the key may be."""
        nowhere = np.zeros(len(self.layout.footer.info.row_groups), np.bool_)
        if field.scope == "intrinsic" or not self.layout.in_overflow(field):
            return nowhere
        told = self.layout.statistics(OVERFLOW_KEYS)
        within = [least is None or least <= field.name <= greatest for least, greatest in zip(told.least, told.greatest, strict=True)]
        return told.has_values & np.array(within, np.bool_)

    def _by_dictionaries(self, predicate: Predicate, statistics: ScanStatistics) -> NDArray[np.bool_]:
        """Row groups whose dictionary has a value that satisfies the predicate."""
        field = predicate.field
        everywhere = np.ones(len(self.layout.footer.info.row_groups), np.bool_)
        if predicate.comparison not in (Comparison.EQUAL, Comparison.MATCH) or _holds_for_missing(predicate):
            return everywhere
        leaf = self._leaf(field)
        if leaf is None:
            return everywhere if field.scope in ("intrinsic", "event", "link") else self._overflow(field)
        if predicate.comparison is Comparison.MATCH and self.layout.dictionary_bytes(leaf) > MATCHED_BYTES_MAX:
            return everywhere
        values = self.leaf_values(leaf, statistics)
        held = values_may_hold(predicate, values.values)
        counts = np.concatenate([[0], np.cumsum(held)])
        return (counts[values.offsets[1:]] > counts[values.offsets[:-1]]) | ~values.known | self._overflow(field)

    def _leaf(self, field: Field) -> str | None:
        """The leaf whose dictionary has all values of a field, but for those in the overflow list."""
        if field.scope in ("event", "link"):
            return f"{field.scope}s.list.element.name" if field == Field("event", ":name") else None
        if field.scope == "intrinsic":
            return None if field.name in _ID_FIELDS else field.name
        return self.layout.column_of(field)

    def _of_traces(self, traces: frozenset[tuple[int, int]]) -> NDArray[np.bool_]:
        """Row groups that can have one of these traces."""
        groups = self.layout.footer.info.row_groups
        kept = np.zeros(len(groups), np.bool_)
        for high, low in traces:
            if self.layout.footer.trace_filter.may_have(high, low):
                wanted = f"{high:016x}{low:016x}"
                number = bisect.bisect_right(self.layout.first_traces, wanted) - 1
                if number >= 0 and wanted <= groups[number].last_trace:
                    kept[number] = True
        return kept


def _holds_for_missing(predicate: Predicate) -> bool:
    """Whether spans without the attribute may satisfy the predicate: a service name that is absent reads as empty."""
    if predicate.field != SERVICE_NAME:
        return False
    if predicate.comparison is Comparison.MATCH:
        return bool(values_may_hold(predicate, pa.array([""], pa.string()))[0])
    return predicate.comparison in (Comparison.NOT_EQUAL, Comparison.EXISTS) or range_may_hold(predicate, "", "")

"""Span batches as scan batches: for live spans, and for traces whose fragments were gathered from several sources.

One pass of a kernel over the attributes finds the wanted keys; resources and instrumentation scopes are looked at once and their values
handed to their spans.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from spanlake.blocks.build.arrays import PoolArrays, ranges
from spanlake.blocks.memory.append import concatenate, merge
from spanlake.blocks.memory.arrange import Arrangement, arrange
from spanlake.blocks.scan.typed.entries import RANKS, Entries, entry_values
from spanlake.blocks.scan.typed.link_ids import link_ids
from spanlake.blocks.scan.typed.values import numbers, of_parts, offsets_of, span_ids, take, texts
from spanlake.model.kernel import kernel
from spanlake.model.scan import Children, Field, FieldScope, Ids, NumberType, Part, ScanBatch, Values
from spanlake.model.spans import EMPTY_STRING, STRING, Records, SpanBatch, Strings

SERVICE = "service.name"
CHILD_SCOPES: tuple[FieldScope, ...] = ("event", "link")


@kernel
def find_attributes(firsts: Any, counts: Any, attrs: Any, slot_of: Any, ranks: Any, found: Any) -> None:
    """Per wanted key and owner, the index of the attribute that counts.

    slot_of: int32 per string code, the row of `found` for that key or -1; ranks: uint8 per type number, less wins, then the first.
    found: int64[keys, owners], all -1 before.
    """
    for i in range(len(firsts)):
        for j in range(firsts[i], firsts[i] + counts[i]):
            slot = slot_of[attrs[j].key]
            if slot >= 0:
                best = found[slot, i]
                if best < 0 or ranks[attrs[j].type] < ranks[attrs[best].type]:
                    found[slot, i] = j


def find_code(strings: Strings, text: str) -> int:
    """The code of a string in a pool, -1 if it is not there."""
    wanted = text.encode("utf-8", "surrogatepass")
    codes = np.flatnonzero(strings.length == len(wanted))
    for place, byte in enumerate(wanted):
        if not len(codes):
            break
        codes = codes[strings.data[strings.offset[codes] + place] == byte]
    return int(codes[0]) if len(codes) else -1


@dataclass(frozen=True, slots=True)
class ArrangedSpans:
    """Spans in memory in the order of their traces: the rows of `batch` are those of the arrangement, its strings a pool."""

    batch: SpanBatch
    arrangement: Arrangement

    @property
    def traces(self) -> int:
        return len(self.arrangement.trace_first) - 1

    def part(self, first: int, last: int) -> ArrangedSpans:
        """The traces [first, last)."""
        begin, end = (int(self.arrangement.trace_first[trace]) for trace in (first, last))
        return self._select(slice(begin, end), slice(first, last))

    def only(self, traces: NDArray[np.bool_]) -> ArrangedSpans:
        """Some traces."""
        if traces.all():
            return self
        rows = np.repeat(traces, np.diff(self.arrangement.trace_first))
        return self._select(rows, traces)

    def only_rows(self, rows: NDArray[np.bool_]) -> SpanBatch:
        """Some spans, those of a resource and scope side by side."""
        order = np.lexsort((self.arrangement.scope_index, self.arrangement.resource_index))
        return self.batch.take(order[rows[order]])

    def _select(self, rows: Any, traces: Any) -> ArrangedSpans:
        """By slices or masks."""
        return ArrangedSpans(replace(self.batch, spans=self.batch.spans[rows]), self.arrangement.part(traces, rows))

    def trace_ids(self) -> tuple[NDArray[np.uint64], NDArray[np.uint64]]:
        """(high, low) per trace."""
        firsts = self.batch.spans[self.arrangement.trace_first[:-1]]
        return np.ascontiguousarray(firsts["trace_hi"]), np.ascontiguousarray(firsts["trace_lo"])


def arranged(batches: Iterable[SpanBatch]) -> ArrangedSpans:
    """Batches, oldest first, as whole traces without duplicates. Rows and strings are copied unless there is just one batch."""
    whole = under_one_pool(list(batches))
    arrangement = arrange(whole.spans, whole.scopes)
    return ArrangedSpans(whole.take(arrangement.rows), arrangement)


def under_one_pool(batches: list[SpanBatch]) -> SpanBatch:
    """The rows in order. Neighbours that share a string table are joined first, so that each table is interned once."""
    groups: list[list[SpanBatch]] = []
    for batch in batches:
        if groups and groups[-1][-1].strings is batch.strings:
            groups[-1].append(batch)
        else:
            groups.append([batch])
    joined = [concatenate(group) for group in groups]
    return joined[0] if len(joined) == 1 and _is_pool(joined[0].strings) else merge(joined)


def _is_pool(strings: Strings) -> bool:
    """Whether every text has one code and the texts lie back to back, which is so for what a pool made and for nothing else."""
    ends = strings.offset + strings.length
    return len(strings.data) == int(ends[-1]) and bool(np.array_equal(strings.offset[1:], ends[:-1])) and int(strings.length[0]) == 0


class MemoryScan:
    """Turns arranged spans into a scan batch; owns the Arrow view of their string pool. For one thread."""

    def __init__(self, spans: ArrangedSpans) -> None:
        self._spans = spans
        self._pool = PoolArrays(spans.batch.strings)
        self._codes: dict[str, int] = {}

    def batch(self, fields: Iterable[Field]) -> ScanBatch:
        """The fields of all rows."""
        part = self._spans
        by_scope: dict[FieldScope, list[Field]] = {}
        for field in fields:
            by_scope.setdefault(field.scope, []).append(field)
        rows = part.batch.spans
        resource_of = part.batch.scopes["resource"][rows["scope"]]
        values = {
            **{field: self._intrinsic(part, field.name) for field in by_scope.get("intrinsic", ())},
            **self._attributes(rows, by_scope.get("span", [])),
            **self._of_owners(part.batch.resources, resource_of, by_scope.get("resource", [])),
            **self._of_owners(part.batch.scopes, rows["scope"], by_scope.get("instrumentation", [])),
        }
        high, low = part.trace_ids()
        children: dict[str, Children] = {scope: self._children(part, scope, by_scope[scope]) for scope in CHILD_SCOPES if scope in by_scope}
        return ScanBatch(part.arrangement.trace_first, high, low, values, children)

    def keys(self) -> frozenset[Field]:
        """The attribute keys of all spans, and of their resources, scopes, events and links."""
        batch = self._spans.batch
        scopes = batch.scopes[np.unique(batch.spans["scope"])]
        owners: dict[FieldScope, Records] = {
            "span": batch.spans,
            "resource": batch.resources[np.unique(scopes["resource"])],
            "instrumentation": scopes,
            "event": batch.events[ranges(batch.spans["event_first"], batch.spans["event_count"])],
            "link": batch.links[ranges(batch.spans["link_first"], batch.spans["link_count"])],
        }
        found = set()
        for scope, records in owners.items():
            seen = np.zeros(len(batch.strings), np.bool_)
            seen[batch.attrs["key"][ranges(records["attr_first"], records["attr_count"])]] = True
            found |= {Field(scope, batch.strings.text_at(code)) for code in np.flatnonzero(seen).tolist()}
        return frozenset(found)

    def _code(self, text: str) -> int:
        if text not in self._codes:
            self._codes[text] = find_code(self._spans.batch.strings, text)
        return self._codes[text]

    def _intrinsic(self, part: ArrangedSpans, name: str) -> Values:
        rows = len(part.batch)
        return of_parts(rows, _INTRINSICS[name](self, part))

    def text(self, codes: NDArray[Any]) -> Part | None:
        """Strings by pool code."""
        return texts(self._pool.dictionary(codes)) if len(codes) else None

    def root_texts(self, part: ArrangedSpans, *, service: bool) -> Part | None:
        """Name or service of the root span of each row's trace; empty without a root."""
        arrangement, batch = part.arrangement, part.batch
        roots = arrangement.trace_root
        spans = batch.spans[np.maximum(roots, 0)]
        codes = spans["name"].astype(np.int64)
        if service:
            owners = batch.resources[batch.scopes["resource"][spans["scope"]]]
            found = self._find(owners, [SERVICE])[0]
            codes = np.full(len(owners), EMPTY_STRING, np.int64)
            named = np.flatnonzero(found >= 0)
            attrs = batch.attrs[found[named]]
            codes[named] = np.where(attrs["type"] == STRING, attrs["value"], EMPTY_STRING)
        return self.text(np.repeat(np.where(roots >= 0, codes, EMPTY_STRING), np.diff(arrangement.trace_first)))

    def _find(self, owners: Records, keys: list[str]) -> NDArray[np.int64]:
        """int64[keys, owners]: the attribute of each key, or -1."""
        strings, attrs = self._spans.batch.strings, self._spans.batch.attrs
        slot_of = np.full(len(strings), -1, np.int32)
        for slot, key in enumerate(keys):
            if self._code(key) >= 0:
                slot_of[self._code(key)] = slot
        found = np.full((len(keys), len(owners)), -1, np.int64)
        firsts, counts = (np.ascontiguousarray(owners[name]) for name in ("attr_first", "attr_count"))
        find_attributes(firsts, counts, attrs, slot_of, RANKS, found)
        return found

    def _attributes(self, owners: Records, fields: list[Field]) -> dict[Field, Values]:
        """Attribute values per owner."""
        if not fields:
            return {}
        found = self._find(owners, [field.name for field in fields])
        values = {}
        for field, indexes in zip(fields, found, strict=True):
            present = np.flatnonzero(indexes >= 0)
            attrs = self._spans.batch.attrs[indexes[present]]
            bits = np.ascontiguousarray(attrs["value"])
            entries = Entries(present, np.ascontiguousarray(attrs["type"]), bits, _PoolStrings(self._pool, bits))
            values[field] = entry_values(entries, len(owners))
        return values

    def _of_owners(self, table: Records, owner_of: NDArray[Any], fields: list[Field]) -> dict[Field, Values]:
        """Attribute values of each row's resource or scope."""
        if not fields:
            return {}
        distinct, which = np.unique(owner_of, return_inverse=True)
        return {field: take(values, which) for field, values in self._attributes(table[distinct], fields).items()}

    def _children(self, part: ArrangedSpans, kind: str, fields: list[Field]) -> Children:
        """Events or links of all rows."""
        spans = part.batch.spans
        counts = spans[f"{kind}_count"].astype(np.int64)
        table = part.batch.events if kind == "event" else part.batch.links
        children = table[ranges(spans[f"{kind}_first"], counts)]
        values = self._attributes(children, [field for field in fields if not field.name.startswith(":")])
        for field in fields:
            if field.name.startswith(":"):
                values[field] = of_parts(len(children), self._child_part(children, field.name))
        return Children(offsets_of(counts), values)

    def _child_part(self, children: Records, name: str) -> Part | None:
        if name == ":name":
            return self.text(children["name"])
        if name == ":time_ns":
            return numbers(NumberType.INT, children["time_ns"])
        assert name in (":trace_id", ":span_id"), name
        return link_ids(self._pool.take(children[name[1:]], pa.binary()), 16 if name == ":trace_id" else 8)


@dataclass(frozen=True, slots=True)
class _PoolStrings:
    """Strings of entries whose value is a pool code."""

    pool: PoolArrays
    codes: NDArray[np.int64]

    def texts(self, chosen: NDArray[np.int64]) -> pa.DictionaryArray:
        return self.pool.dictionary(self.codes[chosen])

    def messages(self, chosen: NDArray[np.int64]) -> pa.DictionaryArray:
        return self.pool.dictionary(self.codes[chosen], kind=pa.binary())


def _per_trace(part: ArrangedSpans, values: NDArray[np.int64]) -> NDArray[np.int64]:
    return np.repeat(values, np.diff(part.arrangement.trace_first))


def _trace_ids(part: ArrangedSpans) -> Ids:
    spans = part.batch.spans
    high, low = (np.ascontiguousarray(spans[name]) for name in ("trace_hi", "trace_lo"))
    return Ids(np.ones(len(spans), np.bool_), high, low, 16)


def _span_number(column: str, kind: NumberType) -> Callable[[MemoryScan, ArrangedSpans], Part | None]:
    return lambda _scan, part: numbers(kind, part.batch.spans[column])


def _tree_number(column: str) -> Callable[[MemoryScan, ArrangedSpans], Part | None]:
    return lambda _scan, part: numbers(NumberType.INT, getattr(part.arrangement, column))


def _span_text(column: str) -> Callable[[MemoryScan, ArrangedSpans], Part | None]:
    return lambda scan, part: scan.text(part.batch.spans[column])


def _scope_text(column: str) -> Callable[[MemoryScan, ArrangedSpans], Part | None]:
    return lambda scan, part: scan.text(part.batch.scopes[column][part.batch.spans["scope"]])


_INTRINSICS: Mapping[str, Callable[[MemoryScan, ArrangedSpans], Part | None]] = {
    "trace_id": lambda _scan, part: _trace_ids(part),
    "span_id": lambda _scan, part: span_ids(part.batch.spans["span_id"].copy()),
    "parent_span_id": lambda _scan, part: span_ids(part.batch.spans["parent_id"].copy()),
    "trace_state": _span_text("trace_state"),
    "name": _span_text("name"),
    "status_message": _span_text("status_message"),
    "kind": _span_number("kind", NumberType.KIND),
    "status_code": _span_number("status_code", NumberType.STATUS),
    "start_ns": _span_number("start_ns", NumberType.INT),
    "duration_ns": _span_number("duration_ns", NumberType.DURATION),
    "nested_left": _tree_number("nested_left"),
    "nested_right": _tree_number("nested_right"),
    "nested_parent": _tree_number("nested_parent"),
    "child_count": _tree_number("child_count"),
    "trace_start_ns": lambda _scan, part: numbers(NumberType.INT, _per_trace(part, part.arrangement.trace_start_ns)),
    "trace_duration_ns": lambda _scan, part: numbers(NumberType.DURATION, _per_trace(part, part.arrangement.trace_duration_ns)),
    "root_name": lambda scan, part: scan.root_texts(part, service=False),
    "root_service": lambda scan, part: scan.root_texts(part, service=True),
    "scope_name": _scope_text("name"),
    "scope_version": _scope_text("version"),
}

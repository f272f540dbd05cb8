"""Rows in trace order: group by trace, drop duplicates, number the tree as nested sets.

Input rows are in arrival order. Output rows are sorted by (trace id, nested-set left); arrays of the result are parallel to them.

The tree of a trace
- A span's parent is the other span of the trace whose id is its parent id. Where several spans share that id (Zipkin's client and
  server halves of one call), a server span takes the client half and any other span the server half, else the first that arrived.
- Spans without a parent id are roots. A span whose parent is absent tops a tree of its own, and so does the earliest span of a cycle.
- One counter runs over all trees, depth first: roots in arrival order, then the other tops in arrival order; children in arrival order.
  left is taken on entry, right on exit. nested_parent is the parent's left; -1 for a root, 0 for another top.
- A second span with the same (span id, kind) is a duplicate of the first and is dropped. Kinds that OTLP does not define count as one,
  so at most seven spans share an id and every step below is linear in the number of spans.

The kernels work on one trace at a time, in scratch that is as long as the longest trace. There a span is its place among the rows of
its trace (a *local index*), and -1 stands for none.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spanlake.model import spans as at
from spanlake.model.kernel import inlined, inner, kernel, load32, load64, store32, store64
from spanlake.model.spans import KIND_CLIENT, KIND_CONSUMER, KIND_SERVER, Records

ROOT_PARENT = -1
TOP_PARENT = 0

# The control block of `arrange_traces`: words with the addresses of the input, of the scratch columns (int64, one entry per span of the
# trace) and of the output, and with what is known while a trace is numbered.
(
    _SPANS,
    _SCOPES,
    _ORDER,  # rows sorted by trace, in arrival order within
    _BY_SCOPE,  # places in _ORDER, sorted by trace, then by scope
    _MULTIPLIER,
    _SLOTS,  # hash table span id → local index, int64[at least twice the longest trace]; afterwards marks of `cut_cycle`
    _ID,
    _PARENT_ID,
    _KIND,
    _FOLLOWING,  # the next span with the same id; DUPLICATE: dropped
    _PARENT,
    _CHILD,  # first child
    _SIBLING,  # next child of the same parent
    _CHILDREN,  # how many
    _LEFT,  # 0: not numbered
    _PLACE,  # output row
    _ROWS_OUT,
    _LEFT_OUT,
    _RIGHT_OUT,
    _PARENT_OUT,
    _CHILDREN_OUT,
    _RESOURCE_OUT,
    _SCOPE_OUT,
    _NEXT_NUMBER,
    _NEXT_PLACE,
) = range(25)
_COLUMNS = range(_ID, _PLACE + 1)
_OUTPUTS = range(_LEFT_OUT, _SCOPE_OUT + 1)
_WORDS = 25
_DUPLICATE = -2


@dataclass(frozen=True, slots=True)
class Arrangement:
    """Which input rows are kept, in which order, and what is known of each and of its trace."""

    rows: NDArray[np.int64]  # input row of each output row
    nested_left: NDArray[np.int32]
    nested_right: NDArray[np.int32]
    nested_parent: NDArray[np.int32]
    child_count: NDArray[np.int32]
    resource_index: NDArray[np.int32]  # ordinal of the pushed ResourceSpans within the trace
    scope_index: NDArray[np.int32]  # ordinal of the pushed ScopeSpans within the trace
    trace_first: NDArray[np.int64]  # first output row of each trace, and the total at the end: traces + 1 entries
    trace_start_ns: NDArray[np.int64]  # per trace
    trace_duration_ns: NDArray[np.int64]  # per trace
    trace_root: NDArray[np.int64]  # per trace: output row of the root that starts first, -1 without a root

    def __len__(self) -> int:
        return len(self.rows)

    def part(self, traces: Any, rows: Any) -> Arrangement:
        """Some traces, and what `rows` they are: both as slices or both as masks."""
        first = np.zeros(len(self.trace_first[:-1][traces]) + 1, np.int64)
        np.cumsum(np.diff(self.trace_first)[traces], out=first[1:])
        roots = self.trace_root[traces]
        return Arrangement(
            rows=self.rows[rows],
            nested_left=self.nested_left[rows],
            nested_right=self.nested_right[rows],
            nested_parent=self.nested_parent[rows],
            child_count=self.child_count[rows],
            resource_index=self.resource_index[rows],
            scope_index=self.scope_index[rows],
            trace_first=first,
            trace_start_ns=self.trace_start_ns[traces],
            trace_duration_ns=self.trace_duration_ns[traces],
            trace_root=np.where(roots >= 0, roots - self.trace_first[:-1][traces] + first[:-1], -1),
        )


@inlined
def _get(work: int, column: int, index: int) -> int:
    return load64(load64(work + 8 * column) + 8 * index)


@inlined
def _set(work: int, column: int, index: int, value: int) -> None:
    store64(load64(work + 8 * column) + 8 * index, value)


@inlined
def _put(work: int, output: int, place: int, value: int) -> None:
    store32(load64(work + 8 * output) + 4 * place, value)


@inlined
def _high_bits(product: int, bits: int) -> int:
    """The top `bits` bits: with a random odd factor, a hash that nobody can aim at (multiply-shift, Dietzfelbinger et al. 1997)."""
    return (product >> (64 - bits)) & ((1 << bits) - 1)


@inlined
def _bits_for(entries: int) -> int:
    """Bits of the index into a hash table that is at most half full."""
    bits = 1
    while (1 << bits) < 2 * entries:
        bits += 1
    return bits


@kernel
def group_traces(spans: int, rows: int, slots: int, firsts: int, groups: int, multiplier: int) -> int:
    """Number the distinct trace ids by first appearance: writes the group of each row and the first row of each group.

    spans: SPAN[rows]; slots: int32[4 * rows], all zero; firsts, groups: int64[rows]. Returns the number of groups.
    """
    bits = _bits_for(rows)
    second = (multiplier * 0x2545F4914F6CDD1D ^ (multiplier >> 29)) | 1
    found = 0
    for row in range(rows):
        span = spans + row * at.SPAN_BYTES
        high = load64(span + at.SPAN_TRACE_HI)
        low = load64(span + at.SPAN_TRACE_LO)
        place = _high_bits(high * multiplier + low * second, bits)
        while True:
            group = load32(slots + 4 * place) - 1
            if group < 0:
                store32(slots + 4 * place, found + 1)
                store64(firsts + 8 * found, row)
                group = found
                found += 1
                break
            first = spans + load64(firsts + 8 * group) * at.SPAN_BYTES
            if load64(first + at.SPAN_TRACE_HI) == high and load64(first + at.SPAN_TRACE_LO) == low:
                break
            place = (place + 1) & ((1 << bits) - 1)
        store64(groups + 8 * row, group)
    return found


@inner
def enter_spans(work: int, begin: int, count: int) -> int:
    """Load a trace's spans into the columns, enter their ids into the hash table, mark duplicates. Returns how many are kept."""
    bits = _bits_for(count)
    multiplier = load64(work + 8 * _MULTIPLIER)
    kept = 0
    for i in range(1 << bits):
        _set(work, _SLOTS, i, -1)
    for i in range(count):
        span = load64(work + 8 * _SPANS) + _get(work, _ORDER, begin + i) * at.SPAN_BYTES
        own = load64(span + at.SPAN_SPAN_ID)
        kind = min(load32(span + at.SPAN_KIND), KIND_CONSUMER + 1)  # negative ones are large
        _set(work, _ID, i, own)
        _set(work, _PARENT_ID, i, load64(span + at.SPAN_PARENT_ID))
        _set(work, _KIND, i, kind)
        _set(work, _FOLLOWING, i, -1)
        _set(work, _CHILD, i, -1)
        _set(work, _CHILDREN, i, 0)
        _set(work, _LEFT, i, 0)
        place = _high_bits(own * multiplier, bits)
        twin = _get(work, _SLOTS, place)
        while twin >= 0 and _get(work, _ID, twin) != own:
            place = (place + 1) & ((1 << bits) - 1)
            twin = _get(work, _SLOTS, place)
        if twin < 0:
            _set(work, _SLOTS, place, i)
            kept += 1
            continue
        while _get(work, _KIND, twin) != kind and _get(work, _FOLLOWING, twin) >= 0:
            twin = _get(work, _FOLLOWING, twin)
        if _get(work, _KIND, twin) == kind:
            _set(work, _FOLLOWING, i, _DUPLICATE)
        else:
            _set(work, _FOLLOWING, twin, i)
            kept += 1
    return kept


@inner
def find_parent(work: int, child: int, bits: int) -> int:
    """The parent of `child`, or -1."""
    wanted = _get(work, _PARENT_ID, child)
    if wanted == 0:
        return -1
    place = _high_bits(wanted * load64(work + 8 * _MULTIPLIER), bits)
    twin = _get(work, _SLOTS, place)
    while twin >= 0 and _get(work, _ID, twin) != wanted:
        place = (place + 1) & ((1 << bits) - 1)
        twin = _get(work, _SLOTS, place)
    half = KIND_CLIENT if _get(work, _KIND, child) == KIND_SERVER else KIND_SERVER
    best = -1
    while twin >= 0:
        if twin != child:
            if _get(work, _KIND, twin) == half:
                return twin
            if best < 0:
                best = twin
        twin = _get(work, _FOLLOWING, twin)
    return best


@inner
def link_children(work: int, count: int) -> None:
    """Find the parent of every kept span and list its children in arrival order."""
    bits = _bits_for(count)
    for i in range(count - 1, -1, -1):
        if _get(work, _FOLLOWING, i) == _DUPLICATE:
            continue
        parent = find_parent(work, i, bits)
        _set(work, _PARENT, i, parent)
        if parent >= 0:
            _set(work, _SIBLING, i, _get(work, _CHILD, parent))
            _set(work, _CHILD, parent, i)
            _set(work, _CHILDREN, parent, _get(work, _CHILDREN, parent) + 1)


@inner
def number_tree(work: int, begin: int, top: int) -> None:
    """Number the tree under `top` depth first and write its output rows, except the ordinals of scopes and resources.

    Where a cycle was cut at `top`, the list of its former parent's children still names it: it is passed over.
    """
    number = load64(work + 8 * _NEXT_NUMBER)
    place = load64(work + 8 * _NEXT_PLACE)
    node = top
    while node >= 0:
        parent = _get(work, _PARENT, node)
        _set(work, _LEFT, node, number)
        _set(work, _PLACE, node, place)
        store64(load64(work + 8 * _ROWS_OUT) + 8 * place, _get(work, _ORDER, begin + node))
        _put(work, _LEFT_OUT, place, number)
        _put(work, _CHILDREN_OUT, place, _get(work, _CHILDREN, node))
        outer = _get(work, _LEFT, parent) if parent >= 0 else TOP_PARENT if _get(work, _PARENT_ID, node) != 0 else ROOT_PARENT
        _put(work, _PARENT_OUT, place, outer)
        number += 1
        place += 1
        following = _get(work, _CHILD, node)
        if following == top:
            following = _get(work, _SIBLING, top)
        while following < 0 and node >= 0:
            _put(work, _RIGHT_OUT, _get(work, _PLACE, node), number)
            number += 1
            following = _get(work, _SIBLING, node) if node != top else -1
            if following == top:
                following = _get(work, _SIBLING, top)
            node = _get(work, _PARENT, node) if node != top else -1
        node = following
    store64(work + 8 * _NEXT_NUMBER, number)
    store64(work + 8 * _NEXT_PLACE, place)


@inner
def cut_cycle(work: int, start: int) -> int:
    """The earliest span of the cycle that `start` leads up to; its link to its parent is cut. Marks are below 0 at first."""
    node = start
    while _get(work, _SLOTS, node) != start:
        _set(work, _SLOTS, node, start)
        node = _get(work, _PARENT, node)
    earliest = node
    around = _get(work, _PARENT, node)
    while around != node:
        earliest = min(earliest, around)
        around = _get(work, _PARENT, around)
    parent = _get(work, _PARENT, earliest)
    _set(work, _CHILDREN, parent, _get(work, _CHILDREN, parent) - 1)
    _set(work, _PARENT, earliest, -1)
    return earliest


@inner
def number_trees(work: int, begin: int, count: int, kept: int) -> int:
    """Number all trees of a trace. Returns the output row of the root that starts first (in order among equals), or -1."""
    first = load64(work + 8 * _NEXT_PLACE)
    root = -1
    root_start = 0
    for orphans in range(2):
        for i in range(count):
            if _get(work, _FOLLOWING, i) == _DUPLICATE or _get(work, _PARENT, i) >= 0:
                continue
            if (_get(work, _PARENT_ID, i) != 0) != (orphans == 1):
                continue
            if orphans == 0:
                start = load64(load64(work + 8 * _SPANS) + _get(work, _ORDER, begin + i) * at.SPAN_BYTES + at.SPAN_START)
                if root < 0 or start < root_start:
                    root = load64(work + 8 * _NEXT_PLACE)
                    root_start = start
            number_tree(work, begin, i)
    if load64(work + 8 * _NEXT_PLACE) - first < kept:
        for i in range(count):
            _set(work, _SLOTS, i, -1)
        for i in range(count):
            if _get(work, _FOLLOWING, i) != _DUPLICATE and _get(work, _LEFT, i) == 0:
                number_tree(work, begin, cut_cycle(work, i))
    return root


@inner
def describe_trace(work: int, begin: int, count: int, fact: int) -> None:
    """Start and stop of a trace, and ordinals of scopes and of resources in the order of the scopes' indexes, which is that of arrival."""
    scope = resource = -1
    scope_ordinal = resource_ordinal = -1
    first = last = load64(load64(work + 8 * _SPANS) + _get(work, _ORDER, begin) * at.SPAN_BYTES + at.SPAN_START)
    for k in range(begin, begin + count):
        i = _get(work, _BY_SCOPE, k) - begin
        if _get(work, _FOLLOWING, i) == _DUPLICATE:
            continue
        span = load64(work + 8 * _SPANS) + _get(work, _ORDER, begin + i) * at.SPAN_BYTES
        start = load64(span + at.SPAN_START)
        first = min(first, start)
        last = max(last, start, start + load64(span + at.SPAN_DURATION))
        own = load32(span + at.SPAN_SCOPE)
        if own != scope:
            scope = own
            scope_ordinal += 1
            own = load32(load64(work + 8 * _SCOPES) + scope * at.SCOPE_BYTES + at.SCOPE_RESOURCE)
            if own != resource:
                resource = own
                resource_ordinal += 1
        _put(work, _SCOPE_OUT, _get(work, _PLACE, i), scope_ordinal)
        _put(work, _RESOURCE_OUT, _get(work, _PLACE, i), resource_ordinal)
    store64(fact + 8, first)
    store64(fact + 16, last)


@kernel
def arrange_traces(work: int, begins: int, traces: int, facts: int) -> int:
    """Arrange every trace. begins: int64[traces + 1], where each begins in _ORDER; facts: int64[traces, 4], of which (first output row,
    start, stop, root) are written. Returns the number of output rows."""
    for trace in range(traces):
        begin = load64(begins + 8 * trace)
        count = load64(begins + 8 * trace + 8) - begin
        store64(work + 8 * _NEXT_NUMBER, 1)
        fact = facts + 32 * trace
        store64(fact, load64(work + 8 * _NEXT_PLACE))
        kept = enter_spans(work, begin, count)
        link_children(work, count)
        store64(fact + 24, number_trees(work, begin, count, kept))
        describe_trace(work, begin, count, fact)
    return load64(work + 8 * _NEXT_PLACE)


def arrange(spans: Records, scopes: Records) -> Arrangement:
    """Arrange rows (SPAN records in arrival order, with their SCOPE table)."""
    spans, scopes = np.ascontiguousarray(spans), np.ascontiguousarray(scopes)
    multiplier = secrets.randbits(62) | 1
    order, begins = sort_by_trace(spans, multiplier)
    by_scope = _sort_by_scope(spans["scope"][order], begins)
    longest = int(np.diff(begins).max(initial=1))
    scratch = np.empty((len(_COLUMNS), longest), np.int64)
    slots = np.empty(4 * longest, np.int64)
    rows_out = np.empty(len(spans), np.int64)
    out = np.empty((len(_OUTPUTS), len(spans)), np.int32)
    facts = np.empty((len(begins) - 1, 4), np.int64)
    inputs = [spans.ctypes.data, scopes.ctypes.data, order.ctypes.data, by_scope.ctypes.data, multiplier, slots.ctypes.data]
    columns = [scratch.ctypes.data + 8 * longest * i for i in range(len(_COLUMNS))]
    outputs = [rows_out.ctypes.data, *(out.ctypes.data + 4 * len(spans) * i for i in range(len(_OUTPUTS)))]
    work = np.array([*inputs, *columns, *outputs, 0, 0], np.int64)
    assert len(work) == _WORDS
    kept = arrange_traces(work.ctypes.data, begins.ctypes.data, len(facts), facts.ctypes.data)
    left, right, parent, children, resource, scope = out[:, :kept]
    return Arrangement(
        rows=rows_out[:kept],
        nested_left=left,
        nested_right=right,
        nested_parent=parent,
        child_count=children,
        resource_index=resource,
        scope_index=scope,
        trace_first=np.append(facts[:, 0], kept),
        trace_start_ns=facts[:, 1].copy(),
        trace_duration_ns=facts[:, 2] - facts[:, 1],
        trace_root=facts[:, 3].copy(),
    )


def sort_by_trace(spans: Records, multiplier: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Rows ordered by trace id, in arrival order within a trace, and where each trace begins (traces + 1 entries)."""
    rows = len(spans)
    slots = np.zeros(max(4 * rows, 2), np.int32)
    firsts, groups = np.empty(rows, np.int64), np.empty(rows, np.int64)
    count = group_traces(spans.ctypes.data, rows, slots.ctypes.data, firsts.ctypes.data, groups.ctypes.data, multiplier)
    first = spans[firsts[:count]]
    rank = np.empty(count, np.int64)
    rank[np.lexsort((first["trace_lo"], first["trace_hi"]))] = np.arange(count)
    ranks = rank[groups]
    begins = np.concatenate(([0], np.cumsum(np.bincount(ranks, minlength=count)))).astype(np.int64)
    return np.argsort(ranks, kind="stable"), begins


def _sort_by_scope(scopes: NDArray[np.int32], begins: NDArray[np.int64]) -> NDArray[np.int64]:
    """Places of rows, given in trace order, ordered by scope within each trace."""
    places = np.arange(len(scopes))
    inside = np.ones(max(len(scopes) - 1, 0), np.bool_)
    inside[begins[1:-1] - 1] = False
    if not np.any((np.diff(scopes) < 0) & inside):
        return places  # the order of arrival, as ever
    return np.lexsort((scopes, np.repeat(np.arange(len(begins) - 1), np.diff(begins))))

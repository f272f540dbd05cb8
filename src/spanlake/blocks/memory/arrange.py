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
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spanlake.model.kernel import inlined, kernel
from spanlake.model.spans import KIND_CLIENT, KIND_CONSUMER, KIND_SERVER, Records

ROOT_PARENT = -1
TOP_PARENT = 0


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


@kernel
def group_traces(spans: Any, groups: Any) -> tuple[Any, int]:
    """Number the distinct trace ids by first appearance: writes each row's group (int32), returns (first row per group, groups)."""
    rows = len(spans)
    mask = 1
    while mask < 2 * rows:
        mask *= 2
    slots = np.full(mask, -1, np.int32)
    mask -= 1
    firsts = np.empty(rows, np.int64)
    found = 0
    previous = -1
    for row in range(rows):
        high, low = spans[row].trace_hi, spans[row].trace_lo
        if previous >= 0 and spans[row - 1].trace_hi == high and spans[row - 1].trace_lo == low:
            groups[row] = previous
            continue
        mixed = (high ^ (low >> np.uint64(29))) * np.uint64(0x9E3779B97F4A7C15) ^ low * np.uint64(0xC2B2AE3D27D4EB4F)
        place = np.int64((mixed ^ (mixed >> np.uint64(32))) & np.uint64(mask))
        while slots[place] >= 0:
            first = firsts[slots[place]]
            if spans[first].trace_hi == high and spans[first].trace_lo == low:
                break
            place = (place + 1) & mask
        if slots[place] < 0:
            slots[place] = found
            firsts[found] = row
            found += 1
        previous = slots[place]
        groups[row] = previous
    return firsts[:found], found


@kernel
def rows_by_rank(groups: Any, rank: Any) -> tuple[Any, Any]:
    """Stable counting sort: rows ordered by rank[group], and the first place of each rank (ranks + 1 entries)."""
    begins = np.zeros(len(rank) + 1, np.int64)
    for row in range(len(groups)):
        begins[rank[groups[row]] + 1] += 1
    for i in range(len(rank)):
        begins[i + 1] += begins[i]
    place = begins[:-1].copy()
    order = np.empty(len(groups), np.int64)
    for row in range(len(groups)):
        at = rank[groups[row]]
        order[place[at]] = row
        place[at] += 1
    return order, begins


@inlined
def known_kind(kind: int) -> int:
    """The kind, with all that OTLP does not define as one."""
    return kind if 0 <= kind <= KIND_CONSUMER else KIND_CONSUMER + 1


@kernel
def link_ids(spans: Any, rows: Any, slots: Any, following: Any) -> int:
    """Enter a trace's rows into a table span id -> first local index, twins chained by `following`; duplicates get following -2.

    Returns the number of kept rows. `slots` is all -1 and a power of two at least twice as long as `rows`.
    """
    mask = len(slots) - 1
    kept = 0
    for i in range(len(rows)):
        span = spans[rows[i]]
        place = np.int64((span.span_id * np.uint64(0x9E3779B97F4A7C15)) >> np.uint64(32)) & mask
        following[i] = -1
        while slots[place] >= 0 and spans[rows[slots[place]]].span_id != span.span_id:
            place = (place + 1) & mask
        if slots[place] < 0:
            slots[place] = i
            kept += 1
            continue
        twin = slots[place]
        while True:
            if known_kind(spans[rows[twin]].kind) == known_kind(span.kind):
                following[i] = -2
                break
            if following[twin] < 0:
                following[twin] = i
                kept += 1
                break
            twin = following[twin]
    return kept


@kernel
def find_parent(spans: Any, rows: Any, slots: Any, following: Any, child: int) -> int:
    """Local index of the parent of `child`, -1 if it is absent (or has no parent id)."""
    span = spans[rows[child]]
    if span.parent_id == 0:
        return -1
    mask = len(slots) - 1
    place = np.int64((span.parent_id * np.uint64(0x9E3779B97F4A7C15)) >> np.uint64(32)) & mask
    while slots[place] >= 0 and spans[rows[slots[place]]].span_id != span.parent_id:
        place = (place + 1) & mask
    wanted = KIND_CLIENT if span.kind == KIND_SERVER else KIND_SERVER
    best = -1
    twin = np.int64(slots[place])
    while twin >= 0:
        if twin != child:
            if spans[rows[twin]].kind == wanted:
                return twin
            if best < 0:
                best = twin
        twin = np.int64(following[twin])
    return best


@kernel
def number_tree(top: int, children: Any, siblings: Any, left: Any, right: Any, path: Any, counter: int) -> int:
    """Number the tree under `top` depth first from `counter`; returns the next number. left == 0 means not numbered yet."""
    depth = 0
    path[0] = top
    left[top] = counter
    counter += 1
    following = children[top]
    while depth >= 0:
        if following >= 0 and left[following] == 0:
            depth += 1
            path[depth] = following
            left[following] = counter
            counter += 1
            following = children[following]
        elif following >= 0:
            following = siblings[following]
        else:
            right[path[depth]] = counter
            counter += 1
            following = siblings[path[depth]]
            depth -= 1
    return counter


@kernel
def cut_cycle(start: int, parents: Any, stamp: Any, child_count: Any) -> int:
    """The earliest span of the cycle that `start` leads up to; its link to its parent is cut. `stamp` begins all zero."""
    at = start
    while stamp[at] != start + 1:
        stamp[at] = start + 1
        at = parents[at]
    earliest = at
    around = parents[at]
    while around != at:
        earliest = min(earliest, around)
        around = parents[around]
    child_count[parents[earliest]] -= 1
    parents[earliest] = -1
    return earliest


@kernel
def number_trace(spans: Any, rows: Any, following: Any, parents: Any, left: Any, right: Any, child_count: Any) -> None:
    """Number all trees of one trace. `parents` holds local indexes; rows with following == -2 are dropped and keep left 0."""
    count = len(rows)
    children = np.full(count, -1, np.int32)
    siblings = np.full(count, -1, np.int32)
    path = np.empty(count + 1, np.int32)
    for i in range(count - 1, -1, -1):
        if following[i] != -2 and parents[i] >= 0:
            siblings[i] = children[parents[i]]
            children[parents[i]] = i
            child_count[parents[i]] += 1
    counter = 1
    for orphans in (False, True):
        for i in range(count):
            if following[i] != -2 and parents[i] < 0 and (spans[rows[i]].parent_id != 0) == orphans:
                counter = number_tree(i, children, siblings, left, right, path, counter)
    stamp = np.zeros(0 if counter > 2 * count else count, np.int32)
    for i in range(count):
        if following[i] != -2 and left[i] == 0:
            top = cut_cycle(i, parents, stamp, child_count)
            counter = number_tree(top, children, siblings, left, right, path, counter)


@kernel
def arrange_traces(spans: Any, scopes: Any, order: Any, begins: Any, out: Any, traces: Any) -> int:
    """Arrange every trace. order/begins: rows grouped by trace. Writes `out` (int64[6, rows]: row, left, right, parent, children, scope
    index; resource index follows from scopes) and `traces` (int64[4, traces]: first output row, start, end, root). Returns rows kept."""
    done = 0
    for trace in range(len(begins) - 1):
        rows = order[begins[trace] : begins[trace + 1]]
        count = len(rows)
        size = 4
        while size < 2 * count:
            size *= 2
        slots = np.full(size, -1, np.int32)
        following = np.empty(count, np.int32)
        kept = link_ids(spans, rows, slots, following)
        parents = np.empty(count, np.int32)
        left = np.zeros(count, np.int32)
        right = np.zeros(count, np.int32)
        child_count = np.zeros(count, np.int32)
        for i in range(count):
            parents[i] = find_parent(spans, rows, slots, following, i)
        number_trace(spans, rows, following, parents, left, right, child_count)
        by_left = np.full(2 * kept + 1, -1, np.int32)
        for i in range(count):
            if left[i] > 0:
                by_left[left[i]] = i
        traces[0, trace] = done
        place = done
        for number in range(1, 2 * kept + 1):
            i = by_left[number]
            if i < 0:
                continue
            out[0, place], out[1, place], out[2, place], out[4, place] = rows[i], left[i], right[i], child_count[i]
            has_parent_id = spans[rows[i]].parent_id != 0
            out[3, place] = left[parents[i]] if parents[i] >= 0 else TOP_PARENT if has_parent_id else ROOT_PARENT
            place += 1
        describe_trace(spans, out, done, place, traces, trace)
        number_scopes(spans, scopes, out, done, place)
        done = place
    return done


@kernel
def describe_trace(spans: Any, out: Any, begin: int, end: int, traces: Any, trace: int) -> None:
    """Start, end and root (of the real roots, the one that starts first; the first in order among equals) of one trace."""
    start = spans[out[0, begin]].start_ns
    stop = start
    root = -1
    for place in range(begin, end):
        span = spans[out[0, place]]
        start = min(start, span.start_ns)
        stop = max(stop, span.start_ns, span.start_ns + span.duration_ns)
        if out[3, place] == ROOT_PARENT and (root < 0 or span.start_ns < spans[out[0, root]].start_ns):
            root = place
    traces[1, trace], traces[2, trace], traces[3, trace] = start, stop, root


@kernel
def number_scopes(spans: Any, scopes: Any, out: Any, begin: int, end: int) -> None:
    """Ordinals of scopes and of resources within one trace, in the order of their indexes (which is the order of arrival)."""
    own = np.empty(end - begin, np.int64)
    for place in range(begin, end):
        own[place - begin] = spans[out[0, place]].scope
    distinct = np.sort(own)
    scope_count = 0
    resource_ordinals = np.empty(len(own), np.int64)
    for i in range(len(distinct)):
        if i > 0 and distinct[i] == distinct[i - 1]:
            continue
        new_resource = scope_count == 0 or scopes[distinct[i]].resource != scopes[distinct[scope_count - 1]].resource
        resource_ordinals[scope_count] = 0 if scope_count == 0 else resource_ordinals[scope_count - 1] + (1 if new_resource else 0)
        distinct[scope_count] = distinct[i]
        scope_count += 1
    for place in range(begin, end):
        ordinal = np.searchsorted(distinct[:scope_count], own[place - begin])
        out[5, place] = ordinal
        out[6, place] = resource_ordinals[ordinal]


def arrange(spans: Records, scopes: Records) -> Arrangement:
    """Arrange rows (SPAN records in arrival order, with their SCOPE table)."""
    groups = np.empty(len(spans), np.int32)
    firsts, count = group_traces(spans, groups)
    sorted_groups = np.lexsort((spans["trace_lo"][firsts], spans["trace_hi"][firsts]))
    rank = np.empty(count, np.int64)
    rank[sorted_groups] = np.arange(count)
    order, begins = rows_by_rank(groups, rank)
    out = np.empty((7, len(spans)), np.int64)
    traces = np.empty((4, count), np.int64)
    kept = arrange_traces(spans, scopes, order, begins, out, traces)
    left, right, parent, children, scope, resource = out[1:, :kept].astype(np.int32)
    return Arrangement(
        rows=out[0, :kept].copy(),
        nested_left=left,
        nested_right=right,
        nested_parent=parent,
        child_count=children,
        resource_index=resource,
        scope_index=scope,
        trace_first=np.append(traces[0], kept),
        trace_start_ns=traces[1],
        trace_duration_ns=traces[2] - traces[1],
        trace_root=traces[3],
    )

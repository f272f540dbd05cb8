"""Trace order against a naive arrangement that follows the rules of the module, one by one, with lists and dicts."""

from __future__ import annotations

from dataclasses import dataclass, fields
from random import Random
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spanlake.blocks.memory.arrange import Arrangement, arrange
from spanlake.model.spans import (
    KIND_CLIENT,
    KIND_CONSUMER,
    KIND_INTERNAL,
    KIND_PRODUCER,
    KIND_SERVER,
    KIND_UNSPECIFIED,
    SCOPE,
    SPAN,
    Records,
)

CLIENT, SERVER = KIND_CLIENT, KIND_SERVER


@dataclass(frozen=True)
class Given:
    """A span as the oracle sees it; `trace` is both halves of the trace id."""

    span: int
    parent: int = 0
    kind: int = KIND_INTERNAL
    start: int = 0
    duration: int = 1
    scope: int = 0
    trace: tuple[int, int] = (0, 1)


def records(rows: list[Given]) -> Records:
    made = np.zeros(len(rows), SPAN)
    for name, column in (("span_id", "span"), ("parent_id", "parent"), ("kind", "kind"), ("start_ns", "start"), ("scope", "scope")):
        made[name] = [getattr(row, column) for row in rows]
    made["duration_ns"] = [row.duration for row in rows]
    made["trace_hi"], made["trace_lo"] = [row.trace[0] for row in rows], [row.trace[1] for row in rows]
    return made


def scopes_of(resources: list[int]) -> Records:
    made = np.zeros(len(resources), SCOPE)
    made["resource"] = resources
    return made


def known(kind: int) -> int:
    return kind if 0 <= kind <= KIND_CONSUMER else 6


class NaiveTrace:
    """One trace, arranged by the rules."""

    def __init__(self, rows: list[Given], kept: list[int]) -> None:
        self.rows, self.kept = rows, kept
        self.parent: dict[int, int | None] = {row: self._parent(row) for row in kept}
        self.left: dict[int, int] = {}
        self.right: dict[int, int] = {}
        self._counter = 0
        tops = [row for row in kept if self.parent[row] is None]
        for top in sorted(tops, key=lambda row: rows[row].parent != 0):  # stable: roots first
            self._number(top)
        for row in kept:
            if row not in self.left:
                top = self._earliest_of_cycle(row)
                self.parent[top] = None
                self._number(top)

    def _parent(self, row: int) -> int | None:
        span = self.rows[row]
        candidates = [other for other in self.kept if other != row and span.parent and self.rows[other].span == span.parent]
        half = KIND_CLIENT if span.kind == KIND_SERVER else KIND_SERVER
        return next((other for other in candidates if self.rows[other].kind == half), candidates[0] if candidates else None)

    def children(self, row: int) -> list[int]:
        return [child for child in self.kept if self.parent[child] == row]

    def _number(self, top: int) -> None:
        self._counter += 1
        self.left[top] = self._counter
        for child in self.children(top):
            self._number(child)
        self._counter += 1
        self.right[top] = self._counter

    def _earliest_of_cycle(self, row: int) -> int:
        path: list[int] = []
        while row not in path:
            path.append(row)
            above = self.parent[row]
            assert above is not None
            row = above
        return min(path[path.index(row) :])


def naive(rows: list[Given], resources: list[int]) -> dict[str, list[Any]]:
    """The fields of the Arrangement."""
    made: dict[str, list[Any]] = {field.name: [] for field in fields(Arrangement)}
    for trace in sorted({row.trace for row in rows}):
        seen: dict[tuple[int, int], int] = {}
        for i, span in enumerate(rows):
            if span.trace == trace:
                seen.setdefault((span.span, known(span.kind)), i)
        kept = list(seen.values())
        tree = NaiveTrace(rows, kept)
        scopes = sorted({rows[row].scope for row in kept})
        changes = [i > 0 and resources[scope] != resources[scopes[i - 1]] for i, scope in enumerate(scopes)]
        first = len(made["rows"])
        made["trace_first"].append(first)
        in_order = sorted(kept, key=tree.left.__getitem__)
        for row in in_order:
            above = tree.parent[row]
            made["rows"].append(row)
            made["nested_left"].append(tree.left[row])
            made["nested_right"].append(tree.right[row])
            made["nested_parent"].append(tree.left[above] if above is not None else -1 if rows[row].parent == 0 else 0)
            made["child_count"].append(len(tree.children(row)))
            made["scope_index"].append(scopes.index(rows[row].scope))
            made["resource_index"].append(sum(changes[: scopes.index(rows[row].scope) + 1]))
        start = min(rows[row].start for row in kept)
        stop = max(max(rows[row].start, rows[row].start + rows[row].duration) for row in kept)
        made["trace_start_ns"].append(start)
        made["trace_duration_ns"].append(stop - start)
        roots = [first + place for place, row in enumerate(in_order) if rows[row].parent == 0]
        made["trace_root"].append(min(roots, key=lambda place: rows[made["rows"][place]].start, default=-1))
    made["trace_first"].append(len(made["rows"]))
    return made


def plain(arrangement: Arrangement) -> dict[str, list[Any]]:
    return {field.name: getattr(arrangement, field.name).tolist() for field in fields(Arrangement)}


def check_laws(arranged: Arrangement, spans: Records) -> None:
    """What holds for any input."""
    assert len(np.unique(arranged.rows)) == len(arranged)
    trace_ids = np.stack([spans["trace_hi"][arranged.rows], spans["trace_lo"][arranged.rows]])
    for begin, end in zip(arranged.trace_first[:-1], arranged.trace_first[1:], strict=True):
        assert begin < end
        assert np.all(trace_ids[:, begin:end] == trace_ids[:, begin : begin + 1]), "a trace is one run"
        left, right, parent = (column[begin:end] for column in (arranged.nested_left, arranged.nested_right, arranged.nested_parent))
        assert np.array_equal(np.sort(np.concatenate([left, right])), np.arange(1, 2 * (end - begin) + 1)), "every number once"
        assert np.all(np.diff(left) > 0)
        assert np.all(left < right)
        below = parent > 0
        above = np.searchsorted(left, parent[below])
        assert np.all(left[above] == parent[below])
        assert np.all((left[above] < left[below]) & (right[below] < right[above])), "children are inside their parents"
        counts = np.bincount(above, minlength=int(end - begin))
        assert np.array_equal(arranged.child_count[begin:end], counts)


given_spans = st.builds(
    Given,
    span=st.integers(1, 8),
    parent=st.integers(0, 8),
    kind=st.integers(-1, 7),
    start=st.integers(-3, 3),
    duration=st.integers(-3, 3),
    scope=st.integers(0, 4),
    trace=st.sampled_from([(0, 1), (0, 1), (0, 2), (1, 0), ((1 << 64) - 1, 5)]),
)


@settings(max_examples=300, deadline=None)
@given(st.lists(given_spans, min_size=1, max_size=24), st.lists(st.integers(0, 2), min_size=5, max_size=5))
def test_arrangement_follows_the_rules_when_given_any_spans(rows: list[Given], resources: list[int]) -> None:
    spans = records(rows)
    arranged = arrange(spans, scopes_of(resources))
    assert plain(arranged) == naive(rows, resources)
    check_laws(arranged, spans)


@settings(max_examples=100, deadline=None)
@given(st.lists(given_spans, min_size=1, max_size=24), st.randoms(use_true_random=False))
def test_traces_do_not_depend_on_each_other_when_rows_are_interleaved(rows: list[Given], random: Random) -> None:
    """Any interleaving that keeps the order within each trace gives the same traces."""
    queues = {trace: [row for row in rows if row.trace == trace] for trace in {row.trace for row in rows}}
    mixed = [queues[row.trace].pop(0) for row in random.sample(rows, len(rows))]
    one, other = (arrange(records(order), scopes_of([0] * 5)) for order in (rows, mixed))
    assert [rows[row] for row in one.rows] == [mixed[row] for row in other.rows]
    assert plain(one) | {"rows": []} == plain(other) | {"rows": []}


def arranged_columns(rows: list[Given]) -> list[tuple[int, int, int, int]]:
    """(row, left, right, parent) in output order."""
    made = arrange(records(rows), scopes_of([0]))
    return list(zip(made.rows.tolist(), made.nested_left.tolist(), made.nested_right.tolist(), made.nested_parent.tolist(), strict=True))


TREES = {
    "one span": ([Given(1)], [(0, 1, 2, -1)]),
    "child first": ([Given(2, 1), Given(1)], [(1, 1, 4, -1), (0, 2, 3, 1)]),
    "orphan": ([Given(2, 9), Given(1)], [(1, 1, 2, -1), (0, 3, 4, 0)]),
    "two roots": ([Given(5), Given(1), Given(2, 1)], [(0, 1, 2, -1), (1, 3, 6, -1), (2, 4, 5, 3)]),
    "self-parent": ([Given(1, 1)], [(0, 1, 2, 0)]),
    "duplicate": ([Given(1), Given(1, 7), Given(1, kind=CLIENT)], [(0, 1, 2, -1), (2, 3, 4, -1)]),
    "unknown kinds are one": ([Given(1, kind=9), Given(1, kind=-4)], [(0, 1, 2, -1)]),
    "cycle of two": ([Given(1, 2), Given(2, 1)], [(0, 1, 4, 0), (1, 2, 3, 1)]),
    "cycle with a tail": ([Given(9, 2), Given(2, 3), Given(3, 2), Given(8, 9)], [(1, 1, 8, 0), (0, 2, 5, 1), (3, 3, 4, 2), (2, 6, 7, 1)]),
    "server half below its client half": (
        [Given(1, kind=CLIENT), Given(1, 1, kind=SERVER), Given(2, 1)],
        [(0, 1, 6, -1), (1, 2, 5, 1), (2, 3, 4, 2)],
    ),
    "server goes below the client half": (
        [Given(1, kind=SERVER), Given(1, kind=CLIENT), Given(2, 1, kind=SERVER), Given(3, 1, kind=CLIENT)],
        [(0, 1, 4, -1), (3, 2, 3, 1), (1, 5, 8, -1), (2, 6, 7, 5)],
    ),
    "first of twins without the wanted half": (
        [Given(1, kind=KIND_PRODUCER), Given(1, kind=KIND_CONSUMER), Given(2, 1, kind=SERVER)],
        [(0, 1, 4, -1), (2, 2, 3, 1), (1, 5, 6, -1)],
    ),
}


@pytest.mark.parametrize("name", TREES)
def test_tree_is_numbered_when_it_has_a_shape(name: str) -> None:
    rows, expected = TREES[name]
    assert arranged_columns(rows) == expected


def test_kinds_share_an_id_when_there_are_all_of_them() -> None:
    kinds = [KIND_UNSPECIFIED, KIND_INTERNAL, SERVER, CLIENT, KIND_PRODUCER, KIND_CONSUMER, 77, -1]
    rows = [Given(1, kind=kind) for kind in kinds] * 3 + [Given(2, 1, kind=kind) for kind in kinds] * 3
    arranged = arrange(records(rows), scopes_of([0]))
    assert len(arranged) == 14
    assert plain(arranged) == naive(rows, [0])


def test_order_is_that_of_the_ids_when_they_are_large() -> None:
    rows = [Given(1, trace=trace) for trace in [((1 << 64) - 1, 0), (1 << 63, 5), (3, (1 << 64) - 1), (3, 1 << 63), (3, 2)]]
    assert arrange(records(rows), scopes_of([0])).rows.tolist() == [4, 3, 2, 1, 0]


def test_nothing_is_arranged_when_there_are_no_rows() -> None:
    arranged = arrange(np.zeros(0, SPAN), np.zeros(0, SCOPE))
    assert plain(arranged) == {field.name: [0] if field.name == "trace_first" else [] for field in fields(Arrangement)}


def test_rows_may_be_a_view() -> None:
    spans = records([Given(span, trace=(0, span % 3)) for span in range(1, 30)])
    assert plain(arrange(spans[::2], scopes_of([0]))) == plain(arrange(spans[::2].copy(), scopes_of([0])))


def large(parents: Any) -> Records:
    """One trace of many spans with ids 1, 2, …, one per parent."""
    spans = np.zeros(len(parents), SPAN)
    spans["trace_lo"], spans["span_id"], spans["parent_id"] = 1, np.arange(1, len(parents) + 1), parents
    return spans


COUNT = 200_000
LARGE = {
    "chain": large(np.arange(COUNT)),
    "chain, leaves first": large(np.arange(COUNT))[::-1],
    "wide": large(np.r_[0, np.ones(COUNT - 1, np.int64)]),
    "roots": large(np.zeros(COUNT, np.int64)),
    "orphans of one parent": large(np.full(COUNT, 1 << 60)),
    "self-parents": large(np.arange(1, COUNT + 1)),
    "one cycle": large(np.r_[COUNT, np.arange(1, COUNT)]),
    "cycles of two": large((np.arange(COUNT) ^ 1) + 1),
    "a chain that ends in a cycle": large(np.r_[np.arange(2, COUNT + 1), COUNT - 1]),
}
"""In each, a step that is not linear takes minutes."""


@pytest.mark.parametrize("name", LARGE)
def test_arrangement_is_linear_when_a_trace_is_large(name: str) -> None:
    arranged = arrange(LARGE[name], scopes_of([0]))
    assert len(arranged) == COUNT
    check_laws(arranged, LARGE[name])


@pytest.mark.parametrize("stride", [1, 1 << 20, 1 << 40, 1 << 44])
def test_arrangement_is_linear_when_ids_differ_in_few_bits(stride: int) -> None:
    """Ids that a hash by a known constant, or by some of the bits, would put into one place."""
    spans = large(np.arange(COUNT))
    for name in ("span_id", "parent_id"):
        spans[name] = spans[name] * np.uint64(stride)
    assert len(arrange(spans, scopes_of([0]))) == COUNT
    spans["trace_hi"] = spans["span_id"]
    assert len(arrange(spans, scopes_of([0])).trace_root) == COUNT


def test_duplicates_are_dropped_when_everything_is_pushed_twice() -> None:
    spans = LARGE["wide"]
    once, twice = arrange(spans, scopes_of([0])), arrange(np.concatenate([spans, spans, spans]), scopes_of([0]))
    assert np.array_equal(once.rows, twice.rows)
    assert np.array_equal(once.nested_right, twice.nested_right)

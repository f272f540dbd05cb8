"""The spans of a trace as a forest, with what is odd about it said rather than hidden: several roots, missing parents, cycles.

Siblings are in order of their start. Nothing here recurses: a trace can be one chain of 200,000 spans.
"""

from __future__ import annotations

from collections.abc import Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass

from spanlake.app.trace_view.read import TraceSpan


@dataclass(frozen=True, slots=True)
class Group:
    """Spans that top trees. `heading` is empty for roots; else it says why these spans have no parent here."""

    heading: str
    tops: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class TraceTree:
    """Spans by index. Each is a top of one group or a child of one span."""

    spans: Sequence[TraceSpan]
    groups: tuple[Group, ...]
    children: Sequence[Sequence[int]]

    @property
    def roots(self) -> tuple[int, ...]:
        return next((group.tops for group in self.groups if not group.heading), ())

    @property
    def orphans(self) -> int:
        """Spans that name a parent and yet top a tree."""
        return sum(len(group.tops) for group in self.groups if group.heading)


def build_tree(spans: Sequence[TraceSpan]) -> TraceTree:
    """The forest of all spans. Of several spans with one id, the first has the children."""
    by_start = sorted(range(len(spans)), key=lambda index: (spans[index].start_ns, index))
    parents = _parents(spans)
    for top in _cycle_tops(parents, by_start):
        parents[top] = None
    children: list[list[int]] = [[] for _ in spans]
    ids = {span.span_id for span in spans}
    tops: dict[str, list[int]] = {"": []}
    for index in by_start:
        parent = parents[index]
        if parent is not None:
            children[parent].append(index)
        else:
            tops.setdefault(_heading(spans[index].parent_id, ids), []).append(index)
    return TraceTree(spans, tuple(Group(heading, tuple(found)) for heading, found in tops.items() if found), children)


def _parents(spans: Sequence[TraceSpan]) -> list[int | None]:
    """The index of each span's parent, which may be in a cycle with it; None for roots, missing parents and spans that name themselves."""
    first: dict[bytes, int] = {}
    second: dict[bytes, int] = {}
    for index, span in enumerate(spans):
        (second if span.span_id in first else first).setdefault(span.span_id, index)
    found = (first.get(span.parent_id) if span.parent_id else None for span in spans)
    return [second.get(spans[index].span_id) if parent == index else parent for index, parent in enumerate(found)]


def _cycle_tops(parents: Sequence[int | None], by_start: Sequence[int]) -> list[int]:
    """The span of each cycle that starts first."""
    rank = {index: place for place, index in enumerate(by_start)}
    walks: list[int] = [0] * len(parents)  # the walk that came by first; 0: none
    tops = []
    for walk, begin in enumerate(by_start, 1):
        path = []
        at: int | None = begin
        while at is not None and not walks[at]:
            walks[at] = walk
            path.append(at)
            at = parents[at]
        if at is not None and walks[at] == walk:
            tops.append(min(path[path.index(at) :], key=rank.__getitem__))
    return tops


def _heading(parent_id: bytes, ids: AbstractSet[bytes]) -> str:
    """What to say about spans with this parent id that have no parent in the forest; nothing about roots."""
    if not parent_id:
        return ""
    if parent_id in ids:
        return "a cycle: these parents lead back to themselves"
    return f"parent {parent_id.hex()} is not in this trace"


def choose_shown(tree: TraceTree, limit: int) -> set[int]:
    """At most `limit` spans (0: all), level by level, so that what is left out are the deepest and latest ones."""
    level = [top for group in tree.groups for top in group.tops]
    shown: set[int] = set()
    while level:
        for index in level:
            if limit and len(shown) == limit:
                return shown
            shown.add(index)
        level = [child for index in level for child in tree.children[index]]
    return shown

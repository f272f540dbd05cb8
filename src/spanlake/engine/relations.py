"""Structural operators as array arithmetic over nested sets.

Rows of a trace stand in the order of `left`, and the intervals (left, right) of two spans are either disjoint or one inside the other. So
with `right` of the spans that matter, shifted per set so that sets do not overlap:

- a span has an ancestor in L if the greatest `right` of the L before it is beyond its own `right`: a running maximum;
- it has a descendant in L if the next L after it begins before its own `right`: a running minimum from behind;
- parents are found by bisection, children by marking parents, siblings by counting per parent.

Everything is linear in the number of spans, or n log n, however deep or wide a trace is. All arrays are parallel to the members of the
spansets; a span is never related to itself, nor to a span of another set.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, assert_never

import numpy as np
from numpy.typing import NDArray

from spanlake.engine.frame import Frame
from spanlake.engine.spansets import Spansets, is_all
from spanlake.engine.values.parts import Mask, Rows
from spanlake.model.scan import Ids
from spanlake.traceql.ast import Relation, RelationMode
from spanlake.traceql.plan.fields import PARENT_ID
from spanlake.traceql.plan.nodes import Column

_INVERSE = {
    Relation.CHILD: Relation.PARENT,
    Relation.PARENT: Relation.CHILD,
    Relation.DESCENDANT: Relation.ANCESTOR,
    Relation.ANCESTOR: Relation.DESCENDANT,
    Relation.SIBLING: Relation.SIBLING,
}
_SHIFT = 32  # nested-set numbers have fewer bits


@dataclass(slots=True)
class Members:
    """The members of spansets and where they stand in their trees. What a relation does not need is not computed."""

    frame: Frame
    spansets: Spansets
    whole: bool = field(init=False)  # all spans of the batch, in order
    _cache: dict[str, NDArray[np.int64]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.whole = is_all(self.spansets, self.frame.rows)

    def __len__(self) -> int:
        return len(self.spansets.rows)

    def _kept(self, name: str, compute: Callable[[], NDArray[np.int64]]) -> NDArray[np.int64]:
        if name not in self._cache:
            self._cache[name] = compute()
        return self._cache[name]

    def of_members(self, column: NDArray[Any]) -> NDArray[Any]:
        """A column over all spans for the members."""
        return column if self.whole else column[self.spansets.rows]

    def sets(self) -> Rows:
        """Per member its set."""
        return self._kept("sets", self.spansets.set_of_member)

    def number(self, name: str) -> NDArray[np.int64]:
        """A nested-set number, shifted so that those of later sets are greater."""
        return self._kept(name, lambda: self.of_members(self.frame.integers(name)) + (self.sets() << _SHIFT))

    def parents(self) -> Rows:
        """Per member the place of its parent among the members of the same set, -1 if it is not there."""
        return self._kept("parents", self._find_parents)

    def _find_parents(self) -> Rows:
        parent = self.of_members(self.frame.parent_row())
        if self.whole and len(self.spansets) == len(self.frame.batch.trace_high):
            return parent
        place = np.full(self.frame.rows + 1, -1)
        place[self.spansets.rows] = np.arange(len(self))
        found = place[parent]  # row -1 is the extra entry
        sets = self.sets()
        return np.where((found >= 0) & (sets[found] == sets), found, -1)

    def families(self, places: Rows) -> Rows:
        """For some members a number that siblings of one set share.

        Children of one parent are siblings, true roots are, and tops that name the same absent parent.
        """
        parent = self.of_members(self.frame.parent_row())[places]
        tops = np.flatnonzero(parent < 0)
        is_root = self.of_members(self.frame.integers("nested_parent"))[places[tops]] < 0
        kind, named = parent.copy(), np.zeros(len(parent), np.int64)
        kind[tops] = np.where(is_root, -1, -2)
        named[tops] = np.where(is_root, 0, self._parent_ids(places[tops]))
        keys = (named, kind, self.sets()[places])
        order = np.lexsort(keys)
        new = np.zeros(len(order), np.bool_)
        for key in keys:
            new[1:] |= np.diff(key[order]) != 0
        families = np.empty(len(order), np.int64)
        families[order] = np.cumsum(new)
        return families

    def _parent_ids(self, places: Rows) -> NDArray[np.int64]:
        ids = np.zeros(self.frame.rows, np.int64)
        for part in self.frame.column(Column(PARENT_ID)).parts:
            if isinstance(part, Ids):
                ids = np.where(part.valid, part.low, 0).astype(np.int64)
        return self.of_members(ids)[places]


def related_members(members: Members, relation: Relation, mode: RelationMode, sides: tuple[Mask, Mask]) -> Mask:
    """The members that the operator finds, given those of its left and right side."""
    left, right = sides
    match mode:
        case RelationMode.RIGHT:
            return right & has_relative(members, relation, left, right)
        case RelationMode.NEGATED:
            return right & ~has_relative(members, relation, left, right)
        case RelationMode.UNION:
            found = right & has_relative(members, relation, left, right)
            return found | (left & has_relative(members, _INVERSE[relation], right, left))
        case _:
            assert_never(mode)


def has_relative(members: Members, relation: Relation, left: Mask, asked: Mask) -> Mask:
    """The members that are a child, parent, descendant, … of one in `left`; right where `asked`, anything elsewhere."""
    if not left.any():
        return np.zeros(len(members), np.bool_)
    match relation:
        case Relation.CHILD:
            parents = members.parents()
            return (parents >= 0) & left[parents]
        case Relation.PARENT:
            found = np.zeros(len(members) + 1, np.bool_)
            found[members.parents()[left]] = True  # place -1 is the extra entry
            return found[:-1]
        case Relation.DESCENDANT:
            return _has_ancestor(members, left)
        case Relation.ANCESTOR:
            return _has_descendant(members, left)
        case Relation.SIBLING:
            return _has_sibling(members, left, asked)
        case _:
            assert_never(relation)


def _has_sibling(members: Members, left: Mask, asked: Mask) -> Mask:
    places = np.flatnonzero(left | asked)
    families = members.families(places)
    of_left = left[places]
    others = np.bincount(families[of_left], minlength=len(places))[families] - of_left
    result = np.zeros(len(left), np.bool_)
    result[places] = others > 0
    return result


def _has_ancestor(members: Members, left: Mask) -> Mask:
    right = members.number("nested_right")
    reach = np.zeros(len(right), np.int64)
    reach[1:] = np.maximum.accumulate(np.where(left, right, 0))[:-1]
    return reach > right


def _has_descendant(members: Members, left: Mask) -> Mask:
    begin = members.number("nested_left")
    following = np.full(len(begin), np.iinfo(np.int64).max)
    following[:-1] = np.minimum.accumulate(np.where(left, begin, np.iinfo(np.int64).max)[::-1])[::-1][1:]
    return following < members.number("nested_right")

"""Structural operators as array arithmetic over nested sets.

Rows of a trace stand in the order of `left`, and the intervals (left, right) of two spans are either disjoint or one inside the other. So
with numbers shifted per set, so that sets do not overlap:

- a span has an ancestor in L if the greatest `right` of the L before it is beyond its own `right`: a running maximum;
- it has a descendant in L if the next L after it begins before its own `right`: a running minimum from behind;
- parents are found by bisection, children by marking parents, siblings by counting per parent.

Whether two spans are related depends on their own numbers only, so only the spans of the two sides are looked at. Everything is linear
in their number, or n log n, however deep or wide a trace is. A span is never related to itself, nor to a span of another set.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import assert_never

import numpy as np
from numpy.typing import NDArray

from spanlake.engine.frame import Frame
from spanlake.engine.spansets import Spansets
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
_SPARSE = 8  # of so many members one is looked at, or fewer: then bisection is cheaper than writing all sets down


def related_members(frame: Frame, spansets: Spansets, operator: tuple[Relation, RelationMode], sides: tuple[Mask, Mask]) -> Mask:
    """The members that the operator finds, given those of its left and right side; masks are parallel to the members."""
    left, right = sides
    places = np.flatnonzero(left | right)
    spans = Spans(frame, spansets.rows[places], _sets_of(spansets, places))
    result = np.zeros(len(left), np.bool_)
    result[places] = _related(spans, operator, left[places], right[places])
    return result


def _sets_of(spansets: Spansets, places: Rows) -> Rows:
    if len(places) * _SPARSE > len(spansets.rows):
        return spansets.set_of_member()[places]
    return np.searchsorted(spansets.first, places, "right") - 1


@dataclass(frozen=True, slots=True)
class Spans:
    """Some spans, by set and in row order within; every mask and result below is parallel to them."""

    frame: Frame
    rows: Rows
    sets: Rows

    def __len__(self) -> int:
        return len(self.rows)

    def number(self, name: str) -> NDArray[np.int64]:
        """A nested-set number as it is."""
        return self.frame.integers(name)[self.rows]

    def shifted(self, name: str) -> NDArray[np.int64]:
        """A nested-set number, those of later sets greater."""
        return self.number(name) + (self.sets << _SHIFT)

    def parents(self) -> Rows:
        """The index of the parent, -1 where it is not among these spans of the set."""
        begin, wanted = self.shifted("nested_left"), self.shifted("nested_parent")
        found = np.minimum(np.searchsorted(begin, wanted), max(len(begin) - 1, 0))
        return np.where((begin[found] == wanted) & (self.number("nested_parent") > 0), found, -1)


def _related(spans: Spans, operator: tuple[Relation, RelationMode], left: Mask, right: Mask) -> Mask:
    relation, mode = operator
    match mode:
        case RelationMode.RIGHT:
            return right & has_relative(spans, relation, left)
        case RelationMode.NEGATED:
            return right & ~has_relative(spans, relation, left)
        case RelationMode.UNION:
            return (right & has_relative(spans, relation, left)) | (left & has_relative(spans, _INVERSE[relation], right))
        case _:
            assert_never(mode)


def has_relative(spans: Spans, relation: Relation, left: Mask) -> Mask:
    """Which spans are a child, parent, descendant, … of one in `left`."""
    if not left.any():
        return np.zeros(len(spans), np.bool_)
    match relation:
        case Relation.CHILD:
            parents = spans.parents()
            return (parents >= 0) & left[parents]
        case Relation.PARENT:
            found = np.zeros(len(spans) + 1, np.bool_)
            found[spans.parents()[left]] = True  # -1 is the extra entry
            return found[:-1]
        case Relation.DESCENDANT:
            return _has_ancestor(spans, left)
        case Relation.ANCESTOR:
            return _has_descendant(spans, left)
        case Relation.SIBLING:
            return _has_sibling(spans, left)
        case _:
            assert_never(relation)


def _has_ancestor(spans: Spans, left: Mask) -> Mask:
    right = spans.shifted("nested_right")
    reach = np.zeros(len(right), np.int64)
    reach[1:] = np.maximum.accumulate(np.where(left, right, 0))[:-1]
    return reach > right


def _has_descendant(spans: Spans, left: Mask) -> Mask:
    begin = spans.shifted("nested_left")
    following = np.full(len(begin), np.iinfo(np.int64).max)
    following[:-1] = np.minimum.accumulate(np.where(left, begin, np.iinfo(np.int64).max)[::-1])[::-1][1:]
    return following < spans.shifted("nested_right")


def _has_sibling(spans: Spans, left: Mask) -> Mask:
    families = _families(spans)
    return np.bincount(families[left], minlength=len(spans))[families] - left > 0


def _families(spans: Spans) -> Rows:
    """A number that siblings share: children of one parent, true roots, and tops that name the same absent parent."""
    parent = spans.shifted("nested_parent")
    tops = np.flatnonzero(spans.number("nested_parent") == 0)
    named = np.zeros(len(spans), np.int64)
    named[tops] = _parent_ids(spans)[tops] if len(tops) else 0
    order = np.lexsort((named, parent))
    new = np.zeros(len(order), np.bool_)
    for key in (named, parent):
        new[1:] |= np.diff(key[order]) != 0
    families = np.empty(len(order), np.int64)
    families[order] = np.cumsum(new)
    return families


def _parent_ids(spans: Spans) -> NDArray[np.int64]:
    ids = np.zeros(len(spans), np.int64)
    for part in spans.frame.column(Column(PARENT_ID)).parts:
        if isinstance(part, Ids):
            ids = np.where(part.valid, part.low, 0).astype(np.int64)[spans.rows]
    return ids

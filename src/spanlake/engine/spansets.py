"""The state of a pipeline: spansets as arrays, and the stages that need no more than that.

A spanset is a non-empty set of spans of one trace. Sets are disjoint, so that a row belongs to at most one, and stand in the order of their
owners. Spans are listed set by set, in row order within each. Attributes are columns over sets.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from spanlake.engine.values.parts import Mask, Rows, offsets_of, take
from spanlake.model.scan import Values


@dataclass(frozen=True, slots=True)
class Annotation:
    """An attribute of spansets: one value, or none, per set."""

    key: str
    values: Values


@dataclass(frozen=True, slots=True)
class Spansets:
    """`owner`: what coalesce() brings together, the trace; inside a wrapped scalar the spanset that went in."""

    rows: Rows  # members, set by set
    first: Rows  # sets + 1, into rows
    owner: Rows  # per set, ascending
    annotations: tuple[Annotation, ...] = ()

    def __len__(self) -> int:
        return len(self.owner)

    def set_of_member(self) -> Rows:
        """Per member the index of its set."""
        return np.repeat(np.arange(len(self)), np.diff(self.first))


def all_spans(trace_first: Rows) -> Spansets:
    """One spanset per trace, of all its spans."""
    return Spansets(np.arange(trace_first[-1]), trace_first, np.arange(len(trace_first) - 1))


def is_all(spansets: Spansets, rows: int) -> bool:
    """Whether the members are all rows, in order: then no column has to be gathered."""
    return len(spansets.rows) == rows and bool((np.diff(spansets.rows) == 1).all())


def kept_members(spansets: Spansets, keep: Mask) -> Spansets:
    """The spansets with only the marked members; those without any are gone."""
    places = np.flatnonzero(keep)
    counts = np.diff(np.searchsorted(places, spansets.first))
    return _compacted(spansets, spansets.rows[places], counts)


def kept_sets(spansets: Spansets, keep: Mask) -> Spansets:
    """The marked spansets."""
    counts = np.where(keep, np.diff(spansets.first), 0)
    members = np.repeat(keep, np.diff(spansets.first))
    return _compacted(spansets, spansets.rows[members], counts)


def _compacted(spansets: Spansets, rows: Rows, counts: Rows) -> Spansets:
    left = np.flatnonzero(counts)
    annotations = tuple(Annotation(one.key, take(one.values, left)) for one in spansets.annotations)
    return Spansets(rows, offsets_of(counts[left]), spansets.owner[left], annotations)


def coalesced(spansets: Spansets) -> Spansets:
    """One spanset per owner, without attributes."""
    if not len(spansets):
        return Spansets(spansets.rows, spansets.first, spansets.owner)
    owner, counts = np.unique(np.repeat(spansets.owner, np.diff(spansets.first)), return_counts=True)
    order = np.lexsort((spansets.rows, np.repeat(spansets.owner, np.diff(spansets.first))))
    return Spansets(spansets.rows[order], offsets_of(counts), owner)


def annotated(spansets: Spansets, annotations: list[Annotation]) -> Spansets:
    """The same sets with more attributes; of two under one key the later stays, where the earlier was."""
    by_key = {one.key: one for one in (*spansets.annotations, *annotations)}
    return Spansets(spansets.rows, spansets.first, spansets.owner, tuple(by_key.values()))

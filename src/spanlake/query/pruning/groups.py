"""Which spans of a trace are similar enough to be shown as one.

Leaves are similar when name, kind, status, service, name of the parent and the attributes that were asked for agree; `spans_min` of them
make a group. A parent all of whose children are in groups may be merged with others like it, up to `parent_depth` generations above the
leaves. In the end, spans are merged only under one parent, or under parents that are merged themselves. Roots are never merged.
"""

from __future__ import annotations

import fnmatch
import re
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from spanlake.blocks.build.arrays import ranges
from spanlake.blocks.scan.memory import find_code
from spanlake.model.spans import STRING, SpanBatch
from spanlake.model.trace import ALL_GENERATIONS, Pruning

SIMILAR_PARENTS_MIN = 2
PARENT_DEPTH_MAX = 50
"""Generations of parents that are merged even when all may be; a trace of thousands would keep a thread busy for long."""
ROUNDS_MAX = 8
"""Each round gives up parents that cannot be merged; whoever needs more rounds gets leaves merged only."""

Rows = NDArray[np.int64]
Flags = NDArray[np.bool_]


def merged_into(batch: SpanBatch, how: Pruning) -> Rows:
    """Per row of one trace (its strings a pool) the row of its group that stands for it, the longest span; -1 for rows in no group."""
    parents = parents_by_id(batch)
    likeness = alike(*_own_columns(batch))
    leaves = alike(likeness, _of_parents(likeness, parents), _attributes_alike(batch, how.group_by))
    allowed = np.ones(len(batch), np.bool_)
    for _ in range(ROUNDS_MAX):
        levels = _levels(parents, likeness, leaves, allowed, how)
        into = _under_one_parent(batch, parents, levels, how.spans_min)
        left_over = _merged_parents_with_other_children(parents, into)
        if not left_over.any():
            return into
        allowed &= ~left_over
    return merged_into(batch, Pruning(how.group_by, how.spans_min, parent_depth=0))


ROOT = -1


def parents_by_id(batch: SpanBatch) -> Rows:
    """Per row the row of its parent, the first with that id. ROOT without a parent; a number below that for each one that is absent."""
    ids, parent_ids = batch.spans["span_id"], batch.spans["parent_id"]
    order = np.argsort(ids, kind="stable")
    places = np.minimum(np.searchsorted(ids, parent_ids, sorter=order), max(len(ids) - 1, 0))
    rows = order[places]
    absent = ROOT - 1 - np.unique(parent_ids, return_inverse=True)[1].reshape(-1)
    return np.where(parent_ids == 0, ROOT, np.where(ids[rows] == parent_ids, rows, absent))


def alike(*columns: NDArray[np.int64]) -> Rows:
    """Numbers rows so that those with the same values have the same number."""
    return np.unique(np.stack(columns, axis=1), axis=0, return_inverse=True)[1].reshape(-1)


@dataclass(frozen=True, slots=True)
class Level:
    """Candidates of one height above the leaves: rows, and the number of the group of each."""

    rows: Rows
    groups: Rows


def _levels(parents: Rows, likeness: Rows, leaves: Rows, allowed: Flags, how: Pruning) -> list[Level]:
    """Rows that could be merged if their parents were one, the leaves first. `allowed`: which parents may be merged."""
    has_parent, is_root = parents >= 0, parents == ROOT
    children = np.bincount(parents[has_parent], minlength=len(parents))
    grouped = np.zeros(len(parents), np.bool_)
    lowest = np.flatnonzero((children == 0) & ~is_root)
    levels = [_of_size(lowest, leaves[lowest], how.spans_min)]
    above = alike(likeness, _of_parents(likeness, parents))
    for _ in range(PARENT_DEPTH_MAX if how.parent_depth == ALL_GENERATIONS else min(how.parent_depth, PARENT_DEPTH_MAX)):
        grouped[levels[-1].rows] = True
        merged_children = np.bincount(parents[grouped & has_parent], minlength=len(parents))
        ready = np.flatnonzero((children > 0) & (merged_children == children) & ~grouped & ~is_root & allowed)
        level = _of_size(ready, above[ready], SIMILAR_PARENTS_MIN)
        if not len(level.rows):
            break
        levels.append(level)
    return levels


def _of_size(rows: Rows, groups: Rows, least: int) -> Level:
    """Those of the rows whose group (`groups`: of each of them) has at least so many."""
    enough = np.bincount(groups)[groups] >= least if len(rows) else np.zeros(0, np.bool_)
    return Level(rows[enough], groups[enough])


def _under_one_parent(batch: SpanBatch, parents: Rows, levels: list[Level], spans_min: int) -> Rows:
    """From the top down: groups are split by what their parents are merged into, and must be large enough still."""
    into = np.full(len(batch), -1, np.int64)
    durations = batch.spans["duration_ns"]
    for height in reversed(range(len(levels))):
        rows = levels[height].rows
        above = parents[rows]
        merged = into[np.maximum(above, 0)]
        target = np.where((above >= 0) & (merged >= 0), merged, above)
        level = _of_size(rows, alike(levels[height].groups, target), spans_min if height == 0 else SIMILAR_PARENTS_MIN)
        order = np.lexsort((level.rows, -durations[level.rows], level.groups))
        sorted_groups = level.groups[order]
        firsts = np.flatnonzero(np.diff(sorted_groups, prepend=-1))
        into[level.rows[order]] = np.repeat(level.rows[order][firsts], np.diff(np.append(firsts, len(order))))
    return into


def _merged_parents_with_other_children(parents: Rows, into: Rows) -> Flags:
    found = np.zeros(len(parents), np.bool_)
    alone = (into < 0) & (parents >= 0)
    found[parents[alone]] = True
    return found & (into >= 0)


def _of_parents(values: Rows, parents: Rows) -> Rows:
    return np.where(parents >= 0, values[np.maximum(parents, 0)], parents)


def _own_columns(batch: SpanBatch) -> list[Rows]:
    spans = batch.spans
    service = services(batch)[batch.scopes["resource"][spans["scope"]]] if len(spans) else np.zeros(0, np.int64)
    return [spans["name"].astype(np.int64), spans["kind"].astype(np.int64), spans["status_code"].astype(np.int64), service]


def services(batch: SpanBatch) -> Rows:
    """Per resource the string code of its `service.name`, -1 without one."""
    found = np.full(len(batch.resources), -1, np.int64)
    key = find_code(batch.strings, "service.name")
    owners = np.repeat(np.arange(len(batch.resources)), batch.resources["attr_count"])
    attrs = batch.attrs[ranges(batch.resources["attr_first"], batch.resources["attr_count"])]
    named = (attrs["key"] == key) & (attrs["type"] == STRING)
    found[owners[named]] = attrs["value"][named]
    return found


def _attributes_alike(batch: SpanBatch, patterns: tuple[str, ...]) -> Rows:
    """Numbers rows so that those with the same attributes, of those that a pattern fits, have the same number; 0 is none."""
    owners = np.repeat(np.arange(len(batch)), batch.spans["attr_count"])
    attrs = batch.attrs[ranges(batch.spans["attr_first"], batch.spans["attr_count"])]
    fits = re.compile("|".join(fnmatch.translate(pattern) for pattern in patterns) or r"(?!)").match
    keys = [key for key in np.unique(attrs["key"]).tolist() if fits(batch.strings.text_at(key))]
    chosen = np.isin(attrs["key"], keys)
    owners, attrs = owners[chosen], attrs[chosen]
    order = np.lexsort((attrs["key"], owners))
    owners, attrs = owners[order], attrs[order]
    firsts = np.flatnonzero(np.diff(owners, prepend=-1))
    numbers: dict[bytes, int] = {}
    found = np.zeros(len(batch), np.int64)
    # A loop over the spans of one trace that have such attributes.
    ends = np.append(firsts, len(owners))[1:]
    for owner, begin, end in zip(owners[firsts].tolist(), firsts.tolist(), ends.tolist(), strict=True):
        found[owner] = numbers.setdefault(attrs[begin:end].tobytes(), len(numbers) + 1)
    return found

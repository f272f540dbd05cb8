"""The series of an answer: in order, without absent points, with their exemplars."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from spanlake.engine.metrics.exemplars import Candidate
from spanlake.engine.metrics.grid import Grid
from spanlake.engine.metrics.labels import label_order
from spanlake.engine.metrics.tree import Mark, Table
from spanlake.model.metrics import Exemplar, Series

_NS_PER_MS = 1_000_000


def answer_series(table: Table, grid: Grid, *, series_max: int, exemplars_max: int) -> tuple[tuple[Series, ...], bool]:
    """By number of labels, then keys, then values; at most so many series, with at most so many exemplars in all; and whether some are
    missing."""
    has_points = ~np.isnan(table.values).all(axis=1) if len(table.labels) else np.zeros(0, np.bool_)
    ordered = sorted(np.flatnonzero(has_points).tolist(), key=lambda number: label_order(table.labels[number]))
    times_ms = grid.times_ms()
    shown = _shown(table, ordered[:series_max], exemplars_max)
    found = []
    for number in ordered[:series_max]:
        present = np.flatnonzero(~np.isnan(table.values[number]))
        found.append(Series(table.labels[number], times_ms[present], table.values[number][present], tuple(shown.get(number, ()))))
    return tuple(found), table.cut or len(ordered) > series_max


def _shown(table: Table, numbers: Sequence[int], exemplars_max: int) -> dict[int, list[Exemplar]]:
    """The exemplars of some series, in order of time: the first by rank, at points that are there, with values other than zero."""
    waiting = ((mark, number) for number in numbers for mark in table.marks[number])
    ordered = sorted(waiting, key=lambda pair: (pair[0].candidate.rank, pair[1]))
    chosen = [(mark.candidate, number, value) for mark, number in ordered if (value := _value(mark, table, number))][:exemplars_max]
    by_batch: dict[int, list[tuple[Candidate, int, float]]] = {}
    for one in chosen:
        by_batch.setdefault(id(one[0].shown), []).append(one)
    result: dict[int, list[Exemplar]] = {}
    for some in by_batch.values():
        labels = some[0][0].shown.labels(np.array([candidate.place for candidate, _, _ in some], np.int64))
        for (candidate, number, value), own in zip(some, labels, strict=True):
            result.setdefault(number, []).append(Exemplar(own, candidate.time_ns // _NS_PER_MS, value))
    for exemplars in result.values():
        exemplars.sort(key=lambda one: (one.time_ms, str(one.labels[0][1].value)))
    return result


def _value(mark: Mark, table: Table, number: int) -> float:
    """0.0 where the point is absent."""
    point = float(table.values[number][mark.candidate.point])
    if math.isnan(point):
        return 0.0
    return point if mark.value is None else mark.value

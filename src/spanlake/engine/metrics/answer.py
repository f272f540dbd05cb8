"""The series of an answer: in order, without absent points, with their exemplars."""

from __future__ import annotations

import math

import numpy as np

from spanlake.engine.metrics.grid import Grid
from spanlake.engine.metrics.labels import label_order
from spanlake.engine.metrics.tree import Mark, Table
from spanlake.model.metrics import Exemplar, Series

_NS_PER_MS = 1_000_000


def answer_series(table: Table, grid: Grid, *, exemplars_max: int) -> tuple[Series, ...]:
    """By number of labels, then keys, then values; with at most so many exemplars in all."""
    times_ms = grid.times_ms()
    shown = _shown(table, exemplars_max)
    found = []
    for number in sorted(range(len(table.labels)), key=lambda number: label_order(table.labels[number])):
        present = np.flatnonzero(~np.isnan(table.values[number]))
        if len(present):
            exemplars = tuple(one for one in shown.get(number, ()))
            found.append(Series(table.labels[number], times_ms[present], table.values[number][present], exemplars))
    return tuple(found)


def _shown(table: Table, exemplars_max: int) -> dict[int, list[Exemplar]]:
    """The exemplars by series, in order of time: those that come first in their order, at points that are there, with values but zero."""
    waiting = ((mark, number) for number, marks in enumerate(table.marks) for mark in marks)
    ordered = sorted(waiting, key=lambda pair: (pair[0].candidate.rank, pair[1]))
    result: dict[int, list[Exemplar]] = {}
    left = exemplars_max
    for mark, number in ordered:
        value = _value(mark, table, number)
        if left > 0 and value:
            left -= 1
            result.setdefault(number, []).append(Exemplar(mark.candidate.labels, mark.candidate.time_ns // _NS_PER_MS, value))
    for exemplars in result.values():
        exemplars.sort(key=lambda one: one.time_ms)
    return result


def _value(mark: Mark, table: Table, number: int) -> float:
    """0.0 where the point is absent."""
    point = float(table.values[number][mark.candidate.point])
    if math.isnan(point):
        return 0.0
    return point if mark.value is None else mark.value

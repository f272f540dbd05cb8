"""Series as a matrix, and what a query makes of them: topk, bottomk, comparisons, arithmetic."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import assert_never

import numpy as np
from numpy.typing import NDArray

from spanlake.engine.metrics.exemplars import Candidate
from spanlake.engine.metrics.labels import NAME
from spanlake.engine.values.numbers import compare_number
from spanlake.engine.values.parts import Rows
from spanlake.model.results import Attributes, ResultType, TypedValue
from spanlake.traceql.ast import Operator, Ranking
from spanlake.traceql.plan.metrics import nodes
from spanlake.traceql.plan.metrics.nodes import Tree

Matrix = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Mark:
    """An exemplar of a series. Without a value it has that of its point."""

    candidate: Candidate
    value: float | None


@dataclass(frozen=True, slots=True)
class Table:
    """Series with distinct labels. `values`: shape (series, points), NaN where there is no point. `marks`: exemplars per series."""

    labels: tuple[Attributes, ...]
    values: Matrix
    marks: tuple[tuple[Mark, ...], ...]
    cut: bool = False

    def kept(self, where: NDArray[np.bool_]) -> Table:
        """Without the series that have no point left there."""
        values = np.where(where, self.values, np.nan)
        left = np.flatnonzero(~np.isnan(values).all(axis=1)).tolist()
        return Table(tuple(self.labels[i] for i in left), values[left], tuple(self.marks[i] for i in left), self.cut)


def evaluate_tree(tree: Tree, leaves: Sequence[Table]) -> Table:
    """The series of the answer, those without points left out."""
    match tree:
        case nodes.LeafSeries():
            table = leaves[tree.leaf]
        case nodes.Combine():
            table = _combined(tree, leaves)
        case _:
            assert_never(tree)
    table = table.kept(~np.isnan(table.values))
    for then in tree.then:
        match then:
            case nodes.KeepRanked():
                table = _ranked(table, then)
            case nodes.KeepWhere():
                present = ~np.isnan(table.values)
                table = table.kept(compare_number(then.operator, table.values, then.threshold) & present)
            case _:
                assert_never(then)
    return table


# ---- topk, bottomk ----


def _ranked(table: Table, rank: nodes.KeepRanked) -> Table:
    """Per point its `limit` greatest (least) values; of equal ones those of the first (last) series by labels."""
    if len(table.labels) <= rank.limit:
        return table
    greatest = rank.ranking is Ranking.TOPK
    order = sorted(range(len(table.labels)), key=lambda number: _tie_order(table.labels[number]), reverse=not greatest)
    values = table.values[order]
    worst = -values if greatest else values
    chosen = np.argsort(worst, axis=0, kind="stable")[: rank.limit]  # absent points, which are NaN, come last, behind all infinities
    keep = np.zeros(values.shape, np.bool_)
    np.put_along_axis(keep, chosen, values=True, axis=0)
    where = np.empty_like(keep)
    where[order] = keep
    return table.kept(where & ~np.isnan(table.values))


def _tie_order(labels: Attributes) -> tuple[object, ...]:
    """Label by label: texts alphabetically; other types before texts, the greater value first."""
    return tuple((key, _value_order(one)) for key, one in labels)


def _value_order(one: TypedValue) -> tuple[int, object]:
    if one.type is ResultType.STRING:
        return 1, one.value
    assert isinstance(one.value, int | float)
    return 0, (-one.value, str(one.type))


# ---- arithmetic ----


def _combined(combine: nodes.Combine, leaves: Sequence[Table]) -> Table:
    left = _side(combine.left, leaves)
    right = _side(combine.right, leaves)
    if isinstance(left, Table) and isinstance(right, Table):
        labels, first, second = _matched(left, right)
        values = _calculated(combine.operator, left.values[first], right.values[second])
        marks = tuple(left.marks[i] or right.marks[j] for i, j in zip(first.tolist(), second.tolist(), strict=True))
        named = tuple(
            _named(found, left.labels[i], right.labels[j], combine.operator) for found, i, j in zip(labels, first, second, strict=True)
        )
        return Table(named, values, marks, left.cut or right.cut)
    if isinstance(left, Table):
        assert not isinstance(right, Table)
        return Table(left.labels, _calculated(combine.operator, left.values, right), left.marks, left.cut)
    assert isinstance(right, Table)
    return Table(right.labels, _calculated(combine.operator, left, right.values), right.marks, right.cut)


def _side(side: Tree | nodes.Number, leaves: Sequence[Table]) -> Table | np.float64:
    if isinstance(side, nodes.Number):
        return np.float64(np.nan if side.value is None else side.value)
    return evaluate_tree(side, leaves)


@np.errstate(all="ignore")
def _calculated(operator: Operator, left: Matrix | np.float64, right: Matrix | np.float64) -> Matrix:
    """Point by point; a missing point on either side, and a division by zero, has none."""
    match operator:
        case Operator.ADD:
            return np.asarray(left + right)
        case Operator.SUBTRACT:
            return np.asarray(left - right)
        case Operator.MULTIPLY:
            return np.asarray(left * right)
        case _:
            assert operator is Operator.DIVIDE
            return np.where(right == 0, np.nan, left / right)


def _matched(left: Table, right: Table) -> tuple[list[Attributes], Rows, Rows]:
    """The labels of both sides' pairs, and which series make them: those with the same labels, the name aside.

    One series without labels, and no other, goes with every series of the other side.
    """
    firsts, seconds = ([_unnamed(labels) for labels in side.labels] for side in (left, right))
    if firsts == [()] and seconds != [()]:
        return seconds, np.zeros(len(seconds), np.int64), np.arange(len(seconds))
    if seconds == [()] and firsts != [()]:
        return firsts, np.arange(len(firsts)), np.zeros(len(firsts), np.int64)
    place = {frozenset(labels): number for number, labels in enumerate(seconds)}
    pairs = [(number, place[key]) for number, labels in enumerate(firsts) if (key := frozenset(labels)) in place]
    numbers = np.array(pairs, np.int64).reshape(-1, 2)
    return [firsts[number] for number, _ in pairs], numbers[:, 0], numbers[:, 1]


def _unnamed(labels: Attributes) -> Attributes:
    return tuple(label for label in labels if label[0] != NAME)


def _named(labels: Attributes, left: Attributes, right: Attributes, operator: Operator) -> Attributes:
    """With the name of what was calculated, if both sides have one."""
    names = [one.value for side in (left, right) for key, one in side if key == NAME]
    if len(names) < 2:
        return labels
    return ((NAME, TypedValue(ResultType.STRING, f"({names[0]} {operator} {names[1]})")), *labels)

"""Series of the naive metrics evaluator: second stages and arithmetic, one point after the other.

A table is labels → bucket → number. Labels are (key, (type, content)) in the order of the answer.
"""

from __future__ import annotations

import functools
import json
import math
import operator as operators
from collections.abc import Callable

from naive_fields import literal_value
from naive_values import Value, calculate, negate

from spanlake.traceql.ast import Literal, Operator, PointFilter, Rank, Ranking, ScalarBinary, ScalarExpression, ScalarNegation, SecondStage
from spanlake.traceql.vocabulary import ValueType

Label = tuple[str, tuple[str, object]]
Labels = tuple[Label, ...]
Points = dict[int, float]
Table = dict[Labels, Points]
NAME = "__name__"


class AmbiguousTie(Exception):
    """Which of two equal points stays is said nowhere: their labels differ in keys or types, or are negative numbers."""


def identity(labels: Labels) -> str:
    """A text that equal labels share, whatever their order. 1, 1.0 and true are different values."""
    return json.dumps(sorted([key, [kind, repr(content)]] for key, (kind, content) in labels))


# ---- second stages ----

_HOLDS: dict[Operator, Callable[[float, float], bool]] = {
    Operator.EQUAL: operators.eq,
    Operator.NOT_EQUAL: operators.ne,
    Operator.LESS: operators.lt,
    Operator.LESS_EQUAL: operators.le,
    Operator.GREATER: operators.gt,
    Operator.GREATER_EQUAL: operators.ge,
}


def second_stage(stage: SecondStage, table: Table) -> Table:
    """The points that a stage keeps."""
    if isinstance(stage, PointFilter):
        threshold = number_of_literal(stage.threshold)
        holds = _HOLDS[stage.operator]
        return {labels: {at: point for at, point in points.items() if holds(point, threshold)} for labels, points in table.items()}
    if len(table) <= stage.limit:
        return table
    kept: Table = {labels: {} for labels in table}
    for at in sorted({at for points in table.values() for at in points}):
        present = {labels: points[at] for labels, points in table.items() if at in points}
        for labels in _kept(stage, present):
            kept[labels][at] = present[labels]
    return kept


def number_of_literal(literal: Literal) -> float:
    """A duration in seconds."""
    assert isinstance(literal.value, int | float)
    return literal.value / 10**9 if literal.type is ValueType.DURATION else float(literal.value)


def _kept(rank: Rank, present: dict[Labels, float]) -> list[Labels]:
    """The best. Of equal points topk prefers the label that is first in the alphabet or the larger number, bottomk the opposite."""
    is_top = rank.ranking is Ranking.TOPK
    worst_kept = sorted(present.values(), reverse=is_top)[: rank.limit][-1]
    better = [labels for labels, point in present.items() if (point > worst_kept if is_top else point < worst_kept)]
    tied = [labels for labels, point in present.items() if point == worst_kept]
    places = rank.limit - len(better)
    if places < len(tied):
        tied = sorted(tied, key=functools.cmp_to_key(_compared_labels), reverse=not is_top)
    return better + tied[:places]


def _compared_labels(one: Labels, other: Labels) -> int:
    """Below zero if topk prefers the first of two series with equal points."""
    if [key for key, _ in one] != [key for key, _ in other]:
        raise AmbiguousTie(one, other)
    for (_, (kind, content)), (_, (other_kind, other_content)) in zip(one, other, strict=True):
        if kind != other_kind:
            raise AmbiguousTie(one, other)
        if content == other_content:
            continue
        if isinstance(content, str) and isinstance(other_content, str):
            return -1 if content.encode() < other_content.encode() else 1
        assert isinstance(content, int | float)
        assert isinstance(other_content, int | float)
        if not (content >= 0 and other_content >= 0):
            raise AmbiguousTie(one, other)
        return -1 if content > other_content else 1
    return 0


# ---- arithmetic ----


def arithmetic(operator: Operator, left: Table | ScalarExpression, right: Table | ScalarExpression) -> Table:
    """`left operator right`, pointwise; a point without a number is absent, and so is a series without points."""
    if not isinstance(left, dict):
        assert isinstance(right, dict)
        number = scalar_number(left)
        table = {labels: {at: _number(operator, number, point) for at, point in points.items()} for labels, points in right.items()}
    elif not isinstance(right, dict):
        number = scalar_number(right)
        table = {labels: {at: _number(operator, point, number) for at, point in points.items()} for labels, points in left.items()}
    else:
        table = _joined(operator, left, right)
    present = {labels: {at: point for at, point in points.items() if not math.isnan(point)} for labels, points in table.items()}
    return {labels: points for labels, points in present.items() if points}


def scalar_number(scalar: ScalarExpression) -> float:
    """A constant by the rules of TraceQL's arithmetic, NaN if it has none (1 / 0)."""
    value = _scalar_value(scalar)
    return math.nan if value is None else float(value.content)


def _scalar_value(scalar: ScalarExpression) -> Value | None:
    match scalar:
        case Literal():
            return literal_value(scalar)
        case ScalarNegation():
            return negate(_scalar_value(scalar.operand))
        case ScalarBinary():
            return calculate(scalar.operator, _scalar_value(scalar.left), _scalar_value(scalar.right))
        case _:
            raise AssertionError(scalar)


def _joined(operator: Operator, left: Table, right: Table) -> Table:
    """Series with the same labels, apart from their names; a single series without labels goes with every one of the other side."""
    if _is_unlabelled(left) is not _is_unlabelled(right):
        if _is_unlabelled(left):
            (single,) = left.values()
            return {_unnamed(labels): _pointwise(operator, single, points) for labels, points in right.items()}
        (single,) = right.values()
        return {_unnamed(labels): _pointwise(operator, points, single) for labels, points in left.items()}
    others = {identity(_unnamed(labels)): (labels, points) for labels, points in right.items()}
    joined: Table = {}
    for labels, points in left.items():
        other = others.get(identity(_unnamed(labels)))
        if other is not None:
            joined[_joined_labels(operator, labels, other[0])] = _pointwise(operator, points, other[1])
    return joined


def _is_unlabelled(table: Table) -> bool:
    return len(table) == 1 and all(not _unnamed(labels) for labels in table)


def _unnamed(labels: Labels) -> Labels:
    return tuple(label for label in labels if label[0] != NAME)


def _joined_labels(operator: Operator, left: Labels, right: Labels) -> Labels:
    names = [content for labels in (left, right) for key, (_, content) in labels if key == NAME]
    if len(names) < 2:
        return _unnamed(left)
    return ((NAME, ("string", f"({names[0]} {operator} {names[1]})")), *_unnamed(left))


def _pointwise(operator: Operator, left: Points, right: Points) -> Points:
    return {at: _number(operator, point, right[at]) for at, point in left.items() if at in right}


def _number(operator: Operator, left: float, right: float) -> float:
    """NaN where there is no number: whatever is divided by zero, and whatever IEEE 754 calls so."""
    match operator:
        case Operator.ADD:
            return left + right
        case Operator.SUBTRACT:
            return left - right
        case Operator.MULTIPLY:
            return left * right
        case Operator.DIVIDE:
            return math.nan if right == 0 else left / right
        case _:
            raise AssertionError(operator)

"""What a trace must contain for a search to find it: predicates with which a source may skip data.

The result is sound, not complete: a disjunction of conjunctions of predicates, each of which some span of a found trace satisfies. Where
nothing can be required (negations, `= nil`, comparisons with arithmetic) a part is left out. Sizes are bounded: what does not fit is left
out as well.
"""

from __future__ import annotations

from typing import assert_never

from spanlake.model.scan import Comparison, Field, Predicate
from spanlake.traceql.ast import LogicalOperator, Operator, RelationMode
from spanlake.traceql.plan import nodes
from spanlake.traceql.plan.fields import TRACE_ID
from spanlake.traceql.plan.nodes import Column, Expression, FirstOf, Scalar, SearchPlan, Spansets, Stage, TraceId

CONJUNCTIONS_MAX = 64
PREDICATES_MAX = 64
_ID_FIELDS = {TRACE_ID: 32, Field("intrinsic", "span_id"): 16, Field("intrinsic", "parent_span_id"): 16}
_ID_FIELDS |= {Field("link", ":trace_id"): 32, Field("link", ":span_id"): 16}

Conjunction = frozenset[Predicate]
Alternatives = tuple[Conjunction, ...]
"""Any of these holds. Empty: none can, nothing is found."""

_ANYTHING: Alternatives = (frozenset(),)
_NOTHING: Alternatives = ()


def any_of(plan: SearchPlan) -> tuple[frozenset[Predicate], ...]:
    """For ScanRequest.any_of: empty where every trace matters."""
    alternatives = _stages(plan.stages)
    return () if frozenset() in alternatives else alternatives


def finds_nothing(plan: SearchPlan) -> bool:
    """Whether no trace can be found, whatever there is: `{ false }`."""
    return _stages(plan.stages) == _NOTHING


def trace_ids(plan: SearchPlan) -> frozenset[tuple[int, int]] | None:
    """For ScanRequest.traces: the only traces that can be found, or None if any can."""
    found: set[tuple[int, int]] = set()
    for conjunction in any_of(plan) or _ANYTHING:
        ids = [predicate.operand for predicate in conjunction if predicate.field == TRACE_ID]
        if not ids or not isinstance(ids[0], int):
            return None
        found.add(divmod(ids[0], 1 << 64))
    return frozenset(found)


def _both(left: Alternatives, right: Alternatives) -> Alternatives:
    if len(left) * len(right) > CONJUNCTIONS_MAX:
        return min(left, right, key=len)
    joined = (a | b if len(a | b) <= PREDICATES_MAX else a for a in left for b in right)
    return tuple(dict.fromkeys(joined))


def _either(alternatives: list[Alternatives]) -> Alternatives:
    joined = tuple(dict.fromkeys(conjunction for one in alternatives for conjunction in one))
    return _ANYTHING if len(joined) > CONJUNCTIONS_MAX or frozenset() in joined else joined


def _all(alternatives: list[Alternatives]) -> Alternatives:
    result = _ANYTHING
    for one in alternatives:
        result = _both(result, one)
    return result


# ---- stages ----


def _stages(stages: tuple[Stage, ...]) -> Alternatives:
    return _all([_stage(stage) for stage in stages])


def _stage(stage: Stage) -> Alternatives:
    match stage:
        case nodes.Filter() | nodes.Relate() | nodes.Combine() | nodes.Wrapped():
            return _spansets(stage)
        case nodes.ScalarFilter():
            return _both(_scalar(stage.left), _scalar(stage.right))
        case nodes.Group() | nodes.Merge():
            return _ANYTHING
        case _:
            assert_never(stage)


def _spansets(spansets: Spansets) -> Alternatives:
    match spansets:
        case nodes.Filter():
            return _condition(spansets.condition)
        case nodes.Relate():
            right = _spansets(spansets.right)
            return right if spansets.mode is RelationMode.NEGATED else _both(_spansets(spansets.left), right)
        case nodes.Combine():
            operands = [_spansets(operand) for operand in spansets.operands]
            return _all(operands) if spansets.operator is LogicalOperator.AND else _either(operands)
        case nodes.Wrapped():
            return _stages(spansets.stages)
        case _:
            assert_never(spansets)


def _scalar(scalar: Scalar) -> Alternatives:
    """An aggregate other than count() has no value, and its comparison is false, without a value to aggregate."""
    match scalar:
        case nodes.Constant() | nodes.CountSpans() | nodes.ScalarOf():
            return _ANYTHING
        case nodes.Reduce():
            return _value(scalar.argument)
        case nodes.ScalarNegative():
            return _scalar(scalar.operand)
        case nodes.ScalarArithmetic():
            return _both(_scalar(scalar.left), _scalar(scalar.right))
        case _:
            assert_never(scalar)


# ---- conditions ----


def _condition(condition: Expression) -> Alternatives:
    """What a span, for which the condition is true, satisfies."""
    match condition:
        case nodes.Truth():
            return _ANYTHING if condition.value else _NOTHING
        case nodes.AllOf():
            return _all([_condition(operand) for operand in condition.operands])
        case nodes.AnyOf():
            return _either([_condition(operand) for operand in condition.operands])
        case nodes.CompareConstant():
            return _comparison(condition)
        case nodes.OneOf():
            return _either([_compared(condition.operand, Comparison.EQUAL, text) for text in condition.texts])
        case nodes.Matches():
            return _compared(condition.operand, Comparison.EXISTS if condition.negated else Comparison.MATCH, condition.pattern)
        case nodes.Present():
            return _ANYTHING if condition.negated else _value(condition.operand)
        case nodes.Compare():
            return _both(_value(condition.left), _value(condition.right))
        case nodes.Column() | nodes.FirstOf():
            return _compared(condition, Comparison.EQUAL, value=True)
        case nodes.Not() | nodes.Arithmetic() | nodes.Negative() | nodes.Constant() | nodes.TraceId() | nodes.TimeSinceStart():
            return _ANYTHING
        case _:
            assert_never(condition)


def _comparison(comparison: nodes.CompareConstant) -> Alternatives:
    value = comparison.constant.value
    if value is None or not isinstance(comparison.operand, Column | FirstOf | TraceId):
        return _value(comparison.operand)
    if comparison.operator is Operator.NOT_EQUAL:
        return _compared(comparison.operand, Comparison.NOT_EQUAL, value)
    return _compared(comparison.operand, Comparison(comparison.operator.value), value)


def _value(operand: Expression) -> Alternatives:
    """What a span, for which the operand has a value, satisfies."""
    match operand:
        case nodes.Column() | nodes.FirstOf():
            return _compared(operand, Comparison.EXISTS, None)
        case nodes.Arithmetic():
            return _both(_value(operand.left), _value(operand.right))
        case nodes.Negative():
            return _value(operand.operand)
        case _:  # constants, trace ids and times always have one, and so have conditions; a negation may
            return _ANYTHING


def _compared(operand: Expression, comparison: Comparison, value: str | float | bool | None) -> Alternatives:
    match operand:
        case nodes.FirstOf():
            return _either([_compared(column, comparison, value) for column in operand.columns])
        case nodes.Column():
            return _column(operand, comparison, value)
        case nodes.TraceId():
            return _id(TRACE_ID, comparison, value)
        case _:
            return _value(operand)


def _column(column: Column, comparison: Comparison, value: str | float | bool | None) -> Alternatives:
    field = column.field
    if field in _ID_FIELDS:
        return _id(field, comparison, value)
    if column.default is not None and (comparison is not Comparison.EQUAL or value == column.default):
        # A missing value, which no predicate describes, may be what the comparison is true for.
        return _ANYTHING
    if comparison is Comparison.EXISTS:
        return _ANYTHING if field.scope == "intrinsic" else (frozenset({Predicate(field, comparison)}),)
    return (frozenset({Predicate(field, comparison, value)}),)


def _id(field: Field, comparison: Comparison, value: str | float | bool | None) -> Alternatives:
    """Ids are compared as numbers; only equality is told to sources."""
    if comparison is not Comparison.EQUAL or not isinstance(value, str):
        return _ANYTHING
    number = parse_id(value, _ID_FIELDS[field])
    return _NOTHING if number is None else (frozenset({Predicate(field, comparison, number)}),)


def parse_id(text: str, digits: int) -> int | None:
    """The number of a hexadecimal id of at most so many digits, short ones filled with zeros on the left; None if it is none."""
    if len(text) > digits or not all(character in _HEXADECIMAL for character in text):
        return None
    return int(text or "0", 16)


_HEXADECIMAL = frozenset("0123456789abcdefABCDEF")

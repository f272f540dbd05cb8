"""Comparisons with a literal: the literal on the right, nil as a test of presence, status and kind as their codes."""

from __future__ import annotations

from spanlake.traceql import ast
from spanlake.traceql.ast import Operator
from spanlake.traceql.plan.nodes import CompareConstant, Constant, Expression, Matches, Present, Truth
from spanlake.traceql.vocabulary import KIND_VALUES, STATUS_VALUES, ValueType

_TURNED = {
    Operator.LESS: Operator.GREATER,
    Operator.LESS_EQUAL: Operator.GREATER_EQUAL,
    Operator.GREATER: Operator.LESS,
    Operator.GREATER_EQUAL: Operator.LESS_EQUAL,
}


def turned(operator: Operator) -> Operator:
    """The operator that says the same with the sides exchanged."""
    return _TURNED.get(operator, operator)


def constant_of(literal: ast.Literal) -> Constant:
    """The value of a literal; status and kind as OTLP codes."""
    if literal.type is ValueType.STATUS:
        return Constant(literal.type, STATUS_VALUES.index(str(literal.value)))
    if literal.type is ValueType.KIND:
        return Constant(literal.type, KIND_VALUES.index(str(literal.value)))
    return Constant(literal.type, literal.value)


def comparison_with(operand: Expression, operator: Operator, literal: ast.Literal) -> CompareConstant | Matches | Present | Truth:
    """`operand operator literal`."""
    if operator in ast.REGEX:
        return Matches(operand, str(literal.value), negated=operator is Operator.NOT_MATCH)
    if literal.type is not ValueType.NIL:
        return CompareConstant(operator, operand, constant_of(literal))
    if operator in ast.EQUALITY:
        return Present(operand, negated=operator is Operator.EQUAL)
    return Truth(value=False)

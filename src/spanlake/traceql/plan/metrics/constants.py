"""Constants beside metrics: `100 * (…)`. Folding leaves a number, or what has no value or is beyond exact integers; that is for floats."""

from __future__ import annotations

import math

from spanlake.traceql import ast
from spanlake.traceql.ast import Operator


def number_of(scalar: ast.ScalarExpression) -> float | None:
    """The value of a constant scalar. None where there is none: a division by zero, or a result beyond all floats."""
    match scalar:
        case ast.Literal(value=int() | float() as value):
            return value
        case ast.ScalarNegation():
            operand = number_of(scalar.operand)
            return None if operand is None else -operand
        case ast.ScalarBinary():
            left, right = number_of(scalar.left), number_of(scalar.right)
            return None if left is None or right is None else _combined(scalar.operator, left, right)
        case _:
            return None


def _combined(operator: Operator, left: float, right: float) -> float | None:
    try:
        value = _value(operator, left, right)
    except (ZeroDivisionError, OverflowError):
        return None
    return None if isinstance(value, complex) or math.isnan(value) else value


def _value(operator: Operator, left: float, right: float) -> float:
    match operator:
        case Operator.ADD:
            return left + right
        case Operator.SUBTRACT:
            return left - right
        case Operator.MULTIPLY:
            return left * right
        case Operator.DIVIDE:
            return left / right
        case Operator.MODULO:
            return math.fmod(left, right) if right else math.nan
        case _:
            return math.pow(left, right)

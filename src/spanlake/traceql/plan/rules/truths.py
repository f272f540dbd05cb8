"""Constants in `&&` and `||` decide the whole or fall away."""

from __future__ import annotations

from spanlake.traceql.plan import nodes
from spanlake.traceql.plan.nodes import AllOf, AnyOf, Expression, Truth

_CONDITIONS = (nodes.Truth, nodes.CompareConstant, nodes.Compare, nodes.OneOf, nodes.Matches, nodes.Present, nodes.AllOf, nodes.AnyOf)


def truths(expression: Expression) -> Expression:
    """`true && a` is a, `false || a` is a, `false && a` is false, `true || a` is true.

    A lone operand that need not be a boolean stays in its AllOf or AnyOf, where what is not true is false.
    """
    if not isinstance(expression, AllOf | AnyOf):
        return expression
    deciding = isinstance(expression, AnyOf)
    if any(isinstance(operand, Truth) and operand.value is deciding for operand in expression.operands):
        return Truth(deciding)
    operands = tuple(operand for operand in expression.operands if not isinstance(operand, Truth))
    if not operands:
        return Truth(not deciding)
    if len(operands) == 1 and isinstance(operands[0], _CONDITIONS):
        return operands[0]
    return type(expression)(operands)

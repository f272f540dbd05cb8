"""`.a = "x" || .a = "y" || …` is one look into a set: generated queries have thousands of them."""

from __future__ import annotations

from spanlake.traceql.ast import Operator
from spanlake.traceql.plan.nodes import AnyOf, CompareConstant, Expression, OneOf
from spanlake.traceql.vocabulary import ValueType


def one_of(expression: Expression) -> Expression:
    """Joins the operands of an AnyOf that compare the same operand with strings for equality; the order of operands does not matter."""
    if not isinstance(expression, AnyOf):
        return expression
    texts: dict[Expression, list[str]] = {}
    for operand in expression.operands:
        text = _equal_text(operand)
        if text is not None:
            texts.setdefault(text[0], []).append(text[1])
    if all(len(found) == 1 for found in texts.values()):
        return expression
    joined: list[Expression] = [OneOf(operand, tuple(dict.fromkeys(found))) for operand, found in texts.items() if len(found) > 1]
    for operand in expression.operands:
        text = _equal_text(operand)
        if text is None or len(texts[text[0]]) == 1:
            joined.append(operand)
    return joined[0] if len(joined) == 1 else AnyOf(tuple(joined))


def _equal_text(expression: Expression) -> tuple[Expression, str] | None:
    if isinstance(expression, CompareConstant) and expression.operator is Operator.EQUAL:
        constant = expression.constant
        if constant.type is ValueType.STRING:
            return expression.operand, str(constant.value)
    return None

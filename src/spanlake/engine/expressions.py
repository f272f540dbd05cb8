"""Evaluation of expressions over the tries of a view: conditions to masks, operands to columns.

Two of three truth values are enough: a condition is true or not, and where negation asks whether it is *false*, `falsity` knows.
Comparisons, presence, `&&` and `||` are always true or false; an attribute, or the negation of one, may be neither.
"""

from __future__ import annotations

from functools import partial
from typing import assert_never

import numpy as np

from spanlake.engine.frame import View, view_source
from spanlake.engine.values.compare import combine_numbers, compare, holds, map_numbers, number_type
from spanlake.engine.values.numbers import arithmetic, negative
from spanlake.engine.values.parts import Mask, boolean_rows, booleans, constant_column, no_values, present
from spanlake.model.scan import Values
from spanlake.traceql.plan import nodes
from spanlake.traceql.plan.nodes import Expression


def truth(view: View, expression: Expression) -> Mask:
    """Where the expression is the boolean true."""
    match expression:
        case nodes.Truth():
            return np.full(len(view), expression.value)
        case nodes.CompareConstant() | nodes.OneOf() | nodes.Matches():
            return holds(expression, value(view, expression.operand))
        case nodes.Compare():
            return compare(expression.operator, value(view, expression.left), value(view, expression.right))
        case nodes.Present():
            found = present(value(view, expression.operand))
            return ~found if expression.negated else found
        case nodes.AllOf():
            return _all(view, expression.operands)
        case nodes.AnyOf():
            return _any(view, expression.operands)
        case nodes.Not():
            return falsity(view, expression.operand)
        case _:
            return boolean_rows(value(view, expression), value=True)


def falsity(view: View, expression: Expression) -> Mask:
    """Where the expression is the boolean false: not where it has no value, or another one."""
    match expression:
        case nodes.Not():
            return truth(view, expression.operand)
        case nodes.Truth() | nodes.CompareConstant() | nodes.OneOf() | nodes.Matches() | nodes.Compare() | nodes.Present():
            return ~truth(view, expression)
        case nodes.AllOf() | nodes.AnyOf():
            return ~truth(view, expression)
        case _:
            return boolean_rows(value(view, expression), value=False)


def _all(view: View, operands: tuple[Expression, ...]) -> Mask:
    """Stops where nothing is left."""
    result = truth(view, operands[0])
    for operand in operands[1:]:
        if not result.any():
            break
        result &= truth(view, operand)
    return result


def _any(view: View, operands: tuple[Expression, ...]) -> Mask:
    result = truth(view, operands[0])
    for operand in operands[1:]:
        result |= truth(view, operand)
    return result


def value(view: View, expression: Expression) -> Values:
    """The value of the expression per try."""
    match expression:
        case nodes.Column() | nodes.TraceId() | nodes.TimeSinceStart() | nodes.FirstOf():
            return view_source(view, expression)
        case nodes.Constant():
            return constant_values(expression, len(view))
        case nodes.Arithmetic():
            left, right = value(view, expression.left), value(view, expression.right)
            return combine_numbers(left, right, partial(arithmetic, expression.operator))
        case nodes.Negative():
            return map_numbers(value(view, expression.operand), negative)
        case nodes.Not():
            true, false = truth(view, expression), falsity(view, expression)
            return booleans(true, true | false)
        case (
            nodes.Truth()
            | nodes.CompareConstant()
            | nodes.OneOf()
            | nodes.Matches()
            | nodes.Compare()
            | nodes.Present()
            | nodes.AllOf()
            | nodes.AnyOf()
        ):
            return booleans(truth(view, expression))
        case _:
            assert_never(expression)


def constant_values(constant: nodes.Constant, rows: int) -> Values:
    """A constant as a column."""
    if constant.value is None:
        return no_values(rows)
    return constant_column(constant.value, number_type(constant), rows)

"""Rewrites of conditions that keep their meaning. Each rule is a function in a file of its own that looks at one node, its parts already
rewritten; `simplify` applies them all, from the leaves up, and `apply_rules` does so in every stage.
"""

from __future__ import annotations

from dataclasses import replace
from typing import assert_never

from spanlake.traceql.plan import nodes
from spanlake.traceql.plan.nodes import Expression, Scalar, Spansets, Stage
from spanlake.traceql.plan.rules.one_of import one_of
from spanlake.traceql.plan.rules.truths import truths

RULES = (truths, one_of)


def simplify(expression: Expression) -> Expression:
    """The expression with every rule applied to it and to what is below."""
    result = _with_simple_parts(expression)
    for rule in RULES:
        result = rule(result)
    return result


def _with_simple_parts(expression: Expression) -> Expression:
    match expression:
        case nodes.AllOf() | nodes.AnyOf():
            return replace(expression, operands=tuple(simplify(operand) for operand in expression.operands))
        case nodes.Compare() | nodes.Arithmetic():
            return replace(expression, left=simplify(expression.left), right=simplify(expression.right))
        case nodes.CompareConstant() | nodes.OneOf() | nodes.Matches() | nodes.Present() | nodes.Not() | nodes.Negative():
            return replace(expression, operand=simplify(expression.operand))
        case nodes.Constant() | nodes.Column() | nodes.TraceId() | nodes.TimeSinceStart() | nodes.FirstOf() | nodes.Truth():
            return expression
        case _:
            assert_never(expression)


def apply_rules(stages: tuple[Stage, ...]) -> tuple[Stage, ...]:
    """The stages with all of their conditions simplified."""
    return tuple(_stage(stage) for stage in stages)


def _stage(stage: Stage) -> Stage:
    match stage:
        case nodes.ScalarFilter():
            return replace(stage, left=_scalar(stage.left), right=_scalar(stage.right))
        case nodes.Group():
            return replace(stage, keys=tuple(replace(key, expression=simplify(key.expression)) for key in stage.keys))
        case nodes.Merge():
            return stage
        case nodes.Filter() | nodes.Relate() | nodes.Combine() | nodes.Wrapped():
            return _spansets(stage)
        case _:
            assert_never(stage)


def _spansets(spansets: Spansets) -> Spansets:
    match spansets:
        case nodes.Filter():
            return replace(spansets, condition=simplify(spansets.condition))
        case nodes.Relate():
            return replace(spansets, left=_spansets(spansets.left), right=_spansets(spansets.right))
        case nodes.Combine():
            return replace(spansets, operands=tuple(_spansets(operand) for operand in spansets.operands))
        case nodes.Wrapped():
            return replace(spansets, stages=apply_rules(spansets.stages))
        case _:
            assert_never(spansets)


def _scalar(scalar: Scalar) -> Scalar:
    match scalar:
        case nodes.Constant() | nodes.CountSpans():
            return scalar
        case nodes.Reduce():
            return replace(scalar, argument=simplify(scalar.argument))
        case nodes.ScalarOf():
            return replace(scalar, stages=apply_rules(scalar.stages), result=_scalar(scalar.result))
        case nodes.ScalarNegative():
            return replace(scalar, operand=_scalar(scalar.operand))
        case nodes.ScalarArithmetic():
            return replace(scalar, left=_scalar(scalar.left), right=_scalar(scalar.right))
        case _:
            assert_never(scalar)

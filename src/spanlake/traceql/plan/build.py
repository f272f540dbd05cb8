"""A checked query to a plan.

Constants are folded first. Comparisons get their constant on the right (`1 < .x` is `.x > 1`), comparisons with nil become tests of
presence, status and kind become their codes, and select() only leaves a trace in what is shown. The rules run last.
"""

from __future__ import annotations

from typing import assert_never

from spanlake.model.errors import InvalidInput
from spanlake.traceql import ast
from spanlake.traceql.ast import LogicalOperator, Pipeline, Query, UnaryOperator
from spanlake.traceql.fold import fold
from spanlake.traceql.format import format_field, format_scalar, format_stage
from spanlake.traceql.plan import nodes
from spanlake.traceql.plan.comparisons import comparison_with, constant_of, turned
from spanlake.traceql.plan.fields import operand_of
from spanlake.traceql.plan.nodes import Expression, Scalar, SearchPlan, Spansets, Stage
from spanlake.traceql.plan.rules import apply_rules
from spanlake.traceql.plan.shown import shown_fields
from spanlake.traceql.vocabulary import ValueType


def plan_search(query: Query) -> SearchPlan:
    """The plan of a checked query. Of a metrics query it is the search before the metrics function.

    Raises InvalidInput for arithmetic between metrics, which is no search.
    """
    folded = fold(query).root
    if isinstance(folded, ast.MetricsMath):
        raise InvalidInput("arithmetic between metrics is not a search: send it to /api/metrics/query_range")
    pipeline = folded if isinstance(folded, Pipeline) else folded.pipeline
    return SearchPlan(apply_rules(build_stages(pipeline)), shown_fields(pipeline))


def build_stages(pipeline: Pipeline) -> tuple[Stage, ...]:
    """The stages of a folded pipeline; select() is none, because later stages see every field anyway."""
    return tuple(_stage(stage) for stage in pipeline.stages if not isinstance(stage, ast.Select))


def _stage(stage: ast.SpansetExpression | ast.ScalarFilter | ast.GroupBy | ast.Coalesce) -> Stage:
    match stage:
        case ast.ScalarFilter():
            return nodes.ScalarFilter(stage.operator, _scalar(stage.left, ()), _scalar(stage.right, ()))
        case ast.GroupBy():
            keys = (nodes.GroupKey(f"by({format_field(key)})", build_expression(key)) for key in stage.expressions)
            return nodes.Group(tuple(keys))
        case ast.Coalesce():
            return nodes.Merge()
        case ast.SpansetFilter() | ast.SpansetRelation() | ast.SpansetLogical() | ast.WrappedPipeline():
            return _spansets(stage)
        case _:
            assert_never(stage)


def _spansets(expression: ast.SpansetExpression) -> Spansets:
    match expression:
        case ast.SpansetFilter():
            return nodes.Filter(build_expression(expression.condition))
        case ast.SpansetRelation():
            return nodes.Relate(expression.relation, expression.mode, _spansets(expression.left), _spansets(expression.right))
        case ast.SpansetLogical():
            return nodes.Combine(expression.operator, tuple(_spansets(operand) for operand in expression.operands))
        case ast.WrappedPipeline():
            return nodes.Wrapped(build_stages(expression.pipeline))
        case _:
            assert_never(expression)


# ---- scalars ----


def _scalar(scalar: ast.ScalarExpression, wrapped_in: tuple[Pipeline, ...]) -> Scalar:
    """`wrapped_in`: the pipelines around the scalar, outermost first. They are part of the keys of its aggregates."""
    match scalar:
        case ast.Literal():
            return constant_of(scalar)
        case ast.Count():
            return nodes.CountSpans(_scalar_key(scalar, wrapped_in))
        case ast.Reduction():
            return nodes.Reduce(scalar.reducer, build_expression(scalar.argument), _scalar_key(scalar, wrapped_in))
        case ast.ScalarPipeline():
            return nodes.ScalarOf(build_stages(scalar.pipeline), _scalar(scalar.result, (*wrapped_in, scalar.pipeline)))
        case ast.ScalarNegation():
            return nodes.ScalarNegative(_scalar(scalar.operand, wrapped_in))
        case ast.ScalarBinary():
            return nodes.ScalarArithmetic(scalar.operator, _scalar(scalar.left, wrapped_in), _scalar(scalar.right, wrapped_in))
        case _:
            assert_never(scalar)


def _scalar_key(aggregate: ast.Aggregate, wrapped_in: tuple[Pipeline, ...]) -> str:
    key = format_scalar(aggregate)
    for pipeline in reversed(wrapped_in):
        key = f"({' | '.join(format_stage(stage) for stage in pipeline.stages)} | {key})"
    return key


# ---- fields ----


def build_expression(expression: ast.FieldExpression) -> Expression:
    """A folded field expression as an operand or a condition."""
    match expression:
        case ast.Literal():
            return nodes.Truth(bool(expression.value)) if expression.type is ValueType.BOOL else constant_of(expression)
        case ast.Attribute() | ast.Intrinsic():
            return operand_of(expression)
        case ast.Unary():
            operand = build_expression(expression.operand)
            return nodes.Not(operand) if expression.operator is UnaryOperator.NOT else nodes.Negative(operand)
        case ast.Binary():
            return _binary(expression)
        case ast.Logical():
            operands = tuple(build_expression(operand) for operand in expression.operands)
            return nodes.AllOf(operands) if expression.operator is LogicalOperator.AND else nodes.AnyOf(operands)
        case _:
            assert_never(expression)


def _binary(binary: ast.Binary) -> Expression:
    left, right, operator = binary.left, binary.right, binary.operator
    if operator in ast.ARITHMETIC:
        return nodes.Arithmetic(operator, build_expression(left), build_expression(right))
    if isinstance(left, ast.Literal) and not isinstance(right, ast.Literal):
        left, right, operator = right, left, turned(operator)
    operand = build_expression(left)
    if not isinstance(right, ast.Literal):
        return nodes.Compare(operator, operand, build_expression(right))
    return comparison_with(operand, operator, right)

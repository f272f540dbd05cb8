"""Constant folding: `duration > 10ms * 20` becomes `duration > 2e+08`.

Runs on checked trees, when a query is about to be planned; parsing keeps what was written. Only what has one certain result is folded:
a division by zero, a power that leaves the exact integers and anything infinite stay for the engine, whose rules for them are its own.
"""

from __future__ import annotations

import math
import operator as operators
from collections.abc import Callable
from dataclasses import replace
from typing import Any, assert_never

from spanlake.traceql.ast import (
    ARITHMETIC,
    EQUALITY,
    ORDERING,
    REGEX,
    Attribute,
    Binary,
    Coalesce,
    Compare,
    Count,
    FieldExpression,
    GroupBy,
    Intrinsic,
    Literal,
    Logical,
    LogicalOperator,
    MetricsExpression,
    MetricsMath,
    MetricsPipeline,
    Operator,
    Pipeline,
    Place,
    Query,
    Reduction,
    ScalarBinary,
    ScalarExpression,
    ScalarFilter,
    ScalarNegation,
    ScalarPipeline,
    Select,
    SpansetExpression,
    SpansetFilter,
    SpansetLogical,
    SpansetRelation,
    Stage,
    Unary,
    UnaryOperator,
    WrappedPipeline,
)
from spanlake.traceql.vocabulary import NUMERIC, ValueType

_EXACT_MAX = 1 << 53  # integer powers are computed in float64, which holds every integer up to here
_COMPARE: dict[Operator, Callable[[Any, Any], bool]] = {
    Operator.EQUAL: operators.eq,
    Operator.NOT_EQUAL: operators.ne,
    Operator.LESS: operators.lt,
    Operator.LESS_EQUAL: operators.le,
    Operator.GREATER: operators.gt,
    Operator.GREATER_EQUAL: operators.ge,
}


def fold(query: Query) -> Query:
    """The query with every constant sub-expression replaced by its value."""
    if isinstance(query.root, Pipeline):
        return replace(query, root=fold_pipeline(query.root))
    return replace(query, root=_metrics(query.root))


def fold_field(expression: FieldExpression) -> FieldExpression:
    """A field expression with its constant parts replaced; places stay."""
    match expression:
        case Literal() | Attribute() | Intrinsic():
            return expression
        case Unary():
            operand = fold_field(expression.operand)
            folded = _unary_value(expression.operator, operand, expression.place) if isinstance(operand, Literal) else None
            return folded or replace(expression, operand=operand)
        case Binary():
            left, right = fold_field(expression.left), fold_field(expression.right)
            folded = _binary_value(expression.operator, left, right, expression.place)
            return folded or replace(expression, left=left, right=right)
        case Logical():
            return _logical(expression)
        case _:
            assert_never(expression)


def fold_pipeline(pipeline: Pipeline) -> Pipeline:
    """A pipeline with every constant part of its stages replaced."""
    return replace(pipeline, stages=tuple(_stage(stage) for stage in pipeline.stages))


# ---- values ----


def _logical(logical: Logical) -> FieldExpression:
    operands = tuple(fold_field(operand) for operand in logical.operands)
    values = [operand.value for operand in operands if isinstance(operand, Literal) and operand.type is ValueType.BOOL]
    if len(values) < len(operands):
        return replace(logical, operands=operands)
    value = all(values) if logical.operator is LogicalOperator.AND else any(values)
    return Literal(ValueType.BOOL, value=value, place=logical.place)


def _unary_value(operator: UnaryOperator, operand: Literal, place: Place) -> Literal | None:
    value = operand.value
    if operator is UnaryOperator.NOT and isinstance(value, bool):
        return Literal(ValueType.BOOL, value=not value, place=place)
    if operator is UnaryOperator.NEGATE and operand.type in NUMERIC and isinstance(value, int | float):
        return Literal(operand.type, -value if isinstance(value, float) else _wrapped(-value), place)
    return None


def _binary_value(
    operator: Operator, left: FieldExpression | ScalarExpression, right: FieldExpression | ScalarExpression, place: Place
) -> Literal | None:
    if not isinstance(left, Literal) or not isinstance(right, Literal) or operator in REGEX:
        return None
    if operator in ARITHMETIC:
        return _arithmetic(operator, left, right, place)
    if ValueType.NIL in {left.type, right.type}:
        # Presence: a constant is there, and nil compared with itself is a comparison with a missing value.
        present = operator is Operator.NOT_EQUAL and left.type is not right.type
        return Literal(ValueType.BOOL, value=present, place=place) if operator in EQUALITY else None
    if left.type is not right.type and not (left.type in NUMERIC and right.type in NUMERIC):
        return None
    if operator in ORDERING and left.type not in NUMERIC and left.type is not ValueType.STRING:
        return None
    first, second = (side.value.encode() if isinstance(side.value, str) else side.value for side in (left, right))
    return Literal(ValueType.BOOL, value=_COMPARE[operator](first, second), place=place)


def _arithmetic(operator: Operator, left: Literal, right: Literal, place: Place) -> Literal | None:
    if left.type not in NUMERIC or right.type not in NUMERIC:
        return None
    first, second = left.value, right.value
    if left.type is ValueType.INT and right.type is ValueType.INT and isinstance(first, int) and isinstance(second, int):
        whole = _integer_arithmetic(operator, first, second)
        return None if whole is None else Literal(ValueType.INT, whole, place)
    number = _float_arithmetic(operator, float(first or 0), float(second or 0))
    return None if number is None else Literal(ValueType.FLOAT, number, place)


def _integer_arithmetic(operator: Operator, left: int, right: int) -> int | None:
    """64-bit results, with Go's division: towards zero, the remainder with the sign of the dividend."""
    match operator:
        case Operator.ADD:
            return _wrapped(left + right)
        case Operator.SUBTRACT:
            return _wrapped(left - right)
        case Operator.MULTIPLY:
            return _wrapped(left * right)
        case Operator.DIVIDE if right:
            quotient = abs(left) // abs(right)
            return _wrapped(quotient if (left < 0) is (right < 0) else -quotient)
        case Operator.MODULO if right:
            remainder = abs(left) % abs(right)
            return -remainder if left < 0 else remainder
        case Operator.POWER if 0 <= right <= 64:
            power: int = left**right
            return power if abs(power) <= _EXACT_MAX else None
        case _:
            return None


def _float_arithmetic(operator: Operator, left: float, right: float) -> float | None:
    compute: dict[Operator, Callable[[float, float], float]] = {
        Operator.ADD: operators.add,
        Operator.SUBTRACT: operators.sub,
        Operator.MULTIPLY: operators.mul,
        Operator.DIVIDE: operators.truediv,
        Operator.MODULO: math.fmod,
        Operator.POWER: math.pow,
    }
    try:
        result = compute[operator](left, right)
    except (ArithmeticError, ValueError):
        return None
    return result if math.isfinite(result) else None


def _wrapped(value: int) -> int:
    return (value + (1 << 63)) % (1 << 64) - (1 << 63)


# ---- everything around fields ----


def _stage(stage: Stage) -> Stage:
    match stage:
        case SpansetFilter():
            return replace(stage, condition=fold_field(stage.condition))
        case SpansetRelation():
            return replace(stage, left=_spansets(stage.left), right=_spansets(stage.right))
        case SpansetLogical():
            return replace(stage, operands=tuple(_spansets(operand) for operand in stage.operands))
        case WrappedPipeline():
            return replace(stage, pipeline=fold_pipeline(stage.pipeline))
        case ScalarFilter():
            return replace(stage, left=_scalar(stage.left), right=_scalar(stage.right))
        case GroupBy():
            return replace(stage, expressions=tuple(fold_field(expression) for expression in stage.expressions))
        case Coalesce() | Select():
            return stage
        case _:
            assert_never(stage)


def _spansets(expression: SpansetExpression) -> SpansetExpression:
    folded = _stage(expression)
    assert isinstance(folded, SpansetExpression)
    return folded


def _scalar(scalar: ScalarExpression) -> ScalarExpression:
    match scalar:
        case Literal() | Count():
            return scalar
        case Reduction():
            return replace(scalar, argument=fold_field(scalar.argument))
        case ScalarPipeline():
            return replace(scalar, pipeline=fold_pipeline(scalar.pipeline), result=_scalar(scalar.result))
        case ScalarNegation():
            operand = _scalar(scalar.operand)
            folded = _unary_value(UnaryOperator.NEGATE, operand, scalar.place) if isinstance(operand, Literal) else None
            return folded or replace(scalar, operand=operand)
        case ScalarBinary():
            left, right = _scalar(scalar.left), _scalar(scalar.right)
            return _binary_value(scalar.operator, left, right, scalar.place) or replace(scalar, left=left, right=right)
        case _:
            assert_never(scalar)


def _metrics(metrics: MetricsExpression) -> MetricsExpression:
    if isinstance(metrics, MetricsMath):
        return replace(metrics, left=_math_side(metrics.left), right=_math_side(metrics.right))
    function = metrics.function
    if isinstance(function, Compare):
        selection = replace(function.selection, condition=fold_field(function.selection.condition))
        function = replace(function, selection=selection)
    return replace(metrics, pipeline=fold_pipeline(metrics.pipeline), function=function)


def _math_side(side: MetricsExpression | ScalarExpression) -> MetricsExpression | ScalarExpression:
    return _metrics(side) if isinstance(side, MetricsPipeline | MetricsMath) else _scalar(side)

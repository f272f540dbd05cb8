"""A tree back to canonical text.

The text parses to an equal tree, and is what answers use as keys of `by()` and aggregates and as metric labels, so it keeps Tempo's form:
scoped names, short intrinsics, back-ticked strings, and parentheses around every operand that has operands of its own, which makes the
grouping visible where `&&` and `||` share one level. Only a chain of one `&&` or `||` stays flat.
"""

from __future__ import annotations

from typing import assert_never

from spanlake.traceql.ast import (
    Attribute,
    Binary,
    Coalesce,
    Compare,
    Count,
    CountOverTime,
    FieldExpression,
    FieldOverTime,
    FieldReference,
    GroupBy,
    Intrinsic,
    Literal,
    Logical,
    MetricsExpression,
    MetricsFunction,
    MetricsMath,
    MetricsPipeline,
    Pipeline,
    PointFilter,
    QuantileOverTime,
    Query,
    Rank,
    Reduction,
    ScalarBinary,
    ScalarExpression,
    ScalarFilter,
    ScalarNegation,
    ScalarPipeline,
    SecondStage,
    Select,
    SpansetExpression,
    SpansetFilter,
    SpansetLogical,
    SpansetRelation,
    Stage,
    Unary,
    UnaryOperator,
    WrappedPipeline,
    walk,
)
from spanlake.traceql.literals import format_float, format_literal, format_name, is_negative
from spanlake.traceql.vocabulary import NUMERIC, Scope


def format_query(query: Query) -> str:
    """The whole query on one line."""
    text = _pipeline(query.root) if isinstance(query.root, Pipeline) else _metrics(query.root)
    hints = ", ".join(f"{hint.name}={format_literal(hint.value)}" for hint in query.hints)
    return f"{text} with({hints})" if hints else text


def format_field(expression: FieldExpression) -> str:
    """A field expression, as it stands in `by( )` keys and in messages."""
    match expression:
        case Literal():
            return format_literal(expression)
        case Attribute() | Intrinsic():
            return format_reference(expression)
        case Unary():
            return expression.operator + _side(expression.operand)
        case Binary():
            return f"{_side(expression.left)} {expression.operator} {_side(expression.right, is_last=True)}"
        case Logical():
            return f" {expression.operator} ".join(_side(operand) for operand in expression.operands)
        case _:
            assert_never(expression)


def format_reference(field: FieldReference) -> str:
    """An attribute or intrinsic: the key of a metric label."""
    if isinstance(field, Intrinsic):
        return field.name
    prefix = "parent." if field.of_parent else ""
    if field.scope:
        return f"{prefix}{field.scope}.{format_name(field.name)}"
    # `.5x` would begin a number, and `parent.span.x` is a span attribute.
    ambiguous = field.name.startswith((f"{Scope.SPAN}.", f"{Scope.RESOURCE}.")) if field.of_parent else field.name[:1] in _DIGITS
    return (prefix or ".") + format_name(field.name, quoted=ambiguous)


_DIGITS = frozenset("0123456789")


def _side(operand: FieldExpression, *, is_last: bool = False) -> str:
    """An operand. A negative number behind the last operator needs no parentheses: nothing can bind tighter to it."""
    text = format_field(operand)
    if isinstance(operand, Attribute | Intrinsic):
        return text
    if isinstance(operand, Literal):
        return f"({text})" if is_negative(operand) and not is_last else text
    is_negative_number = (
        isinstance(operand, Unary)
        and operand.operator is UnaryOperator.NEGATE
        and isinstance(operand.operand, Literal)
        and operand.operand.type in NUMERIC
        and not is_negative(operand.operand)
    )
    return text if is_last and is_negative_number else f"({text})"


# ---- spansets ----


def format_spansets(expression: SpansetExpression) -> str:
    """A spanset expression."""
    match expression:
        case SpansetFilter():
            return f"{{ {format_field(expression.condition)} }}"
        case WrappedPipeline():
            return f"({_pipeline(expression.pipeline)})"
        case SpansetRelation():
            operator, sides = f"{expression.mode}{expression.relation}", [expression.left, expression.right]
        case SpansetLogical():
            operator, sides = str(expression.operator), list(expression.operands)
        case _:
            assert_never(expression)
    beside_wrapped = any(isinstance(node, WrappedPipeline) for node in walk(expression))
    return f" {operator} ".join(_spanset_side(side, beside_wrapped=beside_wrapped) for side in sides)


def _spanset_side(side: SpansetExpression, *, beside_wrapped: bool) -> str:
    text = format_spansets(side)
    if isinstance(side, WrappedPipeline) or (isinstance(side, SpansetFilter) and not beside_wrapped):
        return text
    return f"({text})"


# ---- scalars ----


def format_scalar(scalar: ScalarExpression) -> str:
    """A scalar expression: for an aggregate the key of its value in an answer."""
    match scalar:
        case Literal():
            return format_literal(scalar)
        case Count():
            return "count()"
        case Reduction():
            return f"{scalar.reducer}({format_field(scalar.argument)})"
        case ScalarPipeline():
            return f"({_pipeline(scalar.pipeline)} | {format_scalar(scalar.result)})"
        case ScalarNegation():
            return f"-{_scalar_side(scalar.operand)}"
        case ScalarBinary():
            return f"{_scalar_side(scalar.left)} {scalar.operator} {_scalar_side(scalar.right)}"
        case _:
            assert_never(scalar)


def _scalar_side(scalar: ScalarExpression) -> str:
    text = format_scalar(scalar)
    return f"({text})" if isinstance(scalar, ScalarBinary | ScalarNegation) else text


# ---- pipelines ----


def _pipeline(pipeline: Pipeline) -> str:
    return " | ".join(format_stage(stage) for stage in pipeline.stages)


def format_stage(stage: Stage) -> str:
    """One stage of a pipeline."""
    match stage:
        case ScalarFilter():
            return f"{_scalar_side(stage.left)} {stage.operator} {_scalar_side(stage.right)}"
        case GroupBy():
            return f"by({', '.join(format_field(expression) for expression in stage.expressions)})"
        case Coalesce():
            return "coalesce()"
        case Select():
            return f"select({', '.join(format_reference(field) for field in stage.fields)})"
        case SpansetFilter() | SpansetRelation() | SpansetLogical() | WrappedPipeline():
            return format_spansets(stage)
        case _:
            assert_never(stage)


# ---- metrics ----


def _metrics(metrics: MetricsExpression) -> str:
    if isinstance(metrics, MetricsPipeline):
        text = f"{_pipeline(metrics.pipeline)} | {format_function(metrics.function)}"
    else:
        text = f"{_math_side(metrics.left)} {metrics.operator} {_math_side(metrics.right)}"
    return text + "".join(_second_stage(stage) for stage in metrics.second_stages)


def _math_side(side: MetricsExpression | ScalarExpression) -> str:
    if isinstance(side, MetricsMath | MetricsPipeline):
        return f"({_metrics(side)})"
    return _scalar_side(side)


def _second_stage(stage: SecondStage) -> str:
    match stage:
        case Rank():
            return f" | {stage.ranking}({stage.limit})"
        case PointFilter():
            return f" {stage.operator} {format_literal(stage.threshold)}"
        case _:
            assert_never(stage)


def format_function(function: MetricsFunction) -> str:
    """A first-stage metrics function with its by()."""
    match function:
        case CountOverTime():
            text = f"{function.function}()"
        case FieldOverTime():
            text = f"{function.function}({format_reference(function.argument)})"
        case QuantileOverTime():
            quantiles = ", ".join(format_float(quantile) for quantile in function.quantiles)
            text = f"quantile_over_time({format_reference(function.argument)}, {quantiles})"
        case Compare():
            window = f", {function.window.start_ns}, {function.window.end_ns}" if function.window else ""
            return f"compare({format_spansets(function.selection)}, {function.top}{window})"
        case _:
            assert_never(function)
    by = ", ".join(format_reference(field) for field in function.by)
    return f"{text} by({by})" if by else text

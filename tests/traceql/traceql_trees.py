"""Hypothesis strategies for syntax trees that the parser can produce: every node, every invariant of `traceql.ast`.

Types are not respected: most of these queries parse and do not check.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from hypothesis import strategies as st

from spanlake.traceql.ast import (
    ARITHMETIC,
    COMPARISON,
    METRICS_ARITHMETIC,
    Aggregate,
    Attribute,
    Binary,
    Coalesce,
    Compare,
    Count,
    CountOverTime,
    FieldExpression,
    FieldFunction,
    FieldOverTime,
    FieldReference,
    GroupBy,
    Hint,
    Intrinsic,
    Literal,
    Logical,
    LogicalOperator,
    MetricsExpression,
    MetricsFunction,
    MetricsMath,
    MetricsPipeline,
    Operator,
    Pipeline,
    PointFilter,
    QuantileOverTime,
    Query,
    Rank,
    Ranking,
    Reducer,
    Reduction,
    Relation,
    RelationMode,
    ScalarBinary,
    ScalarExpression,
    ScalarFilter,
    ScalarNegation,
    ScalarPipeline,
    SecondStage,
    Select,
    SpanCounter,
    SpansetExpression,
    SpansetFilter,
    SpansetLogical,
    SpansetRelation,
    Stage,
    TimeWindow,
    Unary,
    UnaryOperator,
    WrappedPipeline,
    walk,
)
from spanlake.traceql.vocabulary import INT_MAX, INT_MIN, KIND_VALUES, NUMERIC, STATUS_VALUES, IntrinsicName, Scope, ValueType

T = TypeVar("T")

texts = st.one_of(st.text(max_size=8), st.text('`"\\\r\n\t\0aé🔥 {}()', max_size=8))
names = st.one_of(
    st.text(min_size=1, max_size=8),
    st.text("a.:\"\\ {}=-+*/5'", min_size=1, max_size=6),
    st.sampled_from(["http.status_code", "5xx", "span.x", "resource.y", "name", "nil", "parent.z", "//", "a/*b"]),
)


def tuples(elements: st.SearchStrategy[T], least: int = 1, most: int = 3) -> st.SearchStrategy[tuple[T, ...]]:
    return st.lists(elements, min_size=least, max_size=most).map(tuple)


def opaque(strategy: st.SearchStrategy[T]) -> st.SearchStrategy[T]:
    """The strategy behind a short repr; Hypothesis refuses strategies whose repr is too long."""

    @st.composite
    def tree(draw: st.DrawFn) -> T:
        return draw(strategy)

    return tree()


def nested(
    leaves: st.SearchStrategy[T], compound: Callable[[st.SearchStrategy[T]], st.SearchStrategy[T]], levels: int
) -> st.SearchStrategy[T]:
    """Trees of at most so many levels above the leaves."""
    trees = leaves
    for _ in range(levels):
        trees = opaque(st.one_of(leaves, compound(trees)))
    return trees


# ---- fields ----

literals = opaque(
    st.one_of(
        st.builds(Literal, st.just(ValueType.STRING), texts),
        st.builds(Literal, st.just(ValueType.INT), st.integers(0, INT_MAX) | st.integers(0, 9) | st.just(INT_MIN)),
        st.builds(Literal, st.just(ValueType.FLOAT), st.floats(0, allow_nan=False, allow_infinity=False).map(abs)),
        st.builds(Literal, st.just(ValueType.DURATION), st.integers(0, INT_MAX) | st.integers(0, 10**10)),
        st.builds(Literal, st.just(ValueType.BOOL), st.booleans()),
        st.builds(Literal, st.just(ValueType.STATUS), st.sampled_from(STATUS_VALUES)),
        st.builds(Literal, st.just(ValueType.KIND), st.sampled_from(KIND_VALUES)),
        st.just(Literal(ValueType.NIL, None)),
    )
)
attributes = st.one_of(
    st.builds(Attribute, st.sampled_from(Scope), names),
    st.builds(Attribute, st.sampled_from([Scope.NONE, Scope.SPAN, Scope.RESOURCE]), names, st.just(True)),  # noqa: FBT003
)
references: st.SearchStrategy[FieldReference] = attributes | st.builds(Intrinsic, st.sampled_from(IntrinsicName))


def logicals(operands: st.SearchStrategy[FieldExpression]) -> st.SearchStrategy[Logical]:
    chains = st.builds(Logical, st.sampled_from(LogicalOperator), tuples(operands, 2, 4))
    return chains.filter(lambda chain: not (isinstance(chain.operands[0], Logical) and chain.operands[0].operator is chain.operator))


def compound_fields(inner: st.SearchStrategy[FieldExpression]) -> st.SearchStrategy[FieldExpression]:
    return st.one_of(
        st.builds(Unary, st.sampled_from(UnaryOperator), inner),
        st.builds(Binary, st.sampled_from(Operator), inner, inner),
        logicals(inner),
    )


fields: st.SearchStrategy[FieldExpression] = nested(literals | references, compound_fields, levels=3)

# ---- spansets and scalars ----

spanset_filters = st.builds(SpansetFilter, fields)


def compound_spansets(inner: st.SearchStrategy[SpansetExpression]) -> st.SearchStrategy[SpansetExpression]:
    chains = st.builds(SpansetLogical, st.sampled_from(LogicalOperator), tuples(inner, 2, 3))
    return st.one_of(
        st.builds(SpansetRelation, st.sampled_from(Relation), st.sampled_from(RelationMode), inner, inner),
        chains.filter(lambda chain: not (isinstance(chain.operands[0], SpansetLogical) and chain.operands[0].operator is chain.operator)),
    )


spansets: st.SearchStrategy[SpansetExpression] = nested(spanset_filters, compound_spansets, levels=2)


def negated_numbers(literal: Literal) -> Literal:
    is_number = literal.type in NUMERIC and isinstance(literal.value, int | float) and literal.value != INT_MIN
    return Literal(literal.type, -literal.value) if is_number and isinstance(literal.value, int | float) else literal


signed_literals = literals | literals.map(negated_numbers)
aggregates = st.builds(Count) | st.builds(Reduction, st.sampled_from(Reducer), fields)


def is_number(scalar: ScalarExpression) -> bool:
    return isinstance(scalar, Literal) and scalar.type in NUMERIC


def has_aggregate(scalar: ScalarExpression) -> bool:
    return any(isinstance(node, Aggregate) for node in walk(scalar))


def compound_scalars(inner: st.SearchStrategy[ScalarExpression]) -> st.SearchStrategy[ScalarExpression]:
    return st.one_of(
        st.builds(ScalarNegation, inner.filter(lambda scalar: not is_number(scalar))),
        st.builds(ScalarBinary, st.sampled_from(sorted(ARITHMETIC)), inner, inner),
    )


constants: st.SearchStrategy[ScalarExpression] = nested(signed_literals, compound_scalars, levels=2)
simple_scalars = st.one_of(aggregates, st.builds(ScalarBinary, st.sampled_from(sorted(ARITHMETIC)), aggregates, signed_literals))
scalar_pipelines = st.builds(ScalarPipeline, st.builds(Pipeline, tuples(spansets, 1, 2)), simple_scalars)
scalars: st.SearchStrategy[ScalarExpression] = nested(signed_literals | aggregates | scalar_pipelines, compound_scalars, levels=2).filter(
    has_aggregate
)

# ---- pipelines ----

scalar_filters = st.one_of(
    st.builds(ScalarFilter, st.sampled_from(sorted(COMPARISON)), scalars, scalars | constants),
    st.builds(ScalarFilter, st.sampled_from(sorted(COMPARISON)), constants, scalars),
)
groups = st.builds(GroupBy, tuples(fields, 1, 2))
selects = st.builds(Select, tuples(references))
first_stages: st.SearchStrategy[Stage] = opaque(spansets | scalar_filters | groups | selects)
stages: st.SearchStrategy[Stage] = first_stages | st.builds(Coalesce)
pipelines = opaque(st.builds(lambda first, rest: Pipeline((first, *rest)), first_stages, tuples(stages, 0, 2)))


def is_plain(pipeline: Pipeline) -> bool:
    return len(pipeline.stages) == 1 and isinstance(pipeline.stages[0], SpansetExpression)


wrapped: st.SearchStrategy[SpansetExpression] = pipelines.filter(lambda pipeline: not is_plain(pipeline)).map(WrappedPipeline)
wrapped_expressions = nested(wrapped | spansets, compound_spansets, levels=2).filter(
    lambda expression: not isinstance(expression, WrappedPipeline) and any(isinstance(node, WrappedPipeline) for node in walk(expression))
)
searches = pipelines | wrapped_expressions.map(lambda expression: Pipeline((expression,)))

# ---- metrics ----

by = tuples(references, 0, 2)
second_stages: st.SearchStrategy[tuple[SecondStage, ...]] = tuples(
    st.one_of(
        st.builds(Rank, st.sampled_from(Ranking), st.integers(0, INT_MAX)),
        st.builds(
            PointFilter,
            st.sampled_from(sorted(COMPARISON)),
            signed_literals.filter(is_number),
        ),
    ),
    0,
    2,
)
quantiles = st.floats(0, 10, allow_nan=False).map(abs)
windows = st.none() | st.builds(TimeWindow, st.integers(0, INT_MAX), st.integers(0, INT_MAX))
functions: st.SearchStrategy[MetricsFunction] = st.one_of(
    st.builds(CountOverTime, st.sampled_from(SpanCounter), by),
    st.builds(FieldOverTime, st.sampled_from(FieldFunction), references, by),
    st.builds(QuantileOverTime, references, tuples(quantiles), by),
    st.builds(Compare, spanset_filters, st.integers(0, 2000), windows),
)
leaves: st.SearchStrategy[MetricsExpression] = st.builds(MetricsPipeline, pipelines, functions, second_stages)


def math(inner: st.SearchStrategy[MetricsExpression]) -> st.SearchStrategy[MetricsExpression]:
    operators = st.sampled_from(sorted(METRICS_ARITHMETIC))
    return st.one_of(
        st.builds(MetricsMath, operators, inner, inner),
        st.builds(MetricsMath, operators, inner, constants),
        st.builds(MetricsMath, operators, constants, inner),
    )


metrics: st.SearchStrategy[MetricsExpression] = nested(leaves, math, levels=2)


def with_second_stages(expression: MetricsExpression, second: tuple[SecondStage, ...]) -> MetricsExpression:
    if isinstance(expression, MetricsPipeline):
        return expression
    return MetricsMath(expression.operator, expression.left, expression.right, second)


words = st.from_regex(r"[a-zA-Z_][a-zA-Z0-9_]{0,6}", fullmatch=True)
hints = st.builds(Hint, words | st.sampled_from(["name", "with", "nil"]), signed_literals)
queries = st.builds(Query, searches | st.builds(with_second_stages, metrics, second_stages), tuples(hints, 0, 2))

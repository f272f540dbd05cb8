"""Which fields a plan reads: first to find traces, then to answer with them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import assert_never

from spanlake.model.scan import Field
from spanlake.traceql.ast import Relation
from spanlake.traceql.plan import nodes
from spanlake.traceql.plan.fields import PARENT_ID, SERVICE_NAME, START, fields_of
from spanlake.traceql.plan.nodes import Expression, Scalar, SearchPlan, Source, Stage

# The times of traces, for the window and the order of a search.
_TRACE_TIMES = frozenset({Field("intrinsic", "trace_start_ns"), Field("intrinsic", "trace_duration_ns")})
_STRUCTURE = frozenset({Field("intrinsic", "nested_left"), Field("intrinsic", "nested_right"), Field("intrinsic", "nested_parent")})
_ANSWER = frozenset(
    {
        *(Field("intrinsic", name) for name in ("span_id", "duration_ns", "status_code", "root_name", "root_service")),
        START,
        SERVICE_NAME,
    }
)


@dataclass(frozen=True, slots=True)
class Needs:
    """`find`: what finding traces reads. `answer`: what the answer for found traces reads, `find` included."""

    find: frozenset[Field]
    answer: frozenset[Field]


def needs(plan: SearchPlan) -> Needs:
    """The fields of both passes of a search."""
    find = _TRACE_TIMES | stage_fields(plan.stages)
    shown = _union(_source(shown.source) for shown in plan.shown)
    return Needs(find, find | _ANSWER | shown)


def _union(fields: Iterable[frozenset[Field]]) -> frozenset[Field]:
    return frozenset().union(*fields)


def stage_fields(stages: tuple[Stage, ...]) -> frozenset[Field]:
    """The fields that some stages read."""
    return _union(_stage(stage) for stage in stages)


def _stage(stage: Stage) -> frozenset[Field]:
    match stage:
        case nodes.Filter():
            return expression_fields(stage.condition)
        case nodes.Relate():
            siblings = frozenset({PARENT_ID}) if stage.relation is Relation.SIBLING else frozenset()
            return _STRUCTURE | siblings | _stage(stage.left) | _stage(stage.right)
        case nodes.Combine():
            return stage_fields(stage.operands)
        case nodes.Wrapped():
            return stage_fields(stage.stages)
        case nodes.ScalarFilter():
            return _scalar(stage.left) | _scalar(stage.right)
        case nodes.Group():
            return _union(expression_fields(key.expression) for key in stage.keys)
        case nodes.Merge():
            return frozenset()
        case _:
            assert_never(stage)


def _scalar(scalar: Scalar) -> frozenset[Field]:
    match scalar:
        case nodes.Constant() | nodes.CountSpans():
            return frozenset()
        case nodes.Reduce():
            return expression_fields(scalar.argument)
        case nodes.ScalarOf():
            return stage_fields(scalar.stages) | _scalar(scalar.result)
        case nodes.ScalarNegative():
            return _scalar(scalar.operand)
        case nodes.ScalarArithmetic():
            return _scalar(scalar.left) | _scalar(scalar.right)
        case _:
            assert_never(scalar)


def expression_fields(expression: Expression) -> frozenset[Field]:
    """The fields that an expression reads."""
    return _union(_source(source) for source in sources(expression))


def _source(source: Source) -> frozenset[Field]:
    of_parent = isinstance(source, nodes.Column) and source.of_parent
    return fields_of(source) | (_STRUCTURE if of_parent else frozenset())


def sources(expression: Expression) -> Iterator[Source]:
    """Every column, trace id and time that an expression reads."""
    match expression:
        case nodes.Column() | nodes.TraceId() | nodes.TimeSinceStart():
            yield expression
        case nodes.FirstOf():
            yield from expression.columns
        case nodes.Constant() | nodes.Truth():
            pass
        case nodes.AllOf() | nodes.AnyOf():
            for operand in expression.operands:
                yield from sources(operand)
        case nodes.Compare() | nodes.Arithmetic():
            yield from sources(expression.left)
            yield from sources(expression.right)
        case nodes.CompareConstant() | nodes.OneOf() | nodes.Matches() | nodes.Present() | nodes.Not() | nodes.Negative():
            yield from sources(expression.operand)
        case _:
            assert_never(expression)

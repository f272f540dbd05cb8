"""What can be used of a query that is still being typed.

Autocomplete sends the text as it stands: `{ resource.service.name = "a" && span.x = }`. The recovering parser leaves out what it cannot
read; here what does not type-check goes too, in the same way: a bad condition becomes `true`, a bad stage is dropped.
"""

from __future__ import annotations

from dataclasses import replace
from typing import assert_never

from spanlake.model.errors import QueryError
from spanlake.traceql.ast import (
    Coalesce,
    FieldExpression,
    Literal,
    Logical,
    MetricsExpression,
    MetricsMath,
    Pipeline,
    Query,
    SpansetExpression,
    SpansetFilter,
    SpansetLogical,
    SpansetRelation,
    Stage,
    WrappedPipeline,
)
from spanlake.traceql.check import Checker, RegexProblem, check_metrics, check_stage
from spanlake.traceql.parser import DEPTH_MAX, QUERY_BYTES_MAX, TOKENS_MAX, parse_recovering
from spanlake.traceql.parser.fields import everything
from spanlake.traceql.regex import regex_problem as scanned_problem
from spanlake.traceql.vocabulary import ValueType


def parse_leniently(
    text: str,
    *,
    regex_problem: RegexProblem = scanned_problem,
    bytes_max: int = QUERY_BYTES_MAX,
    tokens_max: int = TOKENS_MAX,
    depth_max: int = DEPTH_MAX,
) -> tuple[Query | None, tuple[QueryError, ...]]:
    """The part of the text that makes a query that parses and checks (None if there is none), and all problems. Never raises.

    A condition that cannot be used becomes `true` and an unreadable operand of a spanset operator `{ true }`; a stage, or metrics, that
    cannot be used are left out. Missing closing brackets are added. Texts over a bound (see `parse`) give None.
    """
    query, found = parse_recovering(text, bytes_max=bytes_max, tokens_max=tokens_max, depth_max=depth_max)
    problems = list(found)
    usable = _query(Checker(text, regex_problem), query, problems) if query else None
    return usable, tuple(problems)


def _query(checker: Checker, query: Query, problems: list[QueryError]) -> Query | None:
    root = query.root
    if isinstance(root, MetricsMath):
        return query if _is_fine(checker, root, problems) else None
    pipeline = _pipeline(checker, root if isinstance(root, Pipeline) else root.pipeline, problems)
    if pipeline is None or isinstance(root, Pipeline):
        return replace(query, root=pipeline) if pipeline else None
    metrics = replace(root, pipeline=pipeline)
    return replace(query, root=metrics if _is_fine(checker, metrics, problems) else pipeline)


def _is_fine(checker: Checker, part: Stage | MetricsExpression, problems: list[QueryError]) -> bool:
    try:
        if isinstance(part, MetricsExpression):
            check_metrics(checker, part)
        else:
            check_stage(checker, part)
    except QueryError as problem:
        problems.append(problem)
        return False
    return True


def _pipeline(checker: Checker, pipeline: Pipeline, problems: list[QueryError]) -> Pipeline | None:
    stages: list[Stage] = []
    for stage in pipeline.stages:
        if isinstance(stage, SpansetExpression):
            stages.append(_spansets(checker, stage, problems))
        elif _is_fine(checker, stage, problems):
            stages.append(stage)
    if not stages or isinstance(stages[0], Coalesce):
        return None
    return replace(pipeline, stages=tuple(stages))


def _spansets(checker: Checker, expression: SpansetExpression, problems: list[QueryError]) -> SpansetExpression:
    match expression:
        case SpansetFilter():
            return replace(expression, condition=_condition(checker, expression.condition, problems))
        case SpansetRelation():
            left, right = (_spansets(checker, side, problems) for side in (expression.left, expression.right))
            return replace(expression, left=left, right=right)
        case SpansetLogical():
            return replace(expression, operands=tuple(_spansets(checker, operand, problems) for operand in expression.operands))
        case WrappedPipeline():
            pipeline = _pipeline(checker, expression.pipeline, problems)
            only = pipeline.stages[0] if pipeline and len(pipeline.stages) == 1 else None
            if isinstance(only, SpansetExpression):
                return only
            return replace(expression, pipeline=pipeline) if pipeline else everything(expression.place)
        case _:
            assert_never(expression)


def _condition(checker: Checker, condition: FieldExpression, problems: list[QueryError]) -> FieldExpression:
    if isinstance(condition, Logical):
        return replace(condition, operands=tuple(_condition(checker, operand, problems) for operand in condition.operands))
    alone = SpansetFilter(condition, condition.place)
    return condition if _is_fine(checker, alone, problems) else Literal(ValueType.BOOL, value=True, place=condition.place)

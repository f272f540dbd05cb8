"""Scalar filters: one value per spanset out of aggregates, constants and arithmetic, compared."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import assert_never

import numpy as np

from spanlake.engine import aggregates
from spanlake.engine.expressions import constant_values
from spanlake.engine.frame import Frame
from spanlake.engine.spansets import Annotation, Spansets, annotated, is_all, kept_sets
from spanlake.engine.tries import span_values
from spanlake.engine.values.compare import combine_numbers, compare, map_numbers
from spanlake.engine.values.numbers import arithmetic, negative
from spanlake.engine.values.parts import Rows
from spanlake.model.scan import Numbers, NumberType, Values
from spanlake.traceql.plan import nodes
from spanlake.traceql.plan.nodes import Scalar, Stage

RunStages = Callable[[Frame, tuple[Stage, ...], Spansets], Spansets]


@dataclass(slots=True)
class _Evaluation:
    """One scalar filter. `groups` are the spansets that it decides on; `found`, by key, the aggregates computed for them."""

    frame: Frame
    run: RunStages
    groups: int
    found: dict[str, Values]


def scalar_filtered(frame: Frame, stage: nodes.ScalarFilter, spansets: Spansets, run: RunStages) -> Spansets:
    """The spansets for which the comparison holds, with the aggregates in it attached. `run` evaluates wrapped pipelines."""
    evaluation = _Evaluation(frame, run, len(spansets), {})
    group_of_set = np.arange(len(spansets))
    left = _scalar(evaluation, stage.left, spansets, group_of_set)
    right = _scalar(evaluation, stage.right, spansets, group_of_set)
    annotations = [Annotation(key, values) for key, values in evaluation.found.items()]
    return kept_sets(annotated(spansets, annotations), compare(stage.operator, left, right))


def _scalar(evaluation: _Evaluation, scalar: Scalar, spansets: Spansets, group_of_set: Rows) -> Values:
    """One value per group; `spansets` is what of the groups is left, each set of one group."""
    match scalar:
        case nodes.Constant():
            return constant_values(scalar, evaluation.groups)
        case nodes.CountSpans() | nodes.Reduce():
            if scalar.key not in evaluation.found:
                evaluation.found[scalar.key] = _aggregate(evaluation, scalar, spansets, group_of_set)
            return evaluation.found[scalar.key]
        case nodes.ScalarOf():
            inner = Spansets(spansets.rows, spansets.first, np.arange(len(spansets)))
            left = evaluation.run(evaluation.frame, scalar.stages, inner)
            return _scalar(evaluation, scalar.result, left, group_of_set[left.owner])
        case nodes.ScalarNegative():
            return map_numbers(_scalar(evaluation, scalar.operand, spansets, group_of_set), negative)
        case nodes.ScalarArithmetic():
            first = _scalar(evaluation, scalar.left, spansets, group_of_set)
            second = _scalar(evaluation, scalar.right, spansets, group_of_set)
            return combine_numbers(first, second, partial(arithmetic, scalar.operator))
        case _:
            assert_never(scalar)


def _aggregate(evaluation: _Evaluation, aggregate: nodes.CountSpans | nodes.Reduce, spansets: Spansets, group_of_set: Rows) -> Values:
    group = group_of_set[spansets.set_of_member()]
    if isinstance(aggregate, nodes.CountSpans):
        counts = np.bincount(group, minlength=evaluation.groups).astype(np.int64)
        return Values(evaluation.groups, (Numbers(NumberType.INT, np.ones(evaluation.groups, np.bool_), counts),))
    rows = None if is_all(spansets, evaluation.frame.rows) else spansets.rows
    values = span_values(evaluation.frame, aggregate.argument, rows)
    return aggregates.finish(aggregates.observe(values, group, evaluation.groups), aggregate.reducer)

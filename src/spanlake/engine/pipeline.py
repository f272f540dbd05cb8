"""The stages of a plan over spansets, from left to right."""

from __future__ import annotations

from typing import assert_never

import numpy as np

from spanlake.engine.frame import Frame
from spanlake.engine.group import grouped
from spanlake.engine.relations import related_members
from spanlake.engine.scalars import scalar_filtered
from spanlake.engine.spansets import Spansets, coalesced, is_all, kept_members
from spanlake.engine.tries import spans_where
from spanlake.engine.values.parts import Mask
from spanlake.traceql.ast import LogicalOperator
from spanlake.traceql.plan import nodes
from spanlake.traceql.plan.nodes import Stage


def run_stages(frame: Frame, stages: tuple[Stage, ...], spansets: Spansets) -> Spansets:
    """What the stages leave of the spansets."""
    for stage in stages:
        if not len(spansets):
            break
        spansets = _stage(frame, stage, spansets)
    return spansets


def _stage(frame: Frame, stage: Stage, spansets: Spansets) -> Spansets:
    match stage:
        case nodes.Filter() | nodes.Relate() | nodes.Combine() | nodes.Wrapped():
            return kept_members(spansets, _found(frame, spansets, stage))
        case nodes.ScalarFilter():
            return scalar_filtered(frame, stage, spansets, run_stages)
        case nodes.Group():
            return grouped(frame, stage, spansets)
        case nodes.Merge():
            return coalesced(spansets)
        case _:
            assert_never(stage)


def _found(frame: Frame, spansets: Spansets, expression: nodes.Spansets) -> Mask:
    """The members that the expression finds, each spanset by itself."""
    match expression:
        case nodes.Filter():
            rows = None if is_all(spansets, frame.rows) else spansets.rows
            return spans_where(frame, expression.condition, rows)
        case nodes.Relate():
            sides = _found(frame, spansets, expression.left), _found(frame, spansets, expression.right)
            return related_members(frame, spansets, (expression.relation, expression.mode), sides)
        case nodes.Combine():
            return _combined(frame, spansets, expression)
        case nodes.Wrapped():
            return _left_by(frame, spansets, expression.stages)
        case _:
            assert_never(expression)


def _combined(frame: Frame, spansets: Spansets, combine: nodes.Combine) -> Mask:
    """The spans of all operands; of `&&` only in sets where each has some."""
    result = np.zeros(len(spansets.rows), np.bool_)
    in_all = np.ones(len(spansets), np.bool_)
    for operand in combine.operands:
        found = _found(frame, spansets, operand)
        result |= found
        if combine.operator is LogicalOperator.AND:
            in_all &= np.logical_or.reduceat(found, spansets.first[:-1])
    return result & np.repeat(in_all, np.diff(spansets.first)) if combine.operator is LogicalOperator.AND else result


def _left_by(frame: Frame, spansets: Spansets, stages: tuple[Stage, ...]) -> Mask:
    """The members that a pipeline of its own leaves of each set."""
    left = run_stages(frame, stages, Spansets(spansets.rows, spansets.first, np.arange(len(spansets))))
    found = np.zeros(frame.rows, np.bool_)
    found[left.rows] = True
    return found[spansets.rows]

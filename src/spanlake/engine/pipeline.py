"""The stages of a plan over spansets, from left to right."""

from __future__ import annotations

from typing import assert_never

import numpy as np

from spanlake.engine.frame import Frame
from spanlake.engine.group import grouped
from spanlake.engine.relations import Members, related_members
from spanlake.engine.scalars import scalar_filtered
from spanlake.engine.spansets import Spansets, coalesced, kept_members
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
            return kept_members(spansets, _found(Members(frame, spansets), stage))
        case nodes.ScalarFilter():
            return scalar_filtered(frame, stage, spansets, run_stages)
        case nodes.Group():
            return grouped(frame, stage, spansets)
        case nodes.Merge():
            return coalesced(spansets)
        case _:
            assert_never(stage)


def _found(members: Members, expression: nodes.Spansets) -> Mask:
    """The members that the expression finds, each spanset by itself."""
    match expression:
        case nodes.Filter():
            rows = None if members.whole else members.spansets.rows
            return spans_where(members.frame, expression.condition, rows)
        case nodes.Relate():
            sides = _found(members, expression.left), _found(members, expression.right)
            return related_members(members, expression.relation, expression.mode, sides)
        case nodes.Combine():
            return _combined(members, expression)
        case nodes.Wrapped():
            return _left_by(members, expression.stages)
        case _:
            assert_never(expression)


def _combined(members: Members, combine: nodes.Combine) -> Mask:
    """The spans of all operands; of `&&` only in sets where each has some."""
    result = np.zeros(len(members), np.bool_)
    in_all = np.ones(len(members.spansets), np.bool_)
    for operand in combine.operands:
        found = _found(members, operand)
        result |= found
        if combine.operator is LogicalOperator.AND:
            in_all &= np.logical_or.reduceat(found, members.spansets.first[:-1])
    return result & in_all[members.sets()] if combine.operator is LogicalOperator.AND else result


def _left_by(members: Members, stages: tuple[Stage, ...]) -> Mask:
    """The members that a pipeline of its own leaves of each set."""
    spansets = members.spansets
    left = run_stages(members.frame, stages, Spansets(spansets.rows, spansets.first, np.arange(len(spansets))))
    found = np.zeros(members.frame.rows, np.bool_)
    found[left.rows] = True
    return members.of_members(found)

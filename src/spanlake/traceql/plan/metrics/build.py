"""A checked metrics query to a plan. Leaves that are the same are one."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import assert_never

from spanlake.model.errors import InvalidInput
from spanlake.traceql import ast
from spanlake.traceql.ast import FieldFunction, FieldReference, Intrinsic, Pipeline, Query, walk
from spanlake.traceql.fold import fold
from spanlake.traceql.format import format_reference
from spanlake.traceql.plan.build import build_expression, build_stages
from spanlake.traceql.plan.fields import operand_of
from spanlake.traceql.plan.metrics import nodes
from spanlake.traceql.plan.metrics.constants import number_of
from spanlake.traceql.plan.metrics.nodes import ComparePlan, LabelField, Leaf, MetricsHints, MetricsPlan, SeriesPlan, Then, Tree
from spanlake.traceql.plan.rules import apply_rules, simplify
from spanlake.traceql.vocabulary import IntrinsicName, ValueType

_NANOSECONDS = 1e9
_EXEMPLARS_SAY_ANYWAY = frozenset({IntrinsicName.TRACE_ID})


def plan_metrics(query: Query) -> MetricsPlan:
    """The plan of a checked query. InvalidInput for a search, which is no metrics query."""
    root = fold(query).root
    if isinstance(root, Pipeline):
        raise InvalidInput("not a metrics query: end it with a metrics function, such as rate(), or send it to /api/search")
    hints = _hints(query.hints)
    if isinstance(root, ast.MetricsPipeline) and isinstance(root.function, ast.Compare):
        return _compare(root.pipeline, root.function, hints)
    builder = _Builder()
    tree = builder.tree(root)
    return SeriesPlan(tuple(builder.leaves), tree, hints)


def _compare(pipeline: Pipeline, compare: ast.Compare, hints: MetricsHints) -> ComparePlan:
    selection = simplify(build_expression(compare.selection.condition))
    return ComparePlan(apply_rules(build_stages(pipeline)), selection, compare.top, compare.window, hints)


@dataclass(slots=True)
class _Builder:
    """Collects the leaves of one query, each once."""

    leaves: list[Leaf] = field(default_factory=list)

    def tree(self, metrics: ast.MetricsExpression) -> Tree:
        then = tuple(_then(stage) for stage in metrics.second_stages)
        if isinstance(metrics, ast.MetricsPipeline):
            leaf = _leaf(metrics)
            if leaf not in self.leaves:
                self.leaves.append(leaf)
            return nodes.LeafSeries(self.leaves.index(leaf), then)
        return nodes.Combine(metrics.operator, self._side(metrics.left), self._side(metrics.right), then)

    def _side(self, side: ast.MetricsExpression | ast.ScalarExpression) -> Tree | nodes.Number:
        if isinstance(side, ast.MetricsPipeline | ast.MetricsMath):
            return self.tree(side)
        return nodes.Number(number_of(side))


def _leaf(metrics: ast.MetricsPipeline) -> Leaf:
    function = metrics.function
    assert not isinstance(function, ast.Compare)
    stages = apply_rules(build_stages(metrics.pipeline))
    by = tuple(_label(reference) for reference in function.by)
    return Leaf(stages, _function(function), by, _name(function), _loaded(metrics))


def _name(function: ast.CountOverTime | ast.FieldOverTime | ast.QuantileOverTime) -> str:
    return "quantile_over_time" if isinstance(function, ast.QuantileOverTime) else str(function.function)


def _function(function: ast.CountOverTime | ast.FieldOverTime | ast.QuantileOverTime) -> nodes.Function:
    match function:
        case ast.CountOverTime():
            return nodes.CountSpans(per_second=function.function is ast.SpanCounter.RATE)
        case ast.FieldOverTime(function=FieldFunction.HISTOGRAM_OVER_TIME):
            return nodes.Histogram(operand_of(function.argument))
        case ast.FieldOverTime():
            return nodes.ReduceField(function.function, operand_of(function.argument))
        case ast.QuantileOverTime():
            return nodes.Quantiles(operand_of(function.argument), tuple(dict.fromkeys(function.quantiles)))
        case _:
            assert_never(function)


def _label(reference: FieldReference) -> LabelField:
    return LabelField(str(format_reference(reference)), operand_of(reference))


def _loaded(metrics: ast.MetricsPipeline) -> tuple[LabelField, ...]:
    """Every field that the pipeline and the function mention, in that order."""
    mentioned = (node for part in (metrics.pipeline, metrics.function) for node in walk(part) if isinstance(node, FieldReference))
    shown = (one for one in mentioned if not (isinstance(one, Intrinsic) and one.name in _EXEMPLARS_SAY_ANYWAY))
    return tuple(dict.fromkeys(_label(reference) for reference in shown))


def _then(stage: ast.SecondStage) -> Then:
    match stage:
        case ast.Rank():
            return nodes.KeepRanked(stage.ranking, stage.limit)
        case ast.PointFilter():
            value = stage.threshold.value
            assert isinstance(value, int | float)
            return nodes.KeepWhere(stage.operator, value / _NANOSECONDS if stage.threshold.type is ValueType.DURATION else value)
        case _:
            assert_never(stage)


def _hints(hints: tuple[ast.Hint, ...]) -> MetricsHints:
    """The last of each name counts; values of the wrong type, and names that mean nothing here, do not."""
    exemplars: int | None = None
    extrapolate = False
    for hint in hints:
        value = hint.value.value
        if hint.name == "exemplars" and hint.value.type is ValueType.BOOL:
            exemplars = None if value else 0
        elif hint.name == "exemplars" and hint.value.type is ValueType.INT and isinstance(value, int):
            exemplars = max(value, 0)
        elif hint.name == "extrapolate" and hint.value.type is ValueType.BOOL:
            extrapolate = bool(value)
    return MetricsHints(exemplars, extrapolate)

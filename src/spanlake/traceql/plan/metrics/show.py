"""The text of a metrics plan for `explain`."""

from __future__ import annotations

from typing import assert_never

from spanlake.traceql.plan.metrics import nodes
from spanlake.traceql.plan.metrics.needs import finds_no_span, metrics_any_of, metrics_needs
from spanlake.traceql.plan.metrics.nodes import Function, Leaf, MetricsPlan, Then, Tree
from spanlake.traceql.plan.show import indented, show_expression, show_fields, show_requirements, show_stages


def show_metrics(plan: MetricsPlan) -> str:
    """Leaves, what is made of them, the fields to read, and what a source may require."""
    lines = ["metrics", *indented(_compare(plan) if isinstance(plan, nodes.ComparePlan) else _series(plan))]
    lines.append(f"reads: {show_fields(metrics_needs(plan))}")
    lines += ["finds no span, whatever there is"] if finds_no_span(plan) else show_requirements(metrics_any_of(plan))
    return "\n".join(lines)


def _series(plan: nodes.SeriesPlan) -> list[str]:
    lines = []
    for number, leaf in enumerate(plan.leaves):
        lines += [f"series {number}: {_function(leaf.function)}{_by(leaf)}", *indented(show_stages(leaf.stages))]
    is_all = isinstance(plan.tree, nodes.LeafSeries) and not plan.tree.then
    return lines if is_all else [*lines, f"answer: {_tree(plan.tree)}"]


def _compare(plan: nodes.ComparePlan) -> list[str]:
    window = f" starting in ({plan.window.start_ns}, {plan.window.end_ns}]" if plan.window else ""
    selection = f"{plan.top} most frequent values per attribute where {show_expression(plan.selection)}{window}, and elsewhere"
    return [selection, *indented(show_stages(plan.stages))]


def _by(leaf: Leaf) -> str:
    return f" by ({', '.join(label.key for label in leaf.by)})" if leaf.by else ""


def _function(function: Function) -> str:
    match function:
        case nodes.CountSpans():
            return "spans per second" if function.per_second else "spans"
        case nodes.ReduceField():
            return f"{function.function} of {show_expression(function.argument)}"
        case nodes.Histogram():
            return f"spans per power of two of {show_expression(function.argument)}"
        case nodes.Quantiles():
            return f"quantiles {', '.join(f'{one:g}' for one in function.quantiles)} of {show_expression(function.argument)}"
        case _:
            assert_never(function)


def _tree(tree: Tree | nodes.Number) -> str:
    match tree:
        case nodes.Number():
            return "nothing" if tree.value is None else f"{tree.value:g}"
        case nodes.LeafSeries():
            return f"series {tree.leaf}" + _thens(tree.then)
        case nodes.Combine():
            return f"({_tree(tree.left)} {tree.operator} {_tree(tree.right)})" + _thens(tree.then)
        case _:
            assert_never(tree)


def _thens(then: tuple[Then, ...]) -> str:
    return "".join(
        f" | {one.ranking}({one.limit})" if isinstance(one, nodes.KeepRanked) else f" {one.operator} {one.threshold:g}" for one in then
    )

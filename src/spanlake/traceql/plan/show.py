"""The text of a plan for `explain`: one line per node, parts indented, with the parentheses that TraceQL's one level of && and || hides."""

from __future__ import annotations

from typing import assert_never

from spanlake.model.scan import Field, Predicate
from spanlake.traceql.ast import Literal
from spanlake.traceql.literals import format_literal
from spanlake.traceql.plan import nodes
from spanlake.traceql.plan.needs import needs
from spanlake.traceql.plan.nodes import Expression, Scalar, SearchPlan, Stage
from spanlake.traceql.plan.prune import any_of, finds_nothing
from spanlake.traceql.vocabulary import KIND_VALUES, STATUS_VALUES, ValueType

_TEXT_MAX = 100


def show(plan: SearchPlan) -> str:
    """Stages, the fields of both passes, what is shown, and what a source may require."""
    reads = needs(plan)
    lines = ["search", *indented(show_stages(plan.stages))]
    lines.append(f"reads to find: {show_fields(reads.find)}")
    lines.append(f"reads to answer: {show_fields(reads.answer - reads.find)}")
    if plan.shown:
        lines.append("shows: " + ", ".join(_shown(shown) for shown in plan.shown))
    lines += ["finds nothing, whatever there is"] if finds_nothing(plan) else show_requirements(any_of(plan))
    return "\n".join(lines)


def show_requirements(alternatives: tuple[frozenset[Predicate], ...]) -> list[str]:
    """What a source may require of a trace, as lines."""
    if not alternatives:
        return ["requires nothing of a trace"]
    return ["requires of a trace:", *indented([("or " if index else "") + show_conjunction(one) for index, one in enumerate(alternatives)])]


def indented(lines: list[str]) -> list[str]:
    """Lines that are part of the one above."""
    return [f"  {line}" for line in lines]


def show_fields(fields: frozenset[Field]) -> str:
    """Fields in order."""
    return ", ".join(sorted(_field(field) for field in fields)) or "nothing"


def _field(field: Field) -> str:
    if field.scope == "intrinsic":
        return field.name
    return field.scope + field.name if field.name.startswith(":") else f"{field.scope}.{field.name}"


def _shown(shown: nodes.Shown) -> str:
    text = show_expression(shown.source)
    if shown.tests is None:
        return text
    tests = " || ".join(show_expression(test) for test in shown.tests)
    return f"{text} where {tests if len(tests) <= _TEXT_MAX else tests[:_TEXT_MAX] + '…'}"


def show_conjunction(conjunction: frozenset[Predicate]) -> str:
    """Predicates that spans of one trace satisfy."""
    return " and ".join(sorted(_predicate(predicate) for predicate in conjunction))


def _predicate(predicate: Predicate) -> str:
    operand = "" if predicate.operand is None else f" {predicate.operand!r}"
    return f"{_field(predicate.field)} {predicate.comparison}{operand}"


# ---- stages ----


def show_stages(stages: tuple[Stage, ...]) -> list[str]:
    """Stages, one or more lines each."""
    return [line for stage in stages for line in _stage(stage)]


def _stage(stage: Stage) -> list[str]:
    match stage:
        case nodes.Filter():
            return [f"filter {show_expression(stage.condition)}"]
        case nodes.Relate():
            return [f"relate {stage.mode}{stage.relation}", *indented(_stage(stage.left)), *indented(_stage(stage.right))]
        case nodes.Combine():
            return [f"combine {stage.operator}", *indented(show_stages(stage.operands))]
        case nodes.Wrapped():
            return ["pipeline", *indented(show_stages(stage.stages))]
        case nodes.ScalarFilter():
            return [f"keep where {show_scalar(stage.left)} {stage.operator} {show_scalar(stage.right)}"]
        case nodes.Group():
            return ["group " + ", ".join(key.key for key in stage.keys)]
        case nodes.Merge():
            return ["coalesce"]
        case _:
            assert_never(stage)


def show_scalar(scalar: Scalar) -> str:
    """A scalar on one line."""
    match scalar:
        case nodes.Constant():
            return _constant(scalar)
        case nodes.CountSpans() | nodes.Reduce():
            return scalar.key
        case nodes.ScalarOf():
            return f"({' | '.join(line.strip() for line in show_stages(scalar.stages))} | {show_scalar(scalar.result)})"
        case nodes.ScalarNegative():
            return f"-({show_scalar(scalar.operand)})"
        case nodes.ScalarArithmetic():
            return f"({show_scalar(scalar.left)} {scalar.operator} {show_scalar(scalar.right)})"
        case _:
            assert_never(scalar)


# ---- expressions ----


def show_expression(expression: Expression) -> str:
    """An expression with all of its parentheses."""
    match expression:
        case nodes.Column():
            return ("parent of " if expression.of_parent else "") + _field(expression.field)
        case nodes.TraceId():
            return "trace_id"
        case nodes.TimeSinceStart():
            return "event:time_ns - start_ns"
        case nodes.FirstOf():
            return f"first({', '.join(show_expression(column) for column in expression.columns)})"
        case nodes.Constant():
            return _constant(expression)
        case nodes.Truth():
            return "true" if expression.value else "false"
        case nodes.Arithmetic() | nodes.Compare():
            return f"({show_expression(expression.left)} {expression.operator} {show_expression(expression.right)})"
        case nodes.CompareConstant():
            return f"{show_expression(expression.operand)} {expression.operator} {_constant(expression.constant)}"
        case nodes.OneOf():
            texts = ", ".join(_constant(nodes.Constant(ValueType.STRING, text)) for text in expression.texts[:10])
            return f"{show_expression(expression.operand)} one of ({texts}{', …' if len(expression.texts) > 10 else ''})"
        case nodes.Matches():
            return f"{show_expression(expression.operand)} {'!~' if expression.negated else '=~'} `{expression.pattern}`"
        case nodes.Present():
            return f"{show_expression(expression.operand)} {'=' if expression.negated else '!='} nil"
        case nodes.Not() | nodes.Negative():
            return f"{'!' if isinstance(expression, nodes.Not) else '-'}({show_expression(expression.operand)})"
        case nodes.AllOf() | nodes.AnyOf():
            return f"({(' && ' if isinstance(expression, nodes.AllOf) else ' || ').join(map(show_expression, expression.operands))})"
        case _:
            assert_never(expression)


def _constant(constant: nodes.Constant) -> str:
    value = constant.value
    if constant.type is ValueType.STATUS and isinstance(value, int):
        value = STATUS_VALUES[value]
    if constant.type is ValueType.KIND and isinstance(value, int):
        value = KIND_VALUES[value]
    return format_literal(Literal(constant.type, value))

"""Static typing: which well-formed queries make sense.

Literals, most intrinsics and operators have a type; an attribute has none before a span is seen (None here), and goes with everything.
The texts are Tempo's, followed by a remark where one helps. Checks look at the tree as written; they change nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import assert_never

from spanlake.model.errors import QueryError
from spanlake.traceql.ast import (
    ARITHMETIC,
    EQUALITY,
    ORDERING,
    REGEX,
    Attribute,
    Binary,
    Coalesce,
    Compare,
    Count,
    CountOverTime,
    FieldExpression,
    FieldOverTime,
    GroupBy,
    Intrinsic,
    Literal,
    Logical,
    LogicalOperator,
    MetricsExpression,
    MetricsMath,
    MetricsPipeline,
    Operator,
    Pipeline,
    Place,
    QuantileOverTime,
    Query,
    Rank,
    Reduction,
    ScalarBinary,
    ScalarExpression,
    ScalarFilter,
    ScalarNegation,
    ScalarPipeline,
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
from spanlake.traceql.format import format_field, format_query, format_scalar, format_stage
from spanlake.traceql.lexer import error_at
from spanlake.traceql.regex import regex_problem as scanned_problem
from spanlake.traceql.vocabulary import ID_INTRINSICS, INTRINSIC_TYPES, NUMERIC, Scope, ValueType

RegexProblem = Callable[[str], str | None]
COMPARE_TOP_MAX = 1000
_TEXT_MAX = 200

_OPERATORS_BY_TYPE: dict[ValueType, frozenset[Operator | LogicalOperator]] = {
    ValueType.NIL: EQUALITY,
    ValueType.INT: ARITHMETIC | EQUALITY | ORDERING,
    ValueType.FLOAT: ARITHMETIC | EQUALITY | ORDERING,
    ValueType.DURATION: ARITHMETIC | EQUALITY | ORDERING,
    ValueType.STRING: EQUALITY | ORDERING | REGEX,
    ValueType.BOOL: EQUALITY | frozenset(LogicalOperator),
    ValueType.STATUS: EQUALITY,
    ValueType.KIND: EQUALITY,
}


def check(query: Query, *, regex_problem: RegexProblem = scanned_problem) -> None:
    """Raises QueryError at the first thing in the query that cannot make sense.

    `regex_problem` says why a pattern is no RE2, or None. The default knows the usual mistakes only; a caller that has the library passes
    the library's own verdict.
    """
    checker = Checker(query.source or format_query(query), regex_problem)
    if isinstance(query.root, Pipeline):
        check_pipeline(checker, query.root)
    else:
        check_metrics(checker, query.root)


@dataclass(frozen=True, slots=True)
class Checker:
    """What every check needs: the text for errors, and the judge of patterns."""

    source: str
    regex_problem: RegexProblem

    def error(self, place: Place, message: str, remark: str = "") -> QueryError:
        """The error to raise."""
        return error_at(self.source, place.start, message + (f"; {remark}" if remark else ""))


def _shown(text: str) -> str:
    return text if len(text) <= _TEXT_MAX else text[:_TEXT_MAX] + "…"


def _a(value_type: ValueType | None) -> str:
    return f"an {value_type}" if value_type is ValueType.INT else f"a {value_type}"


# ---- fields ----


def type_of(checker: Checker, expression: FieldExpression) -> ValueType | None:
    """The type of a field expression, None if only a span can tell. Raises QueryError if it can have none."""
    match expression:
        case Literal():
            return expression.type
        case Attribute():
            return None
        case Intrinsic():
            return INTRINSIC_TYPES[expression.name]
        case Unary():
            return _unary_type(checker, expression)
        case Binary():
            return _binary_type(checker, expression)
        case Logical():
            return _logical_type(checker, expression)
        case _:
            assert_never(expression)


def _unary_type(checker: Checker, unary: Unary) -> ValueType | None:
    operand = type_of(checker, unary.operand)
    allowed = NUMERIC if unary.operator is UnaryOperator.NEGATE else {ValueType.BOOL}
    if operand is not None and operand not in allowed:
        raise checker.error(unary.place, f"illegal operation for the given type: {_shown(format_field(unary))}")
    return operand


def _logical_type(checker: Checker, logical: Logical) -> ValueType:
    for operand in logical.operands:
        found = type_of(checker, operand)
        if found not in {None, ValueType.BOOL}:
            # Both sides of a binary operator must be comparable before they must be right for it.
            same = found is ValueType.NIL or all(type_of(checker, other) in {None, found} for other in logical.operands)
            problem = "illegal operation for the given types" if same else "binary operations must operate on the same type"
            remark = f"{logical.operator} joins conditions, and this is {_a(found)}" if found is not ValueType.NIL else ""
            raise checker.error(operand.place, f"{problem}: {_shown(format_field(logical))}", remark)
    return ValueType.BOOL


def _binary_type(checker: Checker, binary: Binary) -> ValueType | None:
    left, right = type_of(checker, binary.left), type_of(checker, binary.right)
    text = _shown(format_field(binary))
    if not _comparable(left, right):
        raise checker.error(binary.right.place, f"binary operations must operate on the same type: {text}", _mismatch(binary, left, right))
    if not (_allows(left, binary.operator) and _allows(right, binary.operator)):
        raise checker.error(binary.right.place, f"illegal operation for the given types: {text}")
    if binary.operator in REGEX:
        _check_regex(checker, binary, left)
    if binary.operator in ORDERING:
        for side in (binary.left, binary.right):
            if isinstance(side, Intrinsic) and side.name in ID_INTRINSICS:
                raise checker.error(side.place, f"illegal operation for the given types: {text}", "ids have no order; use = or !=")
    if binary.operator is Operator.EQUAL:
        _check_nil(checker, binary)
    if binary.operator in ARITHMETIC:
        return left if left is not None else right
    return ValueType.BOOL


def _comparable(left: ValueType | None, right: ValueType | None) -> bool:
    if left is None or right is None or ValueType.NIL in {left, right}:
        return True
    return left is right or (left in NUMERIC and right in NUMERIC)


def _allows(operand: ValueType | None, operator: Operator) -> bool:
    return operand is None or operator in _OPERATORS_BY_TYPE[operand]


def _mismatch(binary: Binary, left: ValueType | None, right: ValueType | None) -> str:
    for value_type, other in ((left, binary.right), (right, binary.left)):
        if isinstance(other, Literal) and other.type is ValueType.STRING and value_type in {ValueType.STATUS, ValueType.KIND}:
            return f"{_a(value_type)} is written without quotes, for example {_EXAMPLES[value_type]}"
        if isinstance(other, Literal) and other.type is ValueType.STRING and value_type is ValueType.DURATION:
            return "a duration is written without quotes, for example 100ms"
    return f"the left side is {_a(left)}, the right side {_a(right)}"


_EXAMPLES = {ValueType.STATUS: "error", ValueType.KIND: "server"}


def _check_regex(checker: Checker, binary: Binary, left: ValueType | None) -> None:
    pattern = binary.right
    if not isinstance(pattern, Literal) or pattern.type is not ValueType.STRING or left not in {None, ValueType.STRING}:
        remark = "a regular expression is a string on the right side"
        raise checker.error(pattern.place, f"invalid type for =~ or !~: {_shown(format_field(binary))}", remark)
    problem = checker.regex_problem(str(pattern.value))
    if problem is not None:
        raise checker.error(pattern.place, f"invalid regex: `{_shown(str(pattern.value))}`", problem)


def _check_nil(checker: Checker, binary: Binary) -> None:
    for side, other in ((binary.left, binary.right), (binary.right, binary.left)):
        if not (isinstance(other, Literal) and other.type is ValueType.NIL):
            continue
        text = format_field(side)
        if isinstance(side, Intrinsic):
            raise checker.error(side.place, f"{text}=nil is not valid because intrinsics cannot be nil")
        if isinstance(side, Attribute) and side == Attribute(Scope.RESOURCE, "service.name"):
            raise checker.error(side.place, f"{text}=nil is not valid because {text} cannot be nil", "a missing one is empty: = ``")


def _references_span(expression: FieldExpression) -> bool:
    return any(isinstance(node, Attribute | Intrinsic) for node in walk(expression))


# ---- spansets and scalars ----


def check_pipeline(checker: Checker, pipeline: Pipeline) -> None:
    """Check every stage."""
    for stage in pipeline.stages:
        check_stage(checker, stage)


def check_stage(checker: Checker, stage: Stage) -> None:
    """Check one stage of a pipeline, with all in it."""
    match stage:
        case ScalarFilter():
            _check_scalar_pair(checker, stage, format_stage(stage))
        case GroupBy():
            for expression in stage.expressions:
                type_of(checker, expression)
                if not _references_span(expression):
                    message = f"grouping field expressions must reference the span: by({_shown(format_field(expression))})"
                    raise checker.error(expression.place, message)
        case Coalesce() | Select():
            pass
        case SpansetFilter() | SpansetRelation() | SpansetLogical() | WrappedPipeline():
            _check_spansets(checker, stage)
        case _:
            assert_never(stage)


def _check_spansets(checker: Checker, expression: SpansetExpression) -> None:
    match expression:
        case SpansetFilter():
            found = type_of(checker, expression.condition)
            if found not in {None, ValueType.BOOL}:
                text = _shown(format_field(expression.condition))
                raise checker.error(
                    expression.condition.place,
                    f"span filter field expressions must resolve to a boolean: {{ {text} }}",
                    f"this is {_a(found)}; compare it with something",
                )
        case SpansetRelation():
            _check_spansets(checker, expression.left)
            _check_spansets(checker, expression.right)
        case SpansetLogical():
            for operand in expression.operands:
                _check_spansets(checker, operand)
        case WrappedPipeline():
            check_pipeline(checker, expression.pipeline)
        case _:
            assert_never(expression)


def _scalar_type(checker: Checker, scalar: ScalarExpression) -> ValueType | None:
    match scalar:
        case Literal():
            return scalar.type
        case Count():
            return ValueType.INT
        case Reduction():
            return _reduction_type(checker, scalar)
        case ScalarPipeline():
            check_pipeline(checker, scalar.pipeline)
            return _scalar_type(checker, scalar.result)
        case ScalarNegation():
            found = _scalar_type(checker, scalar.operand)
            if found is not None and found not in NUMERIC:
                raise checker.error(scalar.place, f"illegal operation for the given type: {_shown(format_scalar(scalar))}")
            return found
        case ScalarBinary():
            return _check_scalar_pair(checker, scalar, format_scalar(scalar))
        case _:
            assert_never(scalar)


def _reduction_type(checker: Checker, reduction: Reduction) -> ValueType | None:
    found = type_of(checker, reduction.argument)
    text = _shown(format_scalar(reduction))
    if found is not None and found not in NUMERIC:
        raise checker.error(
            reduction.argument.place, f"aggregate field expressions must resolve to a number type: {text}", f"this is {_a(found)}"
        )
    if not _references_span(reduction.argument):
        raise checker.error(reduction.argument.place, f"aggregate field expressions must reference the span: {text}")
    return found


def _check_scalar_pair(checker: Checker, pair: ScalarBinary | ScalarFilter, text: str) -> ValueType | None:
    left, right = _scalar_type(checker, pair.left), _scalar_type(checker, pair.right)
    if not _comparable(left, right):
        remark = f"the left side is {_a(left)}, the right side {_a(right)}"
        raise checker.error(pair.right.place, f"binary operations must operate on the same type: {_shown(text)}", remark)
    if not (_allows(left, pair.operator) and _allows(right, pair.operator)):
        raise checker.error(pair.right.place, f"illegal operation for the given types: {_shown(text)}")
    return left if left is not None else right


# ---- metrics ----


def check_metrics(checker: Checker, metrics: MetricsExpression) -> None:
    """Check metrics with the pipelines below them."""
    if isinstance(metrics, MetricsMath):
        for side in (metrics.left, metrics.right):
            if isinstance(side, MetricsPipeline | MetricsMath):
                if isinstance(side, MetricsPipeline) and isinstance(side.function, Compare):
                    raise checker.error(side.function.place, "`compare()` cannot be used in metric arithmetic")
                check_metrics(checker, side)
            else:
                _check_operand(checker, side)
    else:
        check_pipeline(checker, metrics.pipeline)
        _check_function(checker, metrics)
    for stage in metrics.second_stages:
        if isinstance(stage, Rank) and stage.limit <= 0:
            raise checker.error(stage.place, "limit must be greater than 0")


def _check_operand(checker: Checker, scalar: ScalarExpression) -> None:
    """A constant beside metrics: any arithmetic of plain numbers."""
    for node in walk(scalar):
        if isinstance(node, Literal) and node.type is ValueType.DURATION:
            alone = node is scalar
            message = "duration cannot be used " + ("as a scalar operand in metric arithmetic" if alone else "in scalar arithmetic")
            raise checker.error(node.place, message, "write the number of seconds")
    found = _scalar_type(checker, scalar)
    if found not in NUMERIC:
        raise checker.error(scalar.place, f"illegal operation for the given types: {_shown(format_scalar(scalar))}", "metrics are numbers")


def _check_function(checker: Checker, metrics: MetricsPipeline) -> None:
    function = metrics.function
    match function:
        case CountOverTime() | FieldOverTime():
            pass
        case QuantileOverTime():
            for quantile in function.quantiles:
                if not 0 <= quantile <= 1:
                    raise checker.error(function.place, f"quantile must be between 0 and 1: {quantile:g}")
        case Compare():
            _check_compare(checker, function)
            if metrics.second_stages:
                raise checker.error(metrics.second_stages[0].place, "`compare()` cannot be used with second stage functions")
        case _:
            assert_never(function)


def _check_compare(checker: Checker, compare: Compare) -> None:
    _check_spansets(checker, compare.selection)
    if not 1 <= compare.top <= COMPARE_TOP_MAX:
        message = f"compare() top number of values must be an integer between 1 and {COMPARE_TOP_MAX}"
        raise checker.error(compare.place, message)
    if compare.window is not None:
        if min(compare.window.start_ns, compare.window.end_ns) <= 0:
            raise checker.error(compare.place, "compare() timestamps must be positive Unix nanoseconds")
        if compare.window.end_ns <= compare.window.start_ns:
            raise checker.error(compare.place, "compare() end timestamp must be greater than its start timestamp")

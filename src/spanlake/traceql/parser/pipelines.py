"""Pipelines and what they are made of: spanset expressions, scalar filters, grouping, and the metrics at their end.

`(` can begin a spanset, a pipeline, an aggregate's pipeline, metrics or a number, and operators such as `>` belong to most of them. So
there is one expression reader for all; an operand remembers what it is, and an operator is resolved by the kinds of its two sides.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from spanlake.model.errors import QueryError
from spanlake.traceql.ast import (
    COMPARISON,
    METRICS_ARITHMETIC,
    REGEX,
    Aggregate,
    Coalesce,
    Count,
    FieldExpression,
    GroupBy,
    Literal,
    LogicalOperator,
    MetricsExpression,
    MetricsMath,
    MetricsPipeline,
    Node,
    Operator,
    Pipeline,
    Place,
    PointFilter,
    Reducer,
    Reduction,
    Relation,
    RelationMode,
    ScalarBinary,
    ScalarExpression,
    ScalarFilter,
    ScalarNegation,
    ScalarPipeline,
    Select,
    SpansetExpression,
    SpansetLogical,
    SpansetRelation,
    Stage,
    WrappedPipeline,
    walk,
)
from spanlake.traceql.lexer import Token, TokenKind
from spanlake.traceql.parser.cursor import Cursor
from spanlake.traceql.parser.fields import everything, field_expression, literal, references, spanset_filter
from spanlake.traceql.parser.messages import unknown_stage
from spanlake.traceql.parser.metrics import metrics_function, negated, second_stages
from spanlake.traceql.parser.precedence import PIPELINE_LEVELS, Dialect, climb
from spanlake.traceql.vocabulary import AGGREGATE_WORDS, METRICS_WORDS, NUMERIC, SECOND_STAGE_WORDS

_RELATIONS = {f"{mode}{relation}": (relation, mode) for relation in Relation for mode in RelationMode}
_SPANSET_OPERATORS = (*_RELATIONS, "&&", "||")
_OPERATORS = {str(operator): operator for operator in Operator}
_FOLLOWERS = ("|", ")", "}", ",")


@dataclass(frozen=True, slots=True)
class _Operand:
    """A side of an operator: `closed` if it stands in parentheses, `wrapped` if a WrappedPipeline is in it."""

    node: SpansetExpression | ScalarExpression | ScalarFilter | MetricsExpression
    closed: bool = False
    wrapped: bool = False


def pipeline(cursor: Cursor) -> Pipeline | ScalarExpression | MetricsExpression:
    """Everything up to a closing bracket, `with` or the end: stages, or stages that end in a scalar or in metrics, or only one of those."""
    cursor.enter()
    start = cursor.token.place.start
    stages: list[Stage] = []
    tail: ScalarExpression | MetricsExpression | None = None
    while True:
        mark = cursor.mark()
        try:
            element = _element(cursor, stages)
        except QueryError as problem:
            cursor.recover(problem, mark, "|")
        else:
            if isinstance(element, ScalarExpression | MetricsExpression):
                tail = element
            else:
                stages.append(element)
        if tail is not None or not cursor.accept("|"):
            break
    cursor.leave()
    place = Place(start, cursor.previous_end)
    if tail is None:
        if not stages:  # only when recovering, and every stage had a problem
            raise cursor.problems[-1]
        return Pipeline(tuple(stages), place)
    if isinstance(tail, ScalarExpression) and stages:
        return ScalarPipeline(Pipeline(tuple(stages), place), tail, place)
    return tail


def _element(cursor: Cursor, stages: list[Stage]) -> Stage | ScalarExpression | MetricsExpression:
    """One stage, or the scalar or the metrics that end the pipeline."""
    element = _word_stage(cursor, stages) or _expression_stage(cursor, stages)
    if not (cursor.at_end() or cursor.at(*_FOLLOWERS) or cursor.at_word("with")):
        if isinstance(element, MetricsPipeline) and cursor.at(*METRICS_ARITHMETIC):
            threshold = "metrics are compared with a single number; to combine metrics, put them in parentheses: ({ } | rate()) * 2 > 3"
            operand = "metrics that are operands stand in parentheses: ({ } | rate()) / ({ } | rate())"
            raise cursor.error(threshold if element.second_stages else operand)
        raise cursor.unexpected("an operator, `|` or the end of the query")
    if isinstance(element, ScalarExpression):
        _check_scalar_end(cursor, element, has_stages=bool(stages))
    return element


def _expression_stage(cursor: Cursor, stages: list[Stage]) -> Stage | ScalarExpression | MetricsExpression:
    operand = _expression(cursor)
    if operand.wrapped and (stages or cursor.at("|")):
        raise cursor.error("a pipeline in parentheses is only combined with others, by spanset operators; write | inside the parentheses")
    element = operand.node
    if not isinstance(element, MetricsExpression):
        return element
    if stages:
        raise cursor.error("metrics in parentheses cannot follow a stage", element.place)
    return replace(element, second_stages=(*element.second_stages, *second_stages(cursor)))


def _check_scalar_end(cursor: Cursor, scalar: ScalarExpression, *, has_stages: bool) -> None:
    has_aggregate = _has_aggregate(scalar)
    if cursor.at("|") and has_aggregate:
        raise cursor.error("an aggregate needs a comparison, for example count() > 1", scalar.place)
    if (cursor.at("|") or has_stages) and not has_aggregate:
        raise cursor.error("a constant is no stage", scalar.place)


def _word_stage(cursor: Cursor, stages: list[Stage]) -> GroupBy | Select | Coalesce | MetricsPipeline | None:
    token = cursor.token
    if cursor.at_word("by"):
        cursor.take()
        return _group(cursor, token)
    if cursor.at_word("select"):
        cursor.take()
        fields = references(cursor, "select")
        return Select(fields, Place(token.place.start, cursor.previous_end))
    if cursor.at_word("coalesce"):
        if not stages:
            raise cursor.error("coalesce() cannot be the first stage; write { } | coalesce()")
        cursor.take()
        opened = cursor.open("(", "`(` after coalesce")
        return Coalesce(Place(token.place.start, cursor.close(")", opened)))
    if cursor.at_word(*METRICS_WORDS):
        if not stages:
            raise cursor.error(f"{token.text}() needs spans to work on; write {{ }} | {token.text}( … )")
        spans = Pipeline(tuple(stages), Place(stages[0].place.start, stages[-1].place.end))
        function = metrics_function(cursor)
        second = second_stages(cursor)
        return MetricsPipeline(spans, function, second, Place(spans.place.start, cursor.previous_end))
    if cursor.at_word(*SECOND_STAGE_WORDS):
        raise cursor.error(f"{token.text}() works on metrics; write {{ }} | rate() | {token.text}( … )")
    return None


def _group(cursor: Cursor, token: Token) -> GroupBy:
    opened = cursor.open("(", "`(` after by")
    expressions: list[FieldExpression] = [field_expression(cursor)]
    while cursor.accept(","):
        expressions.append(field_expression(cursor))
    return GroupBy(tuple(expressions), Place(token.place.start, cursor.close(")", opened, "an operator, `,`")))


# ---- expressions ----


def _expression(cursor: Cursor) -> _Operand:
    """Operands joined by `&&` and `||`, from left to right."""
    first = climb(cursor, _PIPELINES)
    if not cursor.at("&&", "||"):
        return first
    chain, closed, wrapped = [first], first.closed, first.wrapped
    operator: LogicalOperator | None = None
    while cursor.at("&&", "||"):
        token = cursor.take()
        if operator is not None and operator != token.text:
            chain = [_joined(operator, chain)]
        operator = LogicalOperator(token.text)
        right = climb(cursor, _PIPELINES)
        _check_sides(cursor, token, replace(chain[-1], closed=closed, wrapped=wrapped), right)
        chain.append(right)
        closed, wrapped = closed and right.closed, wrapped or right.wrapped
    return _joined(LogicalOperator(operator or "&&"), chain)


def _joined(operator: LogicalOperator, chain: list[_Operand]) -> _Operand:
    operands = [operand.node for operand in chain if isinstance(operand.node, SpansetExpression)]
    place = Place(operands[0].place.start, operands[-1].place.end)
    first = operands[0]
    if isinstance(first, SpansetLogical) and first.operator is operator:
        operands = [*first.operands, *operands[1:]]
    return _Operand(
        SpansetLogical(operator, tuple(operands), place),
        closed=all(operand.closed for operand in chain),
        wrapped=any(operand.wrapped for operand in chain),
    )


def _check_sides(cursor: Cursor, token: Token, left: _Operand, right: _Operand) -> None:
    """Fails unless both sides are spansets, and both or none are pipelines in parentheses."""
    for side in (left, right):
        if not isinstance(side.node, SpansetExpression):
            help_text = ""
            if isinstance(side.node, ScalarFilter):
                help_text = f"; put each pipeline in parentheses: ({{ }} | count() > 1) {token.text} ({{ }} | count() > 2)"
            raise cursor.error(f"`{token.text}` joins spansets, but one side is {_kind(side.node)}{help_text}", token.place)
    if left.wrapped is not right.wrapped and not (left if right.wrapped else right).closed:
        plain = (left if right.wrapped else right).node
        raise cursor.error("next to a pipeline in parentheses the other side stands in parentheses too: ({ … })", plain.place)


def _operand(cursor: Cursor) -> _Operand:
    """One operand; recovering, `{ true }` in place of one that cannot be read, so that the operator before it keeps its meaning."""
    mark = cursor.mark()
    before = cursor.previous
    try:
        return _sure_operand(cursor)
    except QueryError as problem:
        if before is None or before.kind is not TokenKind.OPERATOR or before.text not in _SPANSET_OPERATORS:
            raise
        skipped = cursor.recover(problem, mark, "&&", "||", "|")
        return _Operand(everything(skipped), closed=True)


def _sure_operand(cursor: Cursor) -> _Operand:
    token = cursor.token
    if cursor.at("{"):
        return _Operand(spanset_filter(cursor))
    if cursor.at("("):
        return _parenthesised(cursor)
    if cursor.at("-"):
        return _negative(cursor)
    if cursor.at_word(*AGGREGATE_WORDS):
        return _Operand(_aggregate(cursor))
    number = literal(token)
    if number is not None:
        cursor.take()
        return _Operand(number)
    if token.kind is TokenKind.WORD:
        raise cursor.error(unknown_stage(token))
    if token.kind is TokenKind.ATTRIBUTE:
        raise cursor.error(f"conditions on spans stand in braces: {{ {token.text} … }}")
    if cursor.at("!"):
        raise cursor.error("`!` negates a condition and stands inside the braces: { !( … ) }")
    raise cursor.unexpected("`{`, `(`, an aggregate or a stage")


def _parenthesised(cursor: Cursor) -> _Operand:
    opened = cursor.take()
    inner = pipeline(cursor)
    place = Place(opened.place.start, cursor.close(")", opened, "an operator, `|`"))
    if not isinstance(inner, Pipeline):
        return _Operand(inner, closed=True)
    only = inner.stages[0]
    if len(inner.stages) == 1 and isinstance(only, SpansetExpression):
        return _Operand(only, closed=True, wrapped=any(isinstance(node, WrappedPipeline) for node in walk(only)))
    return _Operand(WrappedPipeline(inner, place), closed=True, wrapped=True)


def _negative(cursor: Cursor) -> _Operand:
    token = cursor.take()
    signs = [token.place.start]
    while cursor.at("-"):
        signs.append(cursor.take().place.start)
    operand = _sure_operand(cursor).node
    if not isinstance(operand, ScalarExpression):
        raise cursor.error(f"`-` negates numbers, not {_kind(operand)}", token.place)
    for start in reversed(signs):
        if isinstance(operand, Literal) and operand.type in NUMERIC:
            operand = negated(operand, start)
        else:
            operand = ScalarNegation(operand, Place(start, operand.place.end))
    return _Operand(operand)


def _aggregate(cursor: Cursor) -> Aggregate:
    token = cursor.take()
    opened = cursor.open("(", f"`(` after {token.text}")
    if token.text == "count":
        if not cursor.at(")") and not cursor.at_end():
            raise cursor.unexpected("`)` (count takes no argument)")
        return Count(Place(token.place.start, cursor.close(")", opened)))
    argument = field_expression(cursor)
    return Reduction(Reducer(token.text), argument, Place(token.place.start, cursor.close(")", opened, "an operator")))


# ---- operators, by the kinds of their sides ----


def _binary(cursor: Cursor, token: Token, left: _Operand, right: _Operand) -> _Operand:
    first, second = left.node, right.node
    if isinstance(first, SpansetExpression) or isinstance(second, SpansetExpression):
        return _related(cursor, token, left, right)
    if isinstance(first, MetricsExpression) or isinstance(second, MetricsExpression):
        return _Operand(_metrics_binary(cursor, token, first, second))
    if isinstance(first, ScalarFilter) or isinstance(second, ScalarFilter):
        raise cursor.error(f"`{token.text}` cannot be applied to a comparison; write | between two comparisons", token.place)
    return _Operand(_scalar_binary(cursor, token, first, second))


def _related(cursor: Cursor, token: Token, left: _Operand, right: _Operand) -> _Operand:
    if token.text not in _RELATIONS:
        raise cursor.error(f"`{token.text}` does not work on spansets", token.place)
    _check_sides(cursor, token, left, right)
    if not isinstance(left.node, SpansetExpression) or not isinstance(right.node, SpansetExpression):
        raise AssertionError("_check_sides lets only spansets pass")
    relation, mode = _RELATIONS[token.text]
    place = Place(left.node.place.start, right.node.place.end)
    return _Operand(
        SpansetRelation(relation, mode, left.node, right.node, place),
        closed=left.closed and right.closed,
        wrapped=left.wrapped or right.wrapped,
    )


def _scalar_binary(cursor: Cursor, token: Token, left: ScalarExpression, right: ScalarExpression) -> ScalarBinary | ScalarFilter:
    operator = _OPERATORS.get(token.text)
    if operator is None or operator in REGEX:
        raise cursor.error(f"`{token.text}` joins spansets, but one side is {_kind(left)}", token.place)
    place = Place(left.place.start, right.place.end)
    if operator not in COMPARISON:
        return ScalarBinary(operator, left, right, place)
    if not (_has_aggregate(left) or _has_aggregate(right)):
        raise cursor.error("a comparison outside braces needs an aggregate: count(), or min, max, avg, sum of a field", left.place)
    return ScalarFilter(operator, left, right, place)


_Side = ScalarExpression | ScalarFilter | MetricsExpression


def _metrics_binary(cursor: Cursor, token: Token, left: _Side, right: _Side) -> MetricsExpression:
    operator = _OPERATORS.get(token.text)
    if operator in COMPARISON and isinstance(left, MetricsExpression):
        if not isinstance(right, Literal) or right.type not in NUMERIC:
            raise cursor.error("metrics are compared with a number or a duration", right.place)
        stage = PointFilter(operator, right, Place(token.place.start, right.place.end))
        return replace(left, second_stages=(*left.second_stages, stage), place=Place(left.place.start, right.place.end))
    if operator not in METRICS_ARITHMETIC:
        known = "metrics stand on the left of a comparison" if operator in COMPARISON else "metrics are combined by + - * / only"
        raise cursor.error(f"`{token.text}` cannot stand here: {known}", token.place)
    for side in (left, right):
        if isinstance(side, MetricsMath) and side.second_stages:
            raise cursor.error(
                "topk, bottomk and comparisons of metrics arithmetic stand at the end of the query, not in parentheses", side.place
            )
        if isinstance(side, ScalarFilter) or (isinstance(side, ScalarExpression) and _has_aggregate(side)):
            raise cursor.error("metrics are combined with metrics and with constants, not with aggregates", side.place)
    if isinstance(left, ScalarFilter) or isinstance(right, ScalarFilter):
        raise AssertionError("refused above")
    return MetricsMath(operator, left, right, (), Place(left.place.start, right.place.end))


def _no_prefix(token: Token, operand: _Operand) -> _Operand:
    raise AssertionError(f"{token.text} {operand} is read by _negative")


def _has_aggregate(scalar: ScalarExpression) -> bool:
    return any(isinstance(node, Aggregate) for node in walk(scalar))


def _kind(node: Node) -> str:
    if isinstance(node, MetricsExpression):
        return "metrics"
    if isinstance(node, ScalarFilter):
        return "a comparison of aggregates"
    return "a number" if isinstance(node, ScalarExpression) else "a spanset"


_PIPELINES: Dialect[_Operand] = Dialect(PIPELINE_LEVELS, frozenset(), _operand, _no_prefix, _binary)

"""Metrics: first-stage functions with their by(), second stages."""

from __future__ import annotations

from spanlake.traceql.ast import (
    COMPARE_TOP_DEFAULT,
    Compare,
    CountOverTime,
    FieldFunction,
    FieldOverTime,
    FieldReference,
    Literal,
    MetricsFunction,
    Operator,
    Place,
    PointFilter,
    QuantileOverTime,
    Rank,
    Ranking,
    SecondStage,
    SpanCounter,
    TimeWindow,
)
from spanlake.traceql.lexer import TokenKind
from spanlake.traceql.parser.cursor import Cursor
from spanlake.traceql.parser.fields import field_reference, literal, references, spanset_filter
from spanlake.traceql.vocabulary import INT_MIN, NUMERIC, SECOND_STAGE_WORDS, ValueType

_COMPARISONS = ("=", "!=", "<", "<=", ">", ">=")
_COUNTERS = {str(function): function for function in SpanCounter}
_FIELD_FUNCTIONS = {str(function): function for function in FieldFunction}


def metrics_function(cursor: Cursor) -> MetricsFunction:
    """The function at the cursor, which is one of METRICS_WORDS."""
    token = cursor.take()
    start = token.place.start
    if token.text == "compare":
        return _compare(cursor, start)
    opened = cursor.open("(", f"`(` after {token.text}")
    if token.text in _COUNTERS:
        if not cursor.at(")") and not cursor.at_end():
            raise cursor.unexpected(f"`)` ({token.text} takes no argument)")
        cursor.close(")", opened)
        by = _by(cursor)
        return CountOverTime(_COUNTERS[token.text], by, Place(start, cursor.previous_end))
    argument = field_reference(cursor)
    if token.text in _FIELD_FUNCTIONS:
        cursor.close(")", opened)
        by = _by(cursor)
        return FieldOverTime(_FIELD_FUNCTIONS[token.text], argument, by, Place(start, cursor.previous_end))
    quantiles: list[float] = []
    while cursor.accept(","):
        quantiles.append(_quantile(cursor))
    if not quantiles:
        raise cursor.unexpected("`,` and a quantile between 0 and 1")
    cursor.close(")", opened, "`,`")
    by = _by(cursor)
    return QuantileOverTime(argument, tuple(quantiles), by, Place(start, cursor.previous_end))


def _quantile(cursor: Cursor) -> float:
    if cursor.token.kind not in {TokenKind.FLOAT, TokenKind.INTEGER}:
        raise cursor.unexpected("a quantile between 0 and 1")
    token = cursor.take()
    return float(token.value) if isinstance(token.value, int | float) else 0.0


def _by(cursor: Cursor) -> tuple[FieldReference, ...]:
    if not cursor.at_word("by"):
        return ()
    cursor.take()
    return references(cursor, "by")


def _compare(cursor: Cursor, start: int) -> Compare:
    opened = cursor.open("(", "`(` after compare")
    selection = spanset_filter(cursor)
    numbers: list[int] = []
    while cursor.at(",") and len(numbers) < 3:
        cursor.take()
        numbers.append(_integer(cursor))
    if len(numbers) == 2:
        raise cursor.unexpected("`,` and the end of the time window")
    end = cursor.close(")", opened, "`,`" if len(numbers) < 3 else "")
    top = numbers[0] if numbers else COMPARE_TOP_DEFAULT
    window = TimeWindow(numbers[1], numbers[2]) if len(numbers) > 1 else None
    return Compare(selection, top, window, Place(start, end))


def _integer(cursor: Cursor) -> int:
    if cursor.token.kind is not TokenKind.INTEGER:
        raise cursor.unexpected("a positive integer")
    value = cursor.take().value
    return value if isinstance(value, int) else 0


def second_stages(cursor: Cursor) -> tuple[SecondStage, ...]:
    """All of `| topk(n)`, `| bottomk(n)` and comparisons with a number that follow."""
    stages: list[SecondStage] = []
    while cursor.at("|", *_COMPARISONS):
        token = cursor.take()
        if token.text == "|":
            stages.append(_rank(cursor))
        else:
            threshold = _threshold(cursor)
            stages.append(PointFilter(Operator(token.text), threshold, Place(token.place.start, threshold.place.end)))
    return tuple(stages)


def _rank(cursor: Cursor) -> Rank:
    if not cursor.at_word(*SECOND_STAGE_WORDS):
        raise cursor.unexpected("topk( ) or bottomk( ) (metrics have no other stages)")
    token = cursor.take()
    opened = cursor.open("(", f"`(` after {token.text}")
    limit = _integer(cursor)
    return Rank(Ranking(token.text), limit, Place(token.place.start, cursor.close(")", opened)))


def _threshold(cursor: Cursor) -> Literal:
    start, signs = cursor.token.place.start, 0
    while cursor.accept("-"):
        signs += 1
    number = literal(cursor.token)
    if number is None or number.type not in NUMERIC:
        raise cursor.unexpected("a number or a duration")
    cursor.take()
    return negated(number, start) if signs % 2 else number


def negated(number: Literal, start: int) -> Literal:
    """The number with the other sign. minInt has no positive counterpart and stays, as it does in 64-bit arithmetic."""
    value = number.value
    if not isinstance(value, int | float) or (number.type is not ValueType.FLOAT and value == INT_MIN):
        return number
    return Literal(number.type, -value, Place(start, number.place.end))

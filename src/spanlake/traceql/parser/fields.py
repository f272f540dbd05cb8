"""Field expressions: what stands in `{ }`, in by() and in aggregates."""

from __future__ import annotations

from spanlake.model.errors import QueryError
from spanlake.traceql.ast import (
    Attribute,
    Binary,
    FieldExpression,
    FieldReference,
    Intrinsic,
    Literal,
    Logical,
    LogicalOperator,
    Operator,
    Place,
    SpansetFilter,
    Unary,
    UnaryOperator,
)
from spanlake.traceql.lexer import Token, TokenKind
from spanlake.traceql.parser.cursor import Cursor
from spanlake.traceql.parser.messages import unknown_identifier
from spanlake.traceql.parser.precedence import FIELD_LEVELS, Dialect, climb
from spanlake.traceql.vocabulary import INTRINSIC_SPELLINGS, WORD_VALUES, ValueType

_LITERAL_TYPES = {
    TokenKind.STRING: ValueType.STRING,
    TokenKind.INTEGER: ValueType.INT,
    TokenKind.FLOAT: ValueType.FLOAT,
    TokenKind.DURATION: ValueType.DURATION,
}


def field_expression(cursor: Cursor) -> FieldExpression:
    """Conditions joined by `&&` and `||`, from left to right."""
    cursor.enter()
    operands = [_condition(cursor)]
    operator: LogicalOperator | None = None
    while cursor.at("&&", "||"):
        follower = LogicalOperator(cursor.take().text)
        if operator is not None and follower is not operator:
            operands = [_joined(operator, operands)]
        operator = follower
        operands.append(_condition(cursor))
    cursor.leave()
    return _joined(operator, operands) if operator is not None else operands[0]


def spanset_filter(cursor: Cursor) -> SpansetFilter:
    """`{ condition }`; `{ }` is `{ true }`."""
    opened = cursor.open("{", "`{`")
    if cursor.at("}"):
        end = cursor.take().place.end
        return everything(Place(opened.place.start, end))
    condition = field_expression(cursor)
    return SpansetFilter(condition, Place(opened.place.start, cursor.close("}", opened, "an operator")))


def everything(place: Place) -> SpansetFilter:
    """`{ true }`."""
    return SpansetFilter(Literal(ValueType.BOOL, value=True, place=place), place)


def _joined(operator: LogicalOperator, operands: list[FieldExpression]) -> FieldExpression:
    place = Place(operands[0].place.start, operands[-1].place.end)
    first = operands[0]
    if isinstance(first, Logical) and first.operator is operator:
        operands = [*first.operands, *operands[1:]]
    return Logical(operator, tuple(operands), place)


def _condition(cursor: Cursor) -> FieldExpression:
    """One operand of `&&` and `||`; recovering, `true` in place of one that cannot be read."""
    mark, problems = cursor.mark(), len(cursor.problems)
    try:
        condition = climb(cursor, _FIELDS)
        if not (cursor.at_end() or cursor.at("&&", "||", ")", "}", ",", "|")):
            raise cursor.unexpected("an operator")
    except QueryError as problem:
        skipped = cursor.recover(problem, mark, "&&", "||", ",", "|")
        return Literal(ValueType.BOOL, value=True, place=skipped)
    if len(cursor.problems) > problems and isinstance(condition, Unary | Binary):
        # Something inside was replaced by `true`, which is neutral between && and ||, but not under ! or in a comparison.
        return Literal(ValueType.BOOL, value=True, place=condition.place)
    return condition


def _operand(cursor: Cursor) -> FieldExpression:
    token = cursor.token
    if cursor.at("("):
        opened = cursor.take()
        inner = field_expression(cursor)
        cursor.close(")", opened, "an operator")
        return inner
    value = reference(token) or literal(token)
    if value is None:
        if token.kind is TokenKind.WORD:
            raise cursor.error(unknown_identifier(cursor.previous, token, cursor.next_token()))
        raise cursor.unexpected("an attribute or a value")
    cursor.take()
    return value


def reference(token: Token) -> FieldReference | None:
    """The attribute or intrinsic that the token is, if it is one."""
    if token.kind is TokenKind.ATTRIBUTE and isinstance(token.value, Attribute):
        return token.value
    if token.kind is TokenKind.WORD and token.text in INTRINSIC_SPELLINGS:
        return Intrinsic(INTRINSIC_SPELLINGS[token.text], token.place)
    return None


def literal(token: Token) -> Literal | None:
    """The constant that the token is, if it is one."""
    if token.kind in _LITERAL_TYPES and not isinstance(token.value, Attribute):
        return Literal(_LITERAL_TYPES[token.kind], token.value, token.place)
    if token.kind is TokenKind.WORD and token.text in WORD_VALUES:
        value_type, value = WORD_VALUES[token.text]
        return Literal(value_type, value, token.place)
    return None


def references(cursor: Cursor, function: str) -> tuple[FieldReference, ...]:
    """`(field, …)` of select(), and of by() in metrics."""
    opened = cursor.open("(", f"`(` after {function}")
    found = [field_reference(cursor)]
    while cursor.accept(","):
        found.append(field_reference(cursor))
    cursor.close(")", opened, "`,`")
    return tuple(found)


def field_reference(cursor: Cursor) -> FieldReference:
    """One attribute or intrinsic, nothing more."""
    token = cursor.token
    field = reference(token)
    if field is None:
        if token.kind is TokenKind.WORD and token.text not in WORD_VALUES:
            raise cursor.error(unknown_identifier(cursor.previous, token, cursor.next_token()))
        raise cursor.unexpected("an attribute or an intrinsic")
    cursor.take()
    return field


def _prefix(token: Token, operand: FieldExpression) -> FieldExpression:
    return Unary(UnaryOperator(token.text), operand, Place(token.place.start, operand.place.end))


def _binary(_: Cursor, token: Token, left: FieldExpression, right: FieldExpression) -> FieldExpression:
    return Binary(Operator(token.text), left, right, Place(left.place.start, right.place.end))


_FIELDS: Dialect[FieldExpression] = Dialect(FIELD_LEVELS, frozenset({"-", "!"}), _operand, _prefix, _binary)

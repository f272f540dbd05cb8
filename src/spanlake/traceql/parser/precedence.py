"""Operator precedence, once for fields, spansets and scalars.

The levels, lowest first: `&&` and `||` (2; read by the callers, as they make chains), comparisons and structural operators (3), `+ -` and
the minus of fields (4), `!` (5), `* / %` (6), `^` (7; the only one that groups from the right). `climb` reads one operand of the `&&` level
with an explicit stack, so that neither long chains nor many signs recurse.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Generic, TypeVar

from spanlake.traceql.lexer import Token, TokenKind
from spanlake.traceql.parser.cursor import Cursor

Operand = TypeVar("Operand")

_VALUE_LEVELS = {"+": 4, "-": 4, "*": 6, "/": 6, "%": 6, "^": 7}
_STRUCTURAL = ("!~", ">>", "<<", "~", "!>", "!>>", "!<", "!<<", "&>", "&>>", "&<", "&<<", "&~")
FIELD_LEVELS: Mapping[str, int] = {**dict.fromkeys(("=", "!=", "<", "<=", ">", ">=", "=~", "!~"), 3), **_VALUE_LEVELS}
PIPELINE_LEVELS: Mapping[str, int] = {**dict.fromkeys(("=", "!=", "<", "<=", ">", ">=", *_STRUCTURAL), 3), **_VALUE_LEVELS}
_PREFIX_LEVELS = {"-": 4, "!": 5}
_FROM_THE_RIGHT = 7


@dataclass(frozen=True, slots=True)
class Dialect(Generic[Operand]):
    """What one kind of expression is made of: how to read an operand, and what an operator makes of its operands."""

    levels: Mapping[str, int]
    prefixes: frozenset[str]
    operand: Callable[[Cursor], Operand]
    prefix: Callable[[Token, Operand], Operand]
    binary: Callable[[Cursor, Token, Operand, Operand], Operand]


@dataclass(frozen=True, slots=True)
class _Waiting:
    token: Token
    level: int
    is_prefix: bool


def climb(cursor: Cursor, dialect: Dialect[Operand]) -> Operand:
    """One operand with all operators above the `&&` level that follow it."""
    operands: list[Operand] = []
    waiting: list[_Waiting] = []
    while True:
        while cursor.at(*dialect.prefixes):
            token = cursor.take()
            waiting.append(_Waiting(token, _PREFIX_LEVELS[token.text], is_prefix=True))
        operands.append(dialect.operand(cursor))
        level = dialect.levels.get(cursor.token.text, 0) if cursor.token.kind is TokenKind.OPERATOR else 0
        while waiting and (waiting[-1].level > level or (waiting[-1].level == level != _FROM_THE_RIGHT)):
            _reduce(cursor, dialect, waiting.pop(), operands)
        if not level:
            return operands.pop()
        waiting.append(_Waiting(cursor.take(), level, is_prefix=False))


def _reduce(cursor: Cursor, dialect: Dialect[Operand], operator: _Waiting, operands: list[Operand]) -> None:
    right = operands.pop()
    if operator.is_prefix:
        operands.append(dialect.prefix(operator.token, right))
    else:
        operands.append(dialect.binary(cursor, operator.token, operands.pop(), right))

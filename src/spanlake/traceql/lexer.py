"""Text to tokens.

The whole text is cut at once. What cannot be a token becomes a BROKEN one that carries the reason, so that the parser reports problems in
the order in which they stand, and can go on behind them when it recovers. The lexer knows scopes, because the characters of a name depend
on its being an attribute, but no keywords: those are WORDs.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum, auto

from spanlake.model.errors import QueryError
from spanlake.traceql.ast import Attribute, Place
from spanlake.traceql.durations import parse_duration
from spanlake.traceql.literals import BadEscape, unquote
from spanlake.traceql.vocabulary import INT_MAX, Scope


class TokenKind(Enum):
    """What a token is; `value` of the token is what it stands for."""

    WORD = auto()  # identifier, or two joined by a colon; no value
    ATTRIBUTE = auto()  # Attribute
    STRING = auto()  # str
    INTEGER = auto()  # int
    FLOAT = auto()  # float
    DURATION = auto()  # int, ns
    OPERATOR = auto()  # brackets, comma and pipe included; no value
    BROKEN = auto()  # str, why it is no token
    END = auto()


@dataclass(frozen=True, slots=True)
class Token:
    kind: TokenKind
    text: str
    place: Place
    value: str | int | float | Attribute | None = None


_SCOPES = "|".join(scope for scope in Scope if scope)
_TOKEN = re.compile(
    rf"""
      (?P<space> [ \t\r\n]++ | //[^\n]*+ | /\*.*?\*/ )
    | (?P<open_comment> /\* )
    | (?P<number> (?: [0-9]++ (?: \.[0-9]*+ )? | \.[0-9]++ ) (?: [eE][+-]?[0-9]++ )? )
    | (?P<attribute> parent\.(?: span\. | resource\. )? | (?: {_SCOPES} )\. | \. )
    | (?P<word> [^\W\d]\w*+ (?: :[^\W\d]\w*+ )? )
    | (?P<string> "(?: [^"\\\n] | \\[^\n] )*+" )
    | (?P<open_string> "[^\n]*+ )
    | (?P<raw_string> `[^`]*+` )
    | (?P<open_raw_string> `.*+ )
    | (?P<operator> && | \|\| | [!&]>> | [!&]<< | [!&][><~] | != | =~ | <= | >= | << | >> | [{{}}(),|+\-*/%^=<>~!] )
    """,
    re.VERBOSE | re.DOTALL,
)
_NAME = re.compile(r'(?:[^\s{}()=~!<>&|^,"]++|"(?:[^"\\]|\\.)*+")*+', re.DOTALL)
_NAME_PART = re.compile(r'([^"]++)|"((?:[^"\\]|\\.)*+)"', re.DOTALL)
_NAME_ESCAPE = re.compile(r"\\(.)", re.DOTALL)
_DURATION_TAIL_MAX = 100
_DURATION_TAIL = re.compile(rf"[0-9.nsumhµμdwy]{{1,{_DURATION_TAIL_MAX}}}+")
_DIGITS_MAX = 19

_REMARKS = {
    "'": "strings stand in double quotes or back-ticks, not in single quotes",
    "“": 'write a plain double quote "',
    "”": 'write a plain double quote "',
    "‘": "strings stand in plain double quotes or back-ticks",
    "’": "strings stand in plain double quotes or back-ticks",
    "&": "write && for and",
    "[": 'there are no lists; join comparisons with ||, or match a regular expression: =~ "a|b"',
    "]": "there are no lists",
    ";": "stages are separated by |",
    "$": "was a dashboard variable not replaced?",
    "#": "a comment starts with //",
}


def lex(source: str, *, tokens_max: int) -> tuple[Token, ...]:
    """The tokens of the text, an END last. Raises QueryError where there are more than `tokens_max`."""
    tokens: list[Token] = []
    for token in _tokens(source):
        if len(tokens) >= tokens_max:
            raise error_at(source, token.place.start, f"the query is longer than {tokens_max} tokens")
        tokens.append(token)
    return (*tokens, Token(TokenKind.END, "", Place(len(source), len(source))))


def error_at(source: str, offset: int, message: str) -> QueryError:
    """The error for a user, at a code point offset of the source."""
    line = source.count("\n", 0, offset) + 1
    column = offset - source.rfind("\n", 0, offset)
    return QueryError(message, source=source, line=line, column=column)


def _tokens(source: str) -> Iterator[Token]:
    position = 0
    while position < len(source):
        match = _TOKEN.match(source, position)
        group = match.lastgroup if match else None
        if match is None or group is None:
            token = _stray(source, position)
        elif group == "space":
            position = match.end()
            continue
        else:
            token = _token(source, match, group)
        yield token
        position = token.place.end


def _token(source: str, match: re.Match[str], group: str) -> Token:
    text, place = match.group(), Place(match.start(), match.end())
    match group:
        case "word":
            return Token(TokenKind.WORD, text, place)
        case "operator":
            return Token(TokenKind.OPERATOR, text, place)
        case "attribute":
            return _attribute(source, text, place)
        case "number":
            return _number(source, text, place)
        case "string":
            return _string(text, place)
        case "raw_string":
            return Token(TokenKind.STRING, text, place, text[1:-1].replace("\r", ""))
        case "open_string":
            return _broken(text, place, 'this string has no closing "')
        case "open_raw_string":
            return _broken(text, place, "this string has no closing back-tick")
        case _:
            return _broken(text, Place(place.start, len(source)), "this comment has no closing */")


def _broken(text: str, place: Place, reason: str) -> Token:
    return Token(TokenKind.BROKEN, text, place, reason)


def _stray(source: str, position: int) -> Token:
    character = source[position]
    shown = character if character.isprintable() else f"U+{ord(character):04X} {unicodedata.name(character, '')}".rstrip()
    remark = "write an ordinary blank" if character.isspace() else _REMARKS.get(character, "")
    return _broken(character, Place(position, position + 1), f"unexpected character {shown}" + (f": {remark}" if remark else ""))


def _string(text: str, place: Place) -> Token:
    try:
        return Token(TokenKind.STRING, text, place, unquote(text[1:-1]))
    except BadEscape as bad:
        return _broken(text, Place(place.start + 1 + bad.offset, place.end), str(bad))


def _number(source: str, text: str, place: Place) -> Token:
    tail = _DURATION_TAIL.match(source, place.end)
    if tail is not None and len(tail.group()) < _DURATION_TAIL_MAX:
        duration_ns = parse_duration(text + tail.group())
        if duration_ns is not None:
            return Token(TokenKind.DURATION, text + tail.group(), Place(place.start, tail.end()), duration_ns)
    if text.isdecimal():
        digits = text.lstrip("0")
        number = int(digits or "0") if len(digits) <= _DIGITS_MAX else INT_MAX + 1
        if number > INT_MAX:
            return _broken(text, place, "integer out of range; the largest is maxInt, the smallest minInt")
        return Token(TokenKind.INTEGER, text, place, number)
    value = float(text)
    if value == float("inf"):
        return _broken(text, place, "number out of range")
    return Token(TokenKind.FLOAT, text, place, value)


def _attribute(source: str, prefix: str, place: Place) -> Token:
    found = _NAME.match(source, place.end)
    end = found.end() if found else place.end
    raw = source[place.end : end]
    text, whole = prefix + raw, Place(place.start, end)
    if source.startswith('"', end):
        return _broken(text, Place(end, len(source)), 'this name has no closing "')
    name = raw
    if '"' in raw:
        for escape in _NAME_ESCAPE.finditer("".join(quoted for _, quoted in _NAME_PART.findall(raw))):
            if escape.group(1) not in {'"', "\\"}:
                return _broken(text, whole, f'unknown escape {escape.group()} in a name; only \\" and \\\\ are possible')
        name = "".join(plain or _NAME_ESCAPE.sub(r"\1", quoted) for plain, quoted in _NAME_PART.findall(raw))
    if not name:
        return _broken(text, whole, f"expected the name of an attribute after {prefix}")
    of_parent = prefix.startswith("parent.")
    scope = Scope(prefix.removeprefix("parent.").rstrip("."))
    return Token(TokenKind.ATTRIBUTE, text, whole, Attribute(scope, name, of_parent, whole))

"""The remarks of parse errors: what the writer probably meant, and what to write instead.

Pure functions from the tokens around a failure to text. They never decide whether something is an error.
"""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches

from spanlake.traceql.lexer import Token, TokenKind
from spanlake.traceql.vocabulary import (
    AGGREGATE_WORDS,
    INTRINSIC_SPELLINGS,
    METRICS_WORDS,
    SECOND_STAGE_WORDS,
    STAGE_WORDS,
    WORD_VALUES,
)

_SHOWN_MAX = 40
_SPELLING_CUTOFF = 0.75
_IN = 'write .a = "x" || .a = "y", or a regular expression: .a =~ "x|y"'
_REGEX = 'write =~ and a regular expression for the whole value: .a =~ ".*text.*"'
_FOREIGN_WORDS = {
    "and": "write &&",
    "or": "write ||",
    "not": "write ! before a condition in parentheses, or != and !~",
    "in": _IN,
    "like": _REGEX,
    "contains": _REGEX,
    "matches": _REGEX,
    "is": "write = nil or != nil",
    "null": "write nil",
    "none": "write nil",
    "limit": "the number of traces is a parameter of the request",
    "sort": "traces always come newest first",
    "order": "traces always come newest first",
    "where": "conditions stand in braces: { name = `x` }",
}
_NUMBERS = frozenset({TokenKind.INTEGER, TokenKind.FLOAT, TokenKind.DURATION})
_COMPARISONS = frozenset({"=", "!=", "<", "<=", ">", ">=", "=~", "!~"})
_STRUCTURAL = frozenset({">>", "<<", "~", "!>", "!>>", "!<", "!<<", "&>", "&>>", "&<", "&<<", "&~"})
_PIPELINE_WORDS = (*AGGREGATE_WORDS, *STAGE_WORDS, *METRICS_WORDS, *SECOND_STAGE_WORDS)


def describe(token: Token) -> str:
    """The token as an error names it."""
    return "the end of the query" if token.kind is TokenKind.END else f"`{shorten(token.text)}`"


def shorten(text: str, length_max: int = _SHOWN_MAX) -> str:
    """The text, or its beginning with an ellipsis."""
    return text if len(text) <= length_max else text[: length_max - 1] + "…"


def remark(before: Token | None, token: Token, after: Token) -> str:
    """Help for a token that cannot stand where it does; empty if there is nothing to say."""
    if before is not None and token.kind is TokenKind.WORD and before.kind in _NUMBERS and before.place.end == token.place.start:
        return f"`{shorten(before.text + token.text)}` is neither a number nor a duration (durations are like 100ms, 1.5s, 1h30m)"
    if token.kind is TokenKind.WORD:
        return _FOREIGN_WORDS.get(token.text.lower(), "")
    if token.kind is not TokenKind.OPERATOR:
        return ""
    pair = (before.text if before is not None and before.kind is TokenKind.OPERATOR else "") + token.text
    adjacent = token.text + (after.text if after.kind is TokenKind.OPERATOR else "")
    if pair == "==" or adjacent == "==":
        return "equality is a single ="
    if pair in {"<>", "=!"} or adjacent in {"<>", "=!"}:
        return "write != for inequality"
    if pair in {"=>", "=<"} or adjacent in {"=>", "=<"}:
        return "write >= or <="
    return f"`{token.text}` stands between spansets: {{ … }} {token.text} {{ … }}" if token.text in _STRUCTURAL else ""


def unknown_identifier(before: Token | None, token: Token, after: Token) -> str:
    """The message for a word that is no value where a value belongs."""
    word = token.text
    message = f"unknown identifier: {shorten(word)}"
    if word in _PIPELINE_WORDS:
        return f"`{word}` does not work on a single span; it stands behind the braces: {{ }} | {word}( … )"
    if word == "parent":
        return "`parent` alone is no value; write parent.x for an attribute of the parent span, or span:parentID"
    help_text = _identifier_help(word, before, after, adjacent=after.place.start == token.place.end)
    return f"{message}; {help_text}"


def _identifier_help(word: str, before: Token | None, after: Token, *, adjacent: bool) -> str:
    if word.lower() in _FOREIGN_WORDS:
        return _FOREIGN_WORDS[word.lower()]
    scope, colon, name = word.partition(":")
    if colon:
        return _colon_help(scope, name)
    if adjacent and after.kind is TokenKind.ATTRIBUTE and after.text.startswith("."):
        return f"attributes start with a dot or a scope: .{shorten(word + after.text)} or span.{shorten(word + after.text)}"
    meant = closest(word, (*INTRINSIC_SPELLINGS, *WORD_VALUES))
    if meant:
        return f"did you mean {meant}?"
    if before is not None and before.kind is TokenKind.OPERATOR and before.text in _COMPARISONS:
        return f'strings stand in quotes: "{shorten(word)}"'
    return f"for an attribute write .{shorten(word)}, span.{shorten(word)} or resource.{shorten(word)}"


def _colon_help(scope: str, name: str) -> str:
    known = [spelling for spelling in INTRINSIC_SPELLINGS if spelling.startswith(f"{scope}:")]
    if not known:
        return "a colon stands only after trace, span, event, link and instrumentation"
    elsewhere = next((spelling for spelling in INTRINSIC_SPELLINGS if spelling.endswith(f":{name}")), "")
    meant = closest(f"{scope}:{name}", known) or elsewhere
    if meant:
        return f"did you mean {meant}?"
    attribute = "" if scope == "trace" else f"; for an attribute write {scope}.{shorten(name)}"
    return f"{scope} has {', '.join(known)}{attribute}"


def unknown_stage(token: Token) -> str:
    """The message for a word that begins no stage."""
    word = token.text
    if word in INTRINSIC_SPELLINGS or word in WORD_VALUES:
        return f"conditions on spans stand in braces: {{ {word} … }}"
    meant = closest(word, _PIPELINE_WORDS)
    if word.lower() in _FOREIGN_WORDS and not meant:
        return f"unknown function or stage: {word}; {_FOREIGN_WORDS[word.lower()]}"
    known = f"did you mean {meant}?" if meant else f"stages are {{ … }}, {', '.join(_PIPELINE_WORDS)}"
    return f"unknown function or stage: {shorten(word)}; {known}"


def closest(word: str, known: Iterable[str]) -> str:
    """The known word that was probably meant, or nothing."""
    if len(word) > _SHOWN_MAX:
        return ""
    by_lower = {candidate.lower(): candidate for candidate in known}
    matches = get_close_matches(word.lower(), by_lower, n=1, cutoff=_SPELLING_CUTOFF)
    return by_lower[matches[0]] if matches else ""

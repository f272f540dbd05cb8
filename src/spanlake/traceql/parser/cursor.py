"""The parser's place in the token list: reading, failing, and going on after a failure.

One grammar serves two modes. A strict cursor lets the first QueryError out. A recovering one records it, skips to a token from which the
grammar function that caught it can go on, and that function puts `true` (or nothing) where the unusable part stood. Which functions catch
is their business; how to skip is decided here.
"""

from __future__ import annotations

from dataclasses import dataclass

from spanlake.model.errors import QueryError
from spanlake.traceql.ast import Place
from spanlake.traceql.lexer import Token, TokenKind, error_at
from spanlake.traceql.parser.messages import describe, remark

_OPENING = frozenset({"(", "{"})
_CLOSING = frozenset({")", "}"})
PROBLEMS_MAX = 100


@dataclass(frozen=True, slots=True)
class Mark:
    """A state of the cursor to come back to after a failure."""

    index: int
    depth: int


class Cursor:
    """Reads tokens from left to right; owns the nesting depth and, when recovering, the problems found so far."""

    __slots__ = ("_depth_max", "_tokens", "depth", "index", "problems", "recovering", "source", "token")

    def __init__(self, source: str, tokens: tuple[Token, ...], *, depth_max: int, recovering: bool) -> None:
        self.source = source
        self.recovering = recovering
        self.problems: list[QueryError] = []
        self.index = 0
        self.depth = 0
        self.token = tokens[0]
        self._tokens = tokens
        self._depth_max = depth_max

    @property
    def previous(self) -> Token | None:
        """The token before the current one."""
        return self._tokens[self.index - 1] if self.index else None

    @property
    def previous_end(self) -> int:
        """Where the token before the current one ends."""
        return self._tokens[self.index - 1].place.end if self.index else 0

    def next_token(self) -> Token:
        """The token after the current one; behind the end, the END again."""
        return self._tokens[min(self.index + 1, len(self._tokens) - 1)]

    def take(self) -> Token:
        """The current token, which is not the END, and step over it."""
        token = self.token
        self._move(self.index + 1)
        return token

    def at(self, *texts: str) -> bool:
        """Whether the current token is one of these operators or brackets."""
        return self.token.kind is TokenKind.OPERATOR and self.token.text in texts

    def at_word(self, *words: str) -> bool:
        """Whether the current token is one of these words."""
        return self.token.kind is TokenKind.WORD and self.token.text in words

    def at_end(self) -> bool:
        """Whether no token is left."""
        return self.token.kind is TokenKind.END

    def accept(self, text: str) -> bool:
        """Step over this operator or bracket, if it is the current token."""
        if self.at(text):
            self.take()
            return True
        return False

    def open(self, bracket: str, wanted: str) -> Token:
        """Step over an opening bracket, or fail: expected `wanted`."""
        if not self.at(bracket):
            raise self.unexpected(wanted)
        return self.take()

    def close(self, bracket: str, opened: Token, instead: str = "") -> int:
        """Step over the bracket that closes `opened`; the offset behind it. `instead` names what else could stand here.

        Recovering, a missing bracket counts as read.
        """
        if not self.at(bracket):
            opening = error_at(self.source, opened.place.start, "")
            wanted = f"`{bracket}` to close the `{opened.text}` at {opening.line}:{opening.column}"
            if bracket == "}" and self.at(","):
                wanted += " (conditions are joined by &&)"
            self.record(self.unexpected(f"{instead} or {wanted}" if instead else wanted))
            self._skip(self.index, frozenset({bracket, "|"}))
            if not self.at(bracket):
                return self.previous_end
        return self.take().place.end

    def enter(self) -> None:
        """Go one level of nesting deeper; fails at the bound."""
        if self.depth >= self._depth_max:
            raise self.error(f"the query is nested more than {self._depth_max} levels deep")
        self.depth += 1

    def leave(self) -> None:
        """Undo one enter()."""
        self.depth -= 1

    def error(self, message: str, place: Place | None = None) -> QueryError:
        """The error to raise for a place, or for the current token."""
        return error_at(self.source, (place or self.token.place).start, message)

    def unexpected(self, wanted: str) -> QueryError:
        """The error to raise for the current token, which is not what was wanted."""
        if self.token.kind is TokenKind.BROKEN:
            return self.error(str(self.token.value))
        help_text = remark(self.previous, self.token, self.next_token())
        return self.error(f"expected {wanted}, found {describe(self.token)}" + (f"; {help_text}" if help_text else ""))

    def mark(self) -> Mark:
        """The present state."""
        return Mark(self.index, self.depth)

    def recover(self, problem: QueryError, mark: Mark, *stops: str) -> Place:
        """Record the problem and skip, from where the failed part began, to one of the stops or the bracket that closes around it.

        Only tokens outside brackets opened within the part count, and nothing before the failure. The place that was skipped.
        Raises the problem where the cursor is strict.
        """
        self.record(problem)
        self.depth = mark.depth
        start = self._tokens[mark.index].place.start
        self._skip(mark.index, frozenset(stops))
        return Place(start, max(start, self.previous_end))

    def record(self, problem: QueryError) -> None:
        """Keep the problem, once; raise it where the cursor is strict or has had enough."""
        if not self.recovering or len(self.problems) >= PROBLEMS_MAX:
            raise problem
        if problem not in self.problems[-1:]:
            self.problems.append(problem)

    def _skip(self, start: int, stops: frozenset[str]) -> None:
        if self.at_end():
            return
        failure, index, open_brackets = self.index, start, 0
        while (token := self._tokens[index]).kind is not TokenKind.END:
            if token.kind is TokenKind.OPERATOR:
                if index >= failure and not open_brackets and (token.text in stops or token.text in _CLOSING):
                    break
                if token.text in _OPENING:
                    open_brackets += 1
                elif token.text in _CLOSING and open_brackets:
                    open_brackets -= 1
            index += 1
        self._move(index)

    def _move(self, index: int) -> None:
        self.index = index
        self.token = self._tokens[index]

"""The one parser of TraceQL: tokens to a tree, strictly or recovering.

`parse` wants the whole text to be right. `parse_recovering` reads the same grammar, but leaves out what it cannot use. Both keep the
tree as written: types are checked, and constants folded, elsewhere.
"""

from __future__ import annotations

from spanlake.model.errors import QueryError
from spanlake.traceql.ast import (
    FieldReference,
    Hint,
    MetricsMath,
    MetricsPipeline,
    Node,
    Pipeline,
    Place,
    Query,
    ScalarPipeline,
    WrappedPipeline,
    children,
)
from spanlake.traceql.lexer import TokenKind, error_at, lex
from spanlake.traceql.parser.cursor import Cursor
from spanlake.traceql.parser.fields import field_reference, literal
from spanlake.traceql.parser.metrics import negated
from spanlake.traceql.parser.pipelines import pipeline
from spanlake.traceql.vocabulary import NUMERIC

QUERY_BYTES_MAX = 128 * 1024
TOKENS_MAX = 64 * 1024
DEPTH_MAX = 64
STAGES_MAX = 200
"""Stages of all pipelines of a query together, second stages of metrics included: each takes its time on every span or series."""


def parse(text: str, *, bytes_max: int = QUERY_BYTES_MAX, tokens_max: int = TOKENS_MAX, depth_max: int = DEPTH_MAX) -> Query:
    """The tree of the text, unchecked.

    Raises QueryError, at the first problem: the text is no TraceQL, or is longer than `bytes_max` bytes of UTF-8 or `tokens_max` tokens, or
    is nested more than `depth_max` levels deep, or has more than STAGES_MAX stages. Chains of one `&&` or `||` count as one level whatever
    their length.
    """
    cursor = _cursor(text, bytes_max, tokens_max, depth_max, recovering=False)
    return _query(cursor, depth_max)


def parse_recovering(
    text: str, *, bytes_max: int = QUERY_BYTES_MAX, tokens_max: int = TOKENS_MAX, depth_max: int = DEPTH_MAX
) -> tuple[Query | None, tuple[QueryError, ...]]:
    """The usable part of the text, and the problems with the rest in the order in which they were met. Never raises.

    An unreadable condition becomes `true`, an unreadable operand of a spanset operator `{ true }`, an unreadable stage is left out, and
    missing closing brackets are added. None if nothing is left.
    """
    problems: list[QueryError] = []
    try:
        cursor = _cursor(text, bytes_max, tokens_max, depth_max, recovering=True)
        problems = cursor.problems
        return _query(cursor, depth_max), tuple(problems)
    except QueryError as problem:
        return None, tuple(problems) if problem in problems[-1:] else (*problems, problem)


def parse_reference(text: str, *, bytes_max: int = QUERY_BYTES_MAX) -> FieldReference:
    """The one attribute or intrinsic that the text is: `span.http.method`, `resource."a b"`, `event:name`. Raises QueryError."""
    cursor = _cursor(text, bytes_max, TOKENS_MAX, DEPTH_MAX, recovering=False)
    field = field_reference(cursor)
    if not cursor.at_end():
        raise cursor.unexpected("nothing after the attribute")
    return field


def _cursor(text: str, bytes_max: int, tokens_max: int, depth_max: int, *, recovering: bool) -> Cursor:
    try:
        size_bytes = len(text) if text.isascii() else len(text.encode())
    except UnicodeEncodeError as error:
        raise error_at(text, error.start, "this character is half of a surrogate pair, no Unicode text") from None
    if size_bytes > bytes_max:
        message = (
            f"TraceQL expression exceeds the configured maximum size of {bytes_max} bytes, "
            "reduce the query expression size or contact your system administrator"
        )
        raise error_at(text[:100], 0, message)
    return Cursor(text, lex(text, tokens_max=tokens_max), depth_max=depth_max, recovering=recovering)


def _query(cursor: Cursor, depth_max: int) -> Query:
    if cursor.at_end():
        raise cursor.error("the query is empty; { } finds all spans")
    body = pipeline(cursor)
    if not isinstance(body, Pipeline | MetricsPipeline | MetricsMath):
        scalar = body.result if isinstance(body, ScalarPipeline) else body
        raise cursor.error("a value alone is no query; compare an aggregate with it, for example { } | count() > 1", scalar.place)
    hints = _hints(cursor)
    if not cursor.at_end():
        cursor.record(cursor.unexpected("the end of the query"))
    only = body.stages[0] if isinstance(body, Pipeline) else None
    query = Query(only.pipeline if isinstance(only, WrappedPipeline) else body, hints, cursor.source)
    _check_size(cursor, query, depth_max)
    return query


def _hints(cursor: Cursor) -> tuple[Hint, ...]:
    hints: list[Hint] = []
    try:
        while cursor.at_word("with"):
            cursor.take()
            opened = cursor.open("(", "`(` after with")
            hints.append(_hint(cursor))
            while cursor.accept(","):
                hints.append(_hint(cursor))
            cursor.close(")", opened, "`,`")
    except QueryError as problem:
        cursor.record(problem)
    return tuple(hints)


def _hint(cursor: Cursor) -> Hint:
    if cursor.token.kind is not TokenKind.WORD:
        raise cursor.unexpected("the name of a hint")
    name = cursor.take()
    cursor.open("=", f"`=` after {name.text}")
    start = cursor.token.place.start
    is_negative = cursor.accept("-")
    value = literal(cursor.token)
    if value is None or (is_negative and value.type not in NUMERIC):
        raise cursor.unexpected("a value")
    cursor.take()
    return Hint(name.text, negated(value, start) if is_negative else value, Place(name.place.start, value.place.end))


def _check_size(cursor: Cursor, query: Query, depth_max: int) -> None:
    """Brackets were bounded while they were read; operators nest without them (`a + b + c`), so the finished tree is measured too."""
    waiting: list[tuple[Node, int]] = [(query, 0)]
    stages = 0
    while waiting:
        node, depth = waiting.pop()
        stages += _stage_count(node)
        if stages > STAGES_MAX:
            raise cursor.error(f"the query has more than {STAGES_MAX} stages", query.root.place)
        if depth > depth_max and not isinstance(node, Query):
            raise cursor.error(f"the query is nested more than {depth_max} levels deep", node.place)
        waiting.extend((child, depth + 1) for child in children(node))


def _stage_count(node: Node) -> int:
    """Stages of the node itself, without those of its parts."""
    match node:
        case Pipeline():
            return len(node.stages)
        case MetricsPipeline() | MetricsMath():
            return len(node.second_stages)
        case _:
            return 0

"""Hostile TraceQL: whatever the text, the way from it to a plan ends in an answer or in a QueryError, within the bounds of the language.

Random token soup is in test_traceql_laws; here are mutations of queries that clients send, and texts as wide as the bounds allow. Nothing
is timed: what takes more than linear time would not end within the time limit of the whole run.
"""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spanlake.model.errors import InvalidInput, QueryError
from spanlake.traceql import check, fold, format_query, parse, parse_leniently
from spanlake.traceql.ast import Query
from spanlake.traceql.plan import any_of, finds_nothing, needs, plan_search, show, trace_ids

pytestmark = pytest.mark.slow

VALID = [
    "{nestedSetParent<0 && true} | rate()  with(sample=true)",
    '{ resource.service.name = "shop" && span.http.status_code >= 500 || !(duration > 1.5s) }',
    "({ status = error } &>> { status = error }) || ({ true }) | select(status, resource.service.name, nestedSetLeft)",
    "{ .a = nil } | by(span.b, name) | count() + 5 > 25 | coalesce() | avg(duration) < max(.x)",
    '{ span."x y" =~ `a|b` && event:name != nil && parent.resource.c = -1 } !>> { } | topk(3)',
    "({ } | rate() by (name)) / ({ } | count_over_time()) * 100 > 5 | bottomk(2) with (exemplars=false)",
    "{ } | compare({ duration >= 2s && duration <= 5s }, 10, 1700000000000000000, 1700000060000000000)",
    "{ } | quantile_over_time(duration, 0.5, .9, 0.99) by (resource.service.name)",
    "{ trace:id = `a1` && span:kind = server && (1 + 2 * 3 ^ 2 % 5 - 4) / 2 = duration }",
]
SNIPPETS = [
    *(
        "{",
        "}",
        "(",
        ")",
        "|",
        "&&",
        "||",
        ">>",
        "!<<",
        "&~",
        "=~",
        "!",
        "-",
        "^",
        "%",
        "/",
        "//",
        "/*",
        "*/",
        ".",
        ":",
        ",",
        '"',
        "`",
        "\\",
    ),
    *("nil", "true", "9" * 25, "1e400", "0x1", "5s5", "1d1w", ".5", "5.", "minInt", "\x00", "\u202e", "é", "𝒳", "\n", " " * 50),
    *("by(", "select(", "rate(", "with(", "count()", "topk(", "parent.", "span.", "event:", "nestedSetParent", "compare({"),
]


def mutated(text: str, seed: int, mutations: int) -> str:
    """The text after so many random cuts, insertions, doublings and swaps."""
    chance = random.Random(seed)
    for _ in range(mutations):
        begin, end = sorted(chance.randrange(len(text) + 1) for _ in range(2))
        end = min(end, begin + chance.choice((0, 1, 5, 40)))
        new = chance.choice(("", chance.choice(SNIPPETS), text[begin:end] * 2, text[begin:end][::-1], chr(chance.randrange(1, 0x3000))))
        text = text[:begin] + new + text[end:]
    return text


WIDE_BYTES = 16_000
MUTANTS = st.builds(mutated, st.sampled_from(VALID), st.integers(0, 1 << 32), st.integers(1, 6))


def refusal_of(text: str) -> QueryError | InvalidInput | None:
    """Go the whole way from a text to what would be read; why it ended before, None if it did not."""
    try:
        _plan(parse(text))
    except (QueryError, InvalidInput) as error:
        return error
    return None


def _plan(query: Query) -> None:
    check(query)
    assert parse(format_query(query)) == query
    fold(query)
    plan = plan_search(query)
    for look in (needs, any_of, finds_nothing, trace_ids, show):
        look(plan)


@settings(max_examples=400, deadline=None)
@given(MUTANTS)
def test_mutated_query_is_planned_or_refused(text: str) -> None:
    error = refusal_of(text)
    assert len(str(error)) < 5_000
    assert not isinstance(error, QueryError) or str(error).startswith(f"{error.line}:{error.column}: ")
    usable, problems = parse_leniently(text)
    assert usable is not None or problems
    if usable is not None:
        check(usable)


def repeated(begin: str, part: str, between: str, end: str) -> str:
    """So many parts that the text is wide; `#` in one is the number of the part."""
    parts: list[str] = []
    size = len(begin) + len(end)
    while size < WIDE_BYTES:
        parts.append(part.replace("#", str(len(parts))))
        size += len(parts[-1]) + len(between)
    return f"{begin}{between.join(parts)}{end}"


WIDE = [
    ("{ ", ".a = #", " || ", " }"),
    ("{ ", ".a# = #", " && ", " }"),
    ("{ ", ".a =~ `#.*`", " || ", " }"),
    ("", "{ .a = # }", " && ", ""),
    ("", "{ }", " | ", ""),
    ("{ } | ", "by(.a#)", " | ", ""),
    ("{ } | by(", ".a#", ", ", ")"),
    ("{ } | select(", ".a#", ", ", ")"),
    ("{ } | rate() by(", ".a#", ", ", ")"),
    ("{ } | rate() | ", "topk(#1)", " | ", ""),
    ("{ .a =~ `", "(a|b)*", "", "` }"),
]


@pytest.mark.parametrize("shape", WIDE, ids=["".join(shape) for shape in WIDE])
def test_wide_query_is_planned_or_refused(shape: tuple[str, str, str, str]) -> None:
    text = repeated(*shape)
    assert len(str(refusal_of(text))) < 5_000
    usable, problems = parse_leniently(text)
    assert usable is not None or problems

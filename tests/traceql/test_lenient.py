"""What is kept of a text that is not finished, and where its problems are."""

from __future__ import annotations

import pytest

from spanlake.traceql import format_query, parse, parse_leniently

# Rows: the text, what is kept of it (None: nothing), line:column of every problem.
UNFINISHED = [
    ("{ }", "{ true }", ""),
    ("", None, "1:1"),
    ("hello world", None, "1:1"),
    ("{", "{ true }", "1:2 1:2"),
    ("((((", None, "1:5"),
    ("{ span.http = ", "{ true }", "1:15 1:15"),
    ("{ span.http", "{ span.http }", "1:12"),
    ("{ span. }", "{ true }", "1:3"),
    ('{ .a = "x', "{ true }", "1:8 1:10"),
    ('{ .a = 1 && .b = "x && .c = 2 }', "{ (.a = 1) && true }", "1:18 1:32"),
    ('{ resource.service.name = "checkout" && span.foo = }', "{ (resource.service.name = `checkout`) && true }", "1:52"),
    ('{resource.a= && name="x"}', "{ true && (name = `x`) }", "1:14"),
    ("{ .a = 1 && }", "{ (.a = 1) && true }", "1:13"),
    ("{ && .a = 1 }", "{ true && (.a = 1) }", "1:3"),
    ("{ .a = 1 && (.b = 2 || .c = ) && .d = 4 }", "{ (.a = 1) && ((.b = 2) || true) && (.d = 4) }", "1:29"),
    ("{ .a = 1 && (.b = 2 || .c", "{ (.a = 1) && ((.b = 2) || .c) }", "1:26 1:26"),
    ("{ !(.a = ) && .b = 1 }", "{ true && (.b = 1) }", "1:10"),
    ("{ .a = (1 + ) && .b = 1 }", "{ true && (.b = 1) }", "1:13"),
    ("{ .a .b && .c }", "{ true && .c }", "1:6"),
    ("{ stauts = error || .b = 1 }", "{ true || (.b = 1) }", "1:3"),
    ('{ status = "x" && .a = 1 }', "{ true && (.a = 1) }", "1:12"),
    ('{ .a =~ "(" && .b }', "{ true && .b }", "1:9"),
    ("{ 1 }", "{ true }", "1:3"),
    ("{ .a = 1, .b = 2 }", "{ .a = 1 }", "1:9"),
    ("{ .a = 1 ) && .b = 2 }", "{ .a = 1 }", "1:10 1:10"),
    ("{ .a = 1 }}", "{ .a = 1 }", "1:11"),
    ("{ .a = 1 } >> ", "{ .a = 1 } >> { true }", "1:15"),
    ("{ .a = 1 } && { name = ", "{ .a = 1 } && { true }", "1:24 1:24"),
    ("{ .a = 1 | rate()", "{ .a = 1 } | rate()", "1:10"),
    ("{ (.a = 1 && .b = | rate()", "{ (.a = 1) && true } | rate()", "1:19 1:19 1:19"),
    ("{ .a = 1 } | count() > | by(.x)", "{ .a = 1 } | by(.x)", "1:24 1:22"),
    ("{ .a = 1 } | by(name", "{ .a = 1 } | by(name)", "1:21"),
    ("{ .a = 1 } | by(1) | { .b }", "{ .a = 1 } | { .b }", "1:17"),
    ("{ .a = 1 } | rate() by (", "{ .a = 1 }", "1:25"),
    ("{ .a = 1 } | rate() | topk(0)", "{ .a = 1 }", "1:23"),
    ("{ .a = 1 } | rate() with(", "{ .a = 1 } | rate()", "1:26"),
    ("by(1) | coalesce()", None, "1:4"),
    ("({ .a = 1 } | count() > 2) && ({ .b = ", "({ .a = 1 } | count() > 2) && ({ true })", "1:39 1:39 1:39"),
    ("({ .a = 1 } | by(1)) && ({ .b } | count() > 1)", "({ .a = 1 }) && ({ .b } | count() > 1)", "1:18"),
    ("({ .a = 1 } | rate()) * 5s", None, "1:25"),
]


@pytest.mark.parametrize(("text", "kept", "places"), UNFINISHED)
def test_usable_part_is_kept_when_a_query_is_unfinished(text: str, kept: str | None, places: str) -> None:
    query, problems = parse_leniently(text)
    assert (format_query(query) if query else None) == kept
    assert " ".join(f"{problem.line}:{problem.column}" for problem in problems) == places


def test_nothing_is_kept_when_a_bound_is_passed() -> None:
    query, problems = parse_leniently("{ .a }", bytes_max=5)
    assert query is None
    assert [problem.message[:20] for problem in problems] == ["TraceQL expression e"]
    assert parse_leniently("{ .a }", tokens_max=2)[0] is None


def test_recovery_ends_when_there_are_too_many_problems() -> None:
    query, problems = parse_leniently("{ " + ".a = && " * 500 + "}")
    assert query is None
    assert len(problems) <= 101


@pytest.mark.parametrize("text", ["(" * 8000, "{" * 8000, "{ (.a = && " * 2000, "(count() > " * 2000, "1." * 8000, "{ !(" * 3000])
def test_recovery_ends_when_the_text_is_hostile(text: str) -> None:
    _, problems = parse_leniently(text)
    assert problems


def test_finished_query_is_kept_whole_when_parsed_leniently() -> None:
    text = "{ .a = 1 && (.b || .c) } >> {} | by(name) | count() > 1 | rate() by(.d) | topk(2) with(a=1)"
    assert parse_leniently(text) == (parse(text), ())

"""Laws of the language, on generated trees and on arbitrary text."""

from __future__ import annotations

import contextlib

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from traceql_trees import queries

from spanlake.model.errors import QueryError
from spanlake.traceql import check, fold, format_query, format_reference, parse, parse_leniently, parse_reference
from spanlake.traceql.ast import Query

relaxed = settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much])
thorough = settings(relaxed, max_examples=250)

SYMBOLS = "{ } ( ) , | + - * / % ^ = != =~ !~ < <= > >= && || >> << ~ ! !> !< !>> !<< &> &< &>> &<< &~"
FIELDS = ". .a span.b resource.c parent.d parent.span.e event.f .5 name span:name span:nosuch duration kind parent"
VALUES = '1 0.5 5s 1d12h nil true minInt error server "s" `r` "(" " ` \' & [ 1t // /* */'
WORDS = "count max by select coalesce rate max_over_time quantile_over_time compare topk with nosuch"
WHOLES = ["{ .a }", "{}", "({} | count() > 1)", "({} | rate())", "{} | rate() by(name)", "\n"]
FRAGMENTS = [*f"{SYMBOLS} {FIELDS} {VALUES} {WORDS}".split(" "), *WHOLES]
soups = st.builds(str.join, st.sampled_from(["", " "]), st.lists(st.sampled_from(FRAGMENTS), max_size=25))


@relaxed
@given(queries)
def test_tree_comes_back_when_printed_and_parsed(query: Query) -> None:
    text = format_query(query)
    again = parse(text)
    assert again == query
    assert again.source == text
    assert format_query(again) == text


@relaxed
@given(queries)
def test_folded_tree_comes_back_when_printed_parsed_and_folded(query: Query) -> None:
    folded = fold(query)
    assert fold(folded) == folded
    assert fold(parse(format_query(folded))) == folded


@relaxed
@given(queries)
def test_check_raises_only_query_errors_when_types_are_arbitrary(query: Query) -> None:
    try:
        check(query)
    except QueryError:
        return
    check(fold(query))


@relaxed
@given(queries, st.integers(0, 300))
def test_beginning_of_a_query_is_usable_when_parsed_leniently(query: Query, length: int) -> None:
    assert_usable(format_query(query)[:length])


@thorough
@given(soups | st.text(max_size=40))
def test_only_query_errors_come_out_when_text_is_arbitrary(text: str) -> None:
    usable = assert_usable(text)
    with contextlib.suppress(QueryError):
        query = parse(text)
        assert parse(format_query(query)) == query
        check(query)
        assert usable == query


@thorough
@given(soups | st.text(max_size=40))
def test_reference_is_parsed_or_refused_when_text_is_arbitrary(text: str) -> None:
    with contextlib.suppress(QueryError):
        assert parse_reference(format_reference(parse_reference(text))) == parse_reference(text)


def assert_usable(text: str) -> Query | None:
    """What the lenient parser keeps is a query that checks and prints; it names a problem unless it kept everything."""
    query, problems = parse_leniently(text)
    if query is None:
        assert problems
        return None
    check(query)
    assert parse(format_query(query)) == query
    if not problems:
        assert parse(text) == query
    return query

"""Every query of the conformance corpus parses and checks, or is refused, as its status says."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from spanlake.model.errors import QueryError
from spanlake.traceql import check, fold, format_query, parse, parse_leniently, parse_reference

CASES = [json.loads(line) for line in (Path(__file__).parent.parent / "conformance" / "cases.jsonl").read_text().splitlines()]
QUERIES = sorted({(case["q"], case["status"]) for case in CASES if case["kind"] in {"search", "range", "instant"}})
VALUES = sorted({case["q"] for case in CASES if case["kind"] == "values"})


@pytest.mark.parametrize(("text", "status"), QUERIES)
def test_query_is_accepted_or_refused_as_the_corpus_says(text: str, status: int) -> None:
    if status != 200:
        with pytest.raises(QueryError):
            check(parse(text))
        return
    query = parse(text)
    check(query)
    assert parse(format_query(query)) == query
    check(fold(query))


@pytest.mark.parametrize("text", VALUES)
def test_filter_of_tag_values_is_usable_when_parsed_leniently(text: str) -> None:
    tag, _, condition = text.partition(" | ")
    assert parse_reference(tag)
    assert condition == "" or parse_leniently(condition)[0] is not None


def test_keys_of_the_answers_are_canonical() -> None:
    """The keys that a real Tempo gave to `by( )` and aggregates are the ones that our formatter prints."""
    keys = {
        attribute[0]
        for case in CASES
        if case["kind"] == "search" and case["status"] == 200
        for trace in case["answer"].values()
        for spanset in trace["sets"]
        for attribute in spanset["attributes"] or ()
    }
    assert len(keys) > 8
    for key in keys:
        query = parse("{ } | " + (key if key.startswith("by(") else f"{key} = 0"))
        assert format_query(query) in {f"{{ true }} | {key}", f"{{ true }} | {key} = 0"}

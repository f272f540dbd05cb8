"""The naive metrics evaluator gives every answer of the public conformance corpus, which proves both."""

from __future__ import annotations

import json
from typing import Any

import pytest
from corpus import BASE_NS, STEP_NS, WINDOW_NS, cases, pushed_traces
from naive_metrics import Answer, query_instant, query_range
from naive_series import Labels
from series_answers import series_differences

from spanlake.model.errors import QueryError

pytestmark = pytest.mark.slow

CASES = cases("range", "instant")


def answer_of(case: dict[str, Any]) -> Answer:
    """The answer of the corpus as the naive evaluator gives it."""
    return {_labels(text): _points(case, written) for text, written in case["answer"].items()}


def _labels(text: str) -> Labels:
    return tuple((key, (kind, content)) for key, (kind, content) in json.loads(text))


def _points(case: dict[str, Any], written: Any) -> dict[int, float]:
    pairs = written if case["kind"] == "range" else [(120_000, written)]
    return {BASE_NS + at * 1_000_000: number for at, number in pairs}


@pytest.mark.parametrize("case", CASES, ids=[f"{case['kind']} {case['q']}" for case in CASES])
def test_answer_is_that_of_the_corpus(case: dict[str, Any]) -> None:
    def ask() -> Answer:
        if case["kind"] == "instant":
            return query_instant(case["q"], pushed_traces(), window_ns=WINDOW_NS)
        return query_range(case["q"], pushed_traces(), window_ns=WINDOW_NS, step_ns=STEP_NS)

    if case["status"] != 200:
        with pytest.raises(QueryError):
            ask()
        return
    assert series_differences(answer_of(case), ask(), in_order=False) == []

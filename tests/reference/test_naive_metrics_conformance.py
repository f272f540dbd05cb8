"""The naive metrics evaluator gives every answer of the public conformance corpus, which proves both."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from naive_metrics import Answer, query_instant, query_range
from naive_otlp import spans_of_json
from naive_series import Labels
from naive_spans import Trace, traces_of
from series_answers import series_differences

from spanlake.model.errors import QueryError

CORPUS = Path(__file__).parent.parent / "conformance"
ALL = [json.loads(line) for line in (CORPUS / "cases.jsonl").read_text().splitlines()]
CASES = [case for case in ALL if case["kind"] in ("range", "instant")]
SECOND_NS = 10**9
BASE_NS = 1_700_000_040 * SECOND_NS
WINDOW_NS = (BASE_NS - 60 * SECOND_NS, BASE_NS + 120 * SECOND_NS)
STEP_NS = 10 * SECOND_NS
TIMES = ("startTimeUnixNano", "endTimeUnixNano", "timeUnixNano")


def shifted(content: Any) -> Any:
    """The content with all times moved by BASE_NS."""
    if isinstance(content, list):
        return [shifted(item) for item in content]
    if isinstance(content, dict):
        return {key: str(int(value) + BASE_NS) if key in TIMES else shifted(value) for key, value in content.items()}
    return content


@cache
def pushed_traces() -> list[Trace]:
    pushes = (CORPUS / "pushes.jsonl").read_text().splitlines()
    return traces_of(span for push in pushes for span in spans_of_json(shifted(json.loads(push))))


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

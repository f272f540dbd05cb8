"""Searches of the engine over scan batches: the conformance corpus, and random queries over random traces against the naive evaluator."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from random import Random
from typing import Any

import pytest
from answers import differences
from naive import search_traces
from naive_otlp import spans_of_json
from naive_spans import Trace, traces_of
from plain_batches import answer_of, batch_of
from random_queries import random_query
from random_traces import random_spans

CORPUS = Path(__file__).parent.parent / "conformance"
CASES = [case for line in (CORPUS / "cases.jsonl").read_text().splitlines() if (case := json.loads(line))["kind"] == "search"]


@cache
def pushed_traces() -> tuple[Trace, ...]:
    pushes = (CORPUS / "pushes.jsonl").read_text().splitlines()
    return tuple(traces_of(span for push in pushes for span in spans_of_json(json.loads(push))))


@pytest.mark.parametrize("case", [case for case in CASES if case["status"] == 200], ids=lambda case: case["q"])
def test_answer_is_that_of_the_corpus(case: dict[str, Any]) -> None:
    answer = answer_of(case["q"], lambda fields: [batch_of(pushed_traces(), fields)])
    assert differences(case["answer"], answer) == []


@pytest.mark.parametrize("seed", range(120))
def test_answer_is_that_of_the_naive_evaluator(seed: int) -> None:
    chance = Random(seed)
    traces = traces_of(random_spans(chance))
    query = random_query(chance)
    answer = answer_of(query, lambda fields: [batch_of(traces, fields)])
    assert differences(search_traces(query, traces), answer) == [], query

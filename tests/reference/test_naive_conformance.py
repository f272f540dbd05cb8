"""The naive evaluator gives every answer of the public conformance corpus, which proves both."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from answers import differences
from naive import search_traces
from naive_otlp import spans_of_json
from naive_spans import Trace, traces_of

from spanlake.model.errors import QueryError

pytestmark = pytest.mark.slow

CORPUS = Path(__file__).parent.parent / "conformance"
CASES = [case for line in (CORPUS / "cases.jsonl").read_text().splitlines() if (case := json.loads(line))["kind"] == "search"]


@cache
def pushed_traces() -> list[Trace]:
    pushes = (CORPUS / "pushes.jsonl").read_text().splitlines()
    return traces_of(span for push in pushes for span in spans_of_json(json.loads(push)))


@pytest.mark.parametrize("case", CASES, ids=[case["q"] for case in CASES])
def test_answer_is_that_of_the_corpus(case: dict[str, Any]) -> None:
    if case["status"] != 200:
        with pytest.raises(QueryError):
            search_traces(case["q"], pushed_traces())
        return
    assert differences(case["answer"], search_traces(case["q"], pushed_traces())) == []

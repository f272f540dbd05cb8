"""The naive evaluator gives every tag value of the public conformance corpus."""

from __future__ import annotations

from typing import Any

import pytest
from corpus import cases, pushed_traces
from naive_tags import values

CASES = cases("values")


@pytest.mark.parametrize("case", CASES, ids=[case["q"] for case in CASES])
def test_tag_values_are_those_of_the_corpus(case: dict[str, Any]) -> None:
    tag, _, wanted = case["q"].partition(" | ")
    assert values(tag, wanted, pushed_traces()) == sorted(case["answer"])

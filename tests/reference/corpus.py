"""The public conformance corpus for the naive evaluator: its cases, and its spans with all times moved to a fixed base."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

from naive_otlp import spans_of_json
from naive_spans import Trace, traces_of

FOLDER = Path(__file__).parent.parent / "conformance"
SECOND_NS = 10**9
BASE_NS = 1_700_000_040 * SECOND_NS
WINDOW_NS = (BASE_NS - 60 * SECOND_NS, BASE_NS + 120 * SECOND_NS)
STEP_NS = 10 * SECOND_NS
TIMES = ("startTimeUnixNano", "endTimeUnixNano", "timeUnixNano")


def cases(*kinds: str) -> list[dict[str, Any]]:
    """The cases of some kinds."""
    written = (FOLDER / "cases.jsonl").read_text().splitlines()
    return [case for line in written if (case := json.loads(line))["kind"] in kinds]


def shifted(content: Any) -> Any:
    """The content with all times moved by BASE_NS."""
    if isinstance(content, list):
        return [shifted(item) for item in content]
    if isinstance(content, dict):
        return {key: str(int(value) + BASE_NS) if key in TIMES else shifted(value) for key, value in content.items()}
    return content


@cache
def pushed_traces() -> list[Trace]:
    """All traces."""
    pushes = (FOLDER / "pushes.jsonl").read_text().splitlines()
    return traces_of(span for push in pushes for span in spans_of_json(shifted(json.loads(push))))

"""The corpus as pushes near the present, and its metrics answers in the form of the naive evaluator."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

from naive_series import Labels

from node import NOW_NS
from spanlake.model.trace import TimeRange
from spanlake.wire.otlp_json import decode_request

FOLDER = Path(__file__).parent
CASES = [json.loads(line) for line in (FOLDER / "cases.jsonl").read_text().splitlines()]
SECOND_NS = 1_000_000_000
BASE_NS = NOW_NS - 180 * SECOND_NS
ASKED = TimeRange(BASE_NS - 60 * SECOND_NS, BASE_NS + 120 * SECOND_NS)
STEP_NS = 10 * SECOND_NS
TIMES = ("startTimeUnixNano", "endTimeUnixNano", "timeUnixNano")


def shifted(content: Any) -> Any:
    """The content with all times moved to BASE_NS."""
    if isinstance(content, list):
        return [shifted(item) for item in content]
    if isinstance(content, dict):
        return {key: str(int(value) + BASE_NS) if key in TIMES else shifted(value) for key, value in content.items()}
    return content


@cache
def payloads() -> tuple[bytes, ...]:
    """The pushes of the corpus as protobuf."""
    pushes = [json.loads(line) for line in (FOLDER / "pushes.jsonl").read_text().splitlines()]
    return tuple(bytes(decode_request(json.dumps(shifted(push)).encode()).protobuf) for push in pushes)


def expected_series(case: dict[str, Any]) -> dict[Labels, dict[int, float]]:
    """The answer of a metrics case: labels → time in ns → value. An instant query's point is at the end."""
    last_ms = (ASKED.end_ns - BASE_NS) // 1_000_000
    points = {text: written if case["kind"] == "range" else [(last_ms, written)] for text, written in case["answer"].items()}
    return {
        tuple((key, (kind, content)) for key, (kind, content) in json.loads(text)): {
            BASE_NS + at_ms * 1_000_000: number for at_ms, number in pairs
        }
        for text, pairs in points.items()
    }

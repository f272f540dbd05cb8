"""Comparing answers of searches in the form of the conformance corpus, numbers within 1e-9."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

RELATIVE_TOLERANCE = 1e-9
SHOWN_MAX = 6


def differences(expected: Mapping[str, Any], actual: Mapping[str, Any]) -> list[str]:
    """What differs, as readable lines; empty if the answers agree. The order of sets, spans and attributes does not matter."""
    found = []
    for trace_id in expected.keys() | actual.keys():
        if trace_id not in actual:
            found.append(f"{trace_id}: missing; expected {expected[trace_id]}")
        elif trace_id not in expected:
            found.append(f"{trace_id}: not expected, but {actual[trace_id]}")
        else:
            found += _trace_differences(trace_id, expected[trace_id], actual[trace_id])
    return sorted(found)[:SHOWN_MAX]


def _trace_differences(trace_id: str, expected: Mapping[str, Any], actual: Mapping[str, Any]) -> list[str]:
    found = [
        f"{trace_id}.{key}: expected {expected[key]}, got {actual[key]}"
        for key in ("root", "start", "ms", "stats")
        if expected[key] != actual[key]
    ]
    one, other = _sorted_sets(expected["sets"]), _sorted_sets(actual["sets"])
    if not equal(one, other):
        only = [item for item in one if not any(equal(item, same) for same in other)]
        instead = [item for item in other if not any(equal(item, same) for same in one)]
        found.append(f"{trace_id}.sets, each [matched, attributes, spans]:\n  expected {only}\n  got      {instead}")
    return found


def _sorted_sets(sets: list[dict[str, Any]]) -> list[Any]:
    """Sets as nested lists in one order."""
    return sorted(([one["matched"], _sorted(one["attributes"]), _sorted_spans(one["spans"])] for one in sets), key=_key)


def _sorted_spans(spans: list[list[Any]] | None) -> list[Any] | None:
    return None if spans is None else sorted(([*span[:4], _sorted(span[4])] for span in spans), key=_key)


def _sorted(pairs: list[Any]) -> list[Any]:
    return sorted(pairs, key=_key)


def _key(item: Any) -> str:
    """A text that equal items share: floats by six digits, so that the tolerance does not change the order."""
    if isinstance(item, list | tuple):
        return "[" + ",".join(map(_key, item)) + "]"
    return f"{item + 0.0:.6g}" if isinstance(item, float) else repr(item)


def equal(expected: Any, actual: Any) -> bool:
    """Deep equality of JSON, floats within the tolerance."""
    if isinstance(expected, float) and isinstance(actual, float):
        return math.isclose(expected, actual, rel_tol=RELATIVE_TOLERANCE, abs_tol=0.0)
    if isinstance(expected, list | tuple) and isinstance(actual, list | tuple):
        return len(expected) == len(actual) and all(map(equal, expected, actual))
    return type(expected) is type(actual) and bool(expected == actual)

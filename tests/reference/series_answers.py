"""Comparing answers of metrics queries: labels and times must be the same, numbers within a tolerance."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from naive_series import Labels, identity

EXACT = 1e-9
SKETCHED = 0.01
"""Quantiles may be off by one percent (B15)."""
NOTHING = 1e-12
SHOWN_MAX = 6
Answer = Mapping[Labels, Mapping[int, float]]


@dataclass(frozen=True, slots=True)
class ShownExemplar:
    trace_id: int
    time_ms: int
    value: float


@dataclass(frozen=True, slots=True)
class SeriesAnswer:
    """What a query was answered: labels → time in ns → number. `exemplars` is None where whoever answers knows none."""

    series: Mapping[Labels, Mapping[int, float]]
    exemplars: tuple[ShownExemplar, ...] | None = None


def series_differences(expected: Answer, actual: Answer, *, tolerance: float = EXACT, in_order: bool = True) -> list[str]:
    """What differs, as readable lines; empty if the answers agree. Labels count in their order unless that is waived; series do not."""
    one, other = ({_key(labels, in_order=in_order): (labels, points) for labels, points in answer.items()} for answer in (expected, actual))
    found = [
        f"two series with the labels of another in {side}"
        for side, pairs, answer in (("expected", one, expected), ("actual", other, actual))
        if len(pairs) != len(answer)
    ]
    for key in sorted(one.keys() | other.keys()):
        if key not in other:
            found.append(f"{shown(one[key][0])}: missing; expected {dict(one[key][1])}")
        elif key not in one:
            found.append(f"{shown(other[key][0])}: not expected, but {dict(other[key][1])}")
        else:
            problems = point_problems(one[key][1], other[key][1], tolerance)
            found += [f"{shown(one[key][0])}: {', '.join(problems)}"] if problems else []
    return found[:SHOWN_MAX]


def point_problems(expected: Mapping[int, float], actual: Mapping[int, float], tolerance: float) -> list[str]:
    """Point by point."""
    return [
        f"at {at}: expected {expected.get(at, 'no point')}, got {actual.get(at, 'no point')}"
        for at in sorted(expected.keys() | actual.keys())
        if at not in expected or at not in actual or not math.isclose(expected[at], actual[at], rel_tol=tolerance, abs_tol=NOTHING)
    ]


def _key(labels: Labels, *, in_order: bool) -> str:
    return repr([(key, kind, repr(content)) for key, (kind, content) in labels]) if in_order else identity(labels)


def shown(labels: Labels) -> str:
    """Labels for people."""
    return "{" + ", ".join(f"{key}={content!r}" for key, (_, content) in labels) + "}"

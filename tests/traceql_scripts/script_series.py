"""The part of the script language that is about metrics: a query with the series that it must give, and whether an answer gives them."""

from __future__ import annotations

import json
import math
import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field

from naive_series import Labels
from series_answers import EXACT, NOTHING, SKETCHED, SeriesAnswer, shown

from spanlake.traceql.durations import parse_duration

STEP_DEFAULT, WINDOW_DEFAULT = "20s", "0s..80s"


@dataclass(frozen=True, slots=True)
class ExpectedPoint:
    """A number, exact or within a percent."""

    number: float
    is_approximate: bool = False


@dataclass(frozen=True, slots=True)
class ExpectedSeries:
    """`points`: one per step, None where there must be none."""

    labels: Labels
    points: tuple[ExpectedPoint | None, ...]


@dataclass(slots=True)
class Metrics:
    """A range query (`step_ns` > 0) or an instant one and what it must give: series, or an error that contains `error`.

    `window_ns` counts from T0. `exemplars` are the traces that exemplars may come from; None: nothing is said of them. With `only` the case
    is about the series that have this label.
    """

    line: int
    query: str
    window_ns: tuple[int, int]
    step_ns: int
    exemplars_max: int = 100
    only: str | None = None
    series: list[ExpectedSeries] = field(default_factory=list)
    exemplars: frozenset[int] | None = None
    error: str | None = None
    nothing: bool = False

    def times_ns(self, t0_ns: int) -> list[int]:
        """The times of the points."""
        start_ns, end_ns = (t0_ns + edge_ns for edge_ns in self.window_ns)
        if not self.step_ns:
            return [end_ns]
        return [number * self.step_ns for number in range(start_ns // self.step_ns, -(-end_ns // self.step_ns) + 1)]


# ---- reading ----


def metrics_case(number: int, line: str) -> Metrics:
    """`metrics[step=20s, window=0s..80s, exemplars=3, only=key] query` or `instant[window=0s..80s] query`."""
    match = re.match(r"(?P<word>metrics|instant)(?:\[(?P<options>[^\]]*)\])?\s+(?P<query>.*)", line, re.DOTALL)
    if match is None:
        raise ValueError("expected `metrics[…] query` or `instant[…] query`")
    options = dict(pair.strip().split("=", 1) for pair in (match["options"] or "").split(",") if pair.strip())
    start, end = options.pop("window", WINDOW_DEFAULT).split("..")
    step = options.pop("step", STEP_DEFAULT)
    exemplars_max, only = int(options.pop("exemplars", "100")), options.pop("only", None)
    if options:
        raise ValueError(f"unknown options {options}")
    step_ns = _duration_ns(step) if match["word"] == "metrics" else 0
    return Metrics(number, match["query"], (_duration_ns(start), _duration_ns(end)), step_ns, exemplars_max, only)


def _duration_ns(text: str) -> int:
    sign = -1 if text.startswith("-") else 1
    duration_ns = parse_duration(text.removeprefix("-"))
    if duration_ns is None:
        raise ValueError(f"{text} is no duration")
    return sign * duration_ns


def expect_series(case: Metrics, line: str) -> None:
    """One line under a metrics query."""
    if line == "nothing":
        case.nothing = True
    elif line.startswith("error"):
        case.error = shlex.split(line)[1] if line != "error" else ""
    elif line.startswith("exemplars"):
        words = line.split()[1:]
        case.exemplars = frozenset() if words == ["none"] else frozenset(int(word, 16) for word in words)
    else:
        case.series.append(_expected_series(line))


_LABEL = re.compile(r"\s*(?:(?P<quoted>\"(?:[^\"\\]|\\.)*\")|(?P<plain>[^\s=\"{}]+))=")
_TYPES = {str: "string", int: "int", float: "double", bool: "bool"}


def _expected_series(line: str) -> ExpectedSeries:
    """`{key=JSON key=JSON}: 1 2.5 ~3 x`."""
    if not line.startswith("{"):
        raise ValueError("expected `{key=JSON …}: points`, `exemplars …`, `nothing` or `error`")
    position, labels = 1, []
    while match := _LABEL.match(line, position):
        key = match["plain"] if match["quoted"] is None else json.loads(match["quoted"])
        content, position = json.JSONDecoder().raw_decode(line, match.end())
        labels.append((key, (_TYPES[type(content)], content)))
    if not re.match(r"\s*\}:", line[position:]):
        raise ValueError(f"expected key=JSON or `}}:` at {line[position:]!r}")
    points = line[line.index("}:", position) + 2 :].split()
    return ExpectedSeries(tuple(labels), tuple(_expected_point(text) for text in points))


def _expected_point(text: str) -> ExpectedPoint | None:
    return None if text == "x" else ExpectedPoint(float(text.removeprefix("~")), text.startswith("~"))


# ---- judging ----


def series_problems(case: Metrics, answer: SeriesAnswer, t0_ns: int) -> list[str]:
    """What is wrong with an answer; empty if nothing is."""
    assert case.nothing is not bool(case.series), "a metrics query needs an expectation"
    chosen = {labels: points for labels, points in answer.series.items() if case.only is None or case.only in dict(labels)}
    times_ns, found = case.times_ns(t0_ns), {_key(labels): (labels, points) for labels, points in chosen.items()}
    problems = [] if len(found) == len(chosen) else ["two series have the same labels"]
    for expected in case.series:
        labels, points = found.pop(_key(expected.labels), (expected.labels, {}))
        text = _points_text(times_ns, points)
        assert len(expected.points) == len(times_ns), f"{shown(labels)} needs {len(times_ns)} points: {text}"
        if points.keys() - set(times_ns):
            problems.append(f"{shown(labels)} has points at other times: {sorted(points.keys() - set(times_ns))}")
        if not all(_fits(*pair) for pair in zip(expected.points, (points.get(time_ns) for time_ns in times_ns), strict=True)):
            problems.append(f"{shown(labels)}: {text}")
    problems += [f"not expected: {shown(labels)}: {_points_text(times_ns, points)}" for labels, points in found.values()]
    return problems + _exemplar_problems(case, answer, times_ns)


def _key(labels: Labels) -> str:
    """Labels in their order, types told apart."""
    return repr([(key, kind, repr(content)) for key, (kind, content) in labels])


def _fits(expected: ExpectedPoint | None, actual: float | None) -> bool:
    if expected is None or actual is None:
        return expected is None and actual is None
    tolerance = SKETCHED if expected.is_approximate else EXACT
    return math.isclose(expected.number, actual, rel_tol=tolerance, abs_tol=NOTHING)


def _points_text(times_ns: list[int], points: Mapping[int, float]) -> str:
    return " ".join(str(points[time_ns]) if time_ns in points else "x" for time_ns in times_ns)


def _exemplar_problems(case: Metrics, answer: SeriesAnswer, times_ns: list[int]) -> list[str]:
    """Exemplars are bounded in number, lie in the buckets, and have values that Grafana shows."""
    exemplars = answer.exemplars
    if exemplars is None:
        return []
    problems = [f"{len(exemplars)} exemplars, at most {case.exemplars_max} were wanted"] if len(exemplars) > case.exemplars_max else []
    first_ms, last_ms = ((times_ns[0] - (case.step_ns or 1 << 62)) // 1_000_000, times_ns[-1] // 1_000_000)
    problems += [
        f"{one} is no exemplar to show" for one in exemplars if not (first_ms <= one.time_ms <= last_ms and one.time_ms > 0 and one.value)
    ]
    if case.exemplars is not None:
        traces = {one.trace_id for one in exemplars}
        if bool(traces) is not bool(case.exemplars) or not traces <= case.exemplars:
            problems.append(f"exemplars of traces {[f'{trace_id:x}' for trace_id in sorted(traces)]}")
    return problems

"""Random metrics queries that parse and check, over the spans of `random_traces`: every function, by(), second stages, arithmetic, hints.

What is approximate, or may be rounded differently, meets no threshold, rank or difference: quantiles have no further stages but for
factors. The searches in front of the functions are those of `random_queries`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from random import Random

from naive_spans import Span
from random_queries import TRIES_MAX, attribute, condition, pipeline, reference
from random_traces import BASE_NS, often
from series_answers import EXACT, SKETCHED

from spanlake.model.errors import QueryError
from spanlake.traceql import check, parse

COUNTERS = ("rate()", "rate()", "count_over_time()", "count_over_time()")
REDUCERS = ("min_over_time", "max_over_time", "sum_over_time", "avg_over_time")
QUANTILES = ("0", "0.1", ".25", "0.5", "0.75", "0.9", "0.99", "1")
NUMERIC = ("duration", "duration", "traceDuration", "event:timeSinceStart", "span:childCount", "nestedSetLeft", "nestedSetParent")
THRESHOLDS = ("0", "1", "2", "3", "0.5", "-1", "1.5", "100", "2ms", "1s", "1e300")
SCALARS = ("2", "0.5", "100", "0", "-3", "1.5", "(3 / 2)", "(1 - 1)")
STEPS_MS = (1, 2, 3, 5, 7, 20, 1000, 100_000)
POINTS_MAX = 200
NS_PER_MS = 1_000_000
TRACE_STATES = ("ot=th:8", "ot=th:c", "ot=rv:0123456789abcd;th:0", "x=1,ot=p:8;th:4", "ot=th:zz", "x=1")


@dataclass(frozen=True, slots=True)
class MetricsQuery:
    """A query with its window; `step_ns` is 0 for an instant one. `tolerance` is that of its numbers."""

    text: str
    window_ns: tuple[int, int]
    step_ns: int
    tolerance: float

    def __str__(self) -> str:
        return f"{self.text!r}, window_ns={self.window_ns}, step_ns={self.step_ns}"


def random_metrics(chance: Random) -> MetricsQuery:
    """A range query, sometimes an instant one."""
    for _ in range(TRIES_MAX):
        text = _text(chance)
        try:
            check(parse(text))
        except QueryError:
            continue
        window_ns, step_ns = random_window(chance)
        return MetricsQuery(text, window_ns, step_ns, SKETCHED if "quantile" in text else EXACT)
    raise AssertionError("no valid query in many tries: the generator and the grammar have come apart")


def random_window(chance: Random) -> tuple[tuple[int, int], int]:
    """A window near the spans, which start within 20 ms, and a step that cuts it into few points; 0 for none."""
    if often(chance, 0.5):
        return (BASE_NS - 1, BASE_NS + 100 * NS_PER_MS), chance.choice((0, 7 * NS_PER_MS, 1000 * NS_PER_MS))
    start_ns = BASE_NS + chance.randint(-10, 22) * NS_PER_MS + chance.choice((0, 0, -1, 1, 500_000))
    window_ns = start_ns, start_ns + chance.choice((1, NS_PER_MS, 4 * NS_PER_MS, 15 * NS_PER_MS + 1, 40 * NS_PER_MS))
    fitting = [step for step in STEPS_MS if (window_ns[1] - start_ns) // (step * NS_PER_MS) < POINTS_MAX]
    return window_ns, 0 if often(chance, 0.2) else chance.choice(fitting) * NS_PER_MS


OFFSETS_NS = tuple(seconds * 1_000_000_000 for seconds in (0, 0, 1, 60, 3600, 7200, 90_000, 180_000))


def spread_out(chance: Random, sets: list[list[Span]]) -> list[Span]:
    """Sets of spans as traces of their own, hours apart; some spans, all copies of them, are hours after the others of their trace."""
    found = []
    later_ns: dict[tuple[int, int, int], int] = {}
    for number, spans in enumerate(sets):
        offset_ns = {trace_id: chance.choice(OFFSETS_NS) for trace_id in sorted({span.trace_id for span in spans})}
        for span in spans:
            later = later_ns.setdefault((number, span.trace_id, span.span_id), chance.choice(OFFSETS_NS) if often(chance, 0.1) else 0)
            found.append(_moved(span, number, offset_ns[span.trace_id] + later))
    return found


def _moved(span: Span, number: int, offset_ns: int) -> Span:
    events = [replace(event, time_ns=event.time_ns + offset_ns) for event in span.events]
    return replace(span, trace_id=span.trace_id + (number << 80), start_ns=span.start_ns + offset_ns, events=events)


def distant_window(chance: Random) -> tuple[tuple[int, int], int]:
    """A window somewhere among spans that are spread out, from seconds to days long, with a step."""
    start_ns = BASE_NS + chance.choice(OFFSETS_NS) + chance.randint(-2, 2) * chance.choice((1, NS_PER_MS, 1000 * NS_PER_MS))
    length_ns = chance.choice(
        (5 * NS_PER_MS, 30 * NS_PER_MS, 1000 * NS_PER_MS, 60_000 * NS_PER_MS, 3_600_000 * NS_PER_MS, 180_000_000 * NS_PER_MS)
    )
    return (start_ns, start_ns + length_ns), 0 if often(chance, 0.3) else max(
        length_ns // chance.choice((1, 3, 20)) // NS_PER_MS, 1
    ) * NS_PER_MS


def _text(chance: Random) -> str:
    kind = chance.randrange(20)
    if kind < 3:
        factor = f" {chance.choice('*/')} {chance.choice(('2', '0.5', '3'))}" if often(chance, 0.2) else ""
        text = f"{_search(chance)} | {_quantiles(chance)}{_by(chance)}"
        return f"({text}){factor}" if factor else text
    if kind < 5:
        return f"{_search(chance)} | {_compare(chance)}"
    text = _math(chance, 2) if kind < 9 else _leaf(chance, _by(chance)) + _second_stages(chance, 2)
    if often(chance, 0.1) and not any(
        word in text for word in ("sum_over_time", "avg_over_time")
    ):  # weighted numbers are rounded one by one
        return f"{text} with (extrapolate=true)"
    return text + chance.choice(("", "", "", " with (sample=true)", " with(sample=0.1)"))


def _search(chance: Random) -> str:
    return "{ }" if often(chance, 0.45) else pipeline(chance, chance.choice((0, 0, 0, 1, 2)))


def _leaf(chance: Random, by: str) -> str:
    kind = chance.randrange(10)
    if kind < 5:
        return f"{_search(chance)} | {chance.choice(COUNTERS)}{by}"
    if kind < 8:
        return f"{_search(chance)} | {chance.choice(REDUCERS)}({_argument(chance)}){by}"
    return f"{_search(chance)} | histogram_over_time({_argument(chance)}){by}"


def _quantiles(chance: Random) -> str:
    return f"quantile_over_time({_argument(chance)}, {', '.join(chance.sample(QUANTILES, chance.choice((1, 1, 2, 3))))})"


def _argument(chance: Random) -> str:
    kind = chance.randrange(20)
    if kind < 9:
        return chance.choice(("span.x", "span.y", ".x", ".big", "span.list", "parent.x", "event.x"))
    return attribute(chance) if kind < 11 else "name" if kind == 11 else chance.choice(NUMERIC)


def _by(chance: Random) -> str:
    """Each attribute once, because labels of one key say nothing."""
    names = list(dict.fromkeys(reference(chance) for _ in range(chance.choice((0, 1, 1, 1, 2, 2, 3, 6)))))
    return f" by ({', '.join(names)})" if names else ""


def _second_stages(chance: Random, most: int) -> str:
    return "".join(_second_stage(chance) for _ in range(chance.choice((0, 0, 0, 1, most))))


def _second_stage(chance: Random) -> str:
    if often(chance, 0.5):
        return f" | {chance.choice(('topk', 'bottomk'))}({chance.choice((1, 1, 2, 3, 10))})"
    return f" {chance.choice(('=', '!=', '<', '<=', '>', '>='))} {chance.choice(THRESHOLDS)}"


def _math(chance: Random, depth: int) -> str:
    """Sides often have the same labels, or none, so that they meet."""
    by = _by(chance)
    sides = [_math_side(chance, by, depth) for _ in range(2)]
    if often(chance, 0.3):
        sides[chance.randrange(2)] = chance.choice(SCALARS)
    return f"{sides[0]} {chance.choice('+-*/')} {sides[1]}" + _second_stages(chance, 1)


def _math_side(chance: Random, by: str, depth: int) -> str:
    if depth and often(chance, 0.25):
        return f"({_math(chance, depth - 1)})"
    return f"({_leaf(chance, by if often(chance, 0.8) else '')}{_second_stages(chance, 1)})"


def _compare(chance: Random) -> str:
    top = f", {chance.choice((1, 2, 3, 1000))}" if often(chance, 0.6) else ""
    window = ""
    if top and often(chance, 0.3):
        start_ns = BASE_NS + chance.randint(0, 15) * NS_PER_MS
        window = f", {start_ns}, {start_ns + chance.choice((1, 5, 10)) * NS_PER_MS}"
    return f"compare({{ {condition(chance, 1)} }}{top}{window})"


def sampled(chance: Random, spans: list[Span]) -> list[Span]:
    """The spans, some of which stand for several."""
    return [replace(span, trace_state=chance.choice(TRACE_STATES)) if often(chance, 0.2) else span for span in spans]

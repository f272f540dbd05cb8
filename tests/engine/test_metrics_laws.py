"""Laws of metrics: however traces are dealt out to tasks, and in whatever order the tasks end, the answer is the same, bit by bit."""

from __future__ import annotations

import itertools
from random import Random
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from meter_answers import WIDE, Part, SpansInMemory, Task, task_of
from naive_spans import Span
from random_metrics import random_metrics, sampled
from random_traces import BASE_NS, random_spans

from spanlake.engine.metrics import Bounds
from spanlake.model.metrics import MetricsAnswer

FAST_SEEDS, SLOW_SEEDS = range(12), range(12, 90)
SEEDS = [*FAST_SEEDS, *(pytest.param(seed, marks=pytest.mark.slow) for seed in SLOW_SEEDS)]
QUERIES = 8


def numbers(answer: MetricsAnswer) -> list[Any]:
    """Labels and points, bit by bit; text, because NaN is not itself."""
    return [(repr(one.labels), one.times_ms.tolist(), [value.hex() for value in one.values.tolist()]) for one in answer.series]


def exemplars(answer: MetricsAnswer) -> list[Any]:
    """Labels with the exemplars of the series."""
    return [(repr(one.labels), repr(one.exemplars)) for one in answer.series]


def unlike(expected: list[Any], actual: list[Any]) -> list[Any]:
    """Pairs of series that differ, the first few."""
    return [pair for pair in itertools.zip_longest(expected, actual) if pair[0] != pair[1]][:3]


def dealt(chance: Random, spans: list[Span]) -> list[list[Span]]:
    """Whole traces dealt out to one or more tasks."""
    tasks: dict[int, list[Span]] = {}
    count = chance.randint(1, 6)
    hand = {trace_id: chance.randrange(count) for trace_id in sorted({span.trace_id for span in spans})}
    for span in spans:
        tasks.setdefault(hand[span.trace_id], []).append(span)
    return list(tasks.values())


def parts_of(task: Task, memories: list[SpansInMemory]) -> list[Part]:
    keys = frozenset[Any]().union(*(memory.keys for memory in memories))
    return [memory.observe(task, keys) for memory in memories]


def check_law(chance: Random, spans: list[Span], queries: int) -> None:
    whole, split = [SpansInMemory([spans])], [SpansInMemory([some]) for some in dealt(chance, spans)]
    for _ in range(queries):
        query = random_metrics(chance)
        task = task_of(query.text, query.window_ns, query.step_ns, exemplars_max=chance.choice((1, 3, 100)))
        parts = parts_of(task, split)
        chance.shuffle(parts)
        bounds = Bounds(chance.choice((1, 2, 5, WIDE.series_max)), WIDE.bytes_max, task.exemplars_max)
        expected, actual = task.answer(parts_of(task, whole), bounds), task.answer(parts, bounds)
        assert unlike(numbers(expected), numbers(actual)) == [], str(query)
        assert unlike(exemplars(expected), exemplars(actual)) == [], str(query)
        assert expected.partial == actual.partial, str(query)


@pytest.mark.parametrize("seed", SEEDS)
def test_answer_is_the_same_however_traces_are_dealt_out(seed: int) -> None:
    chance = Random(seed)
    check_law(chance, sampled(chance, random_spans(chance, traces_max=6)), QUERIES)


@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.randoms(use_true_random=False))
def test_answer_is_the_same_however_hypothesis_deals_traces_out(chance: Random) -> None:
    check_law(chance, random_spans(chance, traces_max=6), 1)


# ---- short of memory ----


def numbered(trace_id: int, first: int, last: int) -> SpansInMemory:
    """A trace with a span for each of the numbers [first, last)."""
    spans = [Span(trace_id, number + 1, BASE_NS, 1, attributes={"number": number}) for number in range(first, last)]
    return SpansInMemory([spans])


BY_NUMBER = "{ } | count_over_time() by (span.number)"
PARTS = [numbered(0xA1, 0, 4000), numbered(0xA2, 4000, 8000), numbered(0xA3, 4000, 5000)]


@pytest.mark.parametrize("bytes_max", [200_000, 1_500_000, 2_200_000])
@pytest.mark.parametrize("order", [(0, 1, 2), (1, 0, 2), (2, 1, 0)])
def test_series_that_stay_are_complete_when_memory_is_short(order: tuple[int, ...], bytes_max: int) -> None:
    """What is left out is left out whole, and the series that stay are the first by their labels."""
    task = task_of(BY_NUMBER, (BASE_NS - 1, BASE_NS + 1), 0)
    parts = parts_of(task, PARTS)
    full = numbers(task.answer(parts))
    cut = task.answer([parts[place] for place in order], Bounds(WIDE.series_max, bytes_max, 0))
    assert cut.partial
    assert 0 < len(cut.series) < len(full) == 8000
    assert unlike(numbers(cut), full[: len(cut.series)]) == []

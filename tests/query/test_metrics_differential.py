"""Random metrics over random traces: the engine and the whole meter, wherever the spans are, answer as the naive evaluator does.

Everything follows from a seed, which the test's name says; `pytest -m slow` tries many more. A disagreement is settled by the decisions
document, and becomes a case of a behaviour script. Where the naive evaluator finds a tie that nothing breaks, no answer is compared.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from random import Random

import pytest
from hypothesis import HealthCheck, given, note, settings
from hypothesis import strategies as st
from meter_answers import NodeMeter, SpansInMemory
from naive_compare import AmbiguousTop
from naive_metrics import Answer, query_instant, query_range
from naive_series import AmbiguousTie
from naive_spans import Trace, traces_of
from random_metrics import MetricsQuery, distant_window, random_metrics, sampled, spread_out
from random_traces import orderly, random_spans
from series_answers import SeriesAnswer, series_differences
from test_search_differential import KEEP, seeds, store_randomly

from node import TENANT, Node
from spanlake.model.settings import BlockSettings
from spanlake.query.executors.threads import ThreadExecutor

QUERIES_PER_SET = 12
NS_PER_MS = 1_000_000


def expected_answer(query: MetricsQuery, traces: Iterable[Trace]) -> Answer | None:
    """None where nothing says which of equal series stay. Times are those of answers, whole milliseconds."""
    try:
        if query.step_ns:
            answer = query_range(query.text, traces, window_ns=query.window_ns, step_ns=query.step_ns)
        else:
            answer = query_instant(query.text, traces, window_ns=query.window_ns)
    except (AmbiguousTie, AmbiguousTop):
        return None
    return {labels: {at // NS_PER_MS * NS_PER_MS: number for at, number in points.items()} for labels, points in answer.items()}


def check(query: MetricsQuery, traces: list[Trace], actual: SeriesAnswer) -> None:
    expected = expected_answer(query, traces)
    if expected is not None:
        assert not series_differences(expected, actual.series, tolerance=query.tolerance), str(query)
    check_exemplars(query, traces, actual)


def check_exemplars(query: MetricsQuery, traces: list[Trace], actual: SeriesAnswer) -> None:
    """They are few, none of an instant query, not zero, and of spans that start then."""
    starts_ms = {(trace.id, span.start_ns // NS_PER_MS) for trace in traces for span in trace.spans}
    exemplars = actual.exemplars or ()
    assert len(exemplars) <= (100 if query.step_ns else 0), str(query)
    for one in exemplars:
        assert one.value != 0, (str(query), one)
        assert (one.trace_id, one.time_ms) in starts_ms, (str(query), one)


# ---- the engine alone ----


@pytest.mark.parametrize("seed", seeds(25, 200))
def test_engine_answers_as_the_naive_evaluator(seed: int) -> None:
    chance = Random(seed)
    spans = sampled(chance, random_spans(chance))
    traces, memory = traces_of(spans), SpansInMemory([spans])
    for _ in range(QUERIES_PER_SET):
        query = random_metrics(chance)
        check(query, traces, memory.ask(query.text, query.window_ns, query.step_ns))


@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.randoms(use_true_random=False))
def test_engine_answers_as_the_naive_evaluator_for_whatever_hypothesis_finds(chance: Random) -> None:
    spans, query = random_spans(chance), random_metrics(chance)
    note(str(query))
    check(query, traces_of(spans), SpansInMemory([spans]).ask(query.text, query.window_ns, query.step_ns))


# ---- metrics over storage ----


@pytest.fixture(scope="module")
def threads() -> Iterator[ThreadExecutor]:
    executor = ThreadExecutor(3)
    yield executor
    executor.close()


def check_queries(chance: Random, traces: list[Trace], meter: NodeMeter, count: int, *, distant: bool = False) -> None:
    for _ in range(count):
        query = random_metrics(chance)
        if distant:
            window_ns, step_ns = distant_window(chance)
            query = replace(query, window_ns=window_ns, step_ns=step_ns)
        check(query, traces, meter.ask(TENANT, query.text, query.window_ns, query.step_ns))


@pytest.mark.parametrize("seed", seeds(2, 8))
def test_meter_answers_as_the_naive_evaluator_wherever_spans_are(tmp_path: Path, threads: ThreadExecutor, seed: int) -> None:
    chance = Random(seed)
    spans = sampled(chance, orderly(chance, [span for _ in range(3) for span in random_spans(chance)]))
    traces = traces_of(spans)
    blocks = BlockSettings(row_group_spans=64, columns_max=chance.choice((0, 3, 300)))
    with Node(tmp_path, blocks=blocks, compaction=KEEP) as node:
        store_randomly(chance, node, spans)
        for executor in (None, threads):
            check_queries(chance, traces, NodeMeter(node, executor), 15)


@pytest.mark.parametrize("seed", seeds(1, 6))
def test_meter_answers_as_the_naive_evaluator_when_traces_are_hours_apart(tmp_path: Path, threads: ThreadExecutor, seed: int) -> None:
    """Windows that leave out blocks and row groups, and traces of which only a part is in the window."""
    chance = Random(seed)
    spans = sampled(chance, spread_out(chance, [orderly(chance, random_spans(chance)) for _ in range(8)]))
    traces = traces_of(spans)
    with Node(tmp_path, blocks=BlockSettings(row_group_spans=16), compaction=KEEP) as node:
        store_randomly(chance, node, spans)
        for executor in (None, threads):
            check_queries(chance, traces, NodeMeter(node, executor), 15, distant=True)

"""Random searches over random traces: the engine and the whole search, wherever the spans are, answer as the naive evaluator does.

Everything follows from a seed, which the test's name says; `pytest -m slow` tries many more. A disagreement is settled by the decisions
document, and becomes a case of a behaviour script.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from random import Random

import pytest
from answers import differences
from engine_answers import EVERY, NodeSearches, SpansInMemory
from hypothesis import HealthCheck, given, note, settings
from hypothesis import strategies as st
from naive import Answer, search_traces
from naive_otlp import payload_of_spans
from naive_spans import Span, Trace, traces_of
from random_queries import random_query
from random_traces import BASE_NS, often, orderly, random_spans

from node import TENANT, Node
from spanlake.model.settings import BlockSettings, CompactionSettings
from spanlake.query.executors.threads import ThreadExecutor

Search = Callable[[str, tuple[int, int] | None, int], Answer]
KEEP = CompactionSettings(blocks_min=2, retention_seconds=0)
QUERIES_PER_SET = 8


def seeds(fast: int, slow: int) -> list[object]:
    """Seeds of the fast checks, then those of the slow ones."""
    return [*range(fast), *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(fast, fast + slow))]


# ---- the engine alone ----


@pytest.mark.parametrize("seed", seeds(40, 1000))
def test_engine_answers_as_the_naive_evaluator(seed: int) -> None:
    chance = Random(seed)
    spans = random_spans(chance)
    traces, memory = traces_of(spans), SpansInMemory([spans])
    for _ in range(QUERIES_PER_SET):
        query = random_query(chance)
        assert not differences(search_traces(query, traces), memory.search(query)), query


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.randoms(use_true_random=False))
def test_engine_answers_as_the_naive_evaluator_for_whatever_hypothesis_finds(chance: Random) -> None:
    spans, query = random_spans(chance), random_query(chance)
    note(query)
    assert not differences(search_traces(query, traces_of(spans)), SpansInMemory([spans]).search(query))


# ---- searches over storage ----


def store_randomly(chance: Random, node: Node, spans: list[Span]) -> None:
    """Push the spans in order, in several requests, with cuts and perhaps a compaction between them."""
    while spans:
        count = chance.randint(1, len(spans))
        node.pipeline.accept(TENANT, payload_of_spans(spans[:count]))
        spans = spans[count:]
        node.clock.advance(1)
        if often(chance, 0.6):
            node.cut()
        if often(chance, 0.15):
            node.maintain()


def random_window(chance: Random) -> tuple[int, int] | None:
    if often(chance, 0.7):
        return None
    first = BASE_NS + chance.randint(-5, 25) * 1_000_000
    return first, first + chance.choice((0, 1, 1_000_000, 10_000_000))


def check_searches(chance: Random, traces: list[Trace], search: Search, count: int) -> None:
    for _ in range(count):
        query, window, limit = random_query(chance), random_window(chance), chance.choice((1, 2, EVERY, EVERY))
        expected = search_traces(query, traces, overlaps_ns=window, limit=limit)
        actual = search(query, window, limit)
        assert not differences(expected, actual), (query, window, limit)
        assert list(expected) == list(actual), "the order of traces"


@pytest.fixture(scope="module")
def threads() -> Iterator[ThreadExecutor]:
    executor = ThreadExecutor(3)
    yield executor
    executor.close()


@pytest.mark.parametrize("seed", seeds(5, 150))
def test_search_answers_as_the_naive_evaluator_wherever_spans_are(tmp_path: Path, threads: ThreadExecutor, seed: int) -> None:
    chance = Random(seed)
    spans = orderly(chance, [span for _ in range(3) for span in random_spans(chance)])
    traces = traces_of(spans)
    blocks = BlockSettings(row_group_spans=64, columns_max=chance.choice((0, 3, 300)))
    with Node(tmp_path, blocks=blocks, compaction=KEEP) as node:
        store_randomly(chance, node, spans)
        for executor in (None, threads):
            searches = NodeSearches(node, executor)
            check_searches(chance, traces, partial(searches.search, TENANT), 12)


@pytest.mark.parametrize("seed", seeds(3, 60))
def test_search_answers_as_the_naive_evaluator_for_ill_shaped_traces_in_one_place(tmp_path: Path, seed: int) -> None:
    chance = Random(seed)
    spans = random_spans(chance, traces_max=5, spans_max=12)
    traces = traces_of(spans)
    with Node(tmp_path, compaction=KEEP) as node:
        node.pipeline.accept(TENANT, payload_of_spans(spans))
        for _ in range(2):
            searches = NodeSearches(node)
            check_searches(chance, traces, partial(searches.search, TENANT), 12)
            node.cut()

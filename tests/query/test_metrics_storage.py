"""Metrics are the same wherever spans are stored: one block, many, live, compacted. Bit by bit, with exemplars and what is left out."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from random import Random
from typing import Any

import pytest
from engine_answers import EVERY, NodeSearches
from meter_answers import NodeMeter
from naive_otlp import payload_of_spans
from naive_spans import Span, traces_of
from random_metrics import distant_window, random_metrics, sampled, spread_out
from random_queries import pipeline
from random_traces import BASE_NS, orderly, random_spans
from test_search_differential import KEEP, seeds, store_randomly

from node import TENANT, Node
from spanlake.model.errors import InvalidInput, QueryError
from spanlake.model.metrics import MetricsAnswer
from spanlake.model.settings import BlockSettings
from spanlake.query.executors.threads import ThreadExecutor
from spanlake.traceql import check, parse

pytestmark = pytest.mark.slow

QUERIES = 12
SECOND_NS = 1_000_000_000
ALWAYS_NS = (BASE_NS - 100 * SECOND_NS, BASE_NS + 100 * SECOND_NS)


def everything(answer: MetricsAnswer) -> list[Any]:
    """What an answer says of series; text, because NaN is not itself."""
    series = [
        (repr(one.labels), one.times_ms.tolist(), [value.hex() for value in one.values.tolist()], repr(one.exemplars))
        for one in answer.series
    ]
    return [*series, answer.partial]


# ---- forms of storage ----


def live(_chance: Random, node: Node, spans: list[Span]) -> None:
    node.pipeline.accept(TENANT, payload_of_spans(spans))


def one_block(chance: Random, node: Node, spans: list[Span]) -> None:
    live(chance, node, spans)
    node.cut()


def scattered(chance: Random, node: Node, spans: list[Span]) -> None:
    store_randomly(chance, node, spans)


def compacted(chance: Random, node: Node, spans: list[Span]) -> None:
    store_randomly(chance, node, spans)
    node.cut()
    node.maintain()


FORMS: tuple[Callable[[Random, Node, list[Span]], None], ...] = (live, one_block, scattered, compacted)


@pytest.fixture(scope="module")
def threads() -> Iterator[ThreadExecutor]:
    executor = ThreadExecutor(3)
    yield executor
    executor.close()


@pytest.mark.parametrize("seed", [*seeds(2, 3), pytest.param(5, marks=pytest.mark.slow)])
def test_answer_is_the_same_in_every_form_of_storage(tmp_path: Path, threads: ThreadExecutor, seed: int) -> None:
    chance = Random(seed)
    spans = sampled(chance, orderly(chance, [span for _ in range(3) for span in random_spans(chance)]))
    queries = [random_metrics(chance) for _ in range(QUERIES)]
    if seed % 2:  # far apart in time
        spans = sampled(chance, spread_out(chance, [orderly(chance, random_spans(chance)) for _ in range(6)]))
        queries = [
            replace(query, window_ns=window_ns, step_ns=step_ns) for query in queries for window_ns, step_ns in [distant_window(chance)]
        ]
    limits = [(chance.choice((1, 2, 5, 100)), chance.choice((0, 0, 1, 2, 3))) for _ in queries]
    answers: list[list[Any]] = [[] for _ in queries]
    for form in FORMS:
        with Node(tmp_path / form.__name__, blocks=BlockSettings(row_group_spans=16), compaction=KEEP) as node:
            form(Random(seed), node, spans)
            ask = partial(NodeMeter(node, chance.choice((None, threads))).answer, TENANT)
            for found, query, (exemplars_max, series_max) in zip(answers, queries, limits, strict=True):
                answer = ask(query.text, query.window_ns, query.step_ns, exemplars_max=exemplars_max, series_max=series_max)
                assert len(answer.series) <= (series_max or EVERY)
                assert sum(len(one.exemplars) for one in answer.series) <= exemplars_max
                found.append(everything(answer))
    for query, found in zip(queries, answers, strict=True):
        assert all(one == found[0] for one in found), f"{query}: {[one for one in found if one != found[0]][:1]} is not {found[0]}"


# ---- metrics and searches ----


@pytest.mark.parametrize("seed", seeds(2, 8))
def test_metrics_count_the_spans_that_a_search_finds(tmp_path: Path, seed: int) -> None:
    """B35, and what tempo-vulture checks: the sum of the counts is the sum of `matched`."""
    chance = Random(seed)
    spans = orderly(chance, [span for _ in range(3) for span in random_spans(chance)])
    traces = traces_of(spans)
    with Node(tmp_path, compaction=KEEP) as node:
        store_randomly(chance, node, spans)
        searches, meter = NodeSearches(node), NodeMeter(node)
        for text in valid_searches(chance, 15):
            matched = sum(one["matched"] for trace in searches.search(TENANT, text).values() for one in trace["sets"])
            query = f"{text} | count_over_time()"
            instant = meter.ask(TENANT, query, ALWAYS_NS, 0).series
            over_time = meter.ask(TENANT, query, ALWAYS_NS, SECOND_NS)
            assert [sum(points.values()) for points in instant.values()] == [matched], text
            assert [sum(points.values()) for points in over_time.series.values()] == [matched], text
            assert bool(over_time.exemplars) is bool(matched), text
            starts_ms = {(trace.id, span.start_ns // 1_000_000) for trace in traces for span in trace.spans}
            assert {(one.trace_id, one.time_ms) for one in over_time.exemplars or ()} <= starts_ms


def valid_searches(chance: Random, count: int) -> list[str]:
    found: list[str] = []
    while len(found) < count:
        text = pipeline(chance, chance.choice((0, 1, 2)))
        try:
            check(parse(f"{text} | count_over_time()"))
        except QueryError:
            continue
        found.append(text)
    return found


# ---- limits ----


@pytest.fixture
def services(tmp_path: Path) -> Iterator[NodeMeter]:
    """Ten spans, one second apart, each with another number."""
    with Node(tmp_path) as node:
        spans = [Span(0xA0 + number, number + 1, BASE_NS + number * SECOND_NS, 5, attributes={"n": number}) for number in range(10)]
        live(Random(0), node, spans)
        yield NodeMeter(node)


WINDOW_NS = (BASE_NS - SECOND_NS, BASE_NS + 10 * SECOND_NS)


@pytest.mark.parametrize("step_ns", [0, SECOND_NS])
def test_answer_with_too_many_series_is_partial_and_has_the_first_by_label(services: NodeMeter, step_ns: int) -> None:
    query = "{ } | count_over_time() by (span.n)"
    whole = services.answer(TENANT, query, WINDOW_NS, step_ns)
    assert (len(whole.series), whole.partial) == (10, "")
    cut = services.answer(TENANT, query, WINDOW_NS, step_ns, series_max=3)
    assert [one.labels[0][1].value for one in cut.series] == [0, 1, 2]
    assert cut.partial.startswith("Response exceeds maximum series limit of 3, a partial response is returned.")
    assert everything(cut)[:3] == everything(whole)[:3]
    exact = services.answer(TENANT, query, WINDOW_NS, step_ns, series_max=10)
    assert everything(exact) == everything(whole)


def test_limit_of_series_is_that_of_the_answer_not_of_what_is_ranked(services: NodeMeter) -> None:
    """topk sees all series, and its own are few."""
    query = "{ } | max_over_time(span.n) by (span.n) | topk(2)"
    answer = services.answer(TENANT, query, WINDOW_NS, 0, series_max=2)
    assert [one.labels[0][1].value for one in answer.series] == [8, 9]
    assert answer.partial == ""


@pytest.mark.parametrize("wanted", [0, 1, 3, 7, 100])
def test_exemplars_are_as_many_as_wanted_and_spread_over_time(services: NodeMeter, wanted: int) -> None:
    answer = services.ask(TENANT, "{ } | rate()", WINDOW_NS, SECOND_NS, exemplars_max=wanted)
    exemplars = answer.exemplars or ()
    assert len(exemplars) == min(wanted, 10)
    seconds = sorted(one.time_ms // 1000 for one in exemplars)
    assert len(set(seconds)) == len(seconds)
    if wanted == 3:
        assert seconds[-1] - seconds[0] >= 4
    assert all(one.value == 1.0 for one in exemplars), "a rate has the value of its point"


@pytest.mark.parametrize(
    ("query", "values"),
    [
        ("{ } | max_over_time(span.n)", {1, 2, 3, 4, 5, 6, 7, 8, 9}),
        ("{ } | quantile_over_time(span.n, 0.5, 1)", {1, 2, 3, 4, 5, 6, 7, 8, 9}),
        ("{ } | histogram_over_time(span.n)", {1}),
        ("{ } | count_over_time()", {1}),
        ("{ } | sum_over_time(duration)", {5e-09}),
        ("{ span.n = 0 } | max_over_time(span.n)", set()),
    ],
)
def test_exemplars_have_the_value_of_their_span_or_of_their_point(services: NodeMeter, query: str, values: set[float]) -> None:
    answer = services.ask(TENANT, query, WINDOW_NS, SECOND_NS)
    assert {one.value for one in answer.exemplars or ()} == values
    check_exemplars_of_numbers(answer.exemplars or ())


def check_exemplars_of_numbers(exemplars: Any) -> None:
    """The trace of an exemplar is that of the span which starts then."""
    for one in exemplars:
        assert one.time_ms == (BASE_NS + (one.trace_id - 0xA0) * SECOND_NS) // 1_000_000


def test_exemplars_stay_with_the_series_of_their_span(services: NodeMeter) -> None:
    for one in services.answer(TENANT, "{ } | rate() by (span.n)", WINDOW_NS, SECOND_NS).series:
        number = one.labels[0][1].value
        assert [dict(exemplar.labels)["trace:id"].value for exemplar in one.exemplars] == [f"{0xA0 + number:032x}"]  # type: ignore[operator]


@pytest.mark.parametrize(
    ("query", "window_ns", "step_ns", "message"),
    [
        ("{ } | rate()", (BASE_NS, BASE_NS + 80 * SECOND_NS), 1_000_000, "step of 1ms is too small, minimum step for given range is 8ms"),
        ("{ }", WINDOW_NS, SECOND_NS, "not a metrics query"),
        ("{ } | count() > 1", WINDOW_NS, 0, "not a metrics query"),
        ("{ } | rate( ", WINDOW_NS, 0, "1:"),
    ],
)
def test_what_is_refused_and_why(services: NodeMeter, query: str, window_ns: tuple[int, int], step_ns: int, message: str) -> None:
    with pytest.raises((InvalidInput, QueryError), match=message):
        services.answer(TENANT, query, window_ns, step_ns)


def test_nothing_stored_has_zeros_for_counts_and_no_other_series(tmp_path: Path) -> None:
    with Node(tmp_path) as node:
        meter = NodeMeter(node)
        assert [list(points.values()) for points in meter.ask(TENANT, "{ } | rate()", WINDOW_NS, SECOND_NS).series.values()] == [[0.0] * 12]
        for query in (
            "{ } | max_over_time(duration)",
            "{ } | rate() by (name)",
            "{ } | compare({ })",
            "{ } | histogram_over_time(duration)",
        ):
            assert meter.answer(TENANT, query, WINDOW_NS, SECOND_NS).series == ()

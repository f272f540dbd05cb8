"""Numbers of metrics against exact arithmetic: sums, averages, extremes, quantiles and histograms of whatever numbers spans can have."""

from __future__ import annotations

import math
from collections.abc import Sequence
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from meter_answers import SpansInMemory
from naive_metrics import query_instant, query_range
from naive_spans import Span, traces_of
from random_traces import BASE_NS
from series_answers import EXACT, SKETCHED, series_differences

WINDOW_NS = (BASE_NS - 1, BASE_NS + 10_000_000_000)
SMALLEST = 1e-300
"""Below that floats lose digits, and with them the relative error its meaning."""

INTS = st.one_of(st.integers(-(1 << 63), (1 << 63) - 1), st.integers(-1000, 1000), st.sampled_from([1 << 53, (1 << 53) + 1, 1 << 62]))
FLOATS = st.floats(allow_nan=False).map(lambda number: 0.0 if abs(number) < SMALLEST else number)
NUMBERS = st.lists(st.one_of(INTS, FLOATS, st.just(math.nan)), min_size=1, max_size=40)
FUNCTIONS = ("sum_over_time", "avg_over_time", "min_over_time", "max_over_time", "histogram_over_time")


def spans_with(numbers: Sequence[int | float]) -> list[Span]:
    """A span per number."""
    return [Span(0xA1, place + 1, BASE_NS, 1, attributes={"x": number}) for place, number in enumerate(numbers)]


def check(query: str, spans: list[Span], tolerance: float) -> None:
    expected = query_instant(query, traces_of(spans), window_ns=WINDOW_NS)
    actual = SpansInMemory([spans]).ask(query, WINDOW_NS, 0)
    assert not series_differences(expected, actual.series, tolerance=tolerance), (query, [span.attributes["x"] for span in spans])


@pytest.mark.parametrize("function", FUNCTIONS)
@settings(max_examples=30, deadline=None)
@given(numbers=NUMBERS)
def test_numbers_are_those_of_exact_arithmetic(function: str, numbers: list[int | float]) -> None:
    check(f"{{ }} | {function}(span.x)", spans_with(numbers), EXACT)


@settings(max_examples=80, deadline=None)
@given(numbers=NUMBERS, p=st.one_of(st.sampled_from(["0", "1", "0.5"]), st.floats(0.001, 0.999).map("{:.3f}".format)))
def test_quantiles_are_within_one_percent(numbers: list[int | float], p: str) -> None:
    check(f"{{ }} | quantile_over_time(span.x, {p})", spans_with(numbers), SKETCHED)


@settings(max_examples=30, deadline=None)
@given(durations_ns=st.lists(st.one_of(st.integers(0, (1 << 62)), st.integers(0, 5000)), min_size=1, max_size=30))
@pytest.mark.parametrize("function", [*(f"{function}(duration)" for function in FUNCTIONS), "quantile_over_time(duration, 0, 0.5, 0.9, 1)"])
def test_durations_are_seconds(function: str, durations_ns: list[int]) -> None:
    spans = [Span(0xA1, place + 1, BASE_NS, duration_ns) for place, duration_ns in enumerate(durations_ns)]
    query = f"{{ }} | {function}"
    expected = query_instant(query, traces_of(spans), window_ns=WINDOW_NS)
    actual = SpansInMemory([spans]).ask(query, WINDOW_NS, 0)
    assert not series_differences(expected, actual.series, tolerance=SKETCHED if "quantile" in query else EXACT), durations_ns


MANY = 600
DISTRIBUTIONS = ("lognormal", "uniform", "few values", "powers", "mixed signs")


def drawn_number(chance: Random, distribution: str) -> int | float:
    match distribution:
        case "lognormal":
            return chance.lognormvariate(0.0, 4.0)
        case "uniform":
            return chance.uniform(99.0, 101.0)
        case "few values":
            return chance.choice((1, 2, 2.0, 3, 5, 1000))
        case "powers":
            return 1 << chance.randrange(62)
        case _:
            return chance.gauss(0.0, 100.0)


@pytest.mark.parametrize("distribution", DISTRIBUTIONS)
def test_numbers_of_many_spans_agree(distribution: str) -> None:
    chance = Random(distribution)
    spans = [
        Span(
            0xA100 + place % 50,
            place + 1,
            BASE_NS + chance.randrange(4_000_000_000),
            int(chance.lognormvariate(15.0, 3.0)),
            attributes={"x": drawn_number(chance, distribution), "group": place % 3},
        )
        for place in range(MANY)
    ]
    traces, memory = traces_of(spans), SpansInMemory([spans[: MANY // 2], spans[MANY // 2 :]])
    for query, tolerance in (
        ("{ } | quantile_over_time(span.x, 0, 0.01, 0.25, 0.5, 0.9, 0.99, 0.999, 1)", SKETCHED),
        ("{ } | quantile_over_time(duration, 0.5, 0.9, 0.99) by (span.group)", SKETCHED),
        ("{ } | histogram_over_time(span.x) by (span.group)", EXACT),
        ("{ } | histogram_over_time(duration)", EXACT),
        ("{ } | sum_over_time(span.x) by (span.group)", EXACT),
        ("{ } | avg_over_time(duration)", EXACT),
        ("{ span.group > 0 } | rate() by (span.group)", EXACT),
    ):
        expected = query_range(query, traces, window_ns=WINDOW_NS, step_ns=1_000_000_000)
        actual = memory.ask(query, WINDOW_NS, 1_000_000_000)
        assert not series_differences(expected, actual.series, tolerance=tolerance), query


@settings(max_examples=30, deadline=None)
@given(numbers=st.lists(st.integers(-256, 256), min_size=1, max_size=40), p=st.sampled_from(["0", "0.3", "0.5", "0.99", "1"]))
def test_quantiles_of_small_ints_are_exact(numbers: list[int], p: str) -> None:
    check(f"{{ }} | quantile_over_time(span.x, {p})", spans_with(numbers), EXACT)

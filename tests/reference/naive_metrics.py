"""The naive evaluator of TraceQL metrics: spans found by the naive search, put into buckets one by one.

    answer = query_range("{ } | rate() by (name)", traces, window_ns=(start, end), step_ns=20 * 10**9)

gives labels in their order → time of the point in ns → number; an absent point is not there, nor is a series without points. Numbers are
computed from all values of a point at once: quantiles exactly, sums rounded once. A NaN is no number anywhere (B14). Second stages and
arithmetic are in `naive_series`, compare() is in `naive_compare`.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from fractions import Fraction

from naive import Spanset, run_pipeline
from naive_compare import compare_series
from naive_fields import value_for
from naive_series import Labels, Table, arithmetic, identity, second_stage
from naive_spans import Span, Trace
from naive_values import NUMERIC, has_label, label_value

from spanlake.model.errors import InvalidInput
from spanlake.traceql import check, fold, format_reference, parse
from spanlake.traceql.ast import (
    Compare,
    CountOverTime,
    FieldFunction,
    FieldOverTime,
    FieldReference,
    MetricsExpression,
    MetricsFunction,
    MetricsMath,
    MetricsPipeline,
    Pipeline,
    QuantileOverTime,
    Query,
    SpanCounter,
)
from spanlake.traceql.vocabulary import ValueType

SECOND_NS = 10**9
Answer = dict[Labels, dict[int, float]]
Number = Fraction | float
"""Exact, or one of the infinities."""
Weighted = tuple[Number, Fraction]


@dataclass(frozen=True, slots=True)
class Buckets:
    """Bucket i is (first_ns + i step_ns, first_ns + (i + 1) step_ns], and its point stands at the right edge."""

    first_ns: int
    step_ns: int
    count: int

    def of(self, span: Span) -> int | None:
        """The bucket that the span starts in."""
        index = -((self.first_ns - span.start_ns) // self.step_ns) - 1
        return index if 0 <= index < self.count else None

    def point_ns(self, index: int) -> int:
        return self.first_ns + (index + 1) * self.step_ns


def aligned(window_ns: tuple[int, int], step_ns: int) -> Buckets:
    """The buckets of a range query: points at all multiples of the step from the one at or before the start to that at or after the end."""
    first_point = window_ns[0] // step_ns
    last_point = -(-window_ns[1] // step_ns)
    return Buckets((first_point - 1) * step_ns, step_ns, last_point - first_point + 1)


def query_range(query_text: str, traces: Iterable[Trace], *, window_ns: tuple[int, int], step_ns: int) -> Answer:
    """Answer a range query; QueryError or InvalidInput for a bad one."""
    return _query(query_text, traces, aligned(window_ns, step_ns))


def query_instant(query_text: str, traces: Iterable[Trace], *, window_ns: tuple[int, int]) -> Answer:
    """Answer an instant query: one bucket, the point at its end."""
    return _query(query_text, traces, Buckets(window_ns[0], window_ns[1] - window_ns[0], 1))


def _query(query_text: str, traces: Iterable[Trace], buckets: Buckets) -> Answer:
    query = parse(query_text)
    check(query)
    query = fold(query)
    if isinstance(query.root, Pipeline):
        raise InvalidInput("not a metrics query")
    run = Run(tuple(traces), buckets, is_weighted=_extrapolates(query))
    table = run.expression(query.root)
    return {labels: {buckets.point_ns(at): number for at, number in sorted(points.items())} for labels, points in table.items() if points}


def _extrapolates(query: Query) -> bool:
    """Whether the last `extrapolate` hint is true; a value that is no boolean is ignored."""
    said = [hint.value for hint in query.hints if hint.name == "extrapolate" and hint.value.type is ValueType.BOOL]
    return bool(said) and said[-1].value is True


_THRESHOLD = re.compile(r"(?:^|,)\s*ot=(?:[^,]*;)?th:(?P<digits>[0-9a-f]{1,14})(?:;|,|$)")


def weight_of(span: Span) -> Fraction:
    """How many spans this one stands for: OpenTelemetry's rejection threshold says the share of traces that were dropped."""
    found = _THRESHOLD.search(span.trace_state)
    return Fraction(1) if found is None else Fraction(16**14, 16**14 - int(found["digits"].ljust(14, "0"), 16))


@dataclass(slots=True)
class Group:
    """What one series has seen, per bucket: weights of spans, and (value, weight) of spans with a number."""

    labels: Labels
    weights: dict[int, list[Fraction]] = field(default_factory=dict)
    numbers: dict[int, list[Weighted]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Run:
    """A query with everything it reads."""

    traces: tuple[Trace, ...]
    buckets: Buckets
    is_weighted: bool

    def expression(self, expression: MetricsExpression) -> Table:
        """The series of metrics, second stages applied."""
        if isinstance(expression, MetricsMath):
            sides = [
                self.expression(side) if isinstance(side, MetricsPipeline | MetricsMath) else side
                for side in (expression.left, expression.right)
            ]
            table = arithmetic(expression.operator, sides[0], sides[1])
        else:
            table = self._first_stage(expression)
        for stage in expression.second_stages:
            table = {labels: points for labels, points in second_stage(stage, table).items() if points}
        return table

    def _found(self, pipeline: Pipeline) -> Iterator[tuple[Trace, Span, int]]:
        """The spans that the search finds, in traces of which everything is seen, with their buckets (B35)."""
        for trace in self.traces:
            for spanset in run_pipeline(pipeline, trace, [Spanset(trace.spans)]):
                for span in spanset.spans:
                    index = self.buckets.of(span)
                    if index is not None:
                        yield trace, span, index

    def _first_stage(self, metrics: MetricsPipeline) -> Table:
        function, found = metrics.function, list(self._found(metrics.pipeline))
        if isinstance(function, Compare):
            return compare_series(function, found, self.buckets.count)
        groups: dict[str, Group] = {}
        if not function.by:
            groups[""] = Group(_name(function))
        for trace, span, index in found:
            labels = labels_of(function.by, trace, span) if function.by else _name(function)
            group = groups.setdefault(identity(labels) if function.by else "", Group(labels))
            weight = weight_of(span) if self.is_weighted else Fraction(1)
            group.weights.setdefault(index, []).append(weight)
            number = None if isinstance(function, CountOverTime) else number_of(function.argument, trace, span)
            if number is not None:
                group.numbers.setdefault(index, []).append((number, weight))
        return {labels: points for group in groups.values() for labels, points in self._series(function, group) if points}

    def _series(self, function: MetricsFunction, group: Group) -> Iterator[tuple[Labels, dict[int, float]]]:
        match function:
            case CountOverTime():
                seconds = self.buckets.step_ns / SECOND_NS if function.function is SpanCounter.RATE else 1.0
                counts = {index: float(sum(weights)) / seconds for index, weights in group.weights.items()}
                yield group.labels, self._filled(counts)
            case FieldOverTime(FieldFunction.HISTOGRAM_OVER_TIME):
                yield from self._histogram(function.argument, group)
            case FieldOverTime():
                reduced = {index: reduce_numbers(function.function, numbers) for index, numbers in group.numbers.items()}
                yield group.labels, {index: number for index, number in reduced.items() if not math.isnan(number)}
            case QuantileOverTime():
                for p in function.quantiles:
                    points = {index: quantile(p, numbers) for index, numbers in group.numbers.items()}
                    yield (*group.labels, ("p", ("double", p))), points
            case _:
                raise AssertionError(function)

    def _filled(self, points: dict[int, float]) -> dict[int, float]:
        return {index: points.get(index, 0.0) for index in range(self.buckets.count)}

    def _histogram(self, argument: FieldReference, group: Group) -> Iterator[tuple[Labels, dict[int, float]]]:
        counted: dict[float, dict[int, list[Fraction]]] = {}
        for index, numbers in group.numbers.items():
            for number, weight in numbers:
                bound = bucket_bound(argument, number)
                if bound is not None:
                    counted.setdefault(bound, {}).setdefault(index, []).append(weight)
        for bound, weights in counted.items():
            points = {index: float(sum(some)) for index, some in weights.items()}
            yield (*group.labels, ("__bucket", ("double", bound))), self._filled(points)


# ---- labels ----


def _name(function: MetricsFunction) -> Labels:
    """The label of an ungrouped function; the buckets and quantiles of one have their own label instead."""
    if isinstance(function, CountOverTime | FieldOverTime) and function.function is not FieldFunction.HISTOGRAM_OVER_TIME:
        return (("__name__", ("string", str(function.function))),)
    return ()


def labels_of(by: tuple[FieldReference, ...], trace: Trace, span: Span) -> Labels:
    """A label per attribute that the span has; of a span without any, the first is the string nil."""
    labels = [
        (str(format_reference(reference)), label_value(value))
        for reference in by
        if (value := value_for(reference, trace, span)) is not None and has_label(value)
    ]
    return tuple(labels or [(str(format_reference(by[0])), ("string", "nil"))])


# ---- numbers ----


def number_of(argument: FieldReference, trace: Trace, span: Span) -> Number | None:
    """The number of a span, durations in seconds; NaN and everything else are none."""
    value = value_for(argument, trace, span)
    if value is None or value.type not in NUMERIC or math.isnan(value.content):
        return None
    if math.isinf(value.content):
        return float(value.content)
    return Fraction(value.content) / (SECOND_NS if value.type == "duration" else 1)


def reduce_numbers(function: FieldFunction, numbers: list[Weighted]) -> float:
    """The point of one bucket, NaN if it has none (infinities of both signs)."""
    match function:
        case FieldFunction.MIN_OVER_TIME:
            return float(min(number for number, _ in numbers))
        case FieldFunction.MAX_OVER_TIME:
            return float(max(number for number, _ in numbers))
        case FieldFunction.SUM_OVER_TIME:
            return rounded(_total(numbers))
        case FieldFunction.AVG_OVER_TIME:
            return rounded(_total(numbers) / sum(weight for _, weight in numbers))
        case _:
            raise AssertionError(function)


def _total(numbers: list[Weighted]) -> Number:
    infinite = [number for number, _ in numbers if isinstance(number, float)]
    return sum(infinite) if infinite else sum((number * weight for number, weight in numbers), Fraction())


def rounded(number: Number) -> float:
    """The nearest float."""
    try:
        return float(number)
    except OverflowError:
        return math.inf if number > 0 else -math.inf


def quantile(p: float, numbers: list[Weighted]) -> float:
    """The smallest number such that at least ceil(p n) numbers, and at least one, are not greater."""
    ranked = sorted(numbers)
    needed, seen = max(1, math.ceil(p * float(sum(weight for _, weight in ranked)))), Fraction()
    for number, weight in ranked:
        seen += weight
        if seen >= needed:
            return float(number)
    return float(ranked[-1][0])


def bucket_bound(argument: FieldReference, number: Number) -> float | None:
    """The power of two, from 2 on, at or above the number; of durations in nanoseconds, said in seconds. None for zero and below.

    The decisions let small values fall into the first bucket, the corpus leaves zeros out; this does both.
    """
    if number <= 0 or isinstance(number, float):
        return math.inf if number > 0 else None
    unit = SECOND_NS if is_duration(argument) else 1
    bound = 2
    while bound < number * unit:
        bound *= 2
    return bound / unit if bound < 1 << 1024 else math.inf


def is_duration(reference: FieldReference) -> bool:
    """Whether its values are durations; attributes never are."""
    return format_reference(reference) in {"duration", "traceDuration", "event:timeSinceStart"}

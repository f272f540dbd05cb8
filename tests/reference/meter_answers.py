"""spanlake's answers to metrics queries in the form of the naive evaluator: over what a process stores."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from engine_answers import sources_of
from naive_otlp import payload_of_spans
from naive_series import Labels
from naive_spans import Span
from series_answers import SeriesAnswer, ShownExemplar

from node import Node
from spanlake.blocks.scan.memory import MemoryScan, arranged
from spanlake.engine.metrics import Bounds, Grid, MetricsPartial, Total, instant_grid, observe, range_grid
from spanlake.engine.metrics.compare import ComparePartial, CompareTotal, observe_compare
from spanlake.model.metrics import InstantQuery, MetricsAnswer, RangeQuery
from spanlake.model.queries import Inspected
from spanlake.model.results import Attributes
from spanlake.model.scan import Field, ScanBatch
from spanlake.model.settings import QuerySettings
from spanlake.model.stop import Stop
from spanlake.model.trace import TimeRange
from spanlake.query.metrics import Meter, plan_of
from spanlake.query.tasks import Executor
from spanlake.traceql.plan.metrics import MetricsPlan, metrics_needs
from spanlake.traceql.plan.metrics.compared import compared_fields
from spanlake.traceql.plan.metrics.nodes import ComparePlan
from spanlake.traceql.plan.needs import expression_fields
from spanlake.wire.otlp.decode import decode_otlp

ANY_RANGE = replace(QuerySettings(), metrics_range_seconds_max=0.0)
NS_PER_MS = 1_000_000
WIDE = Bounds(series_max=1 << 20, bytes_max=1 << 30, exemplars_max=100)


class NodeMeter:
    """Metrics as the server makes them, over the live spans and blocks of a node."""

    def __init__(self, node: Node, executor: Executor | None = None, settings: QuerySettings = ANY_RANGE) -> None:
        self._meter = Meter(sources_of(node, executor), settings)

    def ask(self, tenant: str, query: str, window_ns: tuple[int, int], step_ns: int, *, exemplars_max: int = 100) -> SeriesAnswer:
        """A range query, or an instant one if `step_ns` is 0."""
        return series_answer(self.answer(tenant, query, window_ns, step_ns, exemplars_max=exemplars_max))

    def answer(
        self, tenant: str, query: str, window_ns: tuple[int, int], step_ns: int, *, exemplars_max: int = 100, series_max: int = 0
    ) -> MetricsAnswer:
        """The answer as it is."""
        window = TimeRange(*window_ns)
        if not step_ns:
            return self._meter.query_instant(tenant, InstantQuery(query, window, series_max), Stop())
        return self._meter.query_range(tenant, RangeQuery(query, window, step_ns, exemplars_max, series_max), Stop())


Part = MetricsPartial | ComparePartial


@dataclass(frozen=True, slots=True)
class Task:
    """A query as the engine runs it without storage: parts of the spans are observed, and what they say is added up."""

    plan: MetricsPlan
    grid: Grid
    exemplars_max: int

    def observe(self, batch: ScanBatch, keys: frozenset[Field]) -> Part:
        """What a batch says. `keys`: the attribute keys of all spans, for compare()."""
        if isinstance(self.plan, ComparePlan):
            return observe_compare(self.plan, batch, compared_fields(keys), self.grid)
        return observe(self.plan, batch, self.grid, exemplars_max=self.exemplars_max)

    def fields(self, keys: frozenset[Field]) -> frozenset[Field]:
        """What a batch must have."""
        needed = metrics_needs(self.plan)
        if isinstance(self.plan, ComparePlan):
            needed = needed.union(*(expression_fields(label.operand) for label in compared_fields(keys)))
        return needed

    def answer(self, parts: Iterable[Part], bounds: Bounds = WIDE) -> MetricsAnswer:
        """What the parts add up to."""
        if isinstance(self.plan, ComparePlan):
            compared = CompareTotal(self.plan, self.grid, bytes_max=bounds.bytes_max)
            for part in parts:
                assert isinstance(part, ComparePartial)
                compared.add(part)
            series, _ = compared.finish(bounds.series_max)
            return MetricsAnswer(series, Inspected(), "" if compared.is_exact else "inexact")
        total = Total(self.plan, self.grid, bounds)
        for part in parts:
            assert not isinstance(part, ComparePartial)
            total.add(part)
        series, is_cut = total.finish()
        return MetricsAnswer(series, Inspected(), "cut" if is_cut else "")


def task_of(query: str, window_ns: tuple[int, int], step_ns: int, exemplars_max: int = 100) -> Task:
    """A range query, or an instant one if `step_ns` is 0; those have no exemplars."""
    window = TimeRange(*window_ns)
    grid = range_grid(window, step_ns) if step_ns else instant_grid(window)
    return Task(plan_of(query), grid, exemplars_max if step_ns else 0)


class SpansInMemory:
    """Spans decoded and arranged once, and asked many times by the engine alone."""

    def __init__(self, pushes: Iterable[Sequence[Span]]) -> None:
        self._scan = MemoryScan(arranged([decode_otlp(payload_of_spans(push)).batch for push in pushes]))
        self.keys = frozenset(self._scan.keys())

    def observe(self, task: Task, keys: frozenset[Field]) -> Part:
        """What these spans say; `keys` are those of all spans."""
        return task.observe(self._scan.batch(task.fields(keys)), keys)

    def ask(self, query: str, window_ns: tuple[int, int], step_ns: int) -> SeriesAnswer:
        """A range query, or an instant one if `step_ns` is 0."""
        task = task_of(query, window_ns, step_ns)
        return series_answer(task.answer([self.observe(task, self.keys)]))


def series_answer(answer: MetricsAnswer) -> SeriesAnswer:
    """The answer as the naive evaluator gives it, after a look at what every answer promises."""
    series: dict[Labels, dict[int, float]] = {}
    for one in answer.series:
        times = one.times_ms.tolist()
        assert times, "a series without points"
        assert times == sorted(set(times)), "points out of order"
        assert not any(value != value for value in one.values.tolist()), "NaN in an answer"  # noqa: PLR0124
        labels = labels_of(one.labels)
        assert labels not in series, f"two series {labels}"
        series[labels] = {time_ms * NS_PER_MS: value for time_ms, value in one.points()}
    exemplars = [
        ShownExemplar(int(str(dict(labels_of(one.labels))["trace:id"][1]), 16), one.time_ms, one.value)
        for found in answer.series
        for one in found.exemplars
    ]
    return SeriesAnswer(series, tuple(exemplars))


def labels_of(labels: Attributes) -> Labels:
    """Plain pairs; keys that are members of an enumeration become text."""
    return tuple((str(key), (str(one.type), one.value)) for key, one in labels)

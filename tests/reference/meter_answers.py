"""spanlake's answers to metrics queries in the form of the naive evaluator: over what a process stores."""

from __future__ import annotations

from dataclasses import replace

from engine_answers import sources_of
from naive_series import Labels
from series_answers import SeriesAnswer, ShownExemplar

from node import Node
from spanlake.model.metrics import InstantQuery, MetricsAnswer, RangeQuery
from spanlake.model.results import Attributes
from spanlake.model.settings import QuerySettings
from spanlake.model.stop import Stop
from spanlake.model.trace import TimeRange
from spanlake.query.metrics import Meter
from spanlake.query.tasks import Executor

ANY_RANGE = replace(QuerySettings(), metrics_range_seconds_max=0.0)
NS_PER_MS = 1_000_000


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

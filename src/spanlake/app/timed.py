"""Queries with their durations on record, in `spanlake_query_seconds`."""

from __future__ import annotations

from dataclasses import dataclass

from prometheus_client import Histogram

from spanlake.model.metrics import InstantQuery, MetricsAnswer, RangeQuery
from spanlake.model.queries import (
    Progress,
    SearchAnswer,
    SearchProgress,
    SearchQuery,
    TagNamesAnswer,
    TagNamesQuery,
    TagValuesAnswer,
    TagValuesQuery,
)
from spanlake.model.stop import Stop
from spanlake.model.trace import TimeRange, TraceAnswer, TraceFilter
from spanlake.server.ports import Queries, SpanMeter, TagSource, TraceFilterer, TraceReader, TraceSearcher


@dataclass(frozen=True, slots=True)
class TimedReader:
    """`server.ports.TraceReader`."""

    reader: TraceReader
    seconds: Histogram

    def find(self, tenant: str, trace_id: tuple[int, int], time_range: TimeRange | None) -> TraceAnswer:
        with self.seconds.labels("trace").time():
            return self.reader.find(tenant, trace_id, time_range)


@dataclass(frozen=True, slots=True)
class TimedFilterer:
    """`server.ports.TraceFilterer`."""

    filterer: TraceFilterer
    seconds: Histogram

    def find_filtered(
        self, tenant: str, trace_id: tuple[int, int], time_range: TimeRange | None, wanted: TraceFilter, stop: Stop
    ) -> TraceAnswer:
        with self.seconds.labels("trace").time():
            return self.filterer.find_filtered(tenant, trace_id, time_range, wanted, stop)


@dataclass(frozen=True, slots=True)
class TimedSearcher:
    """`server.ports.TraceSearcher`."""

    searcher: TraceSearcher
    seconds: Histogram

    def search(self, tenant: str, query: SearchQuery, stop: Stop, progress: SearchProgress | None = None) -> SearchAnswer:
        with self.seconds.labels("search").time():
            return self.searcher.search(tenant, query, stop, progress)

    def explain(self, tenant: str, query: SearchQuery, stop: Stop) -> str:
        with self.seconds.labels("explain").time():
            return self.searcher.explain(tenant, query, stop)


@dataclass(frozen=True, slots=True)
class TimedTags:
    """`server.ports.TagSource`."""

    tags: TagSource
    seconds: Histogram

    def names(self, tenant: str, query: TagNamesQuery, stop: Stop) -> TagNamesAnswer:
        with self.seconds.labels("tag_names").time():
            return self.tags.names(tenant, query, stop)

    def values(self, tenant: str, query: TagValuesQuery, stop: Stop) -> TagValuesAnswer:
        with self.seconds.labels("tag_values").time():
            return self.tags.values(tenant, query, stop)

    def values_v1(self, tenant: str, query: TagValuesQuery, stop: Stop) -> TagValuesAnswer:
        with self.seconds.labels("tag_values").time():
            return self.tags.values_v1(tenant, query, stop)


@dataclass(frozen=True, slots=True)
class TimedMeter:
    """`server.ports.SpanMeter`."""

    meter: SpanMeter
    seconds: Histogram

    def query_range(self, tenant: str, query: RangeQuery, stop: Stop, progress: Progress | None = None) -> MetricsAnswer:
        with self.seconds.labels("metrics_range").time():
            return self.meter.query_range(tenant, query, stop, progress)

    def query_instant(self, tenant: str, query: InstantQuery, stop: Stop) -> MetricsAnswer:
        with self.seconds.labels("metrics_instant").time():
            return self.meter.query_instant(tenant, query, stop)

    def explain(self, tenant: str, query: RangeQuery, stop: Stop) -> str:
        with self.seconds.labels("explain").time():
            return self.meter.explain(tenant, query, stop)


def timed_queries(queries: Queries, seconds: Histogram) -> Queries:
    """The same, timed."""
    return Queries(
        TimedSearcher(queries.searcher, seconds),
        TimedTags(queries.tags, seconds),
        TimedFilterer(queries.filterer, seconds),
        TimedMeter(queries.meter, seconds),
    )

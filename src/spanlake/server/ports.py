"""What the edges need from the rest of the server. `app/assemble` hands in the implementations; nothing here names one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from spanlake.model.ingest import Accepted
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


class SpanReceiver(Protocol):
    """The receiving side of ingest. Thread-safe and blocking."""

    def accept(self, tenant: str, payload: bytes) -> Accepted:
        """Take an OTLP protobuf ExportTraceServiceRequest; return when its spans are durable and readable.

        Raises InvalidInput (malformed), TooLarge, Overloaded (try again later), Unavailable or NoTenant; then nothing was kept.
        """
        ...


class TraceReader(Protocol):
    """Trace by id over live and stored spans. Thread-safe and blocking."""

    def find(self, tenant: str, trace_id: tuple[int, int], time_range: TimeRange | None) -> TraceAnswer:
        """The trace with that id (high and low 64 bits); `time_range` says where to look, None means everywhere."""
        ...


class TraceFilterer(Protocol):
    """Trace by id, of which only some spans are wanted. Thread-safe and blocking."""

    def find_filtered(
        self, tenant: str, trace_id: tuple[int, int], time_range: TimeRange | None, wanted: TraceFilter, stop: Stop
    ) -> TraceAnswer:
        """As TraceReader.find, with the spans that the filter wants."""
        ...


class TraceSearcher(Protocol):
    """Search over live and stored spans. Thread-safe and blocking."""

    def search(self, tenant: str, query: SearchQuery, stop: Stop, progress: SearchProgress | None = None) -> SearchAnswer:
        """Raises QueryError or InvalidInput for a bad query, TooLarge for too large an answer, and what `stop` raises."""
        ...

    def explain(self, tenant: str, query: SearchQuery, stop: Stop) -> str:
        """How a search is answered and what that costs, as lines of text."""
        ...


class TagSource(Protocol):
    """Names and values of tags. Thread-safe and blocking; raises as TraceSearcher does."""

    def names(self, tenant: str, query: TagNamesQuery, stop: Stop) -> TagNamesAnswer: ...

    def values(self, tenant: str, query: TagValuesQuery, stop: Stop) -> TagValuesAnswer:
        """The values of a tag that is named as in TraceQL."""
        ...

    def values_v1(self, tenant: str, query: TagValuesQuery, stop: Stop) -> TagValuesAnswer:
        """The values of a tag that is named without its scope."""
        ...


class SpanMeter(Protocol):
    """Numbers over live and stored spans. Thread-safe and blocking; raises as TraceSearcher does."""

    def query_range(self, tenant: str, query: RangeQuery, stop: Stop, progress: Progress | None = None) -> MetricsAnswer: ...

    def query_instant(self, tenant: str, query: InstantQuery, stop: Stop) -> MetricsAnswer: ...

    def explain(self, tenant: str, query: RangeQuery, stop: Stop) -> str:
        """How a range query is answered and what that costs, as lines of text."""
        ...


@dataclass(frozen=True, slots=True)
class Queries:
    """What answers TraceQL."""

    searcher: TraceSearcher
    tags: TagSource
    filterer: TraceFilterer
    meter: SpanMeter


@dataclass(frozen=True, slots=True)
class Overrides:
    """Limits that a tenant was given through the API, as they were written; None: there are none. The version grows with each change."""

    version: int
    limits: Mapping[str, object] | None


class TenantOverrides(Protocol):
    """Limits of single tenants. Thread-safe and blocking; raises StoreError."""

    @property
    def changeable(self) -> bool:
        """Whether `put` may be called."""
        ...

    def get(self, tenant: str) -> Overrides: ...

    def put(self, tenant: str, limits: Mapping[str, object] | None, *, after: int) -> Overrides:
        """Replace those of version `after`, or with None remove them. PreconditionFailed if that is not the last version; InvalidInput."""
        ...

    def in_force(self, tenant: str) -> Mapping[str, float]:
        """Every limit of the tenant, from wherever it comes."""
        ...


@dataclass(frozen=True, slots=True)
class BuildInfo:
    """What this program is."""

    version: str
    revision: str = ""
    branch: str = ""
    build_date: str = ""


class Health(Protocol):
    """The state of the whole server. Thread-safe; every call returns at once."""

    def readiness(self) -> str:
        """Empty when the server can do all its work, else what it waits for."""
        ...

    def effective_config(self) -> str:
        """The settings in use as YAML, without secrets."""
        ...

    def build(self) -> BuildInfo: ...

"""A spanlake process without threads and listeners, for tests: what it does, it does when told, with a clock that stands.

    with Node(tmp_path) as node:
        node.push(span(1, 1), span(1, 2, parent=1))
        node.cut()
        assert node.copies() == once((1, 1), (1, 2))

`copies` counts what is really there, live and in blocks, before any duplicate is dropped.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import pyarrow as pa
import pyarrow.parquet as pq
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, InstrumentationScope, KeyValue
from opentelemetry.proto.resource.v1.resource_pb2 import Resource
from opentelemetry.proto.trace.v1.trace_pb2 import ResourceSpans, ScopeSpans, Span, TracesData

from spanlake.blocks.catalog import Catalog, TableSnapshot, block_key
from spanlake.blocks.footers import FooterCache
from spanlake.blocks.live import LiveView
from spanlake.blocks.wal import FileCalls, open_wal
from spanlake.ingest.flush import Flusher
from spanlake.ingest.maintenance import Maintenance, MaintenanceSettings
from spanlake.ingest.pipeline import Pipeline
from spanlake.ingest.tenants import Tenants
from spanlake.model.settings import BlockSettings, CompactionSettings, IngestSettings, QuerySettings, StoreSettings, WalSettings
from spanlake.model.spans import SpanBatch
from spanlake.model.tenancy.limits import LimitsSource, SameLimits, TenantLimits
from spanlake.model.trace import TimeRange, TraceAnswer
from spanlake.objectstore.opening import open_store
from spanlake.objectstore.store import ObjectStore
from spanlake.query.trace import TraceFinder
from spanlake.wire.otlp.decode import decode_otlp

TENANT = "single-tenant"
NOW_NS = time.time_ns() // (3600 * 10**9) * 3600 * 10**9  # near the present, as the Delta library goes by the system's clock
MANY = IngestSettings(cut_spans=1_000_000_000, cut_interval_seconds=1e9, trace_idle_seconds=0)
BLOCKS = BlockSettings(row_group_spans=64)
COMPACTION = CompactionSettings(blocks_min=2)
STORE = StoreSettings(attempts_max=2, backoff_first_seconds=0.001)
Ids = tuple[int, int]


@dataclass
class Clock:
    """Seconds that pass when told: monotonic, and since the epoch."""

    now: float = 1000.0
    epoch_ns: int = NOW_NS

    def __call__(self) -> float:
        return self.now

    def now_ns(self) -> int:
        return self.epoch_ns

    def advance(self, seconds: float) -> None:
        self.now += seconds
        self.epoch_ns += round(seconds * 1e9)


def span(trace: int, number: int, *, parent: int = 0, **fields: Any) -> Span:
    """Span `number` of a trace, by default an internal one of a millisecond."""
    own: dict[str, Any] = {
        "name": f"operation {number}",
        "kind": 1,
        "start_time_unix_nano": NOW_NS + number,
        "end_time_unix_nano": NOW_NS + number + 10**6,
    }
    ids = {"trace_id": trace.to_bytes(16), "span_id": number.to_bytes(8), "parent_span_id": parent.to_bytes(8) if parent else b""}
    attributes = fields.pop("attributes", {"number": number, "text": f"value {number % 7}"})
    return Span(**(own | ids | fields), attributes=[attribute(key, value) for key, value in attributes.items()])


def attribute(key: str, value: str | float | bool | bytes) -> KeyValue:
    """A string, integer, double, boolean or bytes attribute."""
    names = {str: "string_value", int: "int_value", float: "double_value", bool: "bool_value", bytes: "bytes_value"}
    known: dict[str, Any] = {names[type(value)]: value}
    return KeyValue(key=key, value=AnyValue(**known))


def request(*spans: Span, service: str = "shop") -> bytes:
    """An export request with one resource and one scope."""
    scope = ScopeSpans(scope=InstrumentationScope(name="tests"), spans=spans)
    resource = Resource(attributes=[attribute("service.name", service)])
    return TracesData(resource_spans=[ResourceSpans(resource=resource, scope_spans=[scope])]).SerializeToString()


def once(*ids: Ids) -> Counter[Ids]:
    """These (trace, span), each one time."""
    return Counter(ids)


@dataclass
class LimitsByTenant:
    """Limits that a test sets, and may change."""

    limits: dict[str, TenantLimits]

    def of(self, tenant: str) -> TenantLimits:
        return self.limits.get(tenant, TenantLimits())


@dataclass
class Node:
    """`wrap` puts something between the process and its store, `calls` between the log and its disk."""

    root: Path
    data: str = ""
    ingest: IngestSettings = MANY
    blocks: BlockSettings = BLOCKS
    compaction: CompactionSettings = COMPACTION
    store_settings: StoreSettings = STORE
    limits: LimitsSource | None = None
    wrap: Callable[[ObjectStore], ObjectStore] = lambda store: store
    calls: FileCalls | None = None
    clock: Clock = field(default_factory=Clock)
    log: str = "wal"

    def __post_init__(self) -> None:
        self.store = self.wrap(open_store(self.data or str(self.root / "data"), self.store_settings))
        self.catalog = Catalog(self.store, self.store_settings, clock_ns=self.clock.now_ns)
        self.wal = open_wal(self.root / self.log, WalSettings(), calls=self.calls)
        self.footers = FooterCache(self.store, bytes_max=1 << 28)
        self.tenants = Tenants(self.catalog, self.wal.writer_id, tenants_max=self.ingest.tenants_max, clock=self.clock)
        parts = (self.store, self.catalog, self.wal, self.tenants, self.blocks, self.ingest)
        limits = self.limits or SameLimits(TenantLimits(retention_seconds=self.compaction.retention_seconds))
        self.pipeline = Pipeline(Flusher(*parts, clock=self.clock, clock_ns=self.clock.now_ns), self.ingest, limits=limits)
        upkeep = MaintenanceSettings(self.compaction, self.blocks, limits, clock_ns=self.clock.now_ns)
        self.maintenance = Maintenance(self.tenants, self.store, self.catalog, self.footers, settings=upkeep)
        self.finder = TraceFinder(self.store, self.footers, self.pipeline.view, self.tenants.refresh, QuerySettings())

    def __enter__(self) -> Self:
        try:
            self.pipeline.replay()
        except BaseException:
            self.wal.close()
            raise
        return self

    def __exit__(self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None) -> None:
        """End as a killed process does: nothing is flushed."""
        self.pipeline.stop(flush=False)

    def push(self, *spans: Span, tenant: str = TENANT, service: str = "shop") -> int:
        """Send spans in one request; how many were accepted."""
        return self.pipeline.accept(tenant, request(*spans, service=service)).spans

    def cut(self, *, everything: bool = True) -> bool:
        """A cut a millisecond later, so that blocks can be told by their times."""
        self.clock.advance(0.001)
        return self.pipeline.cut(everything=everything)

    def maintain(self) -> None:
        self.maintenance.run_once()

    def view(self, tenant: str = TENANT) -> LiveView:
        return self.pipeline.view(tenant)

    def table(self, tenant: str = TENANT) -> TableSnapshot:
        return self.view(tenant).table

    def answer(self, trace: int, *, tenant: str = TENANT, time_range: TimeRange | None = None) -> TraceAnswer:
        return self.finder.find(tenant, divmod(trace, 1 << 64), time_range)

    def trace(self, trace: int, *, tenant: str = TENANT) -> list[Span]:
        """The spans of a trace in the order of the answer."""
        return spans_in(TracesData.FromString(self.answer(trace, tenant=tenant).encoded))

    def live(self, tenant: str = TENANT) -> Counter[Ids]:
        """How many copies of each span are live."""
        return live_ids(self.view(tenant))

    def stored(self, tenant: str = TENANT) -> Counter[Ids]:
        """How many copies of each span are in the blocks of the view."""
        return self._stored(self.view(tenant))

    def copies(self, tenant: str = TENANT) -> Counter[Ids]:
        """How many copies of each span there are in one view."""
        view = self.view(tenant)
        return live_ids(view) + self._stored(view)

    def _stored(self, view: LiveView) -> Counter[Ids]:
        return Counter(ids for block in view.table.blocks for ids in self.block_ids(block_key(view.table.tenant, block.path)))

    def block_ids(self, key: str) -> list[Ids]:
        """(trace, span) of every row of a block."""
        file = pq.ParquetFile(pa.BufferReader(self.store.get(key)))
        columns = file.read(columns=["trace_id", "span_id"], use_threads=False).to_pydict()
        pairs = zip(columns["trace_id"], columns["span_id"], strict=True)
        return [(int.from_bytes(trace), int.from_bytes(number)) for trace, number in pairs]


def live_ids(view: LiveView) -> Counter[Ids]:
    return Counter(ids for live in view.rows for ids in row_ids(live.batch))


def row_ids(batch: SpanBatch) -> list[Ids]:
    """(trace, span) of every row."""
    columns = (batch.spans[name].tolist() for name in ("trace_hi", "trace_lo", "span_id"))
    return [(high << 64 | low, number) for high, low, number in zip(*columns, strict=True)]


def spans_in(data: TracesData) -> list[Span]:
    return [one for resource in data.resource_spans for scope in resource.scope_spans for one in scope.spans]


def described(data: TracesData) -> Counter[bytes]:
    """The spans with the resource and the scope that they belong to, in any order, with attributes in any order."""
    found: Counter[bytes] = Counter()
    for resource in data.resource_spans:
        for scope in resource.scope_spans:
            for one in scope.spans:
                whole = ResourceSpans(resource=resource.resource, schema_url=resource.schema_url)
                whole.scope_spans.append(ScopeSpans(scope=scope.scope, schema_url=scope.schema_url, spans=[one]))
                found[_in_order(whole).SerializeToString(deterministic=True)] += 1
    return found


def _in_order(whole: ResourceSpans) -> ResourceSpans:
    """With sorted attributes, and with the messages that answers always have."""
    (scope,) = whole.scope_spans
    (one,) = scope.spans
    parts: list[Any] = [whole.resource, scope.scope, one, *one.events, *one.links]
    for part in parts:
        part.attributes.sort(key=lambda attribute: (attribute.key, attribute.SerializeToString()))
    for message in (whole.resource, scope.scope, one.status):
        message.SetInParent()
    return whole


def ids_in(payload: bytes) -> list[Ids]:
    """(trace, span) of every span in a request."""
    return row_ids(decode_otlp(payload).batch)


def carrying(seconds: float = 5.0) -> IngestSettings:
    """Settings under which traces with spans younger than this are carried over a cut."""
    return replace(MANY, trace_idle_seconds=seconds)


def numbers(spans: Iterable[Span] | Sequence[Span]) -> list[int]:
    return [int.from_bytes(one.span_id) for one in spans]

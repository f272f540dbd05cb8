"""The Prometheus metrics of the core: read from the components' own counters at each scrape, so that nothing is counted twice."""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client import CollectorRegistry, GCCollector, PlatformCollector, ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from spanlake.app.tenancy.limits_in_force import LimitsInForce
from spanlake.blocks.footers import FooterCache
from spanlake.ingest.maintenance import Maintenance
from spanlake.ingest.pipeline import Pipeline


class CoreCollector(Collector):
    """Metrics of ingest, log, blocks and maintenance."""

    def __init__(self, pipeline: Pipeline, maintenance: Maintenance, footers: FooterCache) -> None:
        self._pipeline = pipeline
        self._maintenance = maintenance
        self._footers = footers

    def collect(self) -> Iterator[Metric]:
        yield from self._ingest()
        yield from self._log()
        yield from self._tables()
        work = self._maintenance.counters
        yield CounterMetricFamily("spanlake_compactions", "Merges of blocks", work.compactions)
        yield CounterMetricFamily("spanlake_compacted_blocks", "Blocks that merges replaced", work.compacted_blocks)
        yield CounterMetricFamily("spanlake_compacted_spans", "Spans written by merges", work.compacted_spans)
        yield CounterMetricFamily("spanlake_compaction_lost_races", "Work that another process did first", work.lost_races)
        yield CounterMetricFamily("spanlake_maintenance_failures", "Rounds of maintenance that failed", work.failures)
        yield CounterMetricFamily("spanlake_expired_blocks", "Blocks removed by retention", work.expired_blocks)
        yield CounterMetricFamily("spanlake_deleted_files", "Dead files deleted from storage", work.deleted_files)

    def _ingest(self) -> Iterator[Metric]:
        counters, usage = self._pipeline.counters, self._pipeline.tenants.usage
        yield CounterMetricFamily("spanlake_spans_received", "Spans acknowledged", counters.spans)
        yield CounterMetricFamily("spanlake_payloads_received", "Payloads acknowledged", counters.payloads)
        yield CounterMetricFamily("spanlake_payload_bytes_received", "Bytes of acknowledged payloads, decompressed", counters.bytes)
        refused = CounterMetricFamily("spanlake_spans_refused", "Spans refused; malformed payloads", labels=["tenant", "reason"])
        for (tenant, reason), count in dict(counters.refused).items():
            refused.add_metric([tenant, reason], count)
        truncated = CounterMetricFamily("spanlake_attributes_truncated", "Attributes cut off because they are long", labels=["tenant"])
        for tenant, count in dict(counters.truncated).items():
            truncated.add_metric([tenant], count)
        yield from (refused, truncated)
        yield GaugeMetricFamily("spanlake_live_spans", "Spans that are not in a block yet", usage.spans)
        yield GaugeMetricFamily("spanlake_live_bytes", "Memory of live spans", usage.bytes)
        yield CounterMetricFamily("spanlake_cuts", "Cuts of live spans into blocks", counters.cuts)
        yield CounterMetricFamily("spanlake_flush_failures", "Flushes of a tenant that failed and were put off", counters.flush_failures)
        yield CounterMetricFamily("spanlake_flushed_spans", "Spans written to blocks", counters.flushed_spans)
        yield CounterMetricFamily("spanlake_flushed_blocks", "Blocks written by cuts", counters.flushed_blocks)
        yield CounterMetricFamily("spanlake_flushed_bytes", "Bytes of blocks written by cuts", counters.flushed_bytes)
        yield CounterMetricFamily("spanlake_carried_spans", "Spans carried over a cut to keep traces whole", counters.carried_spans)

    def _log(self) -> Iterator[Metric]:
        wal = self._pipeline.wal
        counters = wal.counters
        yield GaugeMetricFamily("spanlake_wal_bytes", "Size of the write-ahead log", wal.size_bytes)
        yield CounterMetricFamily("spanlake_wal_appended_bytes", "Bytes appended to the log", counters.appended_bytes)
        yield CounterMetricFamily("spanlake_wal_appended_records", "Records appended to the log", counters.appended_records)
        yield CounterMetricFamily("spanlake_wal_fsyncs", "fsyncs of the log", counters.fsyncs)
        yield CounterMetricFamily("spanlake_wal_failures", "Failed writes and fsyncs of the log", counters.failures)
        own = self._pipeline.counters
        yield CounterMetricFamily("spanlake_wal_replayed_spans", "Spans restored from the log at the start", own.replayed_spans)
        yield CounterMetricFamily("spanlake_wal_damaged_records", "Damaged records skipped at the start", own.replay_damage)

    def _tables(self) -> Iterator[Metric]:
        live = GaugeMetricFamily("spanlake_tenant_live_bytes", "Memory of the tenant's live spans", labels=["tenant"])
        blocks = GaugeMetricFamily("spanlake_blocks", "Blocks of the table", labels=["tenant"])
        size = GaugeMetricFamily("spanlake_block_bytes", "Size of the table", labels=["tenant"])
        spans = GaugeMetricFamily("spanlake_block_spans", "Spans in the table, before compaction drops duplicates", labels=["tenant"])
        for tenant in self._pipeline.tenants.live():
            live.add_metric([tenant.tenant], self._pipeline.tenants.usage_of(tenant.tenant).bytes)
            table = tenant.view().table
            blocks.add_metric([tenant.tenant], len(table.blocks))
            size.add_metric([tenant.tenant], sum(block.size_bytes for block in table.blocks))
            spans.add_metric([tenant.tenant], sum(block.rows for block in table.blocks))
        yield from (live, blocks, size, spans)
        yield GaugeMetricFamily("spanlake_footer_cache_bytes", "Memory of cached block footers", self._footers.memory_bytes)


class LimitsCollector(Collector):
    """Metrics of where limits come from."""

    def __init__(self, limits: LimitsInForce) -> None:
        self._limits = limits

    def collect(self) -> Iterator[Metric]:
        failures = CounterMetricFamily("spanlake_overrides_failures", "Failed looks at the limits of single tenants", labels=["source"])
        for source, count in self._limits.failures.items():
            failures.add_metric([source], count)
        yield failures


def register_metrics(registry: CollectorRegistry, pipeline: Pipeline, maintenance: Maintenance, footers: FooterCache) -> None:
    """Register the core's metrics and those of the process (CPU, memory, file descriptors)."""
    registry.register(CoreCollector(pipeline, maintenance, footers))
    ProcessCollector(registry=registry)
    PlatformCollector(registry=registry)
    GCCollector(registry=registry)

"""What one tenant may do: the limits that differ from tenant to tenant, and where whoever enforces one asks for it.

The defaults of all are settings (`SETTING_OF`); `app/limits` puts on top what a file and the API say of single tenants. Limits may change
while the server runs, so they are asked for when they matter and not kept.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from spanlake.model.settings import Settings


@dataclass(frozen=True, slots=True)
class TenantLimits:
    """The limits of one tenant; 0 is no limit, and for the retention it is for ever. What each means: the setting in `SETTING_OF`."""

    ingest_bytes_per_second: float = 0
    ingest_burst_bytes: int = 64 << 20
    trace_spans_max: int = 0
    attribute_bytes_max: int = 0
    live_bytes_max: int = 0
    query_range_seconds_max: float = 168 * 3600
    metrics_range_seconds_max: float = 24 * 3600
    query_concurrency_max: int = 0
    retention_seconds: float = 14 * 86400


SETTING_OF = {
    "ingest_bytes_per_second": "limits.ingest_bytes_per_second",
    "ingest_burst_bytes": "limits.ingest_burst_bytes",
    "trace_spans_max": "limits.trace_spans_max",
    "attribute_bytes_max": "limits.attribute_bytes_max",
    "live_bytes_max": "limits.live_bytes_max",
    "query_range_seconds_max": "query.range_seconds_max",
    "metrics_range_seconds_max": "query.metrics_range_seconds_max",
    "query_concurrency_max": "limits.query_concurrency_max",
    "retention_seconds": "compaction.retention_seconds",
}
"""The path of the setting that is a limit's default, and that says what it means and which values it may have."""


class LimitsSource(Protocol):
    """Who knows the limits of tenants. Thread-safe; returns at once, so that every request may ask."""

    def of(self, tenant: str) -> TenantLimits:
        """The limits in force for a tenant now."""
        ...


@dataclass(frozen=True, slots=True)
class SameLimits:
    """The same limits for every tenant."""

    limits: TenantLimits = TenantLimits()

    def of(self, tenant: str) -> TenantLimits:  # noqa: ARG002 (they are the same)
        return self.limits


NO_LIMITS = SameLimits()
"""What holds where nothing is said: of the limits of ingest none."""


def default_limits(settings: Settings) -> TenantLimits:
    """The limits of a tenant of whom nothing is said."""
    own, query, compaction = settings.limits, settings.query, settings.compaction
    return TenantLimits(
        ingest_bytes_per_second=own.ingest_bytes_per_second,
        ingest_burst_bytes=own.ingest_burst_bytes,
        trace_spans_max=own.trace_spans_max,
        attribute_bytes_max=own.attribute_bytes_max,
        live_bytes_max=own.live_bytes_max,
        query_range_seconds_max=query.range_seconds_max,
        metrics_range_seconds_max=query.metrics_range_seconds_max,
        query_concurrency_max=own.query_concurrency_max,
        retention_seconds=compaction.retention_seconds,
    )

"""Bytes per second: one token bucket per tenant, which fills at the rate and holds the burst."""

from __future__ import annotations

import math
import threading
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

from spanlake.model.errors import Overloaded, TooLarge
from spanlake.model.tenancy.limits import TenantLimits

BUCKETS_MAX = 10_000
RETRY_SECONDS_MAX = 60
PREFIX = "RATE_LIMITED: "
"""Senders tell this refusal from others by how it begins (wire-contract section 7.3)."""


@dataclass(frozen=True, slots=True)
class _Bucket:
    tokens: float
    seconds: float  # when there were so many


class IngestRate:
    """Thread-safe. Of more than `BUCKETS_MAX` tenants, who has not pushed for longest starts again with a full bucket."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._buckets: OrderedDict[str, _Bucket] = OrderedDict()

    def take(self, tenant: str, size: int, limits: TenantLimits) -> None:
        """Let `size` bytes in; Overloaded if they must wait, TooLarge if they can never come at once."""
        rate, burst = limits.ingest_bytes_per_second, limits.ingest_burst_bytes
        if not rate:
            return
        if size > burst:
            raise TooLarge(
                f"{PREFIX}batch size ({size} bytes) exceeds the ingestion limit (burst: {burst} bytes) of tenant {tenant!r}: "
                "send smaller batches, or raise its ingest_burst_bytes"
            )
        with self._lock:
            tokens = self._tokens(tenant, rate, burst)
            self._buckets[tenant] = _Bucket(tokens - size if tokens >= size else tokens, self._clock())
            self._buckets.move_to_end(tenant)
            if len(self._buckets) > BUCKETS_MAX:
                self._buckets.popitem(last=False)
        if tokens < size:
            pause = min(math.ceil((size - tokens) / rate), RETRY_SECONDS_MAX)
            text = f"{PREFIX}ingestion rate limit ({rate:g} bytes/s, burst: {burst} bytes) exceeded by {size} bytes of tenant {tenant!r}"
            raise Overloaded(
                f"{text}: send less, or raise its ingest_bytes_per_second", retry_after_seconds=max(pause, 1), reason="ingestion rate"
            )

    def give_back(self, tenant: str, size: int) -> None:
        """Undo `take`: the bytes did not come in after all."""
        with self._lock:
            bucket = self._buckets.get(tenant)
            if bucket is not None:  # else the rate is not limited
                self._buckets[tenant] = _Bucket(bucket.tokens + size, bucket.seconds)

    def _tokens(self, tenant: str, rate: float, burst: int) -> float:
        bucket = self._buckets.get(tenant)
        if bucket is None:
            return burst
        return min(burst, bucket.tokens + (self._clock() - bucket.seconds) * rate)

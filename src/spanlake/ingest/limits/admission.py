"""Whether and how a decoded push may come in, by the limits of its tenant.

A push over the rate or the tenant's memory is refused as a whole, and may be sent again. Spans beyond the limit of their trace are left
out, and attributes that are too long are cut off; the log then takes the rest, encoded anew, in the place of the payload, so that a replay
finds what was acknowledged and nothing else.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from spanlake.ingest.limits.rate import IngestRate
from spanlake.ingest.limits.trace_spans import TraceSpans
from spanlake.ingest.limits.truncate import truncate_attributes
from spanlake.model.errors import Overloaded
from spanlake.model.spans import SpanBatch
from spanlake.model.tenancy.limits import LimitsSource, TenantLimits
from spanlake.wire.otlp.decode import decode_otlp
from spanlake.wire.otlp.encode import encode_otlp

LIVE_RETRY_SECONDS = 5
TRACE_TOO_LONG = "the trace has as many spans as trace_spans_max allows"
_DEPTH_MAX = 64  # no less than any that a payload can have been accepted with


@dataclass(frozen=True, slots=True)
class Admitted:
    """What of a push comes in: the payload for the log and its spans.

    `refused`: (reason, spans) that were left out; `truncated`: attributes that were cut off; `counted`: whether its spans are counted per
    trace; `bytes`: what it took of the rate.
    """

    payload: bytes
    batch: SpanBatch
    refused: tuple[tuple[str, int], ...] = ()
    truncated: int = 0
    counted: bool = False
    bytes: int = 0


class Admission:
    """Thread-safe. Owns what the limits remember of each tenant."""

    def __init__(self, limits: LimitsSource, clock: Callable[[], float]) -> None:
        self._limits = limits
        self._rate = IngestRate(clock)
        self._trace_spans = TraceSpans()

    def admit(self, tenant: str, payload: bytes, batch: SpanBatch, *, live_bytes: int) -> Admitted:
        """What of a push may come in, while the tenant's live spans take `live_bytes`. Overloaded or TooLarge if nothing may."""
        limits = self._limits.of(tenant)
        if limits.live_bytes_max and live_bytes > limits.live_bytes_max:
            text = f"live spans of tenant {tenant!r} take {live_bytes} bytes, more than its live_bytes_max={limits.live_bytes_max}"
            raise Overloaded(
                f"{text}: they are written to blocks at the next cut",
                retry_after_seconds=LIVE_RETRY_SECONDS,
                reason="live bytes of the tenant",
            )
        self._rate.take(tenant, len(payload), limits)
        return self._within(tenant, payload, batch, limits)

    def withdraw(self, tenant: str, admitted: Admitted) -> None:
        """The spans were admitted and could not be kept: the sender will send them again."""
        self._rate.give_back(tenant, admitted.bytes)
        if admitted.counted:
            self._trace_spans.forget(tenant, admitted.batch)

    def _within(self, tenant: str, payload: bytes, batch: SpanBatch, limits: TenantLimits) -> Admitted:
        whole, size, truncated = batch, len(payload), 0
        refused: tuple[tuple[str, int], ...] = ()
        if limits.trace_spans_max:
            kept = self._trace_spans.count(tenant, batch, limits.trace_spans_max)
            if not kept.all():
                batch = batch.take(kept)
                refused = ((TRACE_TOO_LONG, len(whole) - len(batch)),)
        if limits.attribute_bytes_max:
            batch, truncated = truncate_attributes(batch, limits.attribute_bytes_max)
        if batch is not whole:
            payload = encode_otlp(batch)
            batch = decode_otlp(payload, depth_max=_DEPTH_MAX).batch
        return Admitted(payload, batch, refused, truncated, counted=limits.trace_spans_max > 0, bytes=size)

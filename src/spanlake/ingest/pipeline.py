"""Accepting payloads: decode → limits → log → live, and the cuts that turn live spans into blocks.

`accept` returns when the payload is durable and its spans are readable. A cut seals the log's segment and every tenant's live spans
at one point between pushes (the gate), then flushes tenant by tenant while pushes go on into the next segment. A tenant whose flush
fails does not keep the others waiting: it is tried again after a pause, and the log is kept from its first segment on.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from spanlake.blocks.live import LiveView, TenantSpans
from spanlake.blocks.wal import Wal
from spanlake.ingest.carry import Flushed, flushed
from spanlake.ingest.flush import FlushCounts, Flusher, flush_tenant
from spanlake.ingest.gate import Gate
from spanlake.ingest.limits.admission import Admission, Admitted
from spanlake.ingest.replay import PAUSE_SECONDS, Replaying, replay_log
from spanlake.ingest.tenants import Tenants
from spanlake.model.errors import InvalidInput, Overloaded, SpanlakeError, TooLarge, Unavailable
from spanlake.model.ingest import Accepted
from spanlake.model.settings import IngestSettings
from spanlake.model.spans import SpanBatch
from spanlake.model.tenancy.limits import NO_LIMITS, LimitsSource
from spanlake.model.tenancy.names import check_tenant
from spanlake.wire.otlp.decode import decode_otlp

_LOG = logging.getLogger(__name__)
CUT_LOOK_SECONDS = 0.25
RETRY_FIRST_SECONDS, RETRY_MAX_SECONDS = 0.5, 30.0
TENANTS_COUNTED_MAX = 200
OTHER_TENANTS = "other tenants"
"""What refusals of further tenants are counted under; it is no tenant's name."""


@dataclass(slots=True)
class IngestCounters:
    """Totals since the start, for /metrics. Guarded by the pipeline's counter lock."""

    spans: int = 0
    payloads: int = 0
    bytes: int = 0
    refused: dict[tuple[str, str], int] = field(default_factory=dict)  # spans by tenant and reason
    truncated: dict[str, int] = field(default_factory=dict)  # attributes by tenant
    cuts: int = 0
    flush_failures: int = 0
    flushed_spans: int = 0
    flushed_blocks: int = 0
    flushed_bytes: int = 0
    carried_spans: int = 0
    replayed_spans: int = 0
    replay_damage: int = 0


@dataclass(frozen=True, slots=True)
class _Pause:
    """When a tenant's flush is tried again (monotonic), and how long the pause was."""

    until: float
    seconds: float


class Pipeline:
    """Owns the log and the cutter thread. Its life: `start` once, `stop` once. Without a cutter, for tests: `replay`, `cut`."""

    def __init__(
        self,
        flusher: Flusher,
        settings: IngestSettings,
        *,
        limits: LimitsSource = NO_LIMITS,
        stopping: threading.Event | None = None,
    ) -> None:
        self._flusher = flusher
        self._settings = settings
        self._admission = Admission(limits, flusher.clock)
        self._clock: Callable[[], float] = flusher.clock
        self._gate = Gate()
        self._tenants = flusher.tenants
        self._stopping = stopping or threading.Event()
        self._wake = threading.Event()
        self._cutter: threading.Thread | None = None
        self._replayed = False
        self._cut_lock = threading.Lock()  # guards the next two
        self._sealed_through = 0  # no segment up to here gets another record
        self._pauses: dict[str, _Pause] = {}
        self._count_lock = threading.Lock()
        self.counters = IngestCounters()
        self._counted_tenants: set[str] = set()

    # Accepting

    def accept(self, tenant: str, payload: bytes) -> Accepted:
        """Take an OTLP protobuf payload; return when its spans are durable and readable.

        Raises InvalidInput for a malformed payload, Overloaded when live spans fill their memory or the tenant is over a limit of its own,
        TooLarge for a payload that is always over it, StoreError when a tenant's table cannot be read at its first push, Unavailable while
        the log is being replayed, the disk fails or the server stops.
        """
        self._check_open()
        check_tenant(tenant)
        try:
            decoded = decode_otlp(payload, depth_max=self._settings.value_depth_max)
        except InvalidInput:
            self._count_refused(tenant, [("malformed payload", 1)])
            raise
        admitted = self._admitted(tenant, payload, decoded.batch)
        if len(admitted.batch):
            try:
                self._keep(tenant, admitted)
            except BaseException:
                self._admission.withdraw(tenant, admitted)
                raise
        refused = (*decoded.rejected, *admitted.refused)
        self._count_accepted(tenant, len(payload), admitted)
        self._count_refused(tenant, refused)
        message = "; ".join(f"{count} spans refused: {reason}" for reason, count in refused)
        return Accepted(len(admitted.batch), sum(count for _, count in refused), message)

    def _admitted(self, tenant: str, payload: bytes, batch: SpanBatch) -> Admitted:
        if not len(batch):
            return Admitted(payload, batch)
        try:
            self._check_room()
            usage = self._tenants.usage_of(tenant)
            return self._admission.admit(tenant, payload, batch, live_bytes=usage.bytes if usage.spans else 0)
        except Overloaded as refusal:
            self._count_refused(tenant, [(refusal.reason, len(batch))])
            raise
        except TooLarge:
            self._count_refused(tenant, [("push above the burst", len(batch))])
            raise

    def _keep(self, tenant: str, admitted: Admitted) -> None:
        """Log a payload and make its spans live, both on the same side of every cut."""
        while True:
            spans = self._tenants.open(tenant)  # before the gate, as it may read the store
            with self._gate.shared():
                if self._tenants.get(tenant) is spans:
                    segment = self._flusher.wal.append(tenant, admitted.payload)
                    spans.append(admitted.batch, seconds=self._clock(), segment=segment)
                    break
        self._tenants.account(spans)
        if self._is_full():
            self._wake.set()

    def _check_open(self) -> None:
        if self._stopping.is_set():
            raise Unavailable("the server is stopping")
        if not self._replayed:
            raise Unavailable("the write-ahead log is being replayed; try again in a few seconds")

    def _check_room(self) -> None:
        used, bytes_max = self._tenants.usage.bytes, self._settings.live_bytes_max
        if used > bytes_max:
            self._wake.set()
            text = f"live spans take {used} bytes, more than ingest.live_bytes_max={bytes_max}: flushing is behind"
            raise Overloaded(text, retry_after_seconds=2, reason="live bytes of the process")

    def _count_accepted(self, tenant: str, payload_bytes: int, admitted: Admitted) -> None:
        with self._count_lock:
            self.counters.payloads += 1
            self.counters.spans += len(admitted.batch)
            self.counters.bytes += payload_bytes
            if admitted.truncated:
                shown = self._counted_as(tenant)
                self.counters.truncated[shown] = self.counters.truncated.get(shown, 0) + admitted.truncated

    def _count_refused(self, tenant: str, rejected: Iterable[tuple[str, int]]) -> None:
        with self._count_lock:
            for reason, count in rejected:
                key = (self._counted_as(tenant), reason)
                self.counters.refused[key] = self.counters.refused.get(key, 0) + count

    def _counted_as(self, tenant: str) -> str:
        """The tenant, or one name for all when there are many, as tenants make metrics. The counter lock is held."""
        if len(self._counted_tenants) < TENANTS_COUNTED_MAX:
            self._counted_tenants.add(tenant)
        return tenant if tenant in self._counted_tenants else OTHER_TENANTS

    # Reading

    def view(self, tenant: str) -> LiveView:
        """What a query works on. Unavailable until the log is replayed, as the view would lack spans."""
        if not self._replayed:
            raise Unavailable("the write-ahead log is being replayed; try again in a few seconds")
        return self._tenants.view(tenant)

    @property
    def wal(self) -> Wal:
        return self._flusher.wal

    @property
    def tenants(self) -> Tenants:
        return self._tenants

    # Cutting

    def _is_full(self) -> bool:
        """Whether what a cut could seal is a block's worth, or takes much of the memory."""
        usage = self._tenants.usage
        spans, size = usage.spans - usage.sealed_spans, usage.bytes - usage.sealed_bytes
        return spans >= self._settings.cut_spans or size > self._settings.live_bytes_max // 2

    def _is_cut_due(self) -> bool:
        oldest = min((at for spans in self._tenants.live() if (at := spans.oldest_seconds) is not None), default=None)
        return oldest is not None and (self._is_full() or self._clock() - oldest > self._settings.cut_interval_seconds)

    def cut(self, *, everything: bool = False) -> bool:
        """Seal what is live and flush it; with `everything`, active traces too. One cut at a time. Whether nothing sealed is left.

        A tenant whose last flush failed is tried again first. Its later spans are sealed only if that succeeds.
        """
        with self._cut_lock:
            self._flush_sealed(everything=everything)
            with self._gate.exclusive():
                self._sealed_through = self.wal.rotate()
                for spans in self._tenants.live():
                    spans.seal(self._sealed_through)
                self._tenants.close_idle()
            with self._count_lock:
                self.counters.cuts += 1
            return self._flush_sealed(everything=everything)

    def _flush_sealed(self, *, everything: bool) -> bool:
        """Flush the tenants that have sealed spans, but for those in their pause (with `everything`, those too), then drop what the log
        needs no more. Whether nothing sealed is left. The cut lock is held."""
        sealed = [spans for spans in self._tenants.live() if spans.sealed is not None]
        self._pauses = {spans.tenant: pause for spans in sealed if (pause := self._pauses.get(spans.tenant))}
        done = True
        for spans in sealed:
            pause = self._pauses.get(spans.tenant)
            if pause is not None and self._clock() < pause.until and not everything:
                done = False
            else:
                done = self._flush(spans, everything=everything) and done
        self._drop_segments()
        return done

    def _drop_segments(self) -> None:
        needed = [first for spans in self._tenants.live() if (first := spans.needed_segment) is not None]
        try:
            self.wal.drop(min([self._sealed_through, *(first - 1 for first in needed)]))
        except Unavailable as failure:
            _LOG.warning("segments of the log stay, the next cut tries again", extra={"reason": str(failure)})

    def _flush(self, spans: TenantSpans, *, everything: bool) -> bool:
        try:
            counts = flush_tenant(self._flusher, spans, everything=everything)
        except Exception as failure:  # noqa: BLE001 (the other tenants' spans must be flushed whatever is wrong with this one's)
            before = self._pauses.get(spans.tenant)
            seconds = min(2 * before.seconds, RETRY_MAX_SECONDS) if before else RETRY_FIRST_SECONDS
            self._pauses[spans.tenant] = _Pause(self._clock() + seconds, seconds)
            fields = {"tenant": spans.tenant, "reason": str(failure), "pause_seconds": seconds}
            unexpected = not isinstance(failure, (SpanlakeError, OSError))
            _LOG.warning("a flush failed, its spans stay live and in the log", extra=fields, exc_info=unexpected)
            with self._count_lock:
                self.counters.flush_failures += 1
            return False
        finally:
            self._tenants.account(spans)
        self._pauses.pop(spans.tenant, None)
        if counts is not None:
            self._count_flush(counts)
        return True

    def _count_flush(self, counts: FlushCounts) -> None:
        with self._count_lock:
            self.counters.flushed_spans += counts.spans
            self.counters.flushed_blocks += counts.blocks
            self.counters.flushed_bytes += counts.bytes
            self.counters.carried_spans += counts.carried_spans

    def _run_cutter(self) -> None:
        while not self._stopping.is_set():
            self._wake.wait(CUT_LOOK_SECONDS)
            self._wake.clear()
            try:
                if self._is_cut_due():
                    self.cut()
                elif any(pause.until <= self._clock() for pause in list(self._pauses.values())):
                    with self._cut_lock:
                        self._flush_sealed(everything=False)
            except Exception:  # noqa: BLE001 (the cutter must outlive whatever a cut runs into)
                _LOG.exception("a cut failed; its spans stay live and in the log, and the next cut tries again")
                self._stopping.wait(1.0)

    # Life

    def start(self) -> None:
        """Replay the log, then accept payloads and cut when it is due. Call once, from any thread."""
        self.replay()
        self._cutter = threading.Thread(target=self._run_cutter, name="cutter", daemon=True)
        self._cutter.start()

    def replay(self) -> None:
        """Make live what the log has and the tables lack. Until it is done nothing is accepted or read."""
        tenants, catalog, wal = self._tenants, self._flusher.catalog, self._flusher.wal

        def last_flush(tenant: str) -> Flushed:
            tenants.open(tenant, limited=False)
            return flushed(catalog.writer_version(tenant, wal.writer_id))

        def keep(tenant: str, batch: SpanBatch, segment: int) -> None:
            spans = tenants.open(tenant, limited=False)
            spans.append(batch, seconds=self._clock(), segment=segment)
            tenants.account(spans)

        work = Replaying(wal, self._stopping, last_flush, keep, self._make_room)
        replayed = replay_log(work)
        self.counters.replayed_spans, self.counters.replay_damage = replayed.spans, replayed.damaged
        with self._cut_lock:
            self._sealed_through = replayed.last_segment
            self._flush_sealed(everything=False)
        self._replayed = True

    def _make_room(self, through: int) -> None:
        """Flush what the segments up to there hold, if it is much. Only in a replay, when there are no pushes."""
        if not self._is_full():
            return
        with self._cut_lock:
            self._sealed_through = through
            for spans in self._tenants.live():
                spans.seal(through)
            while not self._flush_sealed(everything=True):
                if self._stopping.wait(PAUSE_SECONDS):
                    raise Unavailable("stopped while the write-ahead log was replayed")

    def stop(self, *, flush: bool) -> None:
        """Refuse new payloads, stop the cutter, flush if asked (and if the store works), close the log."""
        self._stopping.set()
        self._wake.set()
        if self._cutter is not None:
            self._cutter.join()
        # A cut speaks for all segments, so a log that was not replayed to its end must not be cut.
        try:
            if flush and self._replayed and not self.cut(everything=True):
                _LOG.warning("the last flush did not succeed; the spans are in the log")
        finally:
            self.wal.close()

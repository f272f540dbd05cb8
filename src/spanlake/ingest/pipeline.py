"""Accepting payloads: decode → limits → log → live, and the cuts that turn live spans into blocks.

`accept` returns when the payload is durable and its spans are readable. A cut seals the log's segment and every tenant's live spans
at one point between pushes (the gate), then flushes tenant by tenant while pushes go on into the next segment.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from spanlake.blocks.catalog import TableSnapshot, check_tenant
from spanlake.blocks.live import LiveView, TenantSpans
from spanlake.blocks.wal import CARRY, PAYLOAD, Wal
from spanlake.ingest.carry import CarryRecord, decode_record
from spanlake.ingest.flush import Flushed, Flusher, flush_tenant
from spanlake.ingest.gate import Gate
from spanlake.model.errors import CorruptData, InvalidInput, Overloaded, SpanlakeError, Unavailable
from spanlake.model.ingest import Accepted
from spanlake.model.settings import IngestSettings
from spanlake.model.spans import SpanBatch
from spanlake.wire.otlp.decode import decode_otlp

_LOG = logging.getLogger(__name__)
CUT_LOOK_SECONDS = 0.25


@dataclass(slots=True)
class IngestCounters:
    """Totals since the start, for /metrics. Guarded by the pipeline's counter lock."""

    spans: int = 0
    payloads: int = 0
    bytes: int = 0
    refused: dict[str, int] = field(default_factory=dict)  # spans by reason
    cuts: int = 0
    flushed_spans: int = 0
    flushed_blocks: int = 0
    flushed_bytes: int = 0
    carried_spans: int = 0
    replayed_spans: int = 0
    replay_damage: int = 0


class Pipeline:
    """Owns the live spans of all tenants, the log, and the cutter thread."""

    def __init__(self, flusher: Flusher, settings: IngestSettings, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._flusher = flusher
        self._settings = settings
        self._clock = clock
        self._gate = Gate()
        self._tenants: dict[str, TenantSpans] = {}
        self._tenants_lock = threading.Lock()
        self._table_locks: dict[str, threading.RLock] = {}
        self._cut_lock = threading.Lock()
        self._wake = threading.Event()
        self._needed: dict[str, int] = {}  # oldest segment with carried rows, per tenant
        self._cutter: threading.Thread | None = None
        self._ready = False
        self._count_lock = threading.Lock()
        self._usage: dict[str, tuple[int, int]] = {}  # live (spans, bytes) per tenant
        self._live = (0, 0)  # their totals
        self.counters = IngestCounters()

    # Accepting

    def accept(self, tenant: str, payload: bytes) -> Accepted:
        """Take an OTLP protobuf payload; return when its spans are durable and readable.

        Raises InvalidInput for a malformed payload, Overloaded when live spans fill their memory, Unavailable while the log is being
        replayed, the disk fails or the server stops.
        """
        if not self._ready:
            raise Unavailable("the write-ahead log is being replayed; try again in a few seconds")
        check_tenant(tenant)
        try:
            decoded = decode_otlp(payload, depth_max=self._settings.value_depth_max)
        except InvalidInput:
            self._count_refused([("malformed payload", 0)])
            raise
        if len(decoded.batch):
            self._check_room()
            with self._gate.shared():
                segment = self._flusher.wal.append(tenant, payload)
                spans = self._spans_of(tenant)
                spans.append(decoded.batch, seconds=self._clock(), segment=segment)
            self._account(spans)
            if self._is_full():
                self._wake.set()
        with self._count_lock:
            self.counters.payloads += 1
            self.counters.spans += len(decoded.batch)
            self.counters.bytes += len(payload)
        self._count_refused(decoded.rejected)
        return Accepted(len(decoded.batch), decoded.rejected_spans, decoded.rejection_message)

    def _count_refused(self, rejected: list[tuple[str, int]] | tuple[tuple[str, int], ...]) -> None:
        with self._count_lock:
            for reason, count in rejected:
                self.counters.refused[reason] = self.counters.refused.get(reason, 0) + max(count, 1)

    def _check_room(self) -> None:
        used = self.live_bytes
        if used > self._settings.live_bytes_max:
            self._wake.set()
            raise Overloaded(
                f"live spans take {used} bytes, more than ingest.live_bytes_max={self._settings.live_bytes_max}: flushing is behind",
                retry_after_seconds=2,
            )

    # Reading

    def view(self, tenant: str) -> LiveView:
        """A consistent view of the tenant's live spans and table. An unknown tenant has none of both."""
        spans = self._tenants.get(tenant)
        return spans.view() if spans is not None else LiveView(self._flusher.catalog.snapshot(tenant), ())

    def refresh(self, tenant: str) -> TableSnapshot:
        """Look for table versions of other processes; part of the view from then on."""
        return self.change_table(tenant, lambda: self._flusher.catalog.refresh(tenant))

    def change_table(self, tenant: str, change: Callable[[], TableSnapshot]) -> TableSnapshot:
        """Run something that makes a new table version, kept apart from flushes of the tenant, and make it part of the view."""
        with self._table_lock(tenant):
            table = change()
            spans = self._tenants.get(tenant)
            if spans is not None:
                spans.publish_table(table)
        return table

    def tenants(self) -> list[str]:
        """Tenants with live spans or a table."""
        return sorted({*self._tenants, *self._flusher.catalog.tenants()})

    def known_tenants(self) -> list[str]:
        """Tenants that this process has met, without asking the store."""
        return sorted(self._tenants)

    @property
    def live_spans(self) -> int:
        return self._live[0]

    @property
    def live_bytes(self) -> int:
        return self._live[1]

    def _account(self, spans: TenantSpans) -> None:
        """Bring the totals of live spans and bytes up to date with one tenant's."""
        with self._count_lock:
            new, old = (spans.spans, spans.memory_bytes), self._usage.get(spans.tenant, (0, 0))
            self._usage[spans.tenant] = new
            self._live = (self._live[0] + new[0] - old[0], self._live[1] + new[1] - old[1])

    @property
    def ready(self) -> bool:
        return self._ready

    @property
    def wal(self) -> Wal:
        return self._flusher.wal

    def _spans_of(self, tenant: str) -> TenantSpans:
        spans = self._tenants.get(tenant)
        if spans is None:
            table = self._flusher.catalog.snapshot(tenant)
            with self._tenants_lock:
                spans = self._tenants.setdefault(tenant, TenantSpans(tenant, table))
        return spans

    def _table_lock(self, tenant: str) -> threading.RLock:
        with self._tenants_lock:
            return self._table_locks.setdefault(tenant, threading.RLock())

    # Cutting

    def _is_full(self) -> bool:
        return self.live_spans >= self._settings.cut_spans or self.live_bytes > self._settings.live_bytes_max // 2

    def _is_cut_due(self) -> bool:
        oldest = [at for spans in list(self._tenants.values()) if (at := spans.oldest_seconds) is not None]
        return self._is_full() or (bool(oldest) and self._clock() - min(oldest) > self._settings.cut_interval_seconds)

    def cut(self, *, everything: bool = False) -> list[Flushed]:
        """Seal what is live and flush it. With `everything`, active traces too. One cut at a time; raises Unavailable when stopping."""
        with self._cut_lock:
            with self._gate.exclusive():
                through = self.wal.rotate()
                tenants = list(self._tenants.values())
                for spans in tenants:
                    spans.seal()
            flushed = []
            for spans in tenants:
                with self._table_lock(spans.tenant):
                    done = flush_tenant(self._flusher, spans, through=through, everything=everything)
                if done is not None:
                    self._account(spans)
                    flushed.append(done)
                    self._needed.pop(spans.tenant, None)
                    if done.needed_segment is not None:
                        self._needed[spans.tenant] = done.needed_segment
            self.wal.drop(min([through, *(segment - 1 for segment in self._needed.values())]))
        self._count_flushes(flushed)
        return flushed

    def _count_flushes(self, flushed: list[Flushed]) -> None:
        with self._count_lock:
            self.counters.cuts += 1
            for done in flushed:
                self.counters.flushed_spans += done.spans
                self.counters.flushed_blocks += done.blocks
                self.counters.flushed_bytes += done.bytes
                self.counters.carried_spans += done.carried_spans

    def _run_cutter(self) -> None:
        while not self._flusher.stopping.is_set():
            self._wake.wait(CUT_LOOK_SECONDS)
            self._wake.clear()
            try:
                if self._is_cut_due():
                    self.cut()
            except Unavailable as failure:
                _LOG.warning("a cut was broken off; its spans stay in the log", extra={"reason": str(failure)})
            except Exception:  # noqa: BLE001 (the cutter must outlive whatever a cut runs into)
                _LOG.exception("a cut failed; its spans stay live and in the log, and the next cut tries again")
                self._flusher.stopping.wait(1.0)

    # Life

    def start(self) -> None:
        """Replay the log, then accept payloads. Call once, from any thread; `accept` refuses until it is done."""
        self._replay()
        self._ready = True
        self._cutter = threading.Thread(target=self._run_cutter, name="cutter", daemon=True)
        self._cutter.start()

    def stop(self, *, flush: bool) -> None:
        """Refuse new payloads, stop the cutter, flush if asked (and if the store works), close the log."""
        self._ready = False
        self._flusher.stopping.set()
        self._wake.set()
        if self._cutter is not None:
            self._cutter.join()
        if flush and self.live_spans:
            try:
                self.cut(everything=True)
            except SpanlakeError as failure:
                _LOG.warning("the last flush did not succeed; the spans are in the log", extra={"reason": str(failure)})
        self.wal.close()

    def _replay(self) -> None:
        """Read the log that an earlier process left: make live what the table does not have yet."""
        versions: dict[str, int] = {}
        carries: dict[str, CarryRecord] = {}
        for record in self.wal.replay():
            if record.tenant not in versions:
                version = self._flusher.catalog.writer_version(record.tenant, self.wal.writer_id)
                versions[record.tenant] = -1 if version is None else version
            if record.kind == CARRY:
                self._note_carry(record.tenant, record.body, versions[record.tenant], carries)
        replay = self.wal.replay()
        last = None
        for record in replay:
            # A commit through a segment that a commit already covers would do nothing, and carried spans would be lost.
            if last is not None and last > max(versions.values()) and record.segment != last and self._is_full():
                self._cut_replayed(last)
            last = record.segment
            if record.kind == PAYLOAD:
                self._replay_payload(record.tenant, record.body, record.segment, (versions[record.tenant], carries.get(record.tenant)))
        report = replay.report
        self.counters.replay_damage = len(report.corrupt)
        for damage in report.corrupt:
            _LOG.error("a damaged record of the log was skipped", extra={"damage": str(damage)})
        if report.records:
            fields = {"records": report.records, "log_bytes": report.bytes, "spans": self.counters.replayed_spans}
            _LOG.info("replayed the write-ahead log", extra={**fields, "torn_tail_bytes": report.torn_tail_bytes})

    def _note_carry(self, tenant: str, body: memoryview, version: int, carries: dict[str, CarryRecord]) -> None:
        try:
            carry = decode_record(bytes(body))
        except CorruptData as failure:
            _LOG.error("a CARRY record of the log is unreadable", extra={"tenant": tenant, "reason": str(failure)})
            return
        if carry.through == version:
            carries[tenant] = carry

    def _replay_payload(self, tenant: str, body: memoryview, segment: int, committed: tuple[int, CarryRecord | None]) -> None:
        version, carry = committed
        if segment <= version and carry is None:
            return
        batch = decode_otlp(bytes(body), depth_max=self._settings.value_depth_max).batch
        if segment <= version and carry is not None:
            batch = _only(batch, carry, segment)
        if len(batch):
            spans = self._spans_of(tenant)
            spans.append(batch, seconds=self._clock(), segment=segment)
            self._account(spans)
            self.counters.replayed_spans += len(batch)

    def _cut_replayed(self, through: int) -> None:
        """Flush between two replayed segments, so that a log larger than memory can be replayed."""
        for spans in list(self._tenants.values()):
            spans.seal()
            flush_tenant(self._flusher, spans, through=through, everything=True)
            self._account(spans)
        self.wal.drop(through)


def _only(batch: SpanBatch, carry: CarryRecord, segment: int) -> SpanBatch:
    """The rows of a replaced segment that the flush carried."""
    return batch.take(carry.keeps(batch, segment))

"""Reading the log that an earlier process left: what the tables do not have yet becomes live again.

A log larger than memory is flushed on the way, always between two segments, because a flush speaks for whole segments.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

from spanlake.blocks.wal import Record, Wal
from spanlake.ingest.carry import Flushed, payload_of
from spanlake.model.errors import CorruptData, InvalidInput, StoreError, Unavailable
from spanlake.model.spans import SpanBatch
from spanlake.wire.otlp.decode import decode_otlp

_LOG = logging.getLogger(__name__)
T = TypeVar("T")
VALUE_DEPTH_MAX = 64  # no less than any limit that a payload can have been accepted under
PAUSE_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class Replaying:
    """What a replay works with.

    `flushed` says what the tenant's table has of this log; StoreError is tried again. `keep` makes spans live. `make_room` is called
    between segments with the last one that was read, which it may flush and drop.
    """

    wal: Wal
    stopping: threading.Event
    flushed: Callable[[str], Flushed]
    keep: Callable[[str, SpanBatch, int], None]
    make_room: Callable[[int], None]


@dataclass(frozen=True, slots=True)
class Replayed:
    """What a replay found. `last_segment` is the last one with a record, 0 without any."""

    spans: int
    damaged: int
    last_segment: int


def replay_log(work: Replaying) -> Replayed:
    """Make live what the tables lack. Unavailable if the server stops meanwhile; the log then is as good as before."""
    known: dict[str, Flushed] = {}
    spans = unreadable = last = 0
    records = work.wal.replay()
    for record in records:
        if work.stopping.is_set():
            raise Unavailable("stopped while the write-ahead log was replayed")
        if last and record.segment != last:
            work.make_room(last)
        last = record.segment
        if record.tenant not in known:
            known[record.tenant] = until_stored(partial(work.flushed, record.tenant), work.stopping)
        try:
            batch = _missing(record, known[record.tenant])
        except (InvalidInput, CorruptData) as failure:
            unreadable += 1
            place = {"tenant": record.tenant, "segment": record.segment, "offset": record.offset}
            _LOG.error("a record of the log cannot be decoded and is skipped", extra={**place, "reason": str(failure)})
            continue
        if batch is not None and len(batch):
            work.keep(record.tenant, batch, record.segment)
            spans += len(batch)
    report = records.report
    for damage in report.corrupt:
        _LOG.error("a damaged part of the log was skipped", extra={"damage": str(damage)})
    if report.records:
        fields = {"records": report.records, "log_bytes": report.bytes, "spans": spans}
        _LOG.info("replayed the write-ahead log", extra={**fields, "torn_tail_bytes": report.torn_tail_bytes})
    return Replayed(spans, unreadable + len(report.corrupt), last)


def _missing(record: Record, known: Flushed) -> SpanBatch | None:
    """The spans of a record that the table does not have; None if it has them."""
    if not known.misses(record):
        return None
    return decode_otlp(bytes(payload_of(record)), depth_max=VALUE_DEPTH_MAX).batch


def until_stored(action: Callable[[], T], stopping: threading.Event) -> T:
    """Repeat while the store or the disk fails; Unavailable once the server is stopping."""
    while True:
        try:
            return action()
        except (StoreError, OSError) as failure:
            _LOG.warning("the replay of the write-ahead log waits for the store", extra={"reason": str(failure)})
            if stopping.wait(PAUSE_SECONDS):
                raise Unavailable(f"stopped while the write-ahead log was replayed: {failure}") from failure

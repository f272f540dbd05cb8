"""The CARRY record of the write-ahead log: which spans of old segments are still only in the log after a flush.

A flush through segment N replaces every segment up to N, except for the spans of the traces that it carries. The record
is written to a later segment before the flush is committed. After a crash it counts if the table has the commit of exactly N.

Body: `u64` N, `u64` number of traces, then per trace its id (two big-endian `u64`) and the oldest segment that holds live spans of it;
little-endian but for the ids (docs/formats/wal.md).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from spanlake.blocks.live import Carried
from spanlake.model.errors import CorruptData
from spanlake.model.spans import SpanBatch

_TRACE = np.dtype([("high", ">u8"), ("low", ">u8"), ("segment", "<u8")])


@dataclass(frozen=True, slots=True)
class CarryRecord:
    """The carried traces of the flush through segment `through`, sorted by id."""

    through: int
    traces: NDArray[np.void]  # _TRACE

    @property
    def oldest_segment(self) -> int | None:
        """The first segment that is still needed; None if nothing was carried."""
        return int(self.traces["segment"].min()) if len(self.traces) else None

    def keeps(self, batch: SpanBatch, segment: int) -> NDArray[np.bool_]:
        """Which rows, read again from a replaced segment, were carried."""
        if not len(self.traces) or not len(batch):
            return np.zeros(len(batch), np.bool_)
        ids = np.empty(len(batch), _TRACE)
        ids["high"], ids["low"], ids["segment"] = batch.spans["trace_hi"], batch.spans["trace_lo"], 0
        names = ids[["high", "low"]].astype([("high", ">u8"), ("low", ">u8")]).view("V16")
        own = self.traces[["high", "low"]].astype([("high", ">u8"), ("low", ">u8")]).view("V16")
        order = np.argsort(own)
        places = np.minimum(np.searchsorted(own, names, sorter=order), len(own) - 1)
        found = order[places]
        keeps: NDArray[np.bool_] = (own[found] == names) & (self.traces["segment"][found] <= segment)
        return keeps


def make_record(through: int, carried: Carried | None) -> CarryRecord:
    """The record of a flush that carries these rows."""
    if carried is None:
        return CarryRecord(through, np.empty(0, _TRACE))
    spans = carried.batch.spans
    rows = np.empty(len(spans), _TRACE)
    rows["high"], rows["low"], rows["segment"] = spans["trace_hi"], spans["trace_lo"], carried.arrivals.segments
    rows = rows[np.lexsort((rows["segment"], rows["low"], rows["high"]))]
    first = np.ones(len(rows), np.bool_)
    first[1:] = (rows["high"][1:] != rows["high"][:-1]) | (rows["low"][1:] != rows["low"][:-1])
    return CarryRecord(through, rows[first])


def encode_record(record: CarryRecord) -> bytes:
    return np.array([record.through, len(record.traces)], "<u8").tobytes() + record.traces.tobytes()


def decode_record(body: bytes | memoryview) -> CarryRecord:
    """The inverse of `encode_record`. CorruptData for a body of another shape."""
    if len(body) < 16:
        raise CorruptData(f"a CARRY record of {len(body)} bytes is too short")
    through, count = np.frombuffer(body[:16], "<u8").tolist()
    if len(body) != 16 + count * _TRACE.itemsize:
        raise CorruptData(f"a CARRY record for {count} traces has {len(body)} bytes")
    return CarryRecord(through, np.frombuffer(body[16:], _TRACE))

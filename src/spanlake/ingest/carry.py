"""What a flush leaves in the log: the CARRY record, and the number of a commit.

A flush through segment N replaces all segments up to N in one table commit. The spans that it does not write, because their traces are
still active, are first appended to the log again, as CARRY records of N in a later segment. So segments go as soon as the
flush is committed, and after a crash there is no doubt: the commit's number says both that N was flushed and whether its CARRY
records count. (Records of N without such a commit are of an attempt that failed: the spans are still in the segments up to N.)

Body of a CARRY record: `u64` N, little-endian, then an OTLP ExportTraceServiceRequest (docs/formats/wal.md).
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from spanlake.blocks.wal import CARRY, PAYLOAD, Record
from spanlake.model.errors import CorruptData
from spanlake.model.spans import SpanBatch
from spanlake.wire.otlp.encode import encode_otlp

RECORD_SPANS = 1024  # per CARRY record, so that memory stays bounded whatever the spans hold
_THROUGH = struct.Struct("<Q")


@dataclass(frozen=True, slots=True)
class Flushed:
    """The last flush of a tenant that the table knows of this log: through which segment, and whether it carried spans."""

    through: int
    carries: bool

    @property
    def commit_version(self) -> int:
        """Its number as the version of the log in the table's transactions; grows with `through`."""
        return 2 * self.through + self.carries

    def misses(self, record: Record) -> bool:
        """Whether the spans of a record of this log are not in the table. CorruptData for an unreadable CARRY record."""
        if record.segment <= self.through:
            return False
        if record.kind == PAYLOAD:
            return True
        return record.kind == CARRY and self.carries and _carried_over(record) == self.through


def flushed(commit_version: int | None) -> Flushed:
    """The inverse of `commit_version`; None for a log that the table does not know."""
    return Flushed(0, carries=False) if commit_version is None else Flushed(commit_version >> 1, carries=bool(commit_version & 1))


def encode_carry(through: int, batch: SpanBatch) -> Iterator[bytes]:
    """Bodies of the CARRY records of a flush that leaves out these rows."""
    by_scope = np.argsort(batch.spans["scope"], kind="stable")
    for begin in range(0, len(by_scope), RECORD_SPANS):
        yield _THROUGH.pack(through) + encode_otlp(batch.take(by_scope[begin : begin + RECORD_SPANS]))


def payload_of(record: Record) -> memoryview:
    """The OTLP request in a record."""
    return record.body[_THROUGH.size :] if record.kind == CARRY else record.body


def _carried_over(record: Record) -> int:
    if len(record.body) < _THROUGH.size:
        raise CorruptData(f"the CARRY record at byte {record.offset} of segment {record.segment} has {len(record.body)} bytes")
    through: int = _THROUGH.unpack_from(record.body)[0]
    return through

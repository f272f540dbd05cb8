"""Reading a log back after any crash, and past any damage.

A segment is walked frame by frame. Where no acceptable frame begins, the walk continues at the next authentic frame header and
the bytes between are damage, which is reported. Only a frame that the end of the file cuts short, with nothing authentic behind it, is
the torn tail that a crash in the middle of a write leaves. One frame is in memory at a time. Reads go through pread rather than
a mapping, because a sector that cannot be read kills a process that has it mapped, and is ordinary damage here.
"""

from __future__ import annotations

import contextlib
import itertools
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from spanlake.blocks.wal.directory import FileCalls, read_writer_id, segment_numbers, segment_path
from spanlake.blocks.wal.format import (
    FRAME_HEADER_BYTES,
    FRAME_MARKER,
    SEGMENT_HEADER_BYTES,
    VERSION,
    FrameCodec,
    FrameHeader,
    SegmentHeader,
    checksum,
    decode_segment_header,
)
from spanlake.model.errors import CorruptData

CUT_SHORT = "cut short"
PAGE_BYTES = 4096  # what a bad sector hides
SCAN_BYTES = 256 << 10  # read at a time while looking for a frame


@dataclass(frozen=True, slots=True)
class Record:
    """One record that was appended, and the place of its frame; `kind` is whatever the writer gave."""

    segment: int
    offset: int
    tenant: str
    kind: int
    body: memoryview


@dataclass(frozen=True, slots=True)
class Damage:
    """Bytes in which no record could be read; `torn` when a crash in the middle of a write explains them."""

    segment: int
    offset: int
    length_bytes: int
    reason: str
    torn: bool


@dataclass(frozen=True, slots=True)
class ReplayReport:
    """What a replay has met so far: records with their frame bytes, torn tails, and damage that may have cost records."""

    records: int
    bytes: int
    torn_tail_bytes: int
    corrupt: tuple[Damage, ...]


class Replay:
    """The records of some segments, oldest first; each iteration reads the files anew.

    Damage never raises; it is in `report`, which is complete when the iteration is. Raises CorruptData only for a
    segment that is intact but not this log's, or of a later format version. A segment that is dropped meanwhile is passed over.
    """

    def __init__(self, directory: Path, numbers: Sequence[int], calls: FileCalls, *, cut_torn_tails: bool) -> None:
        self._directory = directory
        self._numbers = tuple(numbers)
        self._calls = calls
        self._cut_torn_tails = cut_torn_tails
        self._reset()

    @property
    def report(self) -> ReplayReport:
        """The totals of the latest iteration."""
        return ReplayReport(self._records, self._bytes, self._torn_tail_bytes, tuple(self._corrupt))

    def __iter__(self) -> Iterator[Record]:
        self._reset()
        writer_id = read_writer_id(self._directory)
        for number in self._numbers:
            path = segment_path(self._directory, number)
            with contextlib.suppress(FileNotFoundError), SegmentReader(path, number, writer_id, self._calls) as reader:
                yield from self._records_of(reader)

    def _reset(self) -> None:
        self._records = self._bytes = self._torn_tail_bytes = 0
        self._corrupt: list[Damage] = []

    def _records_of(self, reader: SegmentReader) -> Iterator[Record]:
        for item in reader.walk():
            if isinstance(item, Record):
                self._records += 1
                self._bytes += FRAME_HEADER_BYTES + len(item.tenant.encode()) + item.body.nbytes
                yield item
            elif item.torn:
                self._torn_tail_bytes += item.length_bytes
                self._cut(item)
            else:
                self._corrupt.append(item)

    def _cut(self, tail: Damage) -> None:
        if self._cut_torn_tails:
            # Only tidiness: nothing is ever appended to an old segment, so a tail that stays is just met again.
            with contextlib.suppress(OSError):
                os.truncate(segment_path(self._directory, tail.segment), tail.offset)


def replay(directory: Path, *, calls: FileCalls | None = None) -> Replay:
    """All records of the log in `directory`, which is not locked and not changed; no records when it does not exist."""
    numbers = segment_numbers(directory) if directory.is_dir() else []
    return Replay(directory, numbers, calls or FileCalls(), cut_torn_tails=False)


class SegmentReader:
    """Owns the descriptor of one segment that is being read; `log_writer_id` serves when the segment's own header is damaged."""

    def __init__(self, path: Path, number: int, log_writer_id: str | None, calls: FileCalls) -> None:
        self._path = path
        self._number = number
        self._log_writer_id = log_writer_id
        self._calls = calls
        self._unreadable = False
        self._sequence = 0  # of the last record that was accepted
        self._descriptor = os.open(path, os.O_RDONLY)
        self._size_bytes = os.fstat(self._descriptor).st_size

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._descriptor)

    def walk(self) -> Iterator[Record | Damage]:
        """Records and the damage between them, in file order; together with the header they cover every byte of the file once."""
        header = self._checked_header()
        writer_id = header.writer_id if header else self._log_writer_id
        codec = FrameCodec(self._number, writer_id or "00" * 16)  # without any id, no frame is authentic
        offset = SEGMENT_HEADER_BYTES
        if header is None:
            offset = self._next_frame(codec, 0)
            if offset:
                yield self._damage(0, offset, CUT_SHORT if self._size_bytes < SEGMENT_HEADER_BYTES else "segment header")
        while offset < self._size_bytes:
            found = self._record_at(codec, offset)
            if isinstance(found, Record):
                yield found
                offset = found.offset + FRAME_HEADER_BYTES + len(found.tenant.encode()) + found.body.nbytes
            else:
                after = self._next_frame(codec, offset + 1)
                yield self._damage(offset, after, found)
                offset = after

    def _checked_header(self) -> SegmentHeader | None:
        header = decode_segment_header(self._read(0, SEGMENT_HEADER_BYTES))
        if header is None:
            return None
        if header.version != VERSION:
            raise CorruptData(f"{self._path} has format version {header.version}, this spanlake reads {VERSION}: start the later release")
        owner = (header.number, header.writer_id)
        if owner != (self._number, self._log_writer_id or header.writer_id):
            raise CorruptData(
                f"{self._path} is segment {header.number} of log {header.writer_id}, not of this log ({self._log_writer_id}):"
                " move it back to where it was written, or into a directory of its own"
            )
        return header

    def _record_at(self, codec: FrameCodec, offset: int) -> Record | str:
        """The record whose frame begins at `offset`, or why there is none."""
        if offset + FRAME_HEADER_BYTES > self._size_bytes:
            return CUT_SHORT
        header = codec.decode(self._read(offset, FRAME_HEADER_BYTES))
        if header is None:
            return "frame header"
        if header.sequence <= self._sequence:
            return "frame out of order"
        if offset + header.frame_bytes > self._size_bytes:
            return CUT_SHORT
        return self._checked_record(offset, header) or "frame content"

    def _checked_record(self, offset: int, header: FrameHeader) -> Record | None:
        content = self._read(offset + FRAME_HEADER_BYTES, header.tenant_bytes + header.body_bytes)
        if len(content) != header.tenant_bytes + header.body_bytes or checksum(b"", content) != header.checksum:
            return None
        self._sequence = header.sequence
        tenant = content[: header.tenant_bytes].decode()
        return Record(self._number, offset, tenant, header.kind, memoryview(content)[header.tenant_bytes :])

    def _next_frame(self, codec: FrameCodec, offset: int) -> int:
        """Where the next authentic frame header after the last accepted one begins, from `offset` on; the file's size if nowhere.

        The search starts inside the damaged frame, not behind it: where bytes are missing, the next frame begins earlier than
        the damaged one says it ends.
        """
        while offset < self._size_bytes:
            chunk = self._read(offset, SCAN_BYTES + FRAME_HEADER_BYTES - 1)  # a header that begins in SCAN_BYTES is whole
            at = chunk.find(FRAME_MARKER)
            while 0 <= at < SCAN_BYTES:
                header = codec.decode(chunk[at : at + FRAME_HEADER_BYTES])
                if header is not None and header.sequence > self._sequence:
                    return offset + at
                at = chunk.find(FRAME_MARKER, at + 1)
            offset += SCAN_BYTES
        return self._size_bytes

    def _read(self, offset: int, length_bytes: int) -> bytes:
        """Up to `length_bytes` from `offset`; zeros, which pass no check, for pages that the disk does not give back."""
        try:
            return self._calls.read(self._descriptor, length_bytes, offset)
        except OSError:
            self._unreadable = True
            if length_bytes <= PAGE_BYTES:
                return bytes(length_bytes)
        end = min(offset + length_bytes, self._size_bytes)
        bounds = [offset, *range(offset - offset % PAGE_BYTES + PAGE_BYTES, end, PAGE_BYTES), end]
        return b"".join(self._read(start, stop - start) for start, stop in itertools.pairwise(bounds))

    def _damage(self, start: int, end: int, reason: str) -> Damage:
        # A last frame that is complete but wrong may have been acknowledged, so it is neither explained away nor cut off.
        torn = end == self._size_bytes and reason == CUT_SHORT and not self._unreadable
        if self._unreadable:
            reason += " (the disk failed to read parts of this segment)"
        return Damage(self._number, start, end - start, reason, torn)

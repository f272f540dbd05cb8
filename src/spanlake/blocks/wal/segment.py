"""One segment open for appending: where its acknowledged bytes end, and how a batch of entries gets behind them.

A segment knows nothing of threads, policies or failures: its calls raise OSError and leave `acknowledged_bytes` as it was, so
whatever a failed call wrote lies behind the acknowledged bytes, where it can be cut off or overwritten.
"""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from spanlake.blocks.wal.directory import FileCalls, close_quietly, segment_path, sync_directory
from spanlake.blocks.wal.format import FrameCodec, FrameHeader, encode_segment_header

ENTRIES_MAX = min(os.sysconf("SC_IOV_MAX"), 1024) // 2
"""Entries in one batch: an entry is two buffers, and the system takes no more buffers in one call."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One record to append; `body` must not change before the append returns, because it is written without a copy."""

    tenant: bytes
    body: memoryview
    kind: int
    checksum: int


class Segment:
    """Owns the descriptor of one segment file."""

    def __init__(self, number: int, descriptor: int, codec: FrameCodec, calls: FileCalls, *, header_bytes: int) -> None:
        self.number = number
        self.descriptor = descriptor
        self.acknowledged_bytes = header_bytes
        self.synced_bytes = header_bytes
        self._codec = codec
        self._calls = calls
        self._sequence = 0

    def write(self, entries: Sequence[Entry]) -> int:
        """Writes the frames of at most `ENTRIES_MAX` entries after the acknowledged bytes; returns where they end."""
        buffers: list[bytes | memoryview] = []
        for entry in entries:
            # A number is used up even when the write fails: what a failed write left behind must not look like a later frame.
            self._sequence += 1
            header = FrameHeader(entry.body.nbytes, self._sequence, entry.checksum, entry.kind, len(entry.tenant))
            buffers += (self._codec.encode(header) + entry.tenant, entry.body)
        return _write_all(self._calls, self.descriptor, buffers, self.acknowledged_bytes)

    def sync(self) -> None:
        """Makes everything written durable."""
        self._calls.sync(self.descriptor)

    def cut(self) -> None:
        """Removes what lies behind the acknowledged bytes."""
        self._calls.truncate(self.descriptor, self.acknowledged_bytes)

    def close(self) -> None:
        """Gives the descriptor back; the file stays."""
        close_quietly(self.descriptor)


def create_segment(directory: Path, number: int, writer_id: str, calls: FileCalls) -> Segment:
    """Creates segment `number` with a durable header and name; on OSError no file is left if the disk lets it be removed.

    This is synced under every fsync policy: after a power failure the number must be known as used.
    """
    path = segment_path(directory, number)
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o644)
    try:
        header_bytes = _write_all(calls, descriptor, [encode_segment_header(number, writer_id)], 0)
        calls.sync(descriptor)
        sync_directory(directory, calls.sync)
    except BaseException:
        close_quietly(descriptor)
        with contextlib.suppress(OSError):
            path.unlink()
        raise
    return Segment(number, descriptor, FrameCodec(number, writer_id), calls, header_bytes=header_bytes)


def _write_all(calls: FileCalls, descriptor: int, buffers: Sequence[bytes | memoryview], offset: int) -> int:
    """Writes every buffer from `offset` on, however little the system takes at a time; returns where they end."""
    rest: list[memoryview] = [view for view in (memoryview(buffer) for buffer in buffers) if view.nbytes]
    while rest:
        written = calls.write(descriptor, rest, offset)
        if written == 0:
            raise OSError(errno.EIO, "the system wrote nothing")
        offset += written
        rest = _after(rest, written)
    return offset


def _after(buffers: list[memoryview], written: int) -> list[memoryview]:
    for index, buffer in enumerate(buffers):
        if written < buffer.nbytes:
            return [buffer[written:], *buffers[index + 1 :]]
        written -= buffer.nbytes
    return []

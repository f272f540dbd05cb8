"""The log that is open for appending: group commit, fsync policy, and what happens when the disk fails.

Callers of `append` queue their entry; one of them becomes the leader, writes everything that is queued with one write and one
fsync, and settles the others. Two locks, never held together: `_turn` guards the queue and who leads, `_disk` guards the
segment and is held during its I/O.

An acknowledged record is never lost to a failure that is noticed: a refused batch lies behind `acknowledged_bytes`. After a failed
write it is cut off and the segment goes on. After a failed fsync the kernel may have dropped pages and still report later
fsyncs of the file as good, so the segment is cut, closed and never written again, and the next append opens another. A
refused record can come back in a replay only when the cut fails too, or a crash undoes it: a sender that tried again has
then sent a duplicate.
"""

from __future__ import annotations

import contextlib
import logging
import os
import threading
from dataclasses import dataclass, replace
from pathlib import Path

from spanlake.blocks.wal.directory import (
    FileCalls,
    close_quietly,
    lock_directory,
    make_directory,
    segment_numbers,
    segment_path,
    settle_writer_id,
)
from spanlake.blocks.wal.format import BODY_BYTES_MAX, PAYLOAD, TENANT_BYTES_MAX, checksum
from spanlake.blocks.wal.replay import Replay
from spanlake.blocks.wal.segment import ENTRIES_MAX, Entry, Segment, create_segment
from spanlake.model.errors import TooLarge, Unavailable
from spanlake.model.settings import WalSettings

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class WalCounters:
    """Totals since the log was opened: acknowledged frames, fsyncs of records, and whatever failed (writes, fsyncs, new segments)."""

    appended_bytes: int = 0
    appended_records: int = 0
    fsyncs: int = 0
    failures: int = 0


class _Pending:
    """An entry that waits for its outcome: the segment that it is in, or why it was refused."""

    def __init__(self, entry: Entry) -> None:
        self.entry = entry
        self.outcome: int | Unavailable | None = None


def open_wal(directory: Path, settings: WalSettings, *, calls: FileCalls | None = None) -> Wal:
    """Opens the log in `directory` for this process, creating it if need be; appends go to a new segment, older ones stay.

    Raises Unavailable when another process has the log or the directory cannot be used. A disk that is merely full does not
    prevent opening, so that a replay and a cut can free it; until then appends are refused.
    """
    calls = calls or FileCalls()
    try:
        make_directory(directory, calls.sync)
        lock = lock_directory(directory)
        try:
            writer_id = settle_writer_id(directory, calls.sync)
            numbers = segment_numbers(directory)
        except BaseException:
            close_quietly(lock)
            raise
    except OSError as error:
        raise Unavailable(f"cannot open the write-ahead log {directory}: {error.strerror or error}") from error
    return Wal(directory, settings, calls, lock=lock, writer_id=writer_id, numbers=numbers)


class Wal:
    """A locked log. Every method may be called from any thread; `open_wal` makes it."""

    def __init__(self, directory: Path, settings: WalSettings, calls: FileCalls, *, lock: int, writer_id: str, numbers: list[int]) -> None:
        self.directory = directory
        self.writer_id = writer_id
        self._settings = settings
        self._calls = calls
        self._lock = lock
        self._old_numbers = tuple(numbers)
        self._number = numbers[-1] if numbers else 0  # the highest that exists on disk
        self._segment: Segment | None = None
        self._closed = threading.Event()
        self._counters = WalCounters()
        self._failing = False
        self._turn = threading.Condition()
        self._queue: list[_Pending] = []
        self._leading = False
        self._disk = threading.Lock()
        with self._disk, contextlib.suppress(OSError):
            self._open_next()
        self._syncer = threading.Thread(target=self._sync_regularly, name="wal-fsync", daemon=True)
        if settings.fsync == "interval":
            self._syncer.start()

    # ---- appending

    def append(self, tenant: str, body: bytes | memoryview, *, kind: int = PAYLOAD) -> int:
        """Returns the segment that the record is in, once it is as durable as the fsync policy demands.

        Blocks meanwhile; `body` is not copied and must not change. Raises Unavailable when the disk refuses (trying again is
        right), TooLarge for a body of more than `BODY_BYTES_MAX`.
        """
        own = _Pending(_entry(tenant, body, kind))
        with self._turn:
            self._queue.append(own)
            while self._leading and own.outcome is None:
                self._turn.wait()
            lead = own.outcome is None
            self._leading = self._leading or lead
        if lead:
            self._lead(own)
        if isinstance(own.outcome, int):
            return own.outcome
        raise Unavailable(str(own.outcome))

    @property
    def waiting(self) -> int:
        """Appends that wait for the leader's next batch, at most one for each calling thread."""
        return len(self._queue)

    def _lead(self, own: _Pending) -> None:
        """Commits batches in the order of arrival until `own` is settled, then lets another caller lead."""
        try:
            while own.outcome is None:
                self._lead_batch()
        finally:
            with self._turn:
                self._leading = False
                self._turn.notify_all()

    def _lead_batch(self) -> None:
        with self._turn:
            batch = self._queue[:ENTRIES_MAX]
            del self._queue[:ENTRIES_MAX]
        outcome: int | Unavailable = Unavailable("the write to the write-ahead log was interrupted")
        try:
            outcome = self._commit([pending.entry for pending in batch])
        finally:
            with self._turn:
                for pending in batch:
                    pending.outcome = outcome
                self._turn.notify_all()

    def _commit(self, entries: list[Entry]) -> int | Unavailable:
        with self._disk:
            if self._closed.is_set():
                return Unavailable(f"the write-ahead log {self.directory} is closed")
            try:
                segment = self._segment or self._open_next()
                self._write(segment, entries)
            except OSError as error:
                reason = error.strerror or str(error)
                return Unavailable(f"the write-ahead log {self.directory} cannot be written: {reason}; free or repair its disk")
            return segment.number

    # ---- the current segment; all of these are called with `_disk` held

    def _write(self, segment: Segment, entries: list[Entry]) -> None:
        """Puts the entries into the segment as durably as the policy demands; on OSError none of them is acknowledged."""
        try:
            end = segment.write(entries)
        except OSError as error:
            self._failed("write", error)
            try:
                segment.cut()
            except OSError:
                self._seal()
            raise
        if self._settings.fsync == "always":
            self._sync_or_abandon(segment)
            segment.synced_bytes = end
        counters = self._counters
        self._counters = replace(
            counters,
            appended_bytes=counters.appended_bytes + end - segment.acknowledged_bytes,
            appended_records=counters.appended_records + len(entries),
        )
        segment.acknowledged_bytes = end
        self._failing = False

    def _sync_or_abandon(self, segment: Segment) -> None:
        try:
            segment.sync()
        except OSError as error:
            self._failed("fsync", error)
            with contextlib.suppress(OSError):
                segment.cut()
            self._abandon(segment)
            raise
        self._counters = replace(self._counters, fsyncs=self._counters.fsyncs + 1)

    def _open_next(self) -> Segment:
        number = self._number + 1
        try:
            self._segment = create_segment(self.directory, number, self.writer_id, self._calls)
        except OSError as error:
            self._failed("create a segment in", error)
            if segment_path(self.directory, number).exists():
                self._number = number  # it could not be removed either, so its number is used up
            raise
        self._number = number
        return self._segment

    def _abandon(self, segment: Segment) -> None:
        segment.close()
        self._segment = None

    def _seal(self) -> None:
        """Closes the current segment; what the interval policy still owes it is synced first."""
        segment = self._segment
        if segment is None:
            return
        if self._settings.fsync == "interval" and segment.synced_bytes < segment.acknowledged_bytes:
            with contextlib.suppress(OSError):
                self._sync_or_abandon(segment)
        if self._segment is not None:
            self._abandon(segment)

    def _failed(self, what: str, error: OSError) -> None:
        self._counters = replace(self._counters, failures=self._counters.failures + 1)
        if not self._failing:  # one line for a full disk, not one for every refused push
            _LOG.error("cannot %s the write-ahead log %s: %s", what, self.directory, error)
        self._failing = True

    # ---- generations

    def rotate(self) -> int:
        """Seals the current segment and opens the next; returns the highest number that any record so far can be in.

        An append lands wholly before or wholly after, and its result says where. Never fails for want of disk space: the next
        segment is then opened by the first append that finds some. A segment may be empty; a failure in between may
        have used several numbers, so a cut covers all segments up to the returned one.
        """
        with self._disk:
            self._seal()
            sealed = self._number
            if not self._closed.is_set():
                with contextlib.suppress(OSError):
                    self._open_next()
            return sealed

    def drop(self, through: int) -> None:
        """Removes all segments up to and including `through`, which must be sealed; those already gone are no error.

        The highest segment is emptied rather than removed, because its number must stay used. Raises Unavailable when the
        disk refuses; what is left is dropped with the next call.
        """
        with self._disk:
            assert self._segment is None or through < self._segment.number, f"segment {through} is not sealed"
            highest = self._number
        try:
            for number in segment_numbers(self.directory):
                if number > through:
                    break
                path = segment_path(self.directory, number)
                if number == highest:
                    os.truncate(path, 0)
                else:
                    path.unlink(missing_ok=True)
        except OSError as error:
            raise Unavailable(f"cannot drop segments of the write-ahead log {self.directory}: {error.strerror or error}") from error

    def replay(self) -> Replay:
        """The records of the segments that existed when the log was opened and are not dropped; cuts off their torn tails."""
        return Replay(self.directory, self._old_numbers, self._calls, cut_torn_tails=True)

    def segments(self) -> list[tuple[int, int]]:
        """Number and size in bytes of every segment on disk, ascending; the last one is usually the current one."""
        found = []
        for number in segment_numbers(self.directory):
            with contextlib.suppress(FileNotFoundError):
                found.append((number, segment_path(self.directory, number).stat().st_size))
        return found

    @property
    def size_bytes(self) -> int:
        """Bytes of all segments on disk."""
        return sum(size_bytes for _, size_bytes in self.segments())

    @property
    def counters(self) -> WalCounters:
        """A consistent snapshot, without waiting for the disk."""
        return self._counters

    # ---- the interval policy

    def sync(self) -> None:
        """Makes every record that was acknowledged before the call durable; a failure is counted and closes the segment.

        Appends go on meanwhile. Records of a segment whose fsync failed stay where they are: they were acknowledged.
        """
        with self._disk:
            segment = self._segment
            if segment is None or segment.synced_bytes >= segment.acknowledged_bytes:
                return
            end = segment.acknowledged_bytes
            descriptor = os.dup(segment.descriptor)  # a rotation may close the segment's own
        failure = None
        try:
            self._calls.sync(descriptor)
        except OSError as error:
            failure = error
        finally:
            close_quietly(descriptor)
        with self._disk:
            self._synced(segment, end, failure)

    def _synced(self, segment: Segment, end: int, failure: OSError | None) -> None:
        if failure is None:
            segment.synced_bytes = max(segment.synced_bytes, end)
            self._counters = replace(self._counters, fsyncs=self._counters.fsyncs + 1)
            return
        self._failed("fsync", failure)
        if self._segment is segment:
            self._abandon(segment)

    def _sync_regularly(self) -> None:
        while not self._closed.wait(self._settings.fsync_interval_seconds):
            try:
                self.sync()
            except OSError as error:  # no descriptor to spare; the next round tries again
                with self._disk:
                    self._failed("fsync", error)

    def close(self) -> None:
        """Syncs what the policy still owes and gives the log back; later appends are refused. A second call has no effect."""
        with self._disk:
            if self._closed.is_set():
                return
            self._closed.set()
        if self._syncer.is_alive():
            self._syncer.join()
        with self._disk:
            self._seal()
            close_quietly(self._lock)


def _entry(tenant: str, body: bytes | memoryview, kind: int) -> Entry:
    content = memoryview(body).cast("B")
    if content.nbytes > BODY_BYTES_MAX:
        raise TooLarge(f"a payload of {content.nbytes} bytes does not fit the write-ahead log, which takes {BODY_BYTES_MAX}")
    encoded = tenant.encode()
    assert len(encoded) <= TENANT_BYTES_MAX, f"tenant {tenant!r} was not validated"
    return Entry(encoded, content, kind, checksum(encoded, content))

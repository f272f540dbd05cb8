"""The write-ahead log on a disk that fails, and in a process that dies: what was acknowledged is there afterwards."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import tempfile
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spanlake.blocks.wal import FileCalls, Wal, open_wal, replay
from spanlake.model.errors import Unavailable
from spanlake.model.settings import WalSettings


@dataclass
class Disk:
    """A disk with space for `room_bytes` more, whose fsync and truncate can be made to fail."""

    room_bytes: int = 1 << 40
    sync_fails: bool = False
    truncate_fails: bool = False
    calls: FileCalls = field(init=False)

    def __post_init__(self) -> None:
        self.calls = FileCalls(write=self.write, sync=self.sync, truncate=self.truncate)

    def write(self, descriptor: int, buffers: Sequence[bytes | memoryview], offset: int) -> int:
        data = b"".join(buffers)[: self.room_bytes]
        if not data:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        self.room_bytes -= len(data)
        return os.pwrite(descriptor, data, offset)

    def sync(self, descriptor: int) -> None:
        if self.sync_fails:
            raise OSError(errno.EIO, os.strerror(errno.EIO))

    def truncate(self, descriptor: int, length: int) -> None:
        if self.truncate_fails:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        os.ftruncate(descriptor, length)


def bodies(directory: Path) -> list[bytes]:
    return [bytes(record.body) for record in replay(directory)]


def test_append_is_refused_when_the_disk_is_full_and_taken_when_it_has_space(tmp_path: Path) -> None:
    disk = Disk()
    wal = open_wal(tmp_path, WalSettings(), calls=disk.calls)
    wal.append("t", b"before")
    for room_bytes in (0, 1, 40, 100):
        disk.room_bytes = room_bytes
        with pytest.raises(Unavailable, match=f"{tmp_path} cannot be written: No space left on device"):
            wal.append("t", b"refused" * 100)
        assert bodies(tmp_path) == [b"before"]
        assert replay(tmp_path).report.torn_tail_bytes == 0, "the half-written frame is cut off"
    disk.room_bytes = 1 << 40
    assert wal.append("t", b"after") == 1
    assert (wal.counters.appended_records, wal.counters.failures) == (2, 4)
    assert bodies(tmp_path) == [b"before", b"after"]
    wal.close()


def test_a_segment_is_abandoned_when_its_fsync_fails(tmp_path: Path) -> None:
    disk = Disk()
    wal = open_wal(tmp_path, WalSettings(), calls=disk.calls)
    wal.append("t", b"before")
    disk.sync_fails = True
    for _ in range(3):
        with pytest.raises(Unavailable, match="Input/output error"):
            wal.append("t", b"refused")
    disk.sync_fails = False
    assert wal.append("t", b"after") == 2
    assert bodies(tmp_path) == [b"before", b"after"]
    wal.close()


def test_a_refused_record_may_return_but_does_no_harm_when_it_cannot_be_cut_off(tmp_path: Path) -> None:
    disk = Disk(truncate_fails=True)
    wal = open_wal(tmp_path, WalSettings(), calls=disk.calls)
    wal.append("t", b"before")
    disk.sync_fails = True
    with pytest.raises(Unavailable):
        wal.append("t", b"unknown")
    disk.sync_fails, disk.room_bytes = False, 200
    assert wal.append("t", b"between") == 2
    with pytest.raises(Unavailable):
        wal.append("t", b"torn" * 100)
    disk.room_bytes = 1 << 40
    assert wal.append("t", b"after") == 3
    assert bodies(tmp_path) == [b"before", b"unknown", b"between", b"after"]
    wal.close()


@pytest.mark.parametrize("fsync", ["always", "interval", "never"])
def test_a_full_disk_prevents_neither_open_nor_rotate_nor_drop(tmp_path: Path, fsync: str) -> None:
    disk = Disk()
    settings = WalSettings(fsync=fsync)  # type: ignore[arg-type]
    wal = open_wal(tmp_path, settings, calls=disk.calls)
    writer_id = wal.writer_id
    wal.append("t", b"one")
    wal.close()
    disk.room_bytes = 0
    wal = open_wal(tmp_path, settings, calls=disk.calls)
    assert [bytes(record.body) for record in wal.replay()] == [b"one"]
    assert wal.rotate() == 1
    wal.drop(1)
    assert wal.segments() == [(1, 0)], "space is free, the number stays used"
    with pytest.raises(Unavailable):
        wal.append("t", b"refused")
    wal.close()
    disk.room_bytes = 1 << 40
    wal = open_wal(tmp_path, settings, calls=disk.calls)
    assert (wal.writer_id, wal.append("t", b"two")) == (writer_id, 2)
    wal.drop(1)
    assert [number for number, _ in wal.segments()] == [2]
    wal.close()
    assert bodies(tmp_path) == [b"two"]


def test_acknowledged_records_stay_when_a_periodic_fsync_fails(tmp_path: Path) -> None:
    disk = Disk()
    wal = open_wal(tmp_path, WalSettings(fsync="interval", fsync_interval_seconds=60), calls=disk.calls)
    wal.append("t", b"one")
    disk.sync_fails = True
    wal.sync()
    disk.sync_fails = False
    assert wal.append("t", b"two") == 2
    assert wal.counters.failures == 1
    disk.sync_fails = True
    assert wal.rotate() == 2
    assert bodies(tmp_path) == [b"one", b"two"]
    wal.close()


OPERATIONS = st.lists(
    st.one_of(
        st.tuples(st.just("append"), st.integers(0, 300)),
        st.tuples(st.just("room"), st.integers(0, 400) | st.just(1 << 40)),
        st.tuples(st.just("sync fails"), st.integers(0, 1)),
        st.tuples(st.just("truncate fails"), st.integers(0, 1)),
        st.tuples(st.sampled_from(["rotate", "drop", "reopen"]), st.just(0)),
    ),
    max_size=30,
)


@given(OPERATIONS, st.sampled_from(["always", "interval", "never"]))
def test_acknowledged_records_are_replayed_whatever_fails_in_between(operations: list[tuple[str, int]], fsync: str) -> None:
    with tempfile.TemporaryDirectory() as name:
        LogUnderTest(Path(name), fsync).run(operations)


class LogUnderTest:
    """A log, its disk, and the model: what was acknowledged where, and what was refused."""

    def __init__(self, directory: Path, fsync: str) -> None:
        self.directory = directory
        self.settings = WalSettings(fsync=fsync, fsync_interval_seconds=60)  # type: ignore[arg-type]
        self.disk = Disk()
        self.wal: Wal = open_wal(directory, self.settings, calls=self.disk.calls)
        self.writer_id = self.wal.writer_id
        self.acknowledged: list[tuple[int, bytes]] = []
        self.refused: set[bytes] = set()
        self.dropped_through = 0
        self.tidy = True  # no fsync or truncate failed so far, so no refused record may come back

    def run(self, operations: list[tuple[str, int]]) -> None:
        for index, (operation, amount) in enumerate(operations):
            self.step(operation, amount, b"%d " % index)
        self.wal.close()
        found = [(record.segment, bytes(record.body)) for record in replay(self.directory)]
        assert [entry for entry in found if entry[1] not in self.refused] == self.acknowledged
        assert not self.tidy or found == self.acknowledged

    def step(self, operation: str, amount: int, mark: bytes) -> None:
        match operation:
            case "append":
                self.append(mark + b"x" * amount)
            case "room":
                self.disk.room_bytes = amount
            case "sync fails":
                self.disk.sync_fails = bool(amount)
            case "truncate fails":
                self.disk.truncate_fails = bool(amount)
            case "reopen":
                self.wal.close()
                self.wal = open_wal(self.directory, self.settings, calls=self.disk.calls)
                assert self.acknowledged == [] or self.wal.writer_id == self.writer_id
            case "rotate" | "drop":
                sealed = self.wal.rotate()
                assert all(segment <= sealed for segment, _ in self.acknowledged)
                if operation == "drop":
                    self.wal.drop(sealed)
                    self.acknowledged, self.dropped_through = [], sealed
        self.tidy = self.tidy and not (self.disk.sync_fails or self.disk.truncate_fails)

    def append(self, body: bytes) -> None:
        try:
            segment = self.wal.append("t", body)
        except Unavailable:
            self.refused.add(body)
            return
        assert segment > self.dropped_through, "a table commit says that this segment is in a block"
        self.acknowledged.append((segment, body))


def run_script(script: str, directory: Path) -> subprocess.Popen[str]:
    preamble = """
        import itertools, pathlib, sys
        from spanlake.blocks.wal import open_wal
        from spanlake.model.errors import Unavailable
        from spanlake.model.settings import WalSettings
        wal = open_wal(pathlib.Path(sys.argv[1]), WalSettings())
    """
    source = textwrap.dedent(preamble) + textwrap.dedent(script)
    return subprocess.Popen([sys.executable, "-c", source, str(directory)], stdout=subprocess.PIPE, text=True)


def test_a_file_size_limit_refuses_appends_until_it_is_lifted(tmp_path: Path) -> None:
    script = """
        import resource
        _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (60_000, hard))
        for number in range(10):
            try:
                wal.append("t", b"%d " % number + bytes(10_000 + 5_000 * (number % 3)))
                print(number)
            except Unavailable as error:
                assert "File too large" in str(error), error
            if number == 7:
                resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
    """
    with run_script(script, tmp_path) as process:
        output, _ = process.communicate(timeout=60)
    assert process.returncode == 0
    acknowledged = output.split()
    assert {"0", "8", "9"} < set(acknowledged)
    assert len(acknowledged) < 10
    assert [body.split()[0].decode() for body in bodies(tmp_path)] == acknowledged


def test_every_acknowledged_record_is_replayed_when_the_process_is_killed(tmp_path: Path) -> None:
    script = """
        import threading
        def append(thread):
            for number in itertools.count():
                wal.append("t", b"%d.%d " % (thread, number) + bytes(20_000))
                sys.stdout.write("%d.%d\\n" % (thread, number))
                sys.stdout.flush()
        for thread in range(3):
            threading.Thread(target=append, args=(thread,)).start()
    """
    with run_script(script, tmp_path) as process:
        assert process.stdout is not None
        printed = [process.stdout.readline() for _ in range(100)]
        process.send_signal(signal.SIGKILL)
        printed += process.stdout.readlines()
    acknowledged = {line.strip() for line in printed if line.endswith("\n")}
    wal = open_wal(tmp_path, WalSettings())
    replayed = wal.replay()
    found = [bytes(record.body).split()[0].decode() for record in replayed]
    wal.close()
    assert len(found) == len(set(found))
    assert acknowledged <= set(found)
    assert replayed.report.corrupt == ()

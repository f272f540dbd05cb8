"""The write-ahead log on a disk that works: what goes in comes out, in order, by segment; identity, lock and group commit."""

from __future__ import annotations

import contextlib
import threading
import zlib
from collections.abc import Iterator
from hashlib import blake2b
from pathlib import Path

import pytest

from spanlake.blocks.wal import BODY_BYTES_MAX, CARRY, PAYLOAD, FileCalls, Wal, open_wal, replay
from spanlake.blocks.wal.segment import ENTRIES_MAX
from spanlake.model.errors import CorruptData, TooLarge, Unavailable
from spanlake.model.settings import WalSettings

PATIENCE_SECONDS = 30.0
RECORDS = [("single-tenant", PAYLOAD, b"first"), ("b", CARRY, b""), ("täglich", PAYLOAD, bytes(range(256)) * 5000), ("b", PAYLOAD, b"\0")]


@contextlib.contextmanager
def opened(directory: Path, calls: FileCalls | None = None, **settings: object) -> Iterator[Wal]:
    wal = open_wal(directory, WalSettings(**settings), calls=calls)  # type: ignore[arg-type]
    try:
        yield wal
    finally:
        wal.close()


def contents(directory: Path) -> list[tuple[str, int, bytes]]:
    return [(record.tenant, record.kind, bytes(record.body)) for record in replay(directory)]


@pytest.mark.parametrize("fsync", ["always", "interval", "never"])
def test_replay_returns_what_was_appended_when_the_log_is_reopened(tmp_path: Path, fsync: str) -> None:
    with opened(tmp_path / "a" / "wal", fsync=fsync) as wal:
        assert [wal.append(tenant, body, kind=kind) for tenant, kind, body in RECORDS] == [1] * 4
        assert wal.counters.appended_records == 4
        assert wal.size_bytes == dict(wal.segments())[1] == wal.counters.appended_bytes + 44
    with opened(tmp_path / "a" / "wal", fsync=fsync) as wal:
        replayed = wal.replay()
        assert [(record.tenant, record.kind, bytes(record.body)) for record in replayed] == RECORDS
        assert {record.segment for record in replayed} == {1}
        report = replayed.report
        assert (report.records, report.torn_tail_bytes, report.corrupt) == (4, 0, ())
        assert report.bytes + 44 == dict(wal.segments())[1]
        assert wal.append("later", b"x") == 2
        assert len(list(wal.replay())) == 4, "records of this opening are no part of its replay"


def test_a_segment_has_the_documented_layout(tmp_path: Path) -> None:
    with opened(tmp_path) as wal:
        wal.append("tenant", b"the body", kind=CARRY)
        key = bytes.fromhex(wal.writer_id)
    data = (tmp_path / f"segment-{1:020}.wal").read_bytes()
    header, frame = data[:44], data[44:]
    assert header[:20] == b"SPANLWAL" + (1).to_bytes(4, "little") + (1).to_bytes(8, "little")
    assert header[20:36] == key
    assert header[36:] == blake2b(header[:36], digest_size=8, person=b"spanlake segment").digest()
    content = b"tenantthe body"
    fields = (8).to_bytes(4, "little") + (1).to_bytes(8, "little") + zlib.crc32(content).to_bytes(4, "little") + bytes([2, 0, 6, 0])
    assert frame[:24] == b"\xf5\xc0WF" + fields
    keyed = blake2b((1).to_bytes(8, "little") + frame[:24], digest_size=8, key=key, person=b"spanlake frame")
    assert frame[24:32] == keyed.digest()
    assert frame[32:] == content


def test_append_takes_a_memoryview_of_any_item_type(tmp_path: Path) -> None:
    with opened(tmp_path) as wal:
        wal.append("t", memoryview(b"abcdefgh").cast("q"))
        wal.append("t", memoryview(b"abcdefgh")[2:5])
    assert [body for _, _, body in contents(tmp_path)] == [b"abcdefgh", b"cde"]


def test_append_refuses_a_body_over_the_limit(tmp_path: Path) -> None:
    with opened(tmp_path) as wal, pytest.raises(TooLarge, match="1073741825 bytes"):
        wal.append("t", bytes(BODY_BYTES_MAX + 1))
    assert contents(tmp_path) == []


def test_append_is_refused_when_the_log_is_closed(tmp_path: Path) -> None:
    with opened(tmp_path) as wal:
        pass
    wal.close()
    with pytest.raises(Unavailable, match="is closed"):
        wal.append("t", b"x")


def test_rotate_seals_a_segment_and_drop_removes_it(tmp_path: Path) -> None:
    with opened(tmp_path) as wal:
        assert wal.append("t", b"one") == 1
        assert wal.rotate() == 1
        assert wal.append("t", b"two") == 2
        assert wal.rotate() == 2
        assert wal.rotate() == 3, "an empty segment has a number too"
        assert wal.append("t", b"four") == 4
        wal.drop(1)
        assert [number for number, _ in wal.segments()] == [2, 3, 4]
        wal.drop(1)
        wal.drop(3)
        assert [number for number, _ in wal.segments()] == [4]
        with pytest.raises(AssertionError, match="not sealed"):
            wal.drop(4)
    assert contents(tmp_path) == [("t", PAYLOAD, b"four")]


def test_numbers_and_writer_id_are_never_used_twice(tmp_path: Path) -> None:
    with opened(tmp_path) as wal:
        writer_id = wal.writer_id
        assert len(bytes.fromhex(writer_id)) == 16
    with opened(tmp_path) as wal:
        assert wal.writer_id == writer_id
        assert wal.append("t", b"x") == 2
        wal.drop(1)
    with opened(tmp_path) as wal:
        assert (wal.writer_id, wal.append("t", b"x")) == (writer_id, 3)
    (tmp_path / "writer-id").write_text("scribble")
    with opened(tmp_path) as wal:
        assert (wal.writer_id, wal.append("t", b"x")) == (writer_id, 4), "the segments still know it"
    for path in tmp_path.glob("segment-*"):
        path.unlink()
    with opened(tmp_path) as wal:
        assert wal.append("t", b"x") == 1
        assert wal.writer_id != writer_id, "segment 1 of the old id may be in a table commit"


def test_open_is_refused_when_another_holds_the_log(tmp_path: Path) -> None:
    with opened(tmp_path), pytest.raises(Unavailable, match=f"{tmp_path} is in use by another spanlake"):
        open_wal(tmp_path, WalSettings())
    with opened(tmp_path):
        pass


def test_open_is_refused_when_the_directory_cannot_be_used(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(Unavailable, match="cannot open the write-ahead log"):
        open_wal(tmp_path / "file" / "wal", WalSettings())


def test_replay_is_empty_when_there_is_no_log(tmp_path: Path) -> None:
    assert list(replay(tmp_path / "nothing")) == []


def test_replay_refuses_an_intact_segment_of_another_log_or_number(tmp_path: Path) -> None:
    for name in ("a", "b"):
        with opened(tmp_path / name) as wal:
            wal.append("t", b"x")
    first = tmp_path / "a" / f"segment-{1:020}.wal"
    first.rename(first.with_name(f"segment-{7:020}.wal"))
    with pytest.raises(CorruptData, match="is segment 1 of log"):
        contents(tmp_path / "a")
    (tmp_path / "a" / f"segment-{7:020}.wal").rename(tmp_path / "b" / f"segment-{1:020}.wal")
    with pytest.raises(CorruptData, match="not of this log"):
        contents(tmp_path / "b")


def test_all_records_are_there_once_when_many_threads_append_and_one_rotates(tmp_path: Path) -> None:
    where: dict[str, int] = {}

    def append_many(thread: int) -> None:
        for index in range(50):
            where[f"{thread}/{index}"] = wal.append(str(thread), f"{thread}/{index}".encode())

    with opened(tmp_path) as wal:
        threads = [threading.Thread(target=append_many, args=(thread,)) for thread in range(8)]
        for thread in threads:
            thread.start()
        while any(thread.is_alive() for thread in threads):
            wal.rotate()
        for thread in threads:
            thread.join()
        assert wal.counters.appended_records == 400
    found = [(bytes(record.body).decode(), record.segment) for record in replay(tmp_path)]
    assert len(found) == 400
    assert dict(found) == where
    for thread_index in range(8):
        own = [name for name, _ in found if name.startswith(f"{thread_index}/")]
        assert own == [f"{thread_index}/{index}" for index in range(50)], "one caller's records are in its order"


def test_callers_share_one_fsync_when_they_wait_for_the_leader(tmp_path: Path) -> None:
    entered, released = threading.Event(), threading.Event()
    armed = False

    def slow_sync(descriptor: int) -> None:
        if armed:
            entered.set()
            assert released.wait(PATIENCE_SECONDS)

    callers = ENTRIES_MAX // 64
    with opened(tmp_path, FileCalls(sync=slow_sync)) as wal:
        armed = True
        leader = threading.Thread(target=wal.append, args=("t", b"leader"))
        leader.start()
        assert entered.wait(PATIENCE_SECONDS)
        followers = [threading.Thread(target=wal.append, args=("t", b"follower")) for _ in range(callers)]
        for follower in followers:
            follower.start()
        while wal.waiting < callers:
            leader.join(0.001)  # gives the followers the interpreter; the leader cannot end yet
        assert wal.counters.appended_records == 0, "nothing is acknowledged before its fsync"
        released.set()
        for thread in (leader, *followers):
            thread.join(PATIENCE_SECONDS)
        assert (wal.counters.appended_records, wal.counters.fsyncs) == (callers + 1, 2)
    assert [body for _, _, body in contents(tmp_path)] == [b"leader"] + [b"follower"] * callers


def test_fsyncs_follow_the_policy(tmp_path: Path) -> None:
    synced = threading.Event()

    def sync(descriptor: int) -> None:
        if armed:
            synced.set()

    for fsync, fsyncs in (("always", 2), ("interval", 0), ("never", 0)):
        armed = False
        with opened(tmp_path / fsync, FileCalls(sync=sync), fsync=fsync, fsync_interval_seconds=60) as wal:
            wal.append("t", b"1")
            wal.append("t", b"2")
            assert wal.counters.fsyncs == fsyncs
            wal.rotate()
            assert wal.counters.fsyncs == {"always": 2, "interval": 1, "never": 0}[fsync]
            wal.sync()
            assert wal.counters.fsyncs == {"always": 2, "interval": 1, "never": 0}[fsync], "nothing is owed"
    with opened(tmp_path / "often", FileCalls(sync=sync), fsync="interval", fsync_interval_seconds=0.01) as wal:
        armed = True
        wal.append("t", b"1")
        assert synced.wait(PATIENCE_SECONDS), "the background thread syncs by itself"

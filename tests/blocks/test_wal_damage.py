"""The write-ahead log after a crash or on a bad disk: every intact record is returned, nothing else is, and all loss is reported."""

from __future__ import annotations

import errno
import os
import shutil
import tempfile
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from spanlake.blocks.wal import Damage, FileCalls, ReplayReport, open_wal, replay
from spanlake.blocks.wal.format import FRAME_HEADER_BYTES, FRAME_MARKER, SEGMENT_HEADER_BYTES, VERSION
from spanlake.blocks.wal.replay import SCAN_BYTES
from spanlake.model.errors import CorruptData
from spanlake.model.settings import WalSettings

BODIES = [b"alpha" * 9, b"", b"gamma \xf5\xc0WF inside", b"delta" * 20, b"e"]
TENANT = "t"


def frame_starts(bodies: list[bytes]) -> list[int]:
    """Where each frame begins, and where the last one ends."""
    starts = [SEGMENT_HEADER_BYTES]
    for body in bodies:
        starts.append(starts[-1] + FRAME_HEADER_BYTES + len(TENANT) + len(body))
    return starts


def write_log(directory: Path, bodies: list[bytes]) -> Path:
    wal = open_wal(directory, WalSettings(fsync="never"))
    for body in bodies:
        wal.append(TENANT, body)
    wal.close()
    return directory / f"segment-{1:020}.wal"


@pytest.fixture(scope="module")
def log() -> Iterator[tuple[Path, bytes]]:
    """A segment's path, and what an intact one of `BODIES` contains; a test may leave anything in the file."""
    directory = Path(tempfile.mkdtemp())
    segment = write_log(directory, BODIES)
    yield segment, segment.read_bytes()
    shutil.rmtree(directory)


def read_back(segment: Path, calls: FileCalls | None = None) -> tuple[list[bytes], ReplayReport]:
    replayed = replay(segment.parent, calls=calls)
    bodies = [bytes(record.body) for record in replayed]
    return bodies, replayed.report


def assert_each_once_in_order(bodies: list[bytes]) -> None:
    rest = iter(BODIES)
    assert all(body in rest for body in bodies), f"{bodies} is not a subsequence of what was appended"


def test_replay_returns_the_complete_prefix_when_the_segment_is_cut_at_any_byte(log: tuple[Path, bytes]) -> None:
    segment, intact = log
    starts = frame_starts(BODIES)
    assert starts[-1] == len(intact)
    for length in range(len(intact) + 1):
        segment.write_bytes(intact[:length])
        bodies, report = read_back(segment)
        complete = sum(end <= length for end in starts[1:])
        assert bodies == BODIES[:complete]
        kept = starts[complete] if length >= starts[0] else 0
        assert (report.records, report.torn_tail_bytes, report.corrupt) == (complete, length - kept, ())


def test_only_the_touched_record_is_missing_when_any_byte_is_flipped(log: tuple[Path, bytes]) -> None:
    segment, intact = log
    starts = frame_starts(BODIES)
    for position in range(len(intact)):
        damaged = bytearray(intact)
        damaged[position] ^= 0x5A
        segment.write_bytes(damaged)
        bodies, report = read_back(segment)
        touched = sum(start <= position for start in starts) - 1
        assert bodies == [body for index, body in enumerate(BODIES) if index != touched]
        start, end = (0, starts[0]) if touched < 0 else (starts[touched], starts[touched + 1])
        assert [(damage.segment, damage.offset, damage.length_bytes) for damage in report.corrupt] == [(1, start, end - start)]
        assert report.torn_tail_bytes == 0


def edited(intact: bytes, edits: list[tuple[float, int, bytes]]) -> bytes:
    """Applies (place, bytes removed, bytes put there)."""
    damaged = bytearray(intact)
    for place, removed, put in edits:
        at = int(place * len(damaged))
        damaged[at : at + removed] = put
    return bytes(damaged)


EDITS = st.lists(st.tuples(st.floats(0, 1), st.integers(0, 60), st.binary(max_size=60) | st.just(FRAME_MARKER)), max_size=4)


@given(EDITS)
@example([(0.0, 44, b"")])
@example([(0.5, 0, b"garbage between or inside frames"), (0.9, 3, b"")])
def test_every_whole_record_is_returned_and_nothing_else_after_any_mutation(
    log: tuple[Path, bytes], edits: list[tuple[float, int, bytes]]
) -> None:
    segment, intact = log
    damaged = edited(intact, edits)
    whole = {number for number, (start, end) in enumerate(pairwise(frame_starts(BODIES))) if intact[start:end] in damaged}
    segment.write_bytes(damaged)
    bodies, report = read_back(segment)
    assert_each_once_in_order(bodies)
    assert {BODIES.index(body) for body in bodies} == whole
    seen = report.bytes + report.torn_tail_bytes + sum(damage.length_bytes for damage in report.corrupt)
    assert len(damaged) - seen in {0, SEGMENT_HEADER_BYTES}, "every byte is accounted for"


@pytest.mark.parametrize("number", range(len(BODIES) + 1))
def test_garbage_between_frames_costs_no_record(log: tuple[Path, bytes], number: int) -> None:
    segment, intact = log
    at = frame_starts(BODIES)[number]
    garbage = b"\0" * 3 + FRAME_MARKER * 5 + b"garbage" * 20
    segment.write_bytes(intact[:at] + garbage + intact[at:])
    bodies, report = read_back(segment)
    assert bodies == BODIES
    assert report.corrupt == (Damage(1, at, len(garbage), "frame header", torn=False),)


def test_a_copy_of_a_frame_inside_a_payload_is_not_a_record(tmp_path: Path) -> None:
    foreign_copy = write_log(tmp_path / "foreign", BODIES).read_bytes()[SEGMENT_HEADER_BYTES:]
    wal = open_wal(tmp_path / "own", WalSettings())
    segment = tmp_path / "own" / f"segment-{1:020}.wal"
    wal.append(TENANT, b"first")
    own_copy = segment.read_bytes()[SEGMENT_HEADER_BYTES:]
    wal.append(TENANT, foreign_copy + own_copy)
    wal.append(TENANT, b"last")
    wal.close()
    intact = segment.read_bytes()
    for position in range(FRAME_HEADER_BYTES):  # of the frame around the copies, which makes the scan look at them
        data = bytearray(intact)
        data[SEGMENT_HEADER_BYTES + len(own_copy) + position] ^= 1
        segment.write_bytes(data)
        bodies, report = read_back(segment)
        assert bodies == [b"first", b"last"]
        assert len(report.corrupt) == 1


def test_the_next_frame_is_found_when_it_begins_at_any_place_in_a_scan(tmp_path: Path) -> None:
    header = FRAME_HEADER_BYTES + len(TENANT)
    for shift in (-FRAME_HEADER_BYTES, -3, -1, 0, 1):
        first = b"a" * (SCAN_BYTES - header + 1 + shift)  # the scan begins one byte behind the damaged frame's start
        segment = write_log(tmp_path / str(shift), [first, b"found"])
        data = bytearray(segment.read_bytes())
        data[SEGMENT_HEADER_BYTES] ^= 1
        segment.write_bytes(data)
        assert read_back(segment)[0] == [b"found"]


def test_an_unreadable_sector_costs_its_record_and_no_tail_is_cut(tmp_path: Path) -> None:
    written = [b"a" * 10_000, b"b" * 10_000, b"c" * 10_000]
    segment = write_log(tmp_path, written)
    starts = frame_starts(written)

    def failing(bad_offset: int) -> FileCalls:
        def read(descriptor: int, length: int, offset: int) -> bytes:
            if offset <= bad_offset < offset + length:
                raise OSError(errno.EIO, os.strerror(errno.EIO))
            return os.pread(descriptor, length, offset)

        return FileCalls(read=read)

    bodies, report = read_back(segment, failing(starts[0] + 50))
    assert bodies == written[1:]
    assert [damage.reason for damage in report.corrupt] == ["frame content (the disk failed to read parts of this segment)"]
    size_bytes = segment.stat().st_size
    wal = open_wal(tmp_path, WalSettings(), calls=failing(starts[2]))
    assert [bytes(record.body)[:1] for record in wal.replay()] == [b"a", b"b"]
    wal.close()
    assert segment.stat().st_size == size_bytes


def test_a_torn_tail_is_cut_off_by_the_replay_of_an_open_log_only(tmp_path: Path) -> None:
    segment = write_log(tmp_path, BODIES)
    starts = frame_starts(BODIES)
    os.truncate(segment, starts[4] - 1)
    bodies, report = read_back(segment)
    assert (bodies, report.torn_tail_bytes) == (BODIES[:3], starts[4] - 1 - starts[3])
    assert segment.stat().st_size == starts[4] - 1
    wal = open_wal(tmp_path, WalSettings())
    assert [bytes(record.body) for record in wal.replay()] == BODIES[:3]
    assert segment.stat().st_size == starts[3]
    wal.close()
    assert read_back(segment)[1].torn_tail_bytes == 0


def test_replay_needs_one_of_segment_header_and_writer_id(tmp_path: Path) -> None:
    segment = write_log(tmp_path, BODIES)
    (tmp_path / "writer-id").unlink()
    assert read_back(segment)[0] == BODIES
    data = bytearray(segment.read_bytes())
    data[0] ^= 1
    segment.write_bytes(data)
    bodies, report = read_back(segment)
    assert bodies == []
    assert report.corrupt == (Damage(1, 0, len(data), "segment header", torn=False),)


def test_replay_refuses_a_later_format_version(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("spanlake.blocks.wal.format.VERSION", VERSION + 1)
    segment = write_log(tmp_path, BODIES)
    with pytest.raises(CorruptData, match="format version 2, this spanlake reads 1"):
        read_back(segment)

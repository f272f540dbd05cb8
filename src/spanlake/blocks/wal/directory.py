"""The directory of a log: its lock, its identity and its segment files, apart from what is inside them.

The writer id names the log in table commits ("the segments up to N of writer X are in this block"), so an id and a
segment number must never be used twice. Two rules see to that: numbers only grow while any segment exists (the writer
never removes the highest one), and an id without any segment is replaced by a new one.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import sys
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from spanlake.blocks.wal.format import SEGMENT_HEADER_BYTES, decode_segment_header
from spanlake.model.errors import Unavailable

_SEGMENT_NAME = re.compile(r"segment-(\d{20})\.wal")
_WRITER_ID = re.compile(r"[0-9a-f]{32}")


@dataclass(frozen=True, slots=True)
class FileCalls:
    """The system calls that move a log's data, replaceable so that a test can make a disk fail."""

    read: Callable[[int, int, int], bytes] = os.pread
    write: Callable[[int, Sequence[bytes | memoryview], int], int] = os.pwritev
    sync: Callable[[int], None] = os.fdatasync if sys.platform == "linux" else os.fsync
    truncate: Callable[[int, int], None] = os.ftruncate


def segment_path(directory: Path, number: int) -> Path:
    """Where segment `number` lives."""
    return directory / f"segment-{number:020}.wal"


def segment_numbers(directory: Path) -> list[int]:
    """The numbers of all segments on disk, ascending; other files are ignored."""
    names = (_SEGMENT_NAME.fullmatch(path.name) for path in directory.iterdir())
    return sorted(int(name[1]) for name in names if name)


def make_directory(directory: Path, sync: Callable[[int], None]) -> None:
    """Creates `directory` and its parents so that they survive a power failure; no effect when it exists."""
    if directory.is_dir():
        return
    make_directory(directory.parent, sync)
    directory.mkdir(exist_ok=True)
    sync_directory(directory.parent, sync)


def sync_directory(directory: Path, sync: Callable[[int], None]) -> None:
    """Makes creations and renames inside `directory` durable."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        sync(descriptor)
    finally:
        os.close(descriptor)


def lock_directory(directory: Path) -> int:
    """Takes the log for this process; returns the descriptor to close in order to give it back.

    Raises Unavailable when someone has it. The kernel drops the lock when its process dies, so a crash leaves nothing to clean up.
    """
    descriptor = os.open(directory / "lock", os.O_RDWR | os.O_CREAT, 0o644)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        raise Unavailable(
            f"the write-ahead log {directory} is in use by another spanlake; stop that one, or set wal.directory to a directory of its own"
        ) from None
    except OSError:
        os.close(descriptor)
        raise
    return descriptor


def read_writer_id(directory: Path) -> str | None:
    """The id in the `writer-id` file; None when it is missing or not an id."""
    try:
        text = (directory / "writer-id").read_text("ascii", errors="replace").strip()
    except FileNotFoundError:
        return None
    return text if _WRITER_ID.fullmatch(text) else None


def settle_writer_id(directory: Path, sync: Callable[[int], None]) -> str:
    """The id of the locked log in `directory`: the one on file, else the one that its segments name, else a new one."""
    numbers = segment_numbers(directory)
    known = read_writer_id(directory) if numbers else None
    if known is not None:
        return known
    writer_id = next((found for number in numbers if (found := _writer_of(segment_path(directory, number)))), uuid.uuid4().hex)
    _write_writer_id(directory, writer_id, sync)
    return writer_id


def _writer_of(segment: Path) -> str | None:
    with segment.open("rb") as file:
        header = decode_segment_header(file.read(SEGMENT_HEADER_BYTES))
    return header.writer_id if header else None


def _write_writer_id(directory: Path, writer_id: str, sync: Callable[[int], None]) -> None:
    draft = directory / "writer-id.new"
    with draft.open("w", encoding="ascii") as file:
        file.write(writer_id + "\n")
        file.flush()
        sync(file.fileno())
    draft.replace(directory / "writer-id")
    sync_directory(directory, sync)


def close_quietly(descriptor: int) -> None:
    """Closes; a failure is ignored, because whatever had to be durable was synced before."""
    with contextlib.suppress(OSError):
        os.close(descriptor)

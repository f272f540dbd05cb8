"""The object store on a local directory, written against the operating system because obstore's own never calls fsync.

Everything is first written to `<root>/.scratch`, synced, and then renamed or linked to its name, after which the directory is synced:
a reader sees whole objects only, and what was acknowledged survives a power cut. Directories are created on demand and never removed.
"""

from __future__ import annotations

import errno
import os
import shutil
import stat
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4

from spanlake.model.errors import KeyMissing, StoreError
from spanlake.objectstore.failures import local_failures
from spanlake.objectstore.store import SCRATCH_SEGMENT, ObjectInfo, check_key, check_prefix, check_range, is_key_segment


class LocalStore:
    """An ObjectStore in the absolute directory `root`, which exists. Processes may share it."""

    def __init__(self, root: Path) -> None:
        assert root.is_absolute(), root
        self._root = root
        self._scratch = root / SCRATCH_SEGMENT
        self._scratch.mkdir(exist_ok=True)
        # Directories whose whole chain of names up to the root is known to be on disk.
        self._durable_directories: set[Path] = set()

    @property
    def url(self) -> str:
        return self._root.as_uri().removesuffix("/")

    @property
    def scratch(self) -> Path:
        return self._scratch

    def get(self, key: str) -> bytes:
        path = self.local_path(key)
        with local_failures("get", key):
            return path.read_bytes()

    def get_range(self, key: str, start: int, length: int) -> bytes:
        return self.get_ranges(key, [(start, length)])[0]

    def get_ranges(self, key: str, ranges: Sequence[tuple[int, int]]) -> list[bytes]:
        path = self.local_path(key)
        for start, length in ranges:
            check_range(key, start, length)
        if not any(length for _, length in ranges):
            return [b""] * len(ranges)
        with local_failures("get_ranges", key), path.open("rb", buffering=0) as file:
            return [_read_exactly(file.fileno(), key, start, length) for start, length in ranges]

    def head(self, key: str) -> ObjectInfo:
        path = self.local_path(key)
        with local_failures("head", key):
            status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            raise KeyMissing(key)
        return _info(key, status)

    def put(self, key: str, data: bytes) -> None:
        target = self.local_path(key)
        with local_failures("put", key), self._finished_file(data) as finished:
            self._place(target, lambda: finished.replace(target))

    def put_if_absent(self, key: str, data: bytes) -> None:
        target = self.local_path(key)
        # Unlike a rename, a link fails when the name is taken, and both are atomic.
        with local_failures("put_if_absent", key), self._finished_file(data) as finished:
            self._place(target, lambda: target.hardlink_to(finished))

    def put_file(self, key: str, path: Path) -> None:
        target = self.local_path(key)
        with local_failures("put_file", key):
            _sync(path)
            try:
                self._place(target, lambda: _rename(path, target))
            except OSError as error:
                if error.errno != errno.EXDEV:
                    raise
                self._place_copy(target, path)

    def delete(self, keys: Sequence[str]) -> None:
        paths = [(key, self.local_path(key)) for key in keys]
        for key, path in paths:
            with local_failures("delete", key):
                try:
                    path.unlink(missing_ok=True)
                except (NotADirectoryError, IsADirectoryError):
                    continue  # no object can have that key

    def list(self, prefix: str) -> Iterator[ObjectInfo]:
        trimmed = check_prefix(prefix)
        return self._walk(trimmed)

    def local_path(self, key: str) -> Path:
        return self._root / check_key(key)

    def _walk(self, prefix: str) -> Iterator[ObjectInfo]:
        """Every object below the directory. Names that vanish meanwhile are skipped."""
        pending = [prefix]
        while pending:
            directory = pending.pop()
            with local_failures("list", directory):
                entries = _entries(self._root / directory)
            for entry in entries:
                if not is_key_segment(entry.name) or (not directory and entry.name == SCRATCH_SEGMENT):
                    continue
                key = f"{directory}/{entry.name}" if directory else entry.name
                if entry.is_dir():
                    pending.append(key)
                    continue
                info = _info_if_regular(key, entry)
                if info:
                    yield info

    @contextmanager
    def _finished_file(self, data: bytes) -> Iterator[Path]:
        """A synced scratch file with these bytes, removed at the end unless it was renamed."""
        path = self._scratch / f"put-{uuid4().hex}"
        try:
            _write_synced(path, data)
            yield path
        finally:
            path.unlink(missing_ok=True)

    def _place_copy(self, target: Path, path: Path) -> None:
        """`put_file` from another file system: the copy is what gets renamed, the source goes last."""
        copy = self._scratch / f"copy-{uuid4().hex}"
        try:
            shutil.copyfile(path, copy)
            _sync(copy)
            self._place(target, lambda: _rename(copy, target))
        finally:
            copy.unlink(missing_ok=True)
        path.unlink()

    def _place(self, target: Path, give_name: Callable[[], object]) -> None:
        """Run the rename or link into `target`, with its directory made before and synced after."""
        directory = target.parent
        self._make_durable(directory)
        try:
            give_name()
        except FileNotFoundError:
            # Someone removed the directory since this process made it.
            self._durable_directories.discard(directory)
            self._make_durable(directory)
            give_name()
        _sync(directory)

    def _make_durable(self, directory: Path) -> None:
        if directory in self._durable_directories:
            return
        directory.mkdir(parents=True, exist_ok=True)
        # Sync the whole chain even if nothing was made here: another thread may have made it and not synced yet.
        chain = directory
        while chain != self._root:
            chain = chain.parent
            _sync(chain)
        self._durable_directories.add(directory)


def remove_leftovers(scratch: Path, before_ns: int) -> int:
    """Delete the files in a scratch directory last written before that time (crashed writers left them); returns how many."""
    removed = 0
    for entry in _entries(scratch):
        try:
            if entry.is_file() and entry.stat().st_mtime_ns < before_ns:
                Path(entry).unlink()
                removed += 1
        except FileNotFoundError:
            continue  # another process cleans up too
    return removed


def _entries(directory: Path) -> list[os.DirEntry[str]]:
    """What is in the directory; nothing if there is no such directory."""
    try:
        with os.scandir(directory) as entries:
            return list(entries)
    except (FileNotFoundError, NotADirectoryError):
        return []


def _info(key: str, status: os.stat_result) -> ObjectInfo:
    return ObjectInfo(key=key, size_bytes=status.st_size, modified_ns=status.st_mtime_ns)


def _info_if_regular(key: str, entry: os.DirEntry[str]) -> ObjectInfo | None:
    try:
        status = entry.stat()
    except FileNotFoundError:
        return None
    return _info(key, status) if stat.S_ISREG(status.st_mode) else None


def _read_exactly(descriptor: int, key: str, start: int, length: int) -> bytes:
    """One range with as many reads as the system needs (Linux gives at most 2 GiB each)."""
    parts: list[bytes] = []
    missing = length
    while missing:
        part = os.pread(descriptor, missing, start + length - missing)
        if not part:
            raise StoreError(f"object {key!r} ends before the range {start}+{length}", transient=False)
        parts.append(part)
        missing -= len(part)
    return parts[0] if len(parts) == 1 else b"".join(parts)


def _write_synced(path: Path, data: bytes) -> None:
    with path.open("xb", buffering=0) as file:
        rest = memoryview(data)
        while rest:
            rest = rest[file.write(rest) :]
        os.fsync(file.fileno())


def _rename(source: Path, target: Path) -> None:
    source.replace(target)


def _sync(path: Path) -> None:
    """fsync a file or a directory by name."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)

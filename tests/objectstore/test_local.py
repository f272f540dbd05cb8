"""What only the local store promises: fsync in the right order, no half objects on a full disk, renames instead of copies."""

from __future__ import annotations

import errno
import os
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from spanlake.model.errors import KeyMissing, StoreError
from spanlake.objectstore.local import LocalStore, remove_leftovers


@pytest.fixture
def store(tmp_path: Path) -> LocalStore:
    return LocalStore(tmp_path)


@pytest.fixture
def events(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[tuple[str, str]]:
    """Calls of the operating system that matter for durability, in order, with paths relative to the root."""
    seen: list[tuple[str, str]] = []
    real_fsync, real_replace, real_link = os.fsync, os.replace, os.link

    def fsync(descriptor: int) -> None:
        real_fsync(descriptor)
        seen.append(("fsync", named(Path(f"/proc/self/fd/{descriptor}").readlink())))

    def replace(source: Path, target: Path) -> None:
        real_replace(source, target)
        seen.append(("replace", named(target)))

    def link(source: Path, target: Path) -> None:
        real_link(source, target)
        seen.append(("link", named(target)))

    def named(path: Path) -> str:
        relative = str(Path(path).relative_to(tmp_path))
        return "unfinished" if relative.startswith((".scratch/", "elsewhere/")) else relative

    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(os, "replace", replace)
    monkeypatch.setattr(os, "link", link)
    return seen


@pytest.mark.parametrize(("operation", "names"), [("put", "replace"), ("put_if_absent", "link"), ("put_file", "replace")])
def test_put_syncs_file_then_names_it_then_syncs_directories(
    store: LocalStore, events: list[tuple[str, str]], operation: str, names: str
) -> None:
    unfinished = store.scratch / "block"
    for key in ("a/b/c", "a/b/d"):
        unfinished.write_bytes(b"x")
        getattr(store, operation)(key, unfinished if operation == "put_file" else b"x")
    new_directories = [("fsync", "a"), ("fsync", ".")]
    assert events == [
        ("fsync", "unfinished"),
        *new_directories,
        (names, "a/b/c"),
        ("fsync", "a/b"),
        ("fsync", "unfinished"),
        (names, "a/b/d"),
        ("fsync", "a/b"),
    ]


def test_put_file_renames_when_on_the_same_file_system(store: LocalStore, tmp_path: Path) -> None:
    path = tmp_path / "block"
    path.write_bytes(b"x" * 100)
    inode = path.stat().st_ino
    store.put_file("a/b", path)
    assert (tmp_path / "a/b").stat().st_ino == inode


def test_put_file_copies_durably_when_on_another_file_system(
    store: LocalStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, events: list[tuple[str, str]]
) -> None:
    other = tmp_path / "elsewhere"
    other.mkdir()
    (other / "block").write_bytes(b"x" * 100)
    recorded = os.replace

    def replace(source: Path, target: Path) -> None:
        if Path(source).parent == other:
            raise OSError(errno.EXDEV, os.strerror(errno.EXDEV))
        recorded(source, target)

    monkeypatch.setattr(os, "replace", replace)
    store.put_file("b", other / "block")
    assert store.get("b") == b"x" * 100
    assert not (other / "block").exists()
    assert list(store.scratch.iterdir()) == []
    assert events[-3:] == [("fsync", "unfinished"), ("replace", "b"), ("fsync", ".")]


@contextmanager
def files_limited_to(size_bytes: int) -> Iterator[None]:
    """Writes beyond that size fail like those on a full disk: some bytes are written, then an error."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize("operation", ["put", "put_if_absent"])
def test_put_leaves_nothing_when_the_disk_fills_up(store: LocalStore, operation: str) -> None:
    large = bytes(3 << 20)
    with files_limited_to(1 << 20), pytest.raises(StoreError, match=f"{operation} of object 'a/b' failed: File too large") as caught:
        getattr(store, operation)("a/b", large)
    assert not caught.value.transient
    with pytest.raises(KeyMissing):
        store.get("a/b")
    assert list(store.scratch.iterdir()) == []
    getattr(store, operation)("a/b", large)
    assert store.get("a/b") == large


def test_put_replaces_nothing_when_the_disk_fills_up(store: LocalStore) -> None:
    store.put("a", b"old")
    with files_limited_to(1 << 20), pytest.raises(StoreError):
        store.put("a", bytes(3 << 20))
    assert store.get("a") == b"old"


def test_put_makes_the_directory_again_when_someone_removed_it(store: LocalStore, tmp_path: Path) -> None:
    store.put("a/b/c", b"1")
    store.delete(["a/b/c"])
    (tmp_path / "a/b").rmdir()
    (tmp_path / "a").rmdir()
    store.put("a/b/c", b"2")
    assert store.get("a/b/c") == b"2"


@pytest.mark.parametrize("operation", ["put", "put_if_absent"])
def test_put_fails_when_a_directory_or_file_is_in_the_way(store: LocalStore, operation: str) -> None:
    store.put("a/b", b"1")
    for key in ("a/b/c", "a"):
        with pytest.raises(StoreError) as caught:
            getattr(store, operation)(key, b"2")
        assert not caught.value.transient
    assert store.get("a/b") == b"1"
    assert list(store.scratch.iterdir()) == []


def test_list_skips_files_that_cannot_be_objects(store: LocalStore, tmp_path: Path) -> None:
    store.put("a/b", b"1")
    (tmp_path / "a/b#1").write_bytes(b"unfinished, of the Delta library")
    (tmp_path / "a/what?").write_bytes(b"")
    (tmp_path / "a" / os.fsdecode(b"latin-\xe9")).write_bytes(b"")
    (tmp_path / "a/dangling").symlink_to(tmp_path / "nothing")
    os.mkfifo(tmp_path / "a/pipe")
    (tmp_path / "a/empty").mkdir()
    assert [info.key for info in store.list("")] == ["a/b"]


def test_objects_stay_readable_through_a_map_when_deleted(store: LocalStore) -> None:
    store.put("a", b"mapped")
    with store.local_path("a").open("rb") as file:
        store.delete(["a"])
        assert file.read() == b"mapped"


def test_objects_have_the_permissions_of_ordinary_files(store: LocalStore, tmp_path: Path) -> None:
    (tmp_path / "ordinary").touch()
    store.put("a", b"1")
    assert (tmp_path / "a").stat().st_mode == (tmp_path / "ordinary").stat().st_mode


def test_remove_leftovers_takes_only_old_files(store: LocalStore) -> None:
    for name, modified_ns in (("old", 5), ("young", 15)):
        (store.scratch / name).write_bytes(b"x")
        os.utime(store.scratch / name, ns=(modified_ns, modified_ns))
    (store.scratch / "directory").mkdir()
    assert remove_leftovers(store.scratch, 10) == 1
    assert {path.name for path in store.scratch.iterdir()} == {"young", "directory"}
    assert remove_leftovers(store.scratch / "missing", 10) == 0

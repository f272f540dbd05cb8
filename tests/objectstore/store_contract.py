"""What every ObjectStore does. A backend's test subclasses ObjectStoreContract and provides the fixture `store`."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from spanlake.model.errors import InvalidInput, KeyExists, KeyMissing, StoreError
from spanlake.objectstore.store import KEY_BYTES_MAX, ObjectStore

BAD_KEYS = [
    "",
    "/a",
    "a/",
    "a//b",
    ".",
    "..",
    "../a",
    "a/../b",
    "a/./b",
    "a\\b",
    "a\x00b",
    "a\nb",
    "a#1",
    "a?b",
    "a%20b",
    "a[b]",
    "\ud800",
    ".scratch",
    ".scratch/a",
    "x" * 256,
    "/".join(["x" * 200] * 5),
]
GOOD_KEYS = [
    "a",
    "a/b",
    "tables/single-tenant/date=2026-01-31/part-00000.parquet",
    "a b",
    ".hidden/.x",
    "a..b",
    "…é/日本",
    "(!-_.*')",
    "a+b@c,d:e&f$g;h~i^j`k|l{m}",
    "/".join(["y" * 199] * 4),
]


class ObjectStoreContract:
    @pytest.fixture
    def store(self) -> ObjectStore:
        raise NotImplementedError

    def test_get_returns_what_put_stored(self, store: ObjectStore) -> None:
        store.put("a/b", b"hello")
        store.put("a/empty", b"")
        assert store.get("a/b") == b"hello"
        assert store.get("a/empty") == b""

    def test_put_replaces_when_object_exists(self, store: ObjectStore) -> None:
        store.put("a", b"old and long")
        store.put("a", b"new")
        assert store.get("a") == b"new"
        assert [info.key for info in store.list("")] == ["a"]

    @pytest.mark.parametrize("key", GOOD_KEYS)
    def test_key_survives_put_list_delete_when_unusual(self, store: ObjectStore, key: str) -> None:
        store.put(key, b"1")
        assert store.get(key) == b"1"
        assert [info.key for info in store.list("")] == [key]
        store.delete([key])
        assert list(store.list("")) == []

    def test_every_method_refuses_when_key_is_bad(self, store: ObjectStore) -> None:
        calls: list[Callable[[str], object]] = [
            store.get,
            lambda key: store.get_range(key, 0, 1),
            lambda key: store.get_ranges(key, [(0, 1)]),
            store.head,
            lambda key: store.put(key, b""),
            lambda key: store.put_if_absent(key, b""),
            lambda key: store.put_file(key, store.scratch / "x"),
            lambda key: store.delete(["fine", key]),
            store.local_path,
        ]
        for key in BAD_KEYS:
            for call in calls:
                with pytest.raises(InvalidInput):
                    call(key)

    @pytest.mark.parametrize("prefix", ["/", "..", "a//b", "a#1", "a//"])
    def test_list_refuses_at_once_when_prefix_is_bad(self, store: ObjectStore, prefix: str) -> None:
        with pytest.raises(InvalidInput):
            store.list(prefix)

    def test_longest_key_is_within_the_bound(self) -> None:
        assert max(len(key.encode()) for key in GOOD_KEYS) == KEY_BYTES_MAX - 1

    def test_reads_raise_key_missing_when_there_is_no_object(self, store: ObjectStore) -> None:
        store.put("dir/a", b"x")
        for key in ("b", "dir", "dir/b", "dir/a/b"):
            for call in (store.get, store.head, lambda key: store.get_range(key, 0, 1), lambda key: store.get_ranges(key, [(0, 1)])):
                with pytest.raises(KeyMissing) as caught:
                    call(key)
                assert caught.value.key == key

    def test_put_if_absent_keeps_first_object_when_there_is_one(self, store: ObjectStore) -> None:
        store.put_if_absent("a/b", b"first")
        with pytest.raises(KeyExists) as caught:
            store.put_if_absent("a/b", b"second")
        assert caught.value.key == "a/b"
        assert store.get("a/b") == b"first"
        store.delete(["a/b"])
        store.put_if_absent("a/b", b"third")
        assert store.get("a/b") == b"third"

    def test_put_if_absent_has_one_winner_when_many_race(self, store: ObjectStore) -> None:
        threads = 12
        together = threading.Barrier(threads)

        def claim(number: int) -> bytes | None:
            mine = f"writer {number}".encode()
            together.wait(30)
            try:
                store.put_if_absent("claims/one", mine)
            except KeyExists:
                return None
            return mine

        with ThreadPoolExecutor(threads) as pool:
            winners = [claimed for claimed in pool.map(claim, range(threads)) if claimed]
        assert winners == [store.get("claims/one")]

    def test_readers_see_whole_objects_when_overwritten(self, store: ObjectStore) -> None:
        versions = [bytes([number]) * (1000 * number) for number in range(1, 4)]
        store.put("a", versions[0])
        seen: list[bytes] = []
        done = threading.Event()

        def read() -> None:
            while not done.is_set():
                seen.append(store.get("a"))

        with ThreadPoolExecutor(1) as pool:
            reading = pool.submit(read)
            for turn in range(30):
                store.put("a", versions[turn % 3])
            done.set()
            reading.result()
        assert set(seen) <= set(versions)

    def test_get_range_returns_exactly_what_was_asked(self, store: ObjectStore) -> None:
        store.put("a", bytes(range(200)))
        assert store.get_range("a", 0, 200) == bytes(range(200))
        assert store.get_range("a", 10, 3) == bytes([10, 11, 12])
        assert store.get_range("a", 199, 1) == bytes([199])
        assert store.get_range("a", 5, 0) == b""

    @pytest.mark.parametrize(("start", "length"), [(199, 2), (200, 1), (1000, 5), (0, 201)])
    def test_get_range_fails_for_good_when_object_is_shorter(self, store: ObjectStore, start: int, length: int) -> None:
        store.put("a", bytes(range(200)))
        for call in (lambda: store.get_range("a", start, length), lambda: store.get_ranges("a", [(0, 1), (start, length)])):
            with pytest.raises(StoreError) as caught:
                call()
            assert type(caught.value) is StoreError
            assert not caught.value.transient
            assert "'a'" in str(caught.value)

    @pytest.mark.parametrize(("start", "length"), [(-1, 2), (1, -1)])
    def test_get_range_refuses_when_numbers_are_negative(self, store: ObjectStore, start: int, length: int) -> None:
        with pytest.raises(InvalidInput):
            store.get_range("a", start, length)

    def test_get_ranges_keeps_order_when_ranges_overlap_or_are_empty(self, store: ObjectStore) -> None:
        data = bytes(range(256)) * 12_000  # wide enough that not all ranges fit into one request
        store.put("a", data)
        ranges = [(3_000_000, 7), (0, 4), (2, 4), (0, 0), (0, 4), (1_500_000, 100)]
        assert store.get_ranges("a", ranges) == [data[start : start + length] for start, length in ranges]
        assert store.get_ranges("a", []) == []
        assert store.get_ranges("a", [(9, 0)]) == [b""]

    def test_head_tells_size_and_time(self, store: ObjectStore) -> None:
        store.put("a/b", b"12345")
        info = store.head("a/b")
        assert (info.key, info.size_bytes) == ("a/b", 5)
        assert abs(info.modified_ns - time.time_ns()) < 3600 * 10**9
        assert list(store.list("a")) == [info]

    def test_put_file_takes_the_file_over(self, store: ObjectStore) -> None:
        path = store.scratch / "block"
        for content in (b"one", b"another", b""):
            path.write_bytes(content)
            store.put_file("a/b", path)
            assert store.get("a/b") == content
            assert not path.exists()

    def test_put_file_fails_for_good_when_there_is_no_file(self, store: ObjectStore) -> None:
        with pytest.raises(StoreError, match=r"put_file .*'a'.* [Nn]o .*file") as caught:
            store.put_file("a", store.scratch / "nothing")
        assert type(caught.value) is StoreError
        assert not caught.value.transient

    def test_scratch_is_outside_of_all_keys(self, store: ObjectStore) -> None:
        (store.scratch / "unfinished").write_bytes(b"x")
        assert list(store.list("")) == []
        (store.scratch / "unfinished").unlink()

    def test_delete_ignores_keys_when_they_are_missing(self, store: ObjectStore) -> None:
        for key in ("a", "dir/b", "dir/c", "d"):
            store.put(key, b"x")
        store.delete(["a", "missing", "dir/b", "missing/too", "a/below"])
        assert {info.key for info in store.list("")} == {"dir/c", "d"}
        store.delete(["dir"])
        store.delete([])
        assert store.get("dir/c") == b"x"

    @pytest.mark.parametrize(
        ("prefix", "expected"),
        [
            ("", {"a", "b/c", "b/d/e", "b/d2", "bb/f"}),
            ("b", {"b/c", "b/d/e", "b/d2"}),
            ("b/", {"b/c", "b/d/e", "b/d2"}),
            ("b/d", {"b/d/e"}),
            ("b/c", set()),
            ("a", set()),
            ("nowhere/at/all", set()),
        ],
    )
    def test_list_goes_by_whole_segments(self, store: ObjectStore, prefix: str, expected: set[str]) -> None:
        for key in ("a", "b/c", "b/d/e", "b/d2", "bb/f"):
            store.put(key, key.encode())
        listed = list(store.list(prefix))
        assert len(listed) == len(expected)
        assert {info.key for info in listed} == expected
        assert all(info.size_bytes == len(info.key) for info in listed)

    def test_local_path_is_the_object_when_there_is_one(self, store: ObjectStore) -> None:
        store.put("a/b", b"mapped")
        path = store.local_path("a/b")
        assert path is None or path.read_bytes() == b"mapped"
        assert (path is not None) == store.url.startswith("file:")

    def test_url_has_no_trailing_slash_when_it_has_a_path(self, store: ObjectStore) -> None:
        assert store.url == "memory://" or not store.url.endswith("/")

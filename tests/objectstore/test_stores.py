"""Every backend, and every wrapper, keeps the contract."""

from __future__ import annotations

from contextlib import closing
from http.client import HTTPConnection
from pathlib import Path

import pytest
from store_contract import ObjectStoreContract

from spanlake.model.settings import StoreSettings
from spanlake.objectstore.bucket import PART_BYTES
from spanlake.objectstore.faulty import TRANSIENT, seeded
from spanlake.objectstore.intercepted import Counts, InterceptedStore
from spanlake.objectstore.opening import open_store
from spanlake.objectstore.retrying import RetryingStore
from spanlake.objectstore.store import ObjectStore


class TestMemoryStore(ObjectStoreContract):
    @pytest.fixture
    def store(self) -> ObjectStore:
        return open_store("memory://")


class TestLocalStore(ObjectStoreContract):
    @pytest.fixture
    def store(self, tmp_path: Path) -> ObjectStore:
        return open_store(str(tmp_path / "data"))


class TestS3Store(ObjectStoreContract):
    @pytest.fixture
    def store(self, s3_url: str, tmp_path: Path) -> ObjectStore:
        return open_store(s3_url, scratch=tmp_path / "scratch")

    def test_put_file_arrives_whole_when_it_takes_several_parts(self, store: ObjectStore) -> None:
        content = bytes(range(251)) * (PART_BYTES // 251 + 2)
        path = store.scratch / "large"
        path.write_bytes(content)
        store.put_file("large", path)
        assert store.head("large").size_bytes == len(content) > PART_BYTES
        assert store.get_range("large", PART_BYTES - 500, 600) == content[PART_BYTES - 500 : PART_BYTES + 100]

    def test_list_skips_foreign_objects_that_have_no_key(self, store: ObjectStore, s3_server: str) -> None:
        store.put("a/b", b"1")
        bucket = store.url.removeprefix("s3://")
        with closing(HTTPConnection(s3_server.removeprefix("http://"))) as connection:
            for name in ("a/what%3F", "a/c%23d"):
                connection.request("PUT", f"/{bucket}/{name}", body=b"")
                assert connection.getresponse().read() == b""
        assert [info.key for info in store.list("a")] == ["a/b"]

    def test_objects_are_found_again_when_opened_by_the_canonical_url(self, store: ObjectStore) -> None:
        store.put("a/b", b"1")
        assert open_store(store.url).get("a/b") == b"1"
        parent, _, name = store.url.rpartition("/")
        assert open_store(parent).get(f"{name}/a/b") == b"1"


class TestCountedStore(ObjectStoreContract):
    @pytest.fixture
    def store(self) -> ObjectStore:
        return InterceptedStore(open_store("memory://"), Counts())


class TestRetriedFaultyMemoryStore(ObjectStoreContract):
    """A store that fails all the time for passing reasons, lost answers among them, is as good as a sound one."""

    @pytest.fixture(params=[1, 2])
    def store(self, request: pytest.FixtureRequest) -> ObjectStore:
        faults = seeded(request.param, rate=0.4, kinds=tuple(TRANSIENT))
        faulty = InterceptedStore(open_store("memory://"), faults)
        return RetryingStore(faulty, StoreSettings(attempts_max=50), sleep=lambda _seconds: None)


class TestRetriedFaultyLocalStore(ObjectStoreContract):
    @pytest.fixture
    def store(self, tmp_path: Path) -> ObjectStore:
        faulty = InterceptedStore(open_store(str(tmp_path)), seeded(1, rate=0.4, kinds=tuple(TRANSIENT)))
        return RetryingStore(faulty, StoreSettings(attempts_max=50), sleep=lambda _seconds: None)

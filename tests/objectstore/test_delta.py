"""The deltalake library finds tables where the object store has them, on disk and on S3, with the same environment."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pyarrow as pa
import pytest
from deltalake import DeltaTable
from deltalake.transaction import AddAction

from spanlake.model.errors import ConfigError, InvalidInput
from spanlake.model.settings import StoreSettings
from spanlake.objectstore.delta import DeltaLocation, delta_location
from spanlake.objectstore.opening import open_store
from spanlake.objectstore.store import ObjectStore

pytestmark = pytest.mark.slow

SETTINGS = StoreSettings()
SCHEMA = pa.schema([pa.field("name", pa.string()), pa.field("duration_ns", pa.int64())])


@pytest.fixture(params=["disk", "s3"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> ObjectStore:
    return open_store(str(tmp_path) if request.param == "disk" else request.getfixturevalue("s3_url"))


def located(store: ObjectStore, key: str = "tables/single-tenant") -> DeltaLocation:
    return delta_location(store.url, key, SETTINGS)


def create(location: DeltaLocation) -> DeltaTable:
    return DeltaTable.create(location.url, SCHEMA, storage_options=location.options)


def commit(table: DeltaTable, name: str) -> None:
    add = AddAction(path=name, size=1, partition_values={}, modification_time=0, data_change=True, stats="{}")
    table.create_write_transaction([add], mode="append", schema=SCHEMA)


def files_of(location: DeltaLocation) -> set[str]:
    uris = DeltaTable(location.url, storage_options=location.options).file_uris()
    return {uri.rpartition("/")[2] for uri in uris}


def test_commits_are_objects_of_the_store(store: ObjectStore) -> None:
    location = located(store)
    table = create(location)
    commit(table, "one.parquet")
    commit(table, "two.parquet")
    assert files_of(location) == {"one.parquet", "two.parquet"}
    log = {info.key for info in store.list("tables/single-tenant/_delta_log") if info.key.endswith(".json")}
    assert log == {f"tables/single-tenant/_delta_log/{version:020}.json" for version in range(3)}
    assert b"two.parquet" in store.get(f"tables/single-tenant/_delta_log/{2:020}.json")


def test_every_commit_survives_when_writers_race(store: ObjectStore) -> None:
    location = located(store)
    create(location)
    writers = 4
    together = threading.Barrier(writers)

    def write(number: int) -> None:
        table = DeltaTable(location.url, storage_options=location.options)
        together.wait(30)
        commit(table, f"{number}.parquet")

    with ThreadPoolExecutor(writers) as pool:
        list(pool.map(write, range(writers)))
    assert files_of(location) == {f"{number}.parquet" for number in range(writers)}


def test_a_version_is_written_once_when_another_writer_has_it(store: ObjectStore) -> None:
    location = located(store)
    table = create(location)
    commit(table, "one.parquet")
    first = store.get(f"tables/single-tenant/_delta_log/{1:020}.json")
    stale = DeltaTable(location.url, version=0, storage_options=location.options)
    commit(stale, "late.parquet")
    assert store.get(f"tables/single-tenant/_delta_log/{1:020}.json") == first
    assert files_of(location) == {"one.parquet", "late.parquet"}


@pytest.mark.parametrize("tenant", ["a b*é", "(!-_.*')", "a+b=c~d:e@f", "{a&b;c,d}^`|$"])
def test_table_is_where_the_key_says_when_the_tenant_is_unusual(store: ObjectStore, tenant: str) -> None:
    location = located(store, f"tables/{tenant}")
    commit(create(location), "one.parquet")
    assert len([info for info in store.list(f"tables/{tenant}/_delta_log") if info.key.endswith(".json")]) == 2
    assert files_of(location) == {"one.parquet"}


def test_location_has_our_bounds_when_remote() -> None:
    settings = StoreSettings(attempts_max=3, timeout_seconds=7.5, backoff_first_seconds=0.2, backoff_max_seconds=2)
    assert delta_location("s3://bucket/some%20prefix", "tables/a b", settings) == DeltaLocation(
        url="s3://bucket/some%20prefix/tables/a%20b",
        options={
            "timeout": "7500ms",
            "connect_timeout": "5000ms",
            "max_retries": "2",
            "retry_timeout": "22500ms",
            "backoff_config.init_backoff": "200ms",
            "backoff_config.max_backoff": "2000ms",
            "conditional_put": "etag",
        },
    )
    assert "conditional_put" not in delta_location("gs://bucket", "t", settings).options
    assert delta_location("file:///data", "t", settings) == DeltaLocation("file:///data/t", {})


def test_location_is_refused_when_it_cannot_work() -> None:
    with pytest.raises(ConfigError, match="no Delta tables"):
        delta_location("memory://", "t", SETTINGS)
    with pytest.raises(InvalidInput):
        delta_location("file:///data", "../t", SETTINGS)

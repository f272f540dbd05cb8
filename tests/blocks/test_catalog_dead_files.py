"""Which files below a table are deleted, and when."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from catalog_tables import Tables, commit
from deltalake import DeltaTable

from spanlake.blocks.catalog import block_key
from spanlake.blocks.catalog.dead_files import Tombstones, dead_paths
from spanlake.model.errors import ConfigError, StoreError
from spanlake.objectstore.intercepted import Before, Call, InterceptedStore
from spanlake.objectstore.store import ObjectInfo, ObjectStore

HOUR = 3600


@pytest.fixture
def tables(tmp_path: Path) -> Tables:
    return Tables(tmp_path)


NOW_MS, HOUR_MS = 1_000 * 3_600_000, 3_600_000
# path, hours since it was written, in the table, hours since it was removed, grace in hours, dead
RULES = [
    ("day=2026-09-21/x.parquet", 500, True, None, 0, False),
    ("day=2026-09-21/x.parquet", 500, True, 400, 0, False),  # removed and added again
    ("day=2026-09-21/x.parquet", 500, False, 2, 3, False),
    ("day=2026-09-21/x.parquet", 500, False, 3, 3, True),
    ("day=2026-09-21/x.parquet", 0, False, 3, 3, True),
    ("day=2026-09-21/x.parquet", 500, False, -1, 0, False),  # removed by a process whose clock is ahead
    ("day=2026-09-21/x.parquet", 23, False, None, 0, False),
    ("day=2026-09-21/x.parquet", 24, False, None, 0, True),
    ("day=__HIVE_DEFAULT_PARTITION__/x.parquet", 24, False, None, 0, True),
    ("day=2026-09-21/x.crc", 500, False, None, 0, False),
    ("day=2026-09-21/.x.parquet", 500, False, None, 0, False),
    ("x.parquet", 500, False, None, 0, False),
    ("_delta_log/day=2026-09-21/x.parquet", 500, False, None, 0, False),
    ("_delta_log/00000000000000000020.checkpoint.parquet", 500, False, None, 0, False),
]


@pytest.mark.parametrize(("path", "written", "live", "removed", "grace", "dead"), RULES)
def test_file_is_dead_by_the_rule(path: str, written: int, live: bool, removed: int | None, grace: int, dead: bool) -> None:
    file = ObjectInfo(f"tables/t/{path}", 1, (NOW_MS - written * HOUR_MS) * 1_000_000)
    tombstones = Tombstones(1, {} if removed is None else {path: NOW_MS - removed * HOUR_MS})
    found = dead_paths([file], "tables/t", {path} if live else set(), tombstones, now_ms=NOW_MS, grace_ms=grace * HOUR_MS)
    assert found == ([path] if dead else [])


def test_removed_files_stay_for_the_grace(tables: Tables) -> None:
    old = tables.flush().blocks
    new = commit(tables.catalog, [tables.upload()], old).blocks
    tables.clock.advance(899)
    assert tables.catalog.delete_dead_files("t", grace_seconds=900) == 0
    tables.clock.advance(1)
    assert tables.catalog.dead_files("t", grace_seconds=900) == [old[0].path]
    assert tables.catalog.delete_dead_files("t", grace_seconds=900) == 1
    assert tables.files() == {new[0].path}
    assert tables.catalog.delete_dead_files("t", grace_seconds=900) == 0


def test_strays_stay_for_a_day_and_can_be_committed_for_half_of_it(tables: Tables) -> None:
    tables.flush()
    stray, slow = tables.upload(), tables.upload()
    tables.clock.advance(12 * HOUR)
    commit(tables.catalog, [slow])
    tables.clock.advance(12 * HOUR - 60)
    assert tables.catalog.dead_files("t", grace_seconds=0) == []
    tables.clock.advance(120)
    assert tables.catalog.dead_files("t", grace_seconds=0) == [stray.path]


def test_strays_go_when_the_tenant_never_had_a_commit(tables: Tables) -> None:
    tables.upload()
    assert tables.catalog.delete_dead_files("t", grace_seconds=0) == 0
    tables.clock.advance(24 * HOUR + 60)
    assert tables.catalog.delete_dead_files("t", grace_seconds=0) == 1


@pytest.mark.parametrize("known", [True, False])
def test_removals_are_known_from_entries_and_from_checkpoints(tables: Tables, known: bool) -> None:
    catalog = tables.catalog if known else tables.other()
    removed = tables.flush().blocks[0]
    commit(tables.catalog, remove=[removed])
    assert tables.catalog.dead_files("t", grace_seconds=HOUR) == []
    for _ in range(19):
        snapshot = tables.flush(rows=1)
    later = snapshot.blocks[0]
    for version in range(20):
        tables.store.delete([f"tables/t/_delta_log/{version:020d}.json"])
    tables.clock.advance(1800)
    commit(tables.catalog, remove=[later])
    tables.clock.advance(1800)
    assert catalog.dead_files("t", grace_seconds=HOUR) == [removed.path]
    tables.clock.advance(1800)
    assert sorted(catalog.dead_files("t", grace_seconds=HOUR)) == sorted([removed.path, later.path])


def test_file_that_another_program_restored_is_kept(tables: Tables) -> None:
    removed = tables.flush().blocks
    commit(tables.catalog, remove=removed)
    assert tables.catalog.dead_files("t", grace_seconds=0) == [removed[0].path]
    DeltaTable(f"{tables.data}/tables/t").restore(0)
    assert tables.catalog.dead_files("t", grace_seconds=0) == []


def test_file_committed_during_the_listing_is_kept(tables: Tables) -> None:
    tables.flush()
    late = tables.upload()
    tables.clock.advance(11 * HOUR)
    os.utime(Path(tables.data, block_key("t", late.path)), (1, 1))

    def commit_late(call: Call) -> None:
        if call.operation == "list":
            commit(tables.catalog, [late])

    def wrap(store: ObjectStore) -> ObjectStore:
        return InterceptedStore(store, Before(commit_late))

    assert tables.other(wrap).dead_files("t", grace_seconds=0) == []


def test_deletion_is_refused_when_the_log_is_there_but_the_table_cannot_be_opened(tables: Tables) -> None:
    block = tables.flush().blocks[0]
    tables.store.delete([f"tables/t/_delta_log/{0:020d}.json"])
    tables.store.put("tables/t/_delta_log/_last_checkpoint", b"")
    tables.clock.advance(100 * HOUR)
    with pytest.raises(StoreError):
        tables.other().delete_dead_files("t", grace_seconds=0)
    assert tables.files() == {block.path}


@pytest.mark.parametrize("grace_seconds", [-1, 24 * HOUR + 1])
def test_grace_is_refused_when_tombstones_would_not_outlive_it(tables: Tables, grace_seconds: float) -> None:
    with pytest.raises(ConfigError, match="0 to 86400 seconds"):
        tables.catalog.dead_files("t", grace_seconds=grace_seconds)


def test_deletion_by_two_processes_at_once_is_harmless(tables: Tables) -> None:
    removed = tables.flush().blocks
    kept = commit(tables.catalog, [tables.upload()], removed).blocks
    first, second = (catalog.dead_files("t", grace_seconds=0) for catalog in (tables.catalog, tables.other()))
    assert first == second == [removed[0].path]
    assert [catalog.delete_dead_files("t", grace_seconds=0) for catalog in (tables.catalog, tables.other())] == [1, 0]
    tables.store.delete([block_key("t", path) for path in second])
    assert tables.files() == {kept[0].path}

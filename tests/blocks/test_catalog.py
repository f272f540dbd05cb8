"""The catalog in one process: creating tables, committing, snapshots, columns, tenants."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import date
from pathlib import Path

import pytest
from catalog_tables import DAY, START_NS, Tables, commit, new_block
from deltalake import DeltaTable, TableFeatures
from deltalake.schema import Field, PrimitiveType
from deltalake.transaction import AddAction

from spanlake.blocks.catalog import Block, NewBlock, block_key, block_path
from spanlake.model.errors import ColumnConflict, CommitConflict, CorruptData, NoTenant, StoreError
from spanlake.model.schema import SPAN_COLUMNS, ColumnType


@pytest.fixture
def tables(tmp_path: Path) -> Tables:
    return Tables(tmp_path)


def delta(tables: Tables, tenant: str = "t") -> DeltaTable:
    return DeltaTable(f"{tables.data}/tables/{tenant}")


def test_snapshot_is_empty_when_the_tenant_has_no_table(tables: Tables) -> None:
    snapshot = tables.catalog.refresh("t")
    assert (snapshot.tenant, snapshot.version, snapshot.blocks, dict(snapshot.columns)) == ("t", -1, (), {})
    assert tables.catalog.snapshot("t") is snapshot
    assert tables.catalog.writer_version("t", "w") is None
    assert tables.catalog.tenants() == []
    assert tables.catalog.delete_dead_files("t", grace_seconds=0) == 0


def test_first_commit_creates_the_table(tables: Tables) -> None:
    block = tables.upload(columns={"span.http.route": "string"})
    snapshot = commit(tables.catalog, [block], columns={"span.http.route": "string"})
    assert snapshot.version == 0
    assert [found.path for found in snapshot.blocks] == [block.path]
    assert dict(snapshot.columns) == {"span.http.route": "string"}
    table = delta(tables)
    assert table.protocol()[:2] == (1, 2)
    assert table.metadata().partition_columns == ["day"]
    assert [field.name for field in table.schema().fields] == [*(column.name for column in SPAN_COLUMNS), "day", "span.http.route"]


BIG = 2**63 - 1
BLOCKS = [
    NewBlock("day=2026-09-21/a.parquet", 100, 7, DAY, START_NS, START_NS + 5, START_NS - 3, START_NS + 4, 10, 0),
    NewBlock("day=__HIVE_DEFAULT_PARTITION__/a.parquet", 1, 1, None, 0, BIG, 0, BIG, BIG, 0),
    NewBlock("day=1677-09-21/A-1_x.y.parquet", 1 << 40, 1 << 40, date(1677, 9, 21), -BIG - 1, -BIG, -BIG, -BIG, -5, 0),
]


def as_read(block: NewBlock) -> Block:
    end_ns = block.trace_start_max_ns + block.trace_duration_max_ns
    start = (block.start_min_ns, block.start_max_ns, block.trace_start_min_ns)
    return Block(block.path, block.size_bytes, block.rows, block.day, *start, end_ns, block.created_ms)


def test_blocks_read_back_as_written_from_entries_and_from_checkpoints(tables: Tables) -> None:
    blocks = [replace(block, created_ms=tables.clock.now_ms) for block in BLOCKS]
    expected = tuple(sorted(map(as_read, blocks), key=lambda block: block.path))
    assert commit(tables.catalog, blocks).blocks == expected
    assert tables.other().refresh("t").blocks == expected
    delta(tables).create_checkpoint()
    tables.store.delete([f"tables/t/_delta_log/{0:020d}.json"])
    assert tables.other().refresh("t").blocks == expected


def test_snapshot_is_the_last_one_seen_until_a_refresh(tables: Tables) -> None:
    other = tables.other()
    first = tables.flush()
    assert other.snapshot("t") == first
    second = tables.flush()
    assert other.snapshot("t") == first
    assert other.refresh("t") == second
    assert other.refresh("t") is other.snapshot("t")
    assert set(first.blocks) < set(second.blocks)


def test_compaction_replaces_blocks_and_tells_followers_that_no_data_changed(tables: Tables) -> None:
    tables.flush()
    snapshot = tables.flush()
    merged = tables.upload(rows=4)
    assert [block.path for block in commit(tables.catalog, [merged], snapshot.blocks).blocks] == [merged.path]
    actions = [action for entry in tables.log(2) for kind, action in entry.items() if kind in {"add", "remove"}]
    assert [action["dataChange"] for action in actions] == [False, False, False]


@pytest.mark.parametrize(("reason", "changes"), [("compact", False), ("rewrite", True)])
def test_data_changes_when_the_reason_is_not_compaction(tables: Tables, reason: str, changes: bool) -> None:
    blocks = tables.flush().blocks
    tables.catalog.commit("t", add=[tables.upload()], remove=blocks, columns={}, writer=None, reason=reason)
    assert {action["dataChange"] for entry in tables.log(1) for action in entry.values() if "dataChange" in action} == {changes}


def test_removal_alone_is_a_change_of_data(tables: Tables) -> None:
    blocks = tables.flush().blocks
    assert commit(tables.catalog, remove=blocks).blocks == ()
    assert [entry["remove"]["dataChange"] for entry in tables.log(1) if "remove" in entry] == [True]
    assert [entry["operation"] for entry in delta(tables).history()] == ["DELETE", "WRITE"]


def test_commit_conflicts_when_a_removed_block_is_gone(tables: Tables) -> None:
    blocks = tables.flush().blocks
    commit(tables.catalog, remove=blocks)
    for add in ([], [tables.upload()]):
        with pytest.raises(CommitConflict, match="1 of 1 blocks to remove"):
            commit(tables.catalog, add, blocks)
    assert tables.catalog.refresh("t").version == 1


def test_commit_conflicts_when_a_block_was_uploaded_too_long_ago(tables: Tables) -> None:
    block = tables.upload()
    tables.clock.advance(12 * 3600 + 1)
    with pytest.raises(CommitConflict, match="upload it again"):
        commit(tables.catalog, [block])


def test_commit_conflicts_when_only_some_of_its_blocks_are_in_the_table(tables: Tables) -> None:
    first, second = tables.upload(), tables.upload()
    commit(tables.catalog, [first])
    with pytest.raises(CommitConflict, match="already in the table"):
        commit(tables.catalog, [first, second])


def test_commit_does_nothing_when_repeated(tables: Tables) -> None:
    old = tables.flush().blocks
    merged = [tables.upload()]
    done = commit(tables.catalog, merged, old)
    assert commit(tables.other(), merged, old) == done


WRITER_CASES = [
    (("w", 1), 1, "the first of a writer"),
    (("w", 7), 1, "versions need not be consecutive"),
    (("v", 3), 1, "other writers are apart"),
    (None, 1, "no writer"),
]


@pytest.mark.parametrize(("writer", "added", "why"), WRITER_CASES)
def test_commit_happens_when_the_writer_has_not_committed_it(tables: Tables, writer: tuple[str, int] | None, added: int, why: str) -> None:
    tables.flush(writer=("w", 0))
    assert tables.flush(writer=writer).version == added, why


@pytest.mark.parametrize("version", [0, 3, 4])
def test_commit_does_nothing_when_the_writer_has_committed_it(tables: Tables, version: int) -> None:
    tables.flush(writer=("w", 1))
    done = tables.flush(writer=("w", 4))
    assert tables.flush(writer=("w", version)) == done
    assert tables.flush(tables.other(), writer=("w", version)) == done


def test_writer_version_is_read_fresh(tables: Tables) -> None:
    other = tables.other()
    tables.flush(writer=("w", 4))
    assert other.writer_version("t", "w") == 4
    tables.flush(writer=("w", 5))
    assert other.writer_version("t", "w") == 5
    assert other.writer_version("t", "v") is None


def test_columns_are_added_when_a_block_brings_new_ones(tables: Tables) -> None:
    tables.flush(columns={"span.a": "string", "resource.b": "int"})
    snapshot = tables.flush(columns={"span.c": "bool", "instrumentation.d": "double", "resource.b": "int"})
    assert dict(snapshot.columns) == {"span.a": "string", "resource.b": "int", "span.c": "bool", "instrumentation.d": "double"}
    metadata = [entry["metaData"] for version in (0, 1) for entry in tables.log(version) if "metaData" in entry]
    assert len({(each["id"], each["createdTime"], str(each["partitionColumns"])) for each in metadata}) == 1
    comments = {field.name: field.metadata.get("comment") for field in delta(tables).schema().fields}
    assert comments["trace_id"] == "16 bytes"
    assert dict(tables.flush(columns={"span.a": "string"}).columns) == dict(snapshot.columns)
    assert not any("metaData" in entry for entry in tables.log(2))


CLASHES: list[tuple[Mapping[str, ColumnType], str, str]] = [
    ({"span.a": "int"}, "span.a", "type string, not long"),
    ({"span.x": "bool", "span.a": "double"}, "span.a", "type string, not double"),
    ({"span.A": "string"}, "span.A", "has column 'span.a'"),
    ({"span.new": "int", "span.NEW": "int"}, "span.NEW", "has column 'span.new'"),
    ({"span.ſ": "string", "span.s": "string"}, "span.s", "has column 'span.ſ'"),
]


@pytest.mark.parametrize(("columns", "column", "text"), CLASHES)
def test_commit_conflicts_when_the_table_cannot_have_the_column(
    tables: Tables, columns: Mapping[str, ColumnType], column: str, text: str
) -> None:
    tables.flush(columns={"span.a": "string"})
    with pytest.raises(ColumnConflict, match=text) as raised:
        commit(tables.catalog, [tables.upload()], columns=columns)
    assert raised.value.column == column
    assert tables.catalog.refresh("t").version == 0


TENANTS = ["single-tenant", "a", "a.b", "..a", "...", "_x", "a!b*c'd(e)f", "A" * 150, "team-1"]


def test_tenants_have_tables_of_their_own(tables: Tables) -> None:
    blocks = {tenant: tables.flush(tenant=tenant).blocks for tenant in TENANTS}
    assert tables.catalog.tenants() == sorted(TENANTS)
    other = tables.other()
    assert {tenant: other.refresh(tenant).blocks for tenant in TENANTS} == blocks
    assert all(tables.store.get(block_key(tenant, found[0].path)) for tenant, found in blocks.items())


@pytest.mark.parametrize("tenant", ["", ".", "..", "a/b", "a b", "ä", "a\n", "a@21", "A" * 151, "a|b", "\\"])
def test_tenant_is_refused_when_the_name_is_bad(tables: Tables, tenant: str) -> None:
    calls: list[Callable[[], object]] = [
        lambda: tables.catalog.snapshot(tenant),
        lambda: tables.catalog.refresh(tenant),
        lambda: tables.catalog.writer_version(tenant, "w"),
        lambda: tables.catalog.delete_dead_files(tenant, grace_seconds=0),
        lambda: commit(tables.catalog, [new_block(block_path(DAY, "x"), created_ms=0)], tenant=tenant),
    ]
    for call in calls:
        with pytest.raises(NoTenant):
            call()


def test_foreign_objects_among_the_tenants_are_skipped(tables: Tables) -> None:
    tables.flush(tenant="a!")
    for name in ("x@2", "a@2B", "sub/dir", "b!"):
        tables.store.put(f"tenants/{name}", b"")
    assert tables.catalog.tenants() == ["a!"]


def test_tenant_is_refused_when_its_table_belongs_to_one_that_differs_in_case(tables: Tables) -> None:
    tables.flush(tenant="Team")
    # What a file system that ignores case would show.
    shutil.copytree(f"{tables.data}/tables/Team", f"{tables.data}/tables/team")
    with pytest.raises(StoreError, match="cannot be told from tenant 'Team'"):
        tables.flush(tenant="team")


def test_table_is_read_and_continued_when_another_program_widened_it(tables: Tables) -> None:
    tables.flush()
    foreign = [Field("span.day", PrimitiveType("date")), Field("note", PrimitiveType("string")), Field("span.n", PrimitiveType("long"))]
    delta(tables).alter.add_columns(foreign)
    assert dict(tables.catalog.refresh("t").columns) == {"span.n": "int"}
    assert len(tables.flush(columns={"span.n": "int", "span.m": "int"}).blocks) == 2
    with pytest.raises(ColumnConflict, match="type date"):
        tables.flush(columns={"span.day": "string"})
    assert [field.name for field in delta(tables).schema().fields][-4:] == ["span.day", "note", "span.n", "span.m"]


def test_commit_is_refused_when_another_program_raised_the_protocol(tables: Tables) -> None:
    tables.flush()
    delta(tables).alter.add_feature(TableFeatures.DeletionVectors, allow_protocol_versions_increase=True)
    assert len(tables.catalog.refresh("t").blocks) == 1
    with pytest.raises(StoreError, match="needs reader version 3") as raised:
        tables.flush()
    assert not raised.value.transient


def test_refresh_fails_when_a_file_has_no_statistics(tables: Tables) -> None:
    tables.flush()
    table = delta(tables)
    day = {"day": "2026-09-21"}
    foreign = AddAction("day=2026-09-21/foreign.parquet", 1, day, modification_time=0, data_change=True, stats="{}")
    table.create_write_transaction([foreign], "append", table.schema(), ["day"])
    with pytest.raises(CorruptData, match=r"foreign\.parquet"):
        tables.catalog.refresh("t")


def log_files(tables: Tables) -> list[str]:
    return sorted(path.name for path in Path(tables.data, "tables/t/_delta_log").iterdir())


def test_log_stays_short_when_there_are_many_commits(tables: Tables) -> None:
    stale = tables.other()
    tables.flush(writer=("w", 0))
    stale.refresh("t")
    for version in range(1, 45):
        tables.flush(writer=("w", version), rows=1)
    assert [name for name in log_files(tables) if "checkpoint." in name] == [f"{version:020d}.checkpoint.parquet" for version in (20, 40)]
    long_ago = time.time() - 2 * 86400
    for name in log_files(tables):
        os.utime(f"{tables.data}/tables/t/_delta_log/{name}", (long_ago, long_ago))
    for version in range(45, 61):
        snapshot = tables.flush(writer=("w", version), rows=1)
    entries = [name for name in log_files(tables) if name.endswith(".json")]
    # What is older than the retention of a day is gone, up to the last checkpoint of before.
    assert (entries[0], len(entries)) == (f"{40:020d}.json", 21)
    for catalog in (stale, tables.other()):
        assert catalog.refresh("t") == snapshot
        assert catalog.writer_version("t", "w") == 60
    assert len(snapshot.blocks) == 61


def test_commit_succeeds_when_no_checkpoint_can_be_written(tables: Tables) -> None:
    for _ in range(20):
        tables.flush(rows=1)
    # The name of the checkpoint is taken by a directory.
    Path(tables.data, f"tables/t/_delta_log/{20:020d}.checkpoint.parquet").mkdir()
    assert tables.flush(rows=1).version == 20


def test_refresh_fails_while_the_log_cannot_be_read_and_recovers(tables: Tables) -> None:
    snapshot = tables.flush()
    entry = f"tables/t/_delta_log/{1:020d}.json"
    tables.store.put(entry, b"no JSON")
    for _ in range(2):
        with pytest.raises(StoreError):
            tables.catalog.refresh("t")
    assert tables.catalog.snapshot("t") == snapshot
    tables.store.delete([entry])
    assert tables.catalog.refresh("t") == snapshot
    assert len(tables.flush().blocks) == 2


@pytest.mark.parametrize("left", [0, 100])
def test_table_opens_when_a_power_cut_truncated_its_newest_checkpoint(tables: Tables, left: int) -> None:
    for _ in range(42):
        snapshot = tables.flush(rows=1)
    tables.store.delete([f"tables/t/_delta_log/{version:020d}.json" for version in range(20)])
    checkpoint = f"tables/t/_delta_log/{40:020d}.checkpoint.parquet"
    tables.store.put(checkpoint, tables.store.get(checkpoint)[:left])
    assert tables.other().refresh("t") == snapshot
    assert [name for name in log_files(tables) if "checkpoint" in name] == [f"{20:020d}.checkpoint.parquet"]

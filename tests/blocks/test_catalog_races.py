"""Commits that meet: other processes in between, lost answers of the store, and several at once."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from catalog_tables import Tables, commit, in_threads, names
from deltalake import DeltaTable

from spanlake.blocks.catalog import Catalog, TableSnapshot
from spanlake.model.errors import ColumnConflict, CommitConflict, StoreError
from spanlake.model.schema import ColumnType
from spanlake.objectstore.faulty import Fault, scripted, seeded
from spanlake.objectstore.intercepted import Before, Call, InterceptedStore
from spanlake.objectstore.store import ObjectStore

pytestmark = pytest.mark.slow


@pytest.fixture
def tables(tmp_path: Path) -> Tables:
    return Tables(tmp_path)


def interrupted(*steps: Callable[[], object]) -> Callable[[ObjectStore], ObjectStore]:
    """A store that runs one of the steps just before each log entry is put."""
    remaining = list(steps)

    def before(call: Call) -> None:
        if call.operation == "put_if_absent" and remaining:
            remaining.pop(0)()

    return lambda store: InterceptedStore(store, Before(before))


def assert_whole(tables: Tables, snapshot: TableSnapshot) -> None:
    """The table, read by the library, has the blocks of the snapshot and every row once."""
    table = DeltaTable(f"{tables.data}/tables/t")
    assert sorted(pair["path"] for pair in table.get_add_actions().to_struct_array().to_pylist()) == [b.path for b in snapshot.blocks]
    assert table.count() == sum(block.rows for block in snapshot.blocks)


def test_commit_tries_again_when_others_append_or_widen_in_between(tables: Tables) -> None:
    tables.flush(columns={"span.a": "string"})
    steps = [
        lambda: tables.flush(columns={"span.b": "int"}, writer=("other", 1)),
        lambda: tables.flush(columns={"span.c": "bool"}),
        lambda: commit(tables.catalog, remove=tables.catalog.snapshot("t").blocks[:1]),
    ]
    snapshot = tables.flush(tables.other(interrupted(*steps)), columns={"span.b": "int", "span.d": "int"}, writer=("w", 1))
    assert snapshot.version == 4
    assert len(snapshot.blocks) == 3
    assert dict(snapshot.columns) == {"span.a": "string", "span.b": "int", "span.c": "bool", "span.d": "int"}
    assert_whole(tables, snapshot)


def test_commit_joins_the_table_when_another_creates_it_in_between(tables: Tables) -> None:
    snapshot = tables.flush(tables.other(interrupted(lambda: tables.flush(columns={"span.a": "int"}))))
    assert (snapshot.version, len(snapshot.blocks), dict(snapshot.columns)) == (1, 2, {"span.a": "int"})
    assert_whole(tables, snapshot)


def test_compaction_conflicts_when_another_takes_one_of_its_blocks_in_between(tables: Tables) -> None:
    for _ in range(3):
        tables.flush()
    first, second, third = tables.catalog.snapshot("t").blocks
    winner = interrupted(lambda: commit(tables.catalog, [tables.upload(rows=4)], [first, second]))
    with pytest.raises(CommitConflict, match="1 of 2 blocks"):
        commit(tables.other(winner), [tables.upload(rows=4)], [second, third])
    snapshot = tables.catalog.refresh("t")
    assert [block.rows for block in snapshot.blocks] == [2, 4]
    assert_whole(tables, snapshot)


def test_commit_conflicts_when_another_gives_the_column_another_type_in_between(tables: Tables) -> None:
    tables.flush()
    catalog = tables.other(interrupted(lambda: tables.flush(columns={"span.a": "string"})))
    with pytest.raises(ColumnConflict):
        tables.flush(catalog, columns={"span.a": "int"})
    assert dict(catalog.snapshot("t").columns) == {"span.a": "string"}, "the writer sees what to rebuild for"


def test_commit_does_nothing_when_the_same_writer_commits_in_between(tables: Tables) -> None:
    tables.flush()
    catalog = tables.other(interrupted(lambda: tables.flush(writer=("w", 5))))
    assert len(tables.flush(catalog, writer=("w", 5)).blocks) == 2


def faulty(*outcomes: Fault | None) -> Callable[[ObjectStore], ObjectStore]:
    return lambda store: InterceptedStore(store, scripted(put_if_absent=outcomes))


LOST_ANSWERS = [Fault.TIMEOUT_AFTER, Fault.FAILED_AFTER]


@pytest.mark.parametrize("fault", LOST_ANSWERS)
@pytest.mark.parametrize("writer", [None, ("w", 1)])
def test_append_succeeds_once_when_the_answer_is_lost(tables: Tables, fault: Fault, writer: tuple[str, int] | None) -> None:
    tables.flush()
    snapshot = tables.flush(tables.other(faulty(fault)), writer=writer)
    assert (snapshot.version, len(snapshot.blocks)) == (1, 2)


@pytest.mark.parametrize("fault", LOST_ANSWERS)
def test_compaction_and_removal_succeed_once_when_the_answer_is_lost(tables: Tables, fault: Fault) -> None:
    blocks = tables.flush().blocks
    snapshot = commit(tables.other(faulty(fault)), [tables.upload()], blocks)
    assert (snapshot.version, len(snapshot.blocks)) == (1, 1)
    snapshot = commit(tables.other(faulty(fault)), remove=snapshot.blocks)
    assert (snapshot.version, snapshot.blocks) == (2, ())


def test_first_commit_succeeds_once_when_the_answer_is_lost(tables: Tables) -> None:
    snapshot = tables.flush(tables.other(faulty(Fault.TIMEOUT_AFTER)))
    assert (snapshot.version, len(snapshot.blocks)) == (0, 1)


def test_commit_fails_and_may_be_repeated_when_the_store_refuses_the_entry(tables: Tables) -> None:
    catalog = tables.other(faulty(Fault.FAILED_BEFORE, Fault.DISK_FULL))
    block = tables.upload()
    for _ in range(2):
        with pytest.raises(StoreError):
            commit(catalog, [block], writer=("w", 1))
        assert catalog.refresh("t").version == -1
    assert commit(catalog, [block], writer=("w", 1)).version == 0


def test_commit_fails_when_too_many_others_come_first(tables: Tables, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("spanlake.blocks.catalog.catalog.COMMIT_ATTEMPTS_MAX", 3)
    with pytest.raises(StoreError, match="3 other commits") as raised:
        tables.flush(tables.other(interrupted(*[tables.flush] * 3)))
    assert raised.value.transient
    assert len(tables.flush().blocks) == 4


@pytest.mark.parametrize("seed", range(4))
def test_every_block_is_in_the_table_once_when_the_store_fails_at_random(tables: Tables, seed: int) -> None:
    catalog = tables.other(lambda store: InterceptedStore(store, seeded(seed, rate=0.4)))
    rows = 0
    for version in range(12):
        block = tables.upload(rows=1 + version)
        rows += block.rows
        for _ in range(50):
            try:
                commit(catalog, [block], writer=("w", version))
                break
            except StoreError:
                continue
    snapshot = tables.catalog.refresh("t")
    assert sum(block.rows for block in snapshot.blocks) == rows
    assert_whole(tables, snapshot)


def test_every_append_succeeds_when_many_processes_append_at_once(tables: Tables) -> None:
    catalogs = [tables.other() for _ in range(5)]

    def append(number: int) -> None:
        for version in range(4):
            columns: dict[str, ColumnType] = {"span.same": "int", f"span.of{number}": "bool"}
            tables.flush(catalogs[number], columns=columns, writer=(f"w{number}", version), rows=1)

    assert in_threads(append, range(5)) == [None] * 5
    snapshot = tables.catalog.refresh("t")
    assert len(snapshot.blocks) == 20
    assert set(snapshot.columns) == {"span.same", *(f"span.of{number}" for number in range(5))}
    assert_whole(tables, snapshot)


def test_every_append_succeeds_when_threads_share_a_catalog(tables: Tables) -> None:
    assert names(in_threads(tables.flush, [tables.catalog] * 8)) == ["TableSnapshot"] * 8
    assert len(tables.catalog.snapshot("t").blocks) == 8


@pytest.mark.parametrize("contenders", [2, 4])
def test_one_compactor_wins_when_several_race_for_the_same_blocks(tables: Tables, contenders: int) -> None:
    catalogs = [tables.other() for _ in range(contenders)]

    def compact(catalog: Catalog) -> TableSnapshot:
        return commit(catalog, [tables.upload(rows=4)], old)

    for _ in range(5):
        old = tables.flush().blocks[-2:]
        assert names(in_threads(compact, catalogs)) == ["CommitConflict"] * (contenders - 1) + ["TableSnapshot"]
        snapshot = tables.catalog.refresh("t")
        assert not {block.path for block in old} & {block.path for block in snapshot.blocks}
        assert_whole(tables, snapshot)


def test_one_of_two_types_wins_when_processes_add_the_same_column_at_once(tables: Tables) -> None:
    tables.flush()
    results = in_threads(lambda kind: tables.flush(tables.other(), columns={"span.a": kind}), ["int", "string"])
    assert names(results) == ["ColumnConflict", "TableSnapshot"]


def test_one_commit_happens_when_processes_share_a_writer(tables: Tables) -> None:
    results = in_threads(lambda catalog: tables.flush(catalog, writer=("w", 1)), [tables.other() for _ in range(4)])
    assert names(results) == ["TableSnapshot"] * 4
    assert len(tables.catalog.refresh("t").blocks) == 1

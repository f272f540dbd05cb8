"""The table as other programs open it, in a directory and on S3: `deltalake`, Polars, DuckDB (without its Delta extension)."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import duckdb
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from catalog_tables import DAY, SETTINGS, START_NS, Tables, commit, in_threads, names
from deltalake import DeltaTable

from spanlake.blocks.catalog import block_key
from spanlake.blocks.schema import file_schema
from spanlake.objectstore.delta import DeltaLocation, delta_location

TABLE = "tables/t"


@pytest.fixture(params=["directory", pytest.param("s3", marks=pytest.mark.slow)])
def tables(request: pytest.FixtureRequest, tmp_path: Path) -> Tables:
    """A table of 7 rows: 3 of one day, 4 of several days, with and without attribute columns, after a compaction."""
    tables = Tables(tmp_path if request.param == "directory" else request.getfixturevalue("s3_url"))
    old = tables.flush(columns={"span.http.route": "string"}).blocks
    tables.flush(day=None, rows=4, columns={"span.n": "int", "span.ok": "bool", "resource.x": "double"})
    commit(tables.catalog, [tables.upload(rows=3, columns={"span.http.route": "string"})], old)
    return tables


def location(tables: Tables) -> DeltaLocation:
    return delta_location(tables.store.url, TABLE, SETTINGS)


def test_table_opens_in_deltalake(tables: Tables) -> None:
    place = location(tables)
    table = DeltaTable(place.url, storage_options=place.options)
    assert table.count() == 7
    rows = table.to_pyarrow_table()
    assert rows.num_rows == 7
    assert {name: rows.column(name).null_count for name in ("day", "span.http.route", "span.n")} == {
        "day": 4,
        "span.http.route": 4,
        "span.n": 3,
    }
    assert pc.sum(rows.column("span.n")).as_py() == 6
    assert (
        rows.column("attributes")[0].as_py()[0] | {"scope": "span", "key": "k", "string_value": "v"}
        == rows.column("attributes")[0].as_py()[0]
    )
    assert pa.table(table.scan(predicate=f"start_ns < {START_NS + 2} AND day IS NULL")).num_rows == 2


def test_files_are_pruned_by_day_and_time_in_deltalake(tables: Tables) -> None:
    place = location(tables)
    table = DeltaTable(place.url, storage_options=place.options)
    assert len(table.file_uris(file_pruning_predicate=f"day = '{DAY}'")) == 1
    assert len(table.file_uris(file_pruning_predicate=f"day = '{DAY - timedelta(days=1)}'")) == 0
    assert len(table.file_uris(file_pruning_predicate=f"start_ns >= {START_NS + 3}")) == 1


def test_table_opens_in_polars(tables: Tables) -> None:
    # Like a user: no options, credentials from the environment.
    table = pl.scan_delta(location(tables).url.removeprefix("file://"))
    assert table.select(pl.len()).collect().item() == 7
    days = table.group_by("day").agg(pl.len(), pl.col("span.http.route").count()).collect()
    assert set(days.rows()) == {(DAY, 3, 3), (None, 4, 0)}
    assert table.filter(pl.col("span.n") >= 2).select("start_ns").collect().height == 2
    assert table.filter(pl.col("start_ns") >= START_NS + 3).collect().height == 1


def test_table_follows_hive_when_a_program_reads_the_files(tables: Tables, tmp_path: Path) -> None:
    local = tmp_path / "copy"
    for block in tables.catalog.snapshot("t").blocks:
        (local / block.path).parent.mkdir(parents=True)
        (local / block.path).write_bytes(tables.store.get(block_key("t", block.path)))
    files = [str(local / block.path) for block in tables.catalog.snapshot("t").blocks]
    query = 'SELECT day, count(*), count("span.http.route") FROM read_parquet(?, union_by_name=true, hive_partitioning=true) GROUP BY day'
    with duckdb.connect() as connection:
        assert set(connection.execute(query, [files]).fetchall()) == {(DAY, 3, 3), (None, 4, 0)}


def test_file_schema_is_the_table_schema_without_the_day(tables: Tables) -> None:
    place = location(tables)
    in_table = pa.schema(DeltaTable(place.url, storage_options=place.options).schema())
    in_files = file_schema(tables.catalog.snapshot("t").columns)
    assert [field.name for field in in_table if field.name != "day"] == in_files.names
    assert [plain(in_table.field(field.name).type) for field in in_files] == [plain(field.type) for field in in_files]


def plain(kind: pa.DataType) -> str:
    """A type as text, but for nullability, which the files have and the table has not."""
    return str(kind).replace(" not null", "")


@pytest.mark.slow
def test_processes_race_safely_on_s3(s3_url: str) -> None:
    tables = Tables(s3_url)
    catalogs = [tables.other() for _ in range(3)]
    results = in_threads(lambda catalog: tables.flush(catalog, columns={"span.a": "int"}), catalogs)
    assert names(results) == ["TableSnapshot"] * 3
    old = tables.catalog.refresh("t").blocks
    assert (len(old), tables.catalog.tenants()) == (3, ["t"])
    results = in_threads(lambda catalog: commit(catalog, [tables.upload(rows=6)], old), catalogs)
    assert names(results) == ["CommitConflict", "CommitConflict", "TableSnapshot"]
    assert [block.rows for block in tables.catalog.refresh("t").blocks] == [6]
    assert tables.catalog.delete_dead_files("t", grace_seconds=0) == 3
    # The losers' files are strays, and too young.
    assert len(tables.files()) == 3


@pytest.mark.slow
def test_log_stays_short_on_s3(s3_url: str) -> None:
    tables = Tables(s3_url)
    for version in range(25):
        tables.flush(rows=1, writer=("w", version))
    assert any(info.key.endswith(f"{20:020d}.checkpoint.parquet") for info in tables.store.list(TABLE))
    other = tables.other()
    assert other.refresh("t") == tables.catalog.snapshot("t")
    assert other.writer_version("t", "w") == 24
    assert len(other.dead_files("t", grace_seconds=0)) == 0

"""What is verified of stored blocks: nothing is wrong with what is written, and every kind of damage is found and named."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import date
from functools import cache
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from block_files import KEY, random_request, store_block
from hypothesis import given, settings
from hypothesis import strategies as st

from spanlake.blocks import check
from spanlake.blocks.catalog import Block, Catalog, NewBlock, TableSnapshot, block_key, block_path
from spanlake.blocks.check import DEAD_SECONDS, Finding, check_block, check_files
from spanlake.blocks.file.footer import BlockInfo, decode_footer, encode_footer
from spanlake.blocks.file.page_headers import BEGIN, COMPRESSED, PAGE_FIELDS, walk_pages
from spanlake.blocks.file.reader import read_footer, read_row_group
from spanlake.blocks.file.trace_filter import TraceFilter, build_filter
from spanlake.model.schema import ColumnType
from spanlake.model.settings import BlockSettings, StoreSettings
from spanlake.objectstore.opening import open_store
from spanlake.objectstore.store import ObjectStore

TENANT = "t"
Rows = Callable[[pa.Table], pa.Table]
Info = Callable[[BlockInfo], BlockInfo]


@dataclass(frozen=True, slots=True)
class Stored:
    """A table with one block."""

    store: ObjectStore
    catalog: Catalog
    snapshot: TableSnapshot

    @property
    def block(self) -> Block:
        return self.snapshot.blocks[0]

    @property
    def key(self) -> str:
        return block_key(TENANT, self.block.path)

    def findings(self, block: Block | None = None) -> list[Finding]:
        rows: list[int] = []
        found = list(check_block(self.store, self.snapshot, block or self.block, on_rows=rows.append))
        assert sum(rows) in {0, self.block.rows}
        return found


def stored(directory: Path, data: bytes, columns: dict[str, Any], info: BlockInfo) -> Stored:
    """A table with this file, whose statistics in the log are those of the info."""
    store = open_store(str(directory))
    catalog = Catalog(store, StoreSettings())
    path = block_path(None, "b0")
    store.put(block_key(TENANT, path), data)
    times = (info.start_min_ns, info.start_max_ns, info.trace_start_min_ns, info.trace_start_max_ns, info.trace_duration_max_ns)
    block = NewBlock(path, len(data), info.rows, None, *times, time.time_ns() // 1_000_000)
    return Stored(store, catalog, catalog.commit(TENANT, add=[block], remove=[], columns=columns, writer=None, reason="flush"))


@cache
def sound_file(seed: int) -> tuple[bytes, dict[str, Any], BlockInfo]:
    """A block of several row groups: (file, columns, info)."""
    with tempfile.TemporaryDirectory() as directory:
        request = random_request(Random(seed), traces=12, spans=60)
        block = store_block(Path(directory), [request], blocks=BlockSettings(row_group_spans=20))
        return block.store.get(KEY), dict(block.written.columns), block.written.info


def rewritten(data: bytes, *, rows: Rows = lambda table: table, info: Info = lambda info: info, words: Any = None) -> bytes:
    """The file with other rows in its first row group, or another footer."""
    file = pq.ParquetFile(pa.BufferReader(data))
    told, trace_filter = decode_footer(file.metadata.metadata, "")
    out = pa.BufferOutputStream()
    writer = pq.ParquetWriter(out, file.schema_arrow, compression="zstd", store_schema=False)
    for number in range(file.num_row_groups):
        table = file.read_row_group(number)
        writer.write_table(rows(table) if number == 0 else table)
    writer.add_key_value_metadata(encode_footer(info(told), trace_filter if words is None else TraceFilter(words)))
    writer.close()
    made: bytes = out.getvalue().to_pybytes()
    return made


def changed(table: pa.Table, name: str, value: Any, row: int = 0) -> pa.Table:
    """The table with another value in one place."""
    values = table.column(name).to_pylist()
    values[row] = value
    index = table.schema.get_field_index(name)
    return table.set_column(index, table.schema.field(name), pa.array(values, table.schema.field(name).type))


@settings(max_examples=10, deadline=None)
@given(st.randoms(use_true_random=False), st.sampled_from((0, 300)), st.sampled_from((3, 1000)))
def test_nothing_is_wrong_with_a_block_of_any_spans(random: Random, columns_max: int, row_group_spans: int) -> None:
    requests = [random_request(random), random_request(random, after=1000)]
    blocks = BlockSettings(row_group_spans=row_group_spans, columns_max=columns_max)
    with tempfile.TemporaryDirectory() as directory:
        block = store_block(Path(directory), requests, blocks=blocks)
        table = stored(Path(directory), block.store.get(KEY), dict(block.written.columns), block.written.info)
        assert table.findings() == []
        assert list(check_files(table.store, table.snapshot, table.catalog.dead_files(TENANT, grace_seconds=DEAD_SECONDS))) == []


def shuffled(table: pa.Table) -> pa.Table:
    return table.take(pa.array(np.arange(len(table))[::-1]))


DAMAGED_ROWS: dict[str, tuple[Rows, str]] = {
    "rows in another order": (shuffled, "row 0 is not where"),
    "a span twice": (lambda table: pa.concat_tables([table, table.slice(0, 1)]), "rows; the footer says"),
    "a span in place of another": (
        lambda table: pa.concat_tables([table.slice(0, 1), table.slice(0, 1), table.slice(2)]),
        "1 of its spans are there twice",
    ),
    "a row missing": (lambda table: table.slice(1), "rows; the footer says"),
    "another tree number": (lambda table: changed(table, "nested_right", 999), "column nested_right: row 0 is not"),
    "another parent": (lambda table: changed(table, "nested_parent", 7, 1), "column nested_parent: row 1 is not"),
    "another number of children": (lambda table: changed(table, "child_count", 99), "column child_count: row 0 is not"),
    "another trace start": (lambda table: changed(table, "trace_start_ns", 5), "column trace_start_ns: row 0 is not"),
    "another root": (lambda table: changed(table, "root_name", "nobody"), "column root_name: row 0 is not"),
    "another weight": (lambda table: changed(table, "sampling_weight", 3.5), "column sampling_weight: row 0 is not"),
    "another trace": (lambda table: changed(table, "trace_id", b"\xfe" * 16, len(table) - 1), "traces are not in the filter"),
    "another start": (lambda table: changed(table, "start_ns", -(1 << 62)), "row 0 is not what its span makes of it"),
}


def text_of(finding: Finding) -> str:
    return f"{finding.place}: {finding.problem}"


@pytest.mark.parametrize("damage", DAMAGED_ROWS)
def test_damaged_rows_are_found(tmp_path: Path, damage: str) -> None:
    data, columns, info = sound_file(1)
    change, expected = DAMAGED_ROWS[damage]
    findings = stored(tmp_path, rewritten(data, rows=change), columns, info).findings()
    assert any(expected in text_of(finding) for finding in findings), findings
    assert all(KEY not in finding.place and finding.remedy for finding in findings)


DAMAGED_INFO: dict[str, tuple[Info, str]] = {
    "rows": (lambda info: replace(info, rows=info.rows + 1), "in its footer"),
    "traces": (lambda info: replace(info, traces=0), "0 in its footer"),
    "trace end": (lambda info: replace(info, trace_end_max_ns=7), "greatest trace end"),
    "keys": (lambda info: replace(info, keys=info.keys[1:]), "counts of 1 keys are wrong"),
    "first trace": (
        lambda info: replace(info, row_groups=(replace(info.row_groups[0], first_trace="0" * 32), *info.row_groups[1:])),
        "the footer says 00000000000000000000000000000000",
    ),
    "order of traces": (
        lambda info: replace(info, row_groups=(*info.row_groups[:-1], replace(info.row_groups[-1], first_trace="0" * 32))),
        "is not after those of the row group before",
    ),
}


@pytest.mark.parametrize("damage", DAMAGED_INFO)
def test_false_footers_are_found(tmp_path: Path, damage: str) -> None:
    data, columns, info = sound_file(1)
    change, expected = DAMAGED_INFO[damage]
    findings = stored(tmp_path, rewritten(data, info=change), columns, info).findings()
    assert [finding for finding in findings if expected in finding.problem], findings


def test_trace_that_is_missing_from_the_filter_is_found(tmp_path: Path) -> None:
    data, columns, info = sound_file(1)
    nothing = build_filter(np.empty(0, np.uint64), np.empty(0, np.uint64))
    findings = stored(tmp_path, rewritten(data, words=nothing.words), columns, info).findings()
    assert {finding.problem.partition(", such as")[0].lstrip("0123456789 ") for finding in findings} == {
        "traces are not in the filter of the block"
    }


def test_false_log_is_found(tmp_path: Path) -> None:
    table = stored(tmp_path, *sound_file(1))
    assert table.findings() == []
    for change, expected in (
        ({"rows": 1}, "1 in the log"),
        ({"start_min_ns": 3}, "3 in the log"),
        ({"trace_end_max_ns": 4}, "4 in the log"),
        ({"day": date(2001, 2, 3)}, "not on 2001-02-03"),
    ):
        found = table.findings(replace(table.block, **change))
        assert [finding.problem for finding in found if expected in finding.problem], found


def test_columns_that_do_not_fit_the_table_are_found(tmp_path: Path) -> None:
    table = stored(tmp_path, *sound_file(1))
    name = next(name for name, kind in table.snapshot.columns.items() if kind == "string")
    other: dict[str, ColumnType] = {**table.snapshot.columns, name: "int"}
    for columns, expected in ((other, f"column {name} is string; the table has int64"), ({}, f"column {name} is not in the table")):
        snapshot = replace(table.snapshot, columns=columns)
        findings = list(check_block(table.store, snapshot, table.block, on_rows=lambda _rows: None))
        assert expected in [finding.problem for finding in findings]


def test_false_statistics_are_found(tmp_path: Path) -> None:
    table = stored(tmp_path, *sound_file(1))
    footer = read_footer(table.store, table.key, table.block.size_bytes)
    rows = read_row_group(table.store, footer, 0, verify=True)
    index = rows.schema.get_field_index("duration_ns")
    other = rows.set_column(index, "duration_ns", pc.add(rows.column("duration_ns"), 1))
    (finding,) = check._check_statistics(footer, 0, other)
    assert finding.place.endswith("row group 0, column duration_ns")
    assert finding.problem.startswith("its statistics say min ")


@pytest.mark.slow
def test_flipped_bits_are_found_in_every_page(tmp_path: Path) -> None:
    """Pages have checksums; their headers have none, and some bits of those mean nothing to anybody."""
    data, columns, info = sound_file(1)
    random = Random(1)
    table = stored(tmp_path, data, columns, info)
    chunks = read_footer(table.store, table.key, table.block.size_bytes).layout.chunks[1]
    pages = np.empty((1000, PAGE_FIELDS), np.int64)
    found = walk_pages(np.frombuffer(data, np.uint8), chunks, pages)
    for page in random.sample(pages[:found].tolist(), 60):
        damaged = bytearray(data)
        damaged[page[BEGIN] + random.randrange(page[COMPRESSED])] ^= 1 << random.randrange(8)
        table.store.put(table.key, bytes(damaged))
        assert {finding.place for finding in table.findings()} == {f"{table.key}, row group 1"}
    table.store.put(table.key, data)
    assert table.findings() == []


@pytest.mark.parametrize("size", [0, 10, 1000])
def test_truncated_file_is_found(tmp_path: Path, size: int) -> None:
    data, columns, info = sound_file(1)
    table = stored(tmp_path, data, columns, info)
    table.store.put(table.key, data[:size])
    (finding,) = check_files(table.store, table.snapshot, ())
    assert finding.problem == f"the file has {size:,} bytes; the log says {len(data):,}"
    (finding,) = table.findings()
    assert finding.place == table.key


def test_missing_and_dead_files_are_found(tmp_path: Path) -> None:
    table = stored(tmp_path, *sound_file(1))
    table.store.delete([table.key])
    missing, dead = check_files(table.store, table.snapshot, ["day=2026-01-01/x.parquet"])
    assert (missing.place, missing.problem) == (table.key, "the table has this block, but the file is missing")
    assert dead.place == "tables/t/day=2026-01-01/x.parquet"
    assert "not been in the table" in dead.problem
    (finding,) = table.findings()
    assert "no object" in finding.problem

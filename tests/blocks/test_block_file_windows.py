"""Rows read straight from pages are the rows that pyarrow reads, however a writer lays out pages; what is not known is refused."""

from __future__ import annotations

import io
import subprocess
import sys
from functools import cache
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from block_files import arranged, encoded, random_request
from hypothesis import given, settings
from hypothesis import strategies as st

from spanlake.blocks.build.choose import choose_columns, count_attributes, describe_keys
from spanlake.blocks.build.row_group import RowGroups
from spanlake.blocks.file.columns import columns_to_batch
from spanlake.blocks.file.rows import table_to_batch
from spanlake.blocks.file.windows import GroupPages, Layout, read_layout
from spanlake.blocks.schema import file_schema
from spanlake.model.errors import CorruptData

DELTAS = dict.fromkeys(("start_ns", "duration_ns", "nested_left", "kind"), "DELTA_BINARY_PACKED") | dict.fromkeys(
    ("span_id", "parent_span_id", "name", "status_message"), "DELTA_LENGTH_BYTE_ARRAY"
)
LAYOUTS: dict[str, dict[str, Any]] = {
    "pages of some rows": {"max_rows_per_page": 7, "write_batch_size": 7, "write_page_index": True},
    "pages that begin within rows": {"data_page_size": 16, "write_batch_size": 3},
    "pages that begin within rows, plain": {"data_page_size": 64, "write_batch_size": 5, "use_dictionary": False},
    "plain": {"use_dictionary": False},
    "deltas": {"use_dictionary": False, "column_encoding": DELTAS},
    "deltas in small pages": {"use_dictionary": False, "column_encoding": DELTAS, "max_rows_per_page": 9, "write_batch_size": 9},
    "dictionaries that are given up": {"dictionary_pagesize_limit": 60, "write_batch_size": 4},
    "dictionaries that are given up, in pages": {"dictionary_pagesize_limit": 60, "write_batch_size": 4, "max_rows_per_page": 12},
    "checksums and statistics in page headers": {"write_page_checksum": True, "write_statistics": True},
}


@cache
def spans_table(seed: int, columns_max: int) -> pa.Table:
    """All columns of about two hundred odd spans."""
    batch, arrangement = arranged([random_request(Random(seed), traces=20, spans=200)])
    keys = count_attributes(batch)
    limits = {"columns_max": columns_max, "table_columns_max": 1000}
    columns = choose_columns(describe_keys(batch, keys), rows=1, table={}, **limits)
    plain = file_schema({column.name: column.type for column in columns})
    return RowGroups(batch, arrangement, columns, keys).table(0, len(batch)).cast(plain)


@cache
def file_of(seed: int, columns_max: int, layout: str) -> bytes:
    """The spans as a Parquet file of one row group."""
    out = io.BytesIO()
    table = spans_table(seed, columns_max)
    pq.write_table(table, out, **{"compression": "zstd", "row_group_size": len(table), **LAYOUTS[layout]})
    return out.getvalue()


def pages_of(data: bytes) -> tuple[GroupPages, Layout]:
    layout = read_layout(pq.read_metadata(io.BytesIO(data)))
    return GroupPages(np.frombuffer(data, np.uint8), layout, layout.chunks[0]), layout


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2), st.sampled_from((0, 300)), st.sampled_from(sorted(LAYOUTS)), st.data())
def test_windows_equal_slices_when_pages_are_laid_out_in_any_way(seed: int, columns_max: int, layout: str, data: st.DataObject) -> None:
    table = spans_table(seed, columns_max)
    first = data.draw(st.integers(0, len(table) - 1))
    last = data.draw(st.integers(first + 1, len(table)))
    pages, _ = pages_of(file_of(seed, columns_max, layout))
    assert encoded(columns_to_batch(pages.columns((first, last)))) == encoded(table_to_batch(table.slice(first, last - first)))


@pytest.mark.parametrize("layout", sorted(LAYOUTS))
def test_traces_are_found_when_pages_are_laid_out_in_any_way(layout: str) -> None:
    table = spans_table(0, 300)
    ids: list[bytes] = table.column("trace_id").to_pylist()
    pages, _ = pages_of(file_of(0, 300, layout))
    for trace_id in dict.fromkeys(ids):
        high, low = int.from_bytes(trace_id[:8], "big"), int.from_bytes(trace_id[8:], "big")
        first = ids.index(trace_id)
        assert pages.rows_of(high, low, len(ids)) == (first, first + ids.count(trace_id))
        assert pages.rows_of(high, low ^ 1 << 63, len(ids)) == (0, 0)


@pytest.mark.parametrize(
    "options",
    [
        {"compression": "snappy"},
        {"compression": "none"},
        {"data_page_version": "2.0"},
        {"use_dictionary": False, "column_encoding": {"start_ns": "BYTE_STREAM_SPLIT"}},
        {"use_dictionary": False, "column_encoding": {"name": "DELTA_BYTE_ARRAY"}},
    ],
)
def test_what_our_writer_does_not_write_is_refused(options: dict[str, Any]) -> None:
    table = spans_table(0, 0)
    out = io.BytesIO()
    pq.write_table(table, out, **{"compression": "zstd", **options})
    with pytest.raises(CorruptData):
        pages_of(out.getvalue())[0].columns((0, len(table)))


@pytest.mark.parametrize(
    ("name", "kind"), [("span_id", pa.binary(8)), ("start_ns", pa.decimal128(20)), ("duration_ns", pa.float32()), ("span.a", pa.int32())]
)
def test_types_that_our_writer_does_not_write_are_refused(name: str, kind: pa.DataType) -> None:
    table = spans_table(0, 0)
    if name in table.column_names:
        changed = table.set_column(table.schema.get_field_index(name), name, table.column(name).cast(kind, safe=False))
    else:
        changed = table.append_column(name, pa.array(range(len(table)), kind))
    out = io.BytesIO()
    pq.write_table(changed, out, compression="zstd")
    with pytest.raises(CorruptData, match=name):
        pages_of(out.getvalue())[0].columns((0, len(table)))


@settings(max_examples=40, deadline=None)
@given(st.sampled_from(sorted(LAYOUTS)), st.randoms(use_true_random=False))
def test_damaged_pages_are_refused_or_read_as_something_but_never_crash(layout: str, random: Random) -> None:
    table = spans_table(0, 300)
    data = bytearray(file_of(0, 300, layout))
    chunks = read_layout(pq.read_metadata(io.BytesIO(data))).chunks[0]
    for _ in range(random.randint(1, 30)):
        data[random.randrange(4, int(chunks.sum(axis=1).max()))] = random.randrange(256)
    layout_read = read_layout(pq.read_metadata(io.BytesIO(file_of(0, 300, layout))))
    try:
        pages = GroupPages(np.frombuffer(bytes(data), np.uint8), layout_read, chunks)
        columns_to_batch(pages.columns((0, len(table))))
    except CorruptData:
        pass


@pytest.mark.slow
def test_kernels_read_nothing_behind_a_damaged_page() -> None:
    program = Path(__file__).with_name("guarded_pages.py")
    run = subprocess.run([sys.executable, str(program), "1", "40"], check=True, capture_output=True, text=True, timeout=300)
    damaged, read = map(int, run.stdout.split())
    assert damaged > 100
    assert read > 10

"""RangeReader is a file: it answers like BytesIO, with or without what was fetched before."""

from __future__ import annotations

import io
from itertools import pairwise

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from spanlake.model.errors import StoreError
from spanlake.objectstore.intercepted import Counts, InterceptedStore
from spanlake.objectstore.opening import open_store
from spanlake.objectstore.ranges import merge_ranges
from spanlake.objectstore.reader import RangeReader

CONTENT = bytes(range(100))


def counted(content: bytes) -> tuple[InterceptedStore, Counts]:
    counts = Counts()
    store = InterceptedStore(open_store("memory://"), counts, remote=True)
    store.put("a", content)
    counts.reset()
    return store, counts


positions = st.tuples(st.just("seek"), st.integers(-120, 120), st.sampled_from([io.SEEK_SET, io.SEEK_CUR, io.SEEK_END]))
reads = st.tuples(st.just("read"), st.integers(-1, 120), st.none())
fetches = st.tuples(st.just("fetch"), st.lists(st.tuples(st.integers(0, 50), st.integers(0, 50)), max_size=4), st.none())


@given(st.lists(positions | reads | fetches, max_size=20))
def test_reader_answers_like_a_file_for_any_steps(steps: list[tuple[str, int | list[tuple[int, int]], int | None]]) -> None:
    store, _ = counted(CONTENT)
    reader, file = RangeReader(store, "a", len(CONTENT)), io.BytesIO(CONTENT)
    for step in steps:
        match step:
            case ("seek", int(offset), int(whence)):
                base = {io.SEEK_SET: 0, io.SEEK_CUR: file.tell(), io.SEEK_END: len(CONTENT)}[whence]
                if base + offset >= 0:
                    assert reader.seek(offset, whence) == file.seek(base + offset)
                else:
                    with pytest.raises(ValueError, match="seek to -"):
                        reader.seek(offset, whence)
            case ("read", int(size), _):
                assert reader.read(size) == file.read(size)
            case (_, list(ranges), _):
                reader.fetch(ranges)
        assert reader.tell() == file.tell()


@given(st.lists(st.tuples(st.integers(0, 60), st.integers(0, 10)), max_size=12), st.integers(0, 5))
def test_merged_ranges_cover_the_same_bytes_in_order_and_apart(ranges: list[tuple[int, int]], gap_bytes: int) -> None:
    merged = merge_ranges(ranges, gap_bytes)
    wanted = {byte for start, length in ranges for byte in range(start, start + length)}
    covered = {byte for start, length in merged for byte in range(start, start + length)}
    assert wanted <= covered
    assert covered == wanted or gap_bytes
    assert all(after[0] - sum(before) > gap_bytes for before, after in pairwise(merged))


def test_fetched_ranges_cost_one_request_and_others_one_each() -> None:
    store, counts = counted(CONTENT)
    reader = RangeReader(store, "a", 100)
    reader.fetch([(10, 10), (20, 10), (80, 5)])
    reader.seek(15)
    assert reader.read(10) == CONTENT[15:25]
    reader.seek(80)
    assert reader.read(5) == CONTENT[80:85]
    assert (counts.requests(), counts.bytes_read()) == (1, 25)
    reader.seek(28)
    assert reader.read(4) == CONTENT[28:32]
    assert (counts.requests("get_range"), counts.requests()) == (1, 2)
    reader.fetch([(0, 1)])
    reader.seek(80)
    reader.read(5)
    assert counts.requests("get_range") == 2


def test_reading_fails_when_closed() -> None:
    reader = RangeReader(counted(CONTENT)[0], "a", 100)
    assert not reader.closed
    reader.close()
    assert reader.closed
    for call in (reader.read, reader.tell, lambda: reader.seek(0), lambda: reader.fetch([])):
        with pytest.raises(ValueError, match="'a' is closed"):
            call()


def test_reading_fails_when_the_object_is_shorter_than_told() -> None:
    reader = RangeReader(counted(CONTENT)[0], "a", 101)
    with pytest.raises(StoreError, match="ends before the range"):
        reader.read()


def test_pyarrow_reads_parquet_with_one_request_for_chosen_columns() -> None:
    rows = 50_000
    table = pa.table({name: pa.array(range(rows)) for name in "abcdef"})
    sink = io.BytesIO()
    pq.write_table(table, sink, compression=None, use_dictionary=False)
    store, counts = counted(sink.getvalue())
    reader = RangeReader(store, "a", store.head("a").size_bytes)
    file = pq.ParquetFile(pa.PythonFile(reader, mode="r"), pre_buffer=False)
    counts.reset()
    chunks = [file.metadata.row_group(0).column(index) for index in (1, 4)]
    reader.fetch([(chunk.data_page_offset, chunk.total_compressed_size) for chunk in chunks])
    assert file.read(columns=["b", "e"]) == table.select(["b", "e"])
    assert counts.requests() == 1
    assert counts.bytes_read() < 0.4 * len(sink.getvalue())

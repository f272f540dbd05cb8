"""The footer of a block: what it says, that others can read it, what is refused; the trace filter's two promises."""

from __future__ import annotations

import base64
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import orjson
import pyarrow.parquet as pq
import pytest
from block_files import KEY, arranged, random_request, store_block
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from spanlake.blocks.build.choose import KeyInfo
from spanlake.blocks.file.footer import FILTER_KEY, INFO_KEY, BlockInfo, RowGroupInfo, decode_footer, encode_footer
from spanlake.blocks.file.reader import read_footer
from spanlake.blocks.file.trace_filter import BITS_PER_TRACE, build_filter, hash_trace, hash_traces
from spanlake.model.errors import CorruptData, KeyMissing
from spanlake.model.settings import BlockSettings

INFO = BlockInfo(
    rows=3,
    traces=2,
    start_min_ns=-(1 << 63),
    start_max_ns=(1 << 63) - 1,
    trace_start_min_ns=0,
    trace_start_max_ns=1,
    trace_duration_max_ns=2,
    trace_end_max_ns=3,
    row_groups=(RowGroupInfo(3, "0" * 32, "f" * 32),),
    keys=(KeyInfo("span", "é\n", {"string": 1, "array": 2}),),
)
NO_TRACES = np.empty(0, np.uint64)


def test_footer_is_read_as_it_was_written() -> None:
    trace_filter = build_filter(np.array([1, 2], np.uint64), np.array([3, 4], np.uint64))
    info, read = decode_footer(encode_footer(INFO, trace_filter), "b")
    assert info == INFO
    assert np.array_equal(read.words, trace_filter.words)


def changed(**fields: Any) -> dict[bytes, bytes]:
    """A footer with members of its JSON document replaced."""
    footer = encode_footer(INFO, build_filter(NO_TRACES, NO_TRACES))
    return footer | {INFO_KEY: orjson.dumps(orjson.loads(footer[INFO_KEY]) | fields)}


@pytest.mark.parametrize(
    ("footer", "text"),
    [
        ({}, "not written by spanlake"),
        ({INFO_KEY: b"{"}, "not written by spanlake"),
        ({INFO_KEY: b"[]"}, "not written by spanlake"),
        ({INFO_KEY: b"{}"}, "not written by spanlake"),
        (changed(version=2), "format version 2"),
        (changed(other=1), "not written by spanlake"),
        (changed(keys=[{"scope": "span"}]), "not written by spanlake"),
        (changed() | {FILTER_KEY: b"?"}, "not written by spanlake"),
        (changed() | {FILTER_KEY: b""}, "multiple of 8 words"),
        (changed() | {FILTER_KEY: base64.b64encode(bytes(36))}, "multiple of 8 words, not 9"),
    ],
)
def test_footer_is_refused_when_it_is_not_one_of_ours(footer: dict[bytes, bytes], text: str) -> None:
    with pytest.raises(CorruptData, match=text):
        decode_footer(footer, "b")


def test_footer_describes_the_block(tmp_path: Path) -> None:
    requests = [random_request(Random(5), traces=9, spans=60)]
    batch, arrangement = arranged(requests)
    block = store_block(tmp_path, requests, blocks=BlockSettings(row_group_spans=10))
    info = block.footer.info
    assert info == block.written.info
    assert (info.rows, info.traces) == (len(batch), len(arrangement.trace_first) - 1)
    starts = batch.spans["start_ns"]
    assert (info.start_min_ns, info.start_max_ns) == (starts.min(), starts.max())
    trace_starts = arrangement.trace_start_ns
    assert (info.trace_start_min_ns, info.trace_start_max_ns) == (trace_starts.min(), trace_starts.max())
    assert info.trace_duration_max_ns == arrangement.trace_duration_ns.max()
    assert info.trace_end_max_ns == (trace_starts + arrangement.trace_duration_ns).max()
    assert [group.rows for group in info.row_groups] == [
        block.footer.metadata.row_group(i).num_rows for i in range(block.footer.metadata.num_row_groups)
    ]
    bounds = [bound for group in info.row_groups for bound in (group.first_trace, group.last_trace)]
    assert bounds == sorted(bounds)


@pytest.mark.parametrize("damage", ["truncated", "empty", "text", "other Parquet"])
def test_file_is_refused_when_it_is_no_block(tmp_path: Path, damage: str) -> None:
    block = store_block(tmp_path, [random_request(Random(1))])
    data = block.store.get(KEY)
    other = tmp_path / "other"
    pq.write_table(pq.read_table(block.store.local_path(KEY)), other, store_schema=False)
    made = {"truncated": data[:-20], "empty": b"", "text": b"no block", "other Parquet": other.read_bytes()}[damage]
    block.store.put(KEY, made)
    with pytest.raises(CorruptData, match=KEY):
        read_footer(block.store, KEY, len(made))


@pytest.mark.parametrize("data", ["", "memory://"])
def test_missing_file_is_named(tmp_path: Path, data: str) -> None:
    block = store_block(tmp_path, [random_request(Random(1))], data=data)
    block.store.delete([KEY])
    with pytest.raises(KeyMissing, match=KEY):
        read_footer(block.store, KEY, block.footer.size_bytes)
    for trace in block.footer.info.row_groups:
        with pytest.raises(KeyMissing, match=KEY):
            block.trace(bytes.fromhex(trace.first_trace))


uint64_arrays = arrays.arrays(np.uint64, st.shared(st.integers(0, 60), key="traces"))


@settings(max_examples=60, deadline=None)
@given(uint64_arrays, uint64_arrays)
def test_filter_has_every_trace_of_the_block(high: Any, low: Any) -> None:
    found = build_filter(high, low)
    assert all(found.may_have(int(a), int(b)) for a, b in zip(high, low, strict=True))
    hashes = hash_traces(high, low)
    assert hashes.tolist() == [hash_trace(int(a), int(b)) for a, b in zip(high, low, strict=True)]


@pytest.mark.parametrize("ids", ["random", "64-bit", "counted", "high half only"])
def test_filter_seldom_claims_a_trace_that_is_not_there(ids: str) -> None:
    draw = np.random.default_rng(1)
    count, tries = 20_000, 20_000
    numbers = draw.permutation(count + tries).astype(np.uint64)
    words = draw.integers(0, 1 << 63, count + tries, np.uint64)
    zeros = np.zeros(count + tries, np.uint64)
    high, low = {
        "random": (words, words[::-1]),
        "64-bit": (zeros, words),
        "counted": (zeros, numbers),
        "high half only": (numbers << np.uint64(40), zeros),
    }[ids]
    found = build_filter(high[:count], low[:count])
    assert len(found.words) * 32 <= count * BITS_PER_TRACE + 256
    claimed = sum(found.may_have(int(a), int(b)) for a, b in zip(high[count:], low[count:], strict=True))
    assert claimed / tries < 0.005

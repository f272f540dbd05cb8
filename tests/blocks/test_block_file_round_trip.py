"""What is pushed is what is read from a block, however it is read: every field of every span, trace by trace."""

from __future__ import annotations

import tempfile
from pathlib import Path
from random import Random

import pytest
from block_files import Traces, pushed_traces, random_request, store_block, traces_of
from hypothesis import given, settings
from hypothesis import strategies as st

from spanlake.blocks.file.columns import columns_to_batch
from spanlake.blocks.file.windows import open_group
from spanlake.model.schema import ColumnType
from spanlake.model.settings import BlockSettings

randoms = st.randoms(use_true_random=False)
TABLES: tuple[dict[str, ColumnType], ...] = (
    {},
    {"span.a": "int", "resource.a": "bool", "instrumentation.a": "double", "span.HTTP.ROUTE": "string"},
)


def check_round_trip(random: Random, columns_max: int, table: dict[str, ColumnType], row_group_spans: int) -> None:
    requests = [random_request(random), random_request(random, after=1000)]
    expected = pushed_traces(requests)
    blocks = BlockSettings(row_group_spans=row_group_spans, columns_max=columns_max)
    with tempfile.TemporaryDirectory() as directory:
        block = store_block(Path(directory), requests, table=table, blocks=blocks)
        through_arrow: Traces = {}
        from_pages: Traces = {}
        for number, (batch, group) in enumerate(zip(block.batches(), block.footer.info.row_groups, strict=True)):
            through_arrow |= traces_of(batch)
            pages = open_group(block.store, block.footer.key, block.footer.layout, number)
            from_pages |= traces_of(columns_to_batch(pages.columns((0, group.rows))))
        assert through_arrow == expected
        assert from_pages == expected
        for trace_id, trace in expected.items():
            found = block.trace(trace_id)
            assert found is not None
            assert traces_of(found) == {trace_id: trace}


CASES = (randoms, st.sampled_from((0, 3, 300)), st.sampled_from(TABLES), st.sampled_from((1, 7, 1000)))


@settings(max_examples=10, deadline=None)
@given(*CASES)
def test_every_trace_is_read_as_it_was_pushed_when_given_any_requests(
    random: Random, columns_max: int, table: dict[str, ColumnType], row_group_spans: int
) -> None:
    check_round_trip(random, columns_max, table, row_group_spans)


@pytest.mark.slow
@settings(max_examples=200, deadline=None)
@given(*CASES)
def test_every_trace_is_read_as_it_was_pushed_when_given_many_requests(
    random: Random, columns_max: int, table: dict[str, ColumnType], row_group_spans: int
) -> None:
    check_round_trip(random, columns_max, table, row_group_spans)


@pytest.mark.parametrize("data", ["", "memory://"])
def test_trace_is_found_in_local_and_remote_stores(tmp_path: Path, data: str) -> None:
    requests = [random_request(Random(1), traces=20, spans=100)]
    block = store_block(tmp_path, requests, blocks=BlockSettings(row_group_spans=8), data=data)
    for trace_id, trace in pushed_traces(requests).items():
        found = block.trace(trace_id)
        assert found is not None
        assert traces_of(found) == {trace_id: trace}
    assert block.trace(bytes(15) + b"\x02") is None

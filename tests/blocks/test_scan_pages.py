"""Columns decoded from pages are those that Arrow reads; what is not known here, or broken, is refused and never crashes."""

from __future__ import annotations

from pathlib import Path
from random import Random
from typing import Any

import pyarrow as pa
import pytest
from block_files import KEY, StoredBlock, random_request, store_block
from hypothesis import given, settings
from hypothesis import strategies as st

from spanlake.blocks.file.reader import Footer
from spanlake.blocks.scan.columns import TRACE_ID, read_columns
from spanlake.blocks.scan.layout import BlockLayout, read_leaf_values
from spanlake.blocks.scan.pages import GroupColumns
from spanlake.model.errors import CorruptData
from spanlake.model.settings import BlockSettings

SETTINGS = BlockSettings(row_group_spans=64)


@pytest.fixture(scope="module")
def block(tmp_path_factory: pytest.TempPathFactory) -> StoredBlock:
    requests = [random_request(Random(seed), traces=30, spans=200, after=1000 * seed) for seed in range(3)]
    return store_block(tmp_path_factory.mktemp("block"), requests, blocks=SETTINGS)


def flat_leaves(footer: Footer) -> list[str]:
    schema = footer.metadata.schema
    columns = [schema.column(number) for number in range(len(schema))]
    return [column.path for column in columns if not column.max_repetition_level and column.path != "resource_entity_refs"]


def through_arrow(block: StoredBlock, groups: list[int], leaf: str) -> list[Any]:
    table = read_columns(block.store, BlockLayout(block.footer), groups, [TRACE_ID, leaf]).table
    return table.column(leaf).to_pylist() if leaf in table.column_names else [None] * table.num_rows


def from_pages(block: StoredBlock, groups: list[int], leaf: str, *, remembered: bool) -> list[Any]:
    layout = BlockLayout(block.footer)
    columns = GroupColumns(block.store, layout, groups)
    kind = layout.column_types[leaf]
    if leaf in {"span_id", "parent_span_id"}:
        return [number.to_bytes(8, "big") if number else b"" for number in columns.ids(leaf).tolist()]
    if kind in {pa.string(), pa.binary()}:
        known = read_leaf_values(block.store, layout, leaf) if remembered else None
        codes, valid, dictionary = columns.codes(leaf, known)
        return [dictionary[code].as_py() if has else None for code, has in zip(codes.tolist(), valid.tolist(), strict=True)]
    values, valid = columns.numbers(leaf)
    plain = pa.array(values.view("f8")) if kind == pa.float64() else pa.array(values)
    found = [bool(value) for value in plain.to_pylist()] if kind == pa.bool_() else plain.to_pylist()
    return [value if has else None for value, has in zip(found, valid.tolist(), strict=True)]


@pytest.mark.parametrize("remembered", [False, True])
def test_columns_are_those_of_arrow_for_any_row_groups(block: StoredBlock, remembered: bool) -> None:
    count = len(block.footer.info.row_groups)
    assert count > 3
    leaves = flat_leaves(block.footer)
    assert len(leaves) > 30
    for groups in (list(range(count)), [0], [1, count - 1]):
        for leaf in leaves:
            text = BlockLayout(block.footer).column_types[leaf] == pa.string()
            assert str(from_pages(block, groups, leaf, remembered=remembered and text)) == str(through_arrow(block, groups, leaf)), leaf


@settings(max_examples=150, deadline=None)
@given(st.randoms(use_true_random=False))
def test_damaged_columns_are_refused_or_read_as_something_but_never_crash(block: StoredBlock, random: Random) -> None:
    path = block.store.local_path(KEY)
    assert path is not None
    leaf = random.choice(flat_leaves(block.footer))
    layout = BlockLayout(block.footer)
    whole = path.read_bytes()
    data = bytearray(whole)
    places = layout.places_of([leaf], range(len(block.footer.info.row_groups)))
    for begin, length in random.choices(places, k=3):
        data[begin + random.randrange(length)] = random.randrange(256)
    try:
        path.write_bytes(data)
        from_pages(block, list(range(len(places))), leaf, remembered=False)
    except (CorruptData, UnicodeDecodeError):
        pass
    finally:
        path.write_bytes(whole)


def test_a_nested_column_is_left_to_arrow(block: StoredBlock) -> None:
    with pytest.raises(CorruptData):
        GroupColumns(block.store, BlockLayout(block.footer), [0]).codes("events.list.element.name", None)


def test_columns_are_those_of_arrow_when_the_store_is_not_local(tmp_path: Path) -> None:
    block = store_block(tmp_path, [random_request(Random(7), traces=20, spans=150)], blocks=SETTINGS, data="memory://")
    groups = list(range(len(block.footer.info.row_groups)))
    for leaf in flat_leaves(block.footer):
        assert str(from_pages(block, groups, leaf, remembered=False)) == str(through_arrow(block, groups, leaf)), leaf

"""docs/formats/block.md says of the columns, encodings and statistics what the code does."""

from __future__ import annotations

import re
from pathlib import Path
from random import Random

import pyarrow.parquet as pq
from block_files import KEY, random_request, store_block

from spanlake.blocks.schema import file_schema
from spanlake.model.schema import ATTRIBUTE, EVENT, LINK, SPAN_COLUMNS

DOCUMENT = (Path(__file__).parents[2] / "docs/formats/block.md").read_text()
ROWS = re.findall(r"^\| `(\w+)` \| ([\w ]+) \| (.+) \| (dictionary|delta|delta length) \|$", DOCUMENT, re.MULTILINE)


def test_every_fixed_column_is_described() -> None:
    assert [name for name, *_ in ROWS] == [field.name for field in SPAN_COLUMNS]
    types = [kind if kind != "list of struct" else "list" for _, kind, *_ in ROWS]
    assert types == [str(field.type).partition("<")[0] for field in file_schema({})]


def test_every_field_of_events_links_and_attributes_is_described() -> None:
    for field in (*EVENT, *LINK, *ATTRIBUTE):
        assert f"`{field.name}`" in DOCUMENT, field.name


def test_encodings_and_statistics_are_those_described(tmp_path: Path) -> None:
    block = store_block(tmp_path, [random_request(Random(1), spans=100)])
    group = pq.read_metadata(block.store.local_path(KEY)).row_group(0)
    chunks = {group.column(i).path_in_schema: group.column(i) for i in range(group.num_columns)}
    names = {"dictionary": "RLE_DICTIONARY", "delta": "DELTA_BINARY_PACKED", "delta length": "DELTA_LENGTH_BYTE_ARRAY"}
    for name, kind, _, encoding in ROWS:
        if kind != "list of struct":
            assert names[encoding] in chunks[name].encodings, name
    without = {path for path, chunk in chunks.items() if chunk.statistics is None and ".list." not in path}
    assert without == {"span_id", "parent_span_id"}
    told = {path for path, chunk in chunks.items() if chunk.statistics is not None and ".list.element." in path}
    lists = {f"{path}.list.element.dropped_attributes" for path in ("events", "links")} | {"attributes.list.element.key"}
    assert {path for path in told if path.startswith(("events.", "links.", "attributes."))} == lists
    assert {chunk.compression for chunk in chunks.values()} == {"ZSTD"}

"""A block is a plain Parquet file: DuckDB, Polars and pyarrow read the same rows, with plain types."""

from __future__ import annotations

from pathlib import Path
from random import Random
from typing import Any

import duckdb
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from block_files import KEY, StoredBlock, random_request, store_block
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from spanlake.blocks.schema import file_schema
from spanlake.model.settings import BlockSettings
from spanlake.wire.otlp.decode import decode_otlp


def example() -> ExportTraceServiceRequest:
    """Three spans whose rows can be written down."""
    request = ExportTraceServiceRequest()
    resource_spans = request.resource_spans.add()
    resource_spans.resource.attributes.add(key="service.name").value.string_value = "web"
    scope_spans = resource_spans.scope_spans.add()
    scope_spans.scope.name = "lib"
    for number, parent in ((1, b""), (2, b"\1" * 8), (3, b"\2" * 8)):
        span = scope_spans.spans.add(trace_id=b"\7" * 16, span_id=bytes([number]) * 8, parent_span_id=parent, name=f"op {number}")
        span.start_time_unix_nano, span.end_time_unix_nano = 1000 + number, 2000
        span.attributes.add(key="http.status").value.int_value = 200 + number
        span.attributes.add(key="ratio").value.double_value = number / 2
        span.attributes.add(key="ok").value.bool_value = number == 1
        span.attributes.add(key="odd key").value.string_value = "kept in the overflow list"
    scope_spans.spans[2].events.add(time_unix_nano=5, name="e").attributes.add(key="k").value.int_value = 7
    return request


EXPECTED: dict[str, list[Any]] = {
    "trace_id": [b"\7" * 16] * 3,
    "span_id": [b"\1" * 8, b"\2" * 8, b"\3" * 8],
    "parent_span_id": [b"", b"\1" * 8, b"\2" * 8],
    "name": ["op 1", "op 2", "op 3"],
    "start_ns": [1001, 1002, 1003],
    "duration_ns": [999, 998, 997],
    "nested_left": [1, 2, 3],
    "nested_right": [6, 5, 4],
    "nested_parent": [-1, 1, 2],
    "child_count": [1, 1, 0],
    "trace_start_ns": [1001] * 3,
    "trace_duration_ns": [999] * 3,
    "root_name": ["op 1"] * 3,
    "root_service": ["web"] * 3,
    "scope_name": ["lib"] * 3,
    "resource.service.name": ["web"] * 3,
    "span.http.status": [201, 202, 203],
    "span.ratio": [0.5, 1.0, 1.5],
    "span.ok": [True, False, False],
    "sampling_weight": [None] * 3,
}


def through_pyarrow(path: str) -> dict[str, list[Any]]:
    columns: dict[str, list[Any]] = pq.read_table(path).to_pydict()
    return columns


def through_duckdb(path: str) -> dict[str, list[Any]]:
    with duckdb.connect() as connection:
        columns: dict[str, list[Any]] = connection.sql(f"SELECT * FROM read_parquet('{path}')").to_arrow_table().to_pydict()
    return columns


def through_polars(path: str) -> dict[str, list[Any]]:
    return {name: series.to_list() for name, series in pl.read_parquet(path).to_dict().items()}


READERS = (through_pyarrow, through_duckdb, through_polars)


def path_of(block: StoredBlock) -> str:
    return str(block.store.local_path(KEY))


@pytest.mark.parametrize("read", READERS)
def test_columns_have_plain_values_in_every_reader(read: Any, tmp_path: Path) -> None:
    columns = read(path_of(store_block(tmp_path, [example()])))
    assert {name: columns[name] for name in EXPECTED} == EXPECTED
    assert [[event["name"] for event in events] for events in columns["events"]] == [[], [], ["e"]]
    assert columns["events"][2][0]["attributes"][0]["int_value"] == 7
    assert [entry[0]["string_value"] for entry in columns["attributes"]] == ["kept in the overflow list"] * 3
    assert columns["links"] == [[], [], []]


@pytest.mark.parametrize("read", READERS[1:])
def test_every_value_is_the_same_in_every_reader_when_spans_are_odd(read: Any, tmp_path: Path) -> None:
    block = store_block(tmp_path, [random_request(Random(3), traces=20, spans=200)], blocks=BlockSettings(row_group_spans=30))
    columns, expected = read(path_of(block)), through_pyarrow(path_of(block))
    assert list(columns) == list(expected)
    for name, values in expected.items():
        assert repr(columns[name]) == repr(values), name  # by text, because NaN equals nothing


def test_types_are_those_of_the_table(tmp_path: Path) -> None:
    block = store_block(tmp_path, [example()])
    schema = pq.read_schema(path_of(block))
    assert schema.remove_metadata() == file_schema(block.written.columns)
    assert not any(pa.types.is_dictionary(field.type) for field in schema)


def test_filters_of_others_find_rows_through_the_statistics(tmp_path: Path) -> None:
    requests = [random_request(Random(4), traces=30, spans=200)]
    block = store_block(tmp_path, requests, blocks=BlockSettings(row_group_spans=8))
    trace_id = sorted(set(through_pyarrow(path_of(block))["trace_id"]))[3]
    count = int((decode_otlp(requests[0].SerializeToString()).batch.spans["trace_lo"] == int.from_bytes(trace_id[8:], "big")).sum())
    with duckdb.connect() as connection:
        query = f"SELECT count(*) FROM read_parquet('{path_of(block)}') WHERE trace_id = ?"
        assert connection.execute(query, [trace_id]).fetchone() == (count,)
    assert pl.scan_parquet(path_of(block)).filter(pl.col("trace_id") == trace_id).collect().height == count

"""Blocks of spans as no sane sender sends them: very many keys and services, huge traces and values, types that do not fit the table."""

from __future__ import annotations

from pathlib import Path

import pyarrow.parquet as pq
import pytest
from block_files import KEY, pushed_traces, store_block, traces_of
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from spanlake.blocks.file.reader import read_row_group, split_columns
from spanlake.model.schema import ColumnType
from spanlake.model.settings import BlockSettings

TRACE = b"\7" * 16


def add_span(request: ExportTraceServiceRequest, number: int, *, trace: bytes = TRACE, service: str = "") -> Span:
    """A span in the last ResourceSpans, or in one of its own for a service."""
    if service or not request.resource_spans:
        resource_spans = request.resource_spans.add()
        resource_spans.resource.SetInParent()
        if service:
            resource_spans.resource.attributes.add(key="service.name").value.string_value = service
        resource_spans.scope_spans.add().scope.SetInParent()
    span = request.resource_spans[-1].scope_spans[0].spans.add(trace_id=trace, span_id=number.to_bytes(8, "big"))
    span.status.SetInParent()
    return span


def check(directory: Path, request: ExportTraceServiceRequest, blocks: BlockSettings | None = None) -> list[str]:
    """Assert that each trace is read as pushed, both ways. Returns the columns of the file."""
    block = store_block(directory, [request], blocks=blocks)
    expected = pushed_traces([request])
    for batch in block.batches():
        found = traces_of(batch)
        assert found == {trace_id: expected[trace_id] for trace_id in found}
    for trace_id in list(expected)[:50]:
        one = block.trace(trace_id)
        assert one is not None
        assert traces_of(one)[trace_id] == expected[trace_id]
    names: list[str] = pq.read_schema(block.store.local_path(KEY)).names
    return names


def test_frequent_keys_get_the_columns_when_there_are_5000_keys(tmp_path: Path) -> None:
    request = ExportTraceServiceRequest()
    for number in range(1, 51):
        span = add_span(request, number, trace=number.to_bytes(16, "big"))
        span.attributes.add(key="in.all").value.int_value = number
        for key in range(100):
            span.attributes.add(key=f"key.{number}.{key}").value.string_value = "v"
    columns = check(tmp_path, request)
    assert "span.in.all" in columns
    assert len([name for name in columns if name.startswith("span.")]) == 300


def test_every_service_is_kept_when_there_are_10000(tmp_path: Path) -> None:
    request = ExportTraceServiceRequest()
    for number in range(1, 10_001):
        add_span(request, number, trace=number.to_bytes(16, "big"), service=f"service {number}")
    block = store_block(tmp_path, [request], blocks=BlockSettings(row_group_spans=4000))
    names = pq.read_table(block.store.local_path(KEY)).column("resource.service.name").to_pylist()
    assert names == [f"service {number}" for number in range(1, 10_001)]
    for number in (1, 4000, 4001, 9999):
        trace_id = number.to_bytes(16, "big")
        found = block.trace(trace_id)
        assert found is not None
        assert found.strings.text_at(int(found.attrs["value"][0])) == f"service {number}"


def test_long_values_are_kept_when_they_are_everywhere(tmp_path: Path) -> None:
    request = ExportTraceServiceRequest()
    for number in range(1, 31):
        span = add_span(request, number, trace=(number % 7 + 1).to_bytes(16, "big"))
        span.name = "n" * 100_000 + str(number)
        span.attributes.add(key="long").value.string_value = "x" * 100_000 + str(number)
        span.attributes.add(key="same").value.string_value = "s" * 100_000
        span.attributes.add(key="blob").value.bytes_value = bytes(100_000)
        span.events.add(name="e" * 100_000).attributes.add(key="stack").value.string_value = "t" * 100_000 + str(number % 3)
    check(tmp_path, request)


@pytest.mark.slow
def test_row_group_is_not_split_when_one_trace_is_larger(tmp_path: Path) -> None:
    request = ExportTraceServiceRequest()
    add_span(request, 1, trace=bytes(15) + b"\1")
    for number in range(2, 200_002):
        span = add_span(request, number)
        span.parent_span_id = (number - 1).to_bytes(8, "big")
        span.attributes.add(key="n").value.int_value = number
        span.attributes.add(key="text").value.string_value = f"value {number}"
    add_span(request, 300_000, trace=b"\xff" * 16)
    block = store_block(tmp_path, [request], blocks=BlockSettings(row_group_spans=1000))
    # A row group closes at the end of the trace that fills it, so the small trace in front shares that of the large one.
    assert [group.rows for group in block.footer.info.row_groups] == [200_001, 1]
    found = block.trace(TRACE)
    assert found is not None
    assert len(found) == 200_000
    assert traces_of(found) == {TRACE: pushed_traces([request])[TRACE]}
    last = block.trace(b"\xff" * 16)
    assert last is not None
    assert len(last) == 1


MIXED: tuple[tuple[str, object], ...] = (
    ("string_value", "a"),
    ("int_value", 1),
    ("int_value", 2),
    ("double_value", 1.5),
    ("bool_value", True),
)


@pytest.mark.parametrize(
    ("table", "expected"),
    [
        ({}, "int"),
        ({"span.k": "string"}, "string"),
        ({"span.k": "double"}, "double"),
        ({"span.k": "bool"}, "bool"),
        ({"span.K": "string"}, None),
    ],
)
def test_column_has_the_tables_type_or_the_most_frequent_one(tmp_path: Path, table: dict[str, ColumnType], expected: str | None) -> None:
    request = ExportTraceServiceRequest()
    for number, (field, value) in enumerate(MIXED, 1):
        setattr(add_span(request, number).attributes.add(key="k").value, field, value)
    block = store_block(tmp_path, [request], table=table)
    assert block.written.columns.get("span.k") == expected
    found = block.trace(TRACE)
    assert found is not None
    assert traces_of(found) == pushed_traces([request])


def test_order_of_repeated_keys_is_kept_when_some_do_not_fit_the_column(tmp_path: Path) -> None:
    """The first value of a key is the one that counts, so it must stay first."""
    request = ExportTraceServiceRequest()
    for number, values in enumerate(((1, "a"), ("a", 1), (1, 2, "a", 3), ("a", "b", 1)), 1):
        span = add_span(request, number)
        for value in values:
            setattr(span.attributes.add(key="k").value, "int_value" if isinstance(value, int) else "string_value", value)
    check(tmp_path, request)


@pytest.mark.parametrize("value", [0.0, -0.0, float("nan"), float("inf"), 1.5])
@pytest.mark.parametrize("everywhere", [True, False])
def test_doubles_keep_every_bit_when_a_column_has_one_value(tmp_path: Path, value: float, everywhere: bool) -> None:
    request = ExportTraceServiceRequest()
    for number in range(1, 6):
        span = add_span(request, number)
        if everywhere or number < 5:
            span.attributes.add(key="d").value.double_value = value if number != 2 else -value
    assert "span.d" in check(tmp_path, request)


def test_columns_of_one_value_are_made_up_only_where_the_statistics_are_exact(tmp_path: Path) -> None:
    request = ExportTraceServiceRequest()
    for number in range(1, 6):
        span = add_span(request, number)
        span.name = "n" * 5000
        span.attributes.add(key="short").value.string_value = "web"
        span.attributes.add(key="long").value.string_value = "x" * 64 + str(number)
        span.attributes.add(key="d").value.double_value = 1.0
        span.attributes.add(key="b").value.bool_value = True
        if number > 1:
            span.attributes.add(key="sometimes").value.int_value = 7
    block = store_block(tmp_path, [request])
    leaves, constant = split_columns(block.footer.metadata, 0)
    read = {block.footer.metadata.schema.column(leaf).path for leaf in leaves}
    assert {"span.short": "web", "span.b": True}.items() <= constant.items()
    assert {"name", "span.long", "span.d", "span.sometimes", "trace_id"} <= read
    assert not {path for path in read if path.startswith(("links", "events"))}
    table = read_row_group(block.store, block.footer, 0)
    assert sorted(table.column_names) == sorted(set(table.column_names))
    assert table.column("span.short").to_pylist() == ["web"] * 5
    check(tmp_path, request)


def test_a_column_whose_name_begins_anothers_is_read_alone(tmp_path: Path) -> None:
    """Dots also stand between the names of nested fields."""
    request = ExportTraceServiceRequest()
    for number in range(1, 4):
        span = add_span(request, number)
        span.attributes.add(key="http").value.int_value = number
        span.attributes.add(key="http.route").value.string_value = "/"
        span.attributes.add(key="http.list.element").value.string_value = "x"
        span.attributes.add(key="list").value.string_value = str(number)
    columns = check(tmp_path, request)
    assert {"span.http", "span.http.route", "span.http.list.element", "span.list"} <= set(columns)

"""Choosing columns, counting keys, and the small functions that rows are built with."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from block_files import arranged
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from spanlake.blocks.build.arrays import PoolArrays, optional_ids, ranges
from spanlake.blocks.build.choose import KeyInfo, add_keys, choose_columns, count_attributes, describe_keys
from spanlake.blocks.build.pivot import Pivot
from spanlake.blocks.build.row_group import code_of
from spanlake.blocks.file.writer import row_group_bounds
from spanlake.blocks.memory.pool import StringPool
from spanlake.model.schema import ColumnType
from spanlake.model.spans import Strings, sampling_weight


def strings_of(*texts: bytes) -> Strings:
    lengths = np.array([len(text) for text in texts], np.int32)
    return Strings(np.frombuffer(bytearray(b"".join(texts)), np.uint8), np.cumsum(lengths, dtype=np.int64) - lengths, lengths)


def info(key: str, **spans: int) -> KeyInfo:
    return KeyInfo("span", key, spans)


def chosen(
    *infos: KeyInfo, rows: int = 100, table: dict[str, ColumnType] | None = None, columns_max: int = 300, table_columns_max: int = 1000
) -> dict[str, ColumnType]:
    columns = choose_columns(infos, rows=rows, table=table or {}, columns_max=columns_max, table_columns_max=table_columns_max)
    assert [column.name for column in columns] == sorted(column.name for column in columns)
    return {column.name: column.type for column in columns}


@pytest.mark.parametrize(
    ("infos", "expected"),
    [
        ([info("a", string=1, int=2)], {"span.a": "int"}),
        ([info("a", string=2, int=2)], {"span.a": "string"}),
        ([info("a", array=50, bool=1)], {"span.a": "bool"}),
        ([info("a", array=50)], {}),
        ([info("a b", string=9), info("", string=9), info("a=b", string=9), info("é", string=9)], {"span.é": "string"}),
        ([info("k" * 300, string=9)], {}),
        ([info("a", string=5), info("A", string=6)], {"span.A": "string"}),
        ([info("straße", string=5), info("STRASSE", string=4)], {"span.straße": "string"}),
        ([KeyInfo("resource", "a", {"int": 1}), info("a", string=1)], {"resource.a": "int", "span.a": "string"}),
    ],
)
def test_columns_are_those_keys_that_can_have_one(infos: list[KeyInfo], expected: dict[str, ColumnType]) -> None:
    assert chosen(*infos) == expected


def test_column_has_the_tables_type_and_spelling() -> None:
    table: dict[str, ColumnType] = {"span.a": "string", "span.B": "int"}
    assert chosen(info("a", string=1, int=9), info("b", int=9), table=table) == {"span.a": "string"}
    assert chosen(info("a", int=9), table=table) == {}


def test_new_columns_need_a_share_of_the_spans_and_room_in_the_table() -> None:
    assert chosen(info("rare", int=1), rows=500) == {"span.rare": "int"}
    assert chosen(info("rare", int=1), rows=501) == {}
    assert chosen(info("rare", int=1), rows=501, table={"span.rare": "int"}) == {"span.rare": "int"}
    keys = [info("a", int=3), info("b", int=2), info("c", int=1)]
    assert chosen(*keys, columns_max=2) == {"span.a": "int", "span.b": "int"}
    assert chosen(*keys, columns_max=0) == {}
    assert chosen(*keys, table={"span.c": "int"}, table_columns_max=2) == {"span.a": "int", "span.c": "int"}


def test_keys_are_counted_per_scope_and_type() -> None:
    request = ExportTraceServiceRequest()
    resource_spans = request.resource_spans.add()
    resource_spans.resource.attributes.add(key="k").value.string_value = "web"
    scope_spans = resource_spans.scope_spans.add()
    scope_spans.scope.attributes.add(key="lib").value.bool_value = True
    for number in range(1, 4):
        span = scope_spans.spans.add(trace_id=b"\1" * 16, span_id=bytes([number]) * 8)
        span.attributes.add(key="k").value.int_value = 1
        if number == 2:
            span.attributes.add(key="other").value.array_value.SetInParent()
            span.attributes.add(key="nothing")
    batch, _ = arranged([request])
    found = add_keys(describe_keys(batch, count_attributes(batch)))
    assert found == [
        KeyInfo("instrumentation", "lib", {"bool": 3}),
        KeyInfo("resource", "k", {"string": 3}),
        KeyInfo("span", "k", {"int": 3}),
        KeyInfo("span", "nothing", {"null": 1}),
        KeyInfo("span", "other", {"array": 1}),
    ]
    assert add_keys([*found, *found])[1] == KeyInfo("resource", "k", {"string": 6})


def test_pivot_gives_rows_their_owners_attributes() -> None:
    request = ExportTraceServiceRequest()
    scope_spans = request.resource_spans.add().scope_spans.add()
    for number, values in enumerate(((1, 2), (), (3,)), 1):
        span = scope_spans.spans.add(trace_id=b"\1" * 16, span_id=bytes([number]) * 8)
        for value in values:
            span.attributes.add(key="k").value.int_value = value
    batch, _ = arranged([request])
    keys = describe_keys(batch, count_attributes(batch))
    columns = choose_columns(keys, rows=3, table={}, columns_max=9, table_columns_max=9)
    pivot = Pivot(batch, columns, {"k": code_of(batch.strings, b"k")})
    pivoted = pivot.spread(batch.spans["attr_first"], batch.spans["attr_count"])
    expanded = pivoted.expand(np.array([2, 0, 0, 1]))
    assert expanded.valid[0].tolist() == [1, 1, 1, 0]
    assert expanded.values[0][expanded.valid[0] == 1].tolist() == [3, 1, 1]
    assert batch.attrs["value"][expanded.rest_attr].tolist() == [2, 2]
    assert expanded.rest_owner.tolist() == [1, 2]


@pytest.mark.parametrize(
    ("trace_state", "weight"),
    [
        ("", None),
        ("a=b", None),
        ("ot=th:8", 2.0),
        ("ot=th:0", 1.0),
        ("a=b,ot=rv:1;th:c;x:y", 4.0),
        ("a=b, ot=th:c", 4.0),
        ("ot=th:ffffffffffffff", float(1 << 56)),
        ("ot=th:123456789012345", None),
        ("ot=th:", None),
        ("bot=th:8", None),
        ("ot=xth:8", None),
    ],
)
def test_sampling_weight_is_that_of_the_threshold(trace_state: str, weight: float | None) -> None:
    assert sampling_weight(trace_state) == weight


@given(st.lists(st.binary(max_size=4)), st.binary(max_size=4))
def test_code_of_is_where_the_string_is(texts: list[bytes], wanted: bytes) -> None:
    found = code_of(strings_of(*texts), wanted)
    assert found == (texts.index(wanted) if wanted in texts else -1)


def test_pool_arrays_take_strings_by_code() -> None:
    pool = StringPool(seed=1)
    codes = pool.intern(strings_of(b"a", b"", b"long text", b"a"))
    arrays = PoolArrays(pool.view())
    valid = np.array([True, True, False, True])
    assert arrays.take(codes, pa.string()).to_pylist() == ["a", "", "long text", "a"]
    assert arrays.take(codes, pa.binary(), valid).to_pylist() == [b"a", b"", None, b"a"]
    encoded = arrays.dictionary(codes, valid)
    assert encoded.to_pylist() == ["a", "", None, "a"]
    assert encoded.dictionary.to_pylist() == ["a", ""]


def test_ids_and_ranges() -> None:
    assert optional_ids(np.array([0, 1, 0, 1 << 63], np.uint64)).to_pylist() == [b"", bytes(7) + b"\1", b"", b"\x80" + bytes(7)]
    assert ranges(np.array([5, 0, 9]), np.array([2, 0, 3])).tolist() == [5, 6, 9, 10, 11]
    assert ranges(np.array([]), np.array([])).tolist() == []


@given(st.lists(st.integers(1, 9), min_size=1), st.integers(1, 12))
def test_row_groups_close_behind_the_trace_that_fills_them(lengths: list[int], spans: int) -> None:
    trace_first = np.concatenate([[0], np.cumsum(lengths)])
    bounds = row_group_bounds(trace_first, spans)
    assert [begin for begin, _ in bounds] == [0, *(end for _, end in bounds[:-1])]
    assert bounds[-1][1] == sum(lengths)
    for begin, end in bounds:
        first, last = trace_first.tolist().index(begin), trace_first.tolist().index(end)
        assert trace_first[last - 1] - begin < spans
        assert end - begin >= spans or end == sum(lengths), (first, last)

"""The rule that turns an attribute into a column, and the schema of block files."""

from __future__ import annotations

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from spanlake.blocks.schema import file_schema
from spanlake.model.schema import (
    SPAN_COLUMNS,
    STATISTICS_COLUMNS,
    AttributeScope,
    column_attribute,
    column_clash,
    column_fold,
    column_name,
)

SCOPES = st.sampled_from(["span", "resource", "instrumentation"])

NAMES: list[tuple[AttributeScope, str, str | None]] = [
    ("span", "http.route", "span.http.route"),
    ("resource", "service.name", "resource.service.name"),
    ("instrumentation", "x", "instrumentation.x"),
    ("span", "a.b-c_d/e:f[0]'\"`", "span.a.b-c_d/e:f[0]'\"`"),
    ("span", "größe", "span.größe"),
    ("span", ".", "span.."),
    ("span", "", None),
    ("span", "x" * 250, "span." + "x" * 250),
    ("span", "x" * 251, None),
    ("span", "ö" * 126, None),
    ("span", "\ud800", None),
    *[("span", f"a{character}b", None) for character in " ,;{}()=\t\n\r\x00\x7f"],
]


@pytest.mark.parametrize(("scope", "key", "name"), NAMES)
def test_column_name_is_scope_and_key_unless_a_table_cannot_have_it(scope: AttributeScope, key: str, name: str | None) -> None:
    assert column_name(scope, key) == name


@given(SCOPES, st.text())
def test_column_attribute_undoes_column_name(scope: AttributeScope, key: str) -> None:
    name = column_name(scope, key)
    assert name is None or column_attribute(name) == (scope, key)


@pytest.mark.parametrize("name", ["", "span", "span.", "trace_id", "day", "event.x", "spanx.y", "span.a b", "Span.a"])
def test_column_attribute_is_none_when_no_attribute_has_the_name(name: str) -> None:
    assert column_attribute(name) is None


CLASHES = [
    ("span.a", ["span.a", "span.b"], None),
    ("span.a", ["span.A", "span.a"], "span.A"),
    ("span.ä", ["span.Ä"], "span.Ä"),
    ("span.ı", ["span.i"], "span.i"),  # dotless: Java's comparison calls them equal
    ("span.K", ["span.k"], "span.k"),  # the Kelvin sign
    ("span.a", ["resource.A"], None),
]


@pytest.mark.parametrize(("name", "columns", "clash"), CLASHES)
def test_column_clash_finds_the_other_spelling(name: str, columns: list[str], clash: str | None) -> None:
    assert column_clash(name, columns) == clash


@given(st.text())
def test_column_fold_is_blind_to_case(name: str) -> None:
    assert column_fold(name) == column_fold(column_fold(name))
    assert name.lower() != name.upper().lower() or column_fold(name) == name.lower()


def test_no_fixed_column_can_meet_an_attribute_column() -> None:
    names = [column.name for column in SPAN_COLUMNS]
    assert len({column_fold(name) for name in [*names, "day"]}) == len(names) + 1
    assert all("." not in name for name in names)
    assert set(STATISTICS_COLUMNS) < set(names)


def test_file_schema_has_the_fixed_columns_and_then_the_attributes_in_their_order() -> None:
    schema = file_schema({"span.z": "string", "span.a": "int", "resource.d": "double", "instrumentation.b": "bool"})
    assert schema.names == [*(column.name for column in SPAN_COLUMNS), "span.z", "span.a", "resource.d", "instrumentation.b"]
    assert schema.types[-4:] == [pa.string(), pa.int64(), pa.float64(), pa.bool_()]
    assert [field.name for field in schema if field.nullable][:2] == ["resource_entity_refs", "sampling_weight"]
    assert all(field.nullable for field in list(schema)[-4:])


def test_file_schema_has_only_types_that_delta_has() -> None:
    def leaves(kind: pa.DataType) -> list[pa.DataType]:
        if pa.types.is_list(kind):
            return leaves(kind.value_type)
        return [leaf for field in kind for leaf in leaves(field.type)] if pa.types.is_struct(kind) else [kind]

    found = {leaf for kind in file_schema({}).types for leaf in leaves(kind)}
    assert found <= {pa.string(), pa.binary(), pa.bool_(), pa.int32(), pa.int64(), pa.float64()}

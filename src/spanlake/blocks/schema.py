"""Arrow schemas of block files, derived from the table's columns in `model/schema.py`."""

from __future__ import annotations

from collections.abc import Mapping

import pyarrow as pa

from spanlake.model.schema import ATTRIBUTE_COLUMN_TYPES, SPAN_COLUMNS, ColumnType, Field, ListOf, Primitive

_ARROW: Mapping[Primitive, pa.DataType] = {
    "string": pa.string(),
    "binary": pa.binary(),
    "boolean": pa.bool_(),
    "integer": pa.int32(),
    "long": pa.int64(),
    "double": pa.float64(),
    "date": pa.date32(),
}


def file_schema(columns: Mapping[str, ColumnType]) -> pa.Schema:
    """The schema of a block file with these attribute columns: the fixed columns, then `columns` in their order. No `day`."""
    attributes = [pa.field(name, _ARROW[ATTRIBUTE_COLUMN_TYPES[kind]]) for name, kind in columns.items()]
    return pa.schema([_arrow_field(field) for field in SPAN_COLUMNS] + attributes)


def _arrow_field(field: Field) -> pa.Field:
    return pa.field(field.name, _arrow_type(field.type), nullable=field.nullable)


def _arrow_type(kind: Primitive | ListOf) -> pa.DataType:
    if isinstance(kind, ListOf):
        return pa.list_(pa.field("element", pa.struct([_arrow_field(field) for field in kind.fields]), nullable=False))
    return _ARROW[kind]

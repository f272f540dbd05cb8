"""The span table: its columns, their types and meanings, and the rule that turns an attribute into a column.

This module is the one place that names the columns of the table. It speaks Delta Lake's type names and knows neither Arrow, Parquet
nor the Delta log: `blocks/schema.py` derives file schemas from it, `blocks/catalog` the table.

A table holds the fixed columns of `SPAN_COLUMNS`, in this order; then the partition column `day`; then attribute columns, which are
added as blocks come to use them and never removed. A data file holds the fixed columns and some of the attribute columns; a column
of the table that a file lacks is null for all of its rows. No type here has a nanosecond timestamp, an unsigned or a fixed-size form,
because Delta has none: times are int64 nanoseconds since the Unix epoch.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal, TypeAlias

Primitive: TypeAlias = Literal["string", "binary", "boolean", "integer", "long", "double", "date"]
"""Delta's names; integer is 32 bits, long 64."""

ColumnType: TypeAlias = Literal["string", "int", "double", "bool"]
"""Types of attribute columns, named as TraceQL and OTLP name them."""

AttributeScope: TypeAlias = Literal["span", "resource", "instrumentation"]


@dataclass(frozen=True, slots=True)
class ListOf:
    """A list of structs."""

    fields: tuple[Field, ...]


@dataclass(frozen=True, slots=True)
class Field:
    """A column, or a field of a struct.

    `nullable` is about data files: what is not nullable is never null in them. In the table every column is nullable, so that other
    programs may write to it.
    """

    name: str
    type: Primitive | ListOf
    meaning: str
    nullable: bool = False


# Why an attribute value has five fields: OTLP's AnyValue is a union, and Parquet has none. `type` (model.spans: NULL … BYTES) says
# which one is set; arrays, maps and bytes are in `other_value`.
ATTRIBUTE: tuple[Field, ...] = (
    Field("key", "string", "attribute key"),
    Field("type", "integer", "0 empty, 1 string, 2 bool, 3 int, 4 double, 5 array, 6 map, 7 bytes"),
    Field("string_value", "string", "the value, if type is 1", nullable=True),
    Field("int_value", "long", "the value, if type is 3", nullable=True),
    Field("double_value", "double", "the value, if type is 4", nullable=True),
    Field("bool_value", "boolean", "the value, if type is 2", nullable=True),
    Field("other_value", "binary", "type 5 and 6: the serialized OTLP AnyValue; type 7: the bytes", nullable=True),
)

EVENT: tuple[Field, ...] = (
    Field("time_ns", "long", "time of the event, nanoseconds since the epoch"),
    Field("name", "string", "event name"),
    Field("dropped_attributes", "long", "attributes that the sender dropped"),
    Field("attributes", ListOf(ATTRIBUTE), "event attributes, in the sender's order"),
)

LINK: tuple[Field, ...] = (
    Field("trace_id", "binary", "linked trace, as sent"),
    Field("span_id", "binary", "linked span, as sent"),
    Field("trace_state", "string", "W3C tracestate of the link"),
    Field("flags", "long", "W3C trace flags of the link"),
    Field("dropped_attributes", "long", "attributes that the sender dropped"),
    Field("attributes", ListOf(ATTRIBUTE), "link attributes, in the sender's order"),
)

SPAN_COLUMNS: tuple[Field, ...] = (
    Field("trace_id", "binary", "16 bytes"),
    Field("span_id", "binary", "8 bytes"),
    Field("parent_span_id", "binary", "8 bytes; empty if the span has no parent"),
    Field("trace_state", "string", "W3C tracestate"),
    Field("flags", "long", "W3C trace flags and OTLP's remote bits"),
    Field("name", "string", "span name"),
    Field("kind", "integer", "0 unspecified, 1 internal, 2 server, 3 client, 4 producer, 5 consumer"),
    Field("status_code", "integer", "0 unset, 1 ok, 2 error"),
    Field("status_message", "string", "status message"),
    Field("start_ns", "long", "start, nanoseconds since the epoch"),
    Field("duration_ns", "long", "end minus start; negative if the sender's end is before its start"),
    Field("nested_left", "integer", "nested set: number when the span is entered; the first row of a trace has 1"),
    Field("nested_right", "integer", "nested set: number when the span is left; descendants lie between left and right"),
    Field("nested_parent", "integer", "nested_left of the parent; -1 for a root, 0 for a span whose parent is absent"),
    Field("child_count", "integer", "spans of the trace whose parent is this span"),
    Field("trace_start_ns", "long", "earliest start of the trace's spans in this block"),
    Field("trace_duration_ns", "long", "latest end minus earliest start of the trace's spans in this block"),
    Field("root_name", "string", "name of the trace's root span; empty if there is none"),
    Field("root_service", "string", "resource.service.name of the trace's root span; empty if there is none"),
    Field("scope_name", "string", "instrumentation scope name"),
    Field("scope_version", "string", "instrumentation scope version"),
    Field("scope_schema_url", "string", "schema URL of the ScopeSpans"),
    Field("scope_dropped_attributes", "long", "scope attributes that the sender dropped"),
    Field("resource_schema_url", "string", "schema URL of the ResourceSpans"),
    Field("resource_dropped_attributes", "long", "resource attributes that the sender dropped"),
    Field("resource_entity_refs", "binary", "OTLP EntityRef fields of the resource, serialized; null if none", nullable=True),
    Field("resource_index", "integer", "spans of a trace with equal numbers came with one resource"),
    Field("scope_index", "integer", "spans of a resource with equal numbers came with one scope"),
    Field("dropped_attributes", "long", "span attributes that the sender dropped"),
    Field("dropped_events", "long", "events that the sender dropped"),
    Field("dropped_links", "long", "links that the sender dropped"),
    Field("sampling_weight", "double", "spans that this one stands for; null if the sender did not say", nullable=True),
    Field("events", ListOf(EVENT), "events, in the sender's order"),
    Field("links", ListOf(LINK), "links, in the sender's order"),
    Field(
        "attributes",
        ListOf((Field("scope", "string", "span, resource or instrumentation"), *ATTRIBUTE)),
        "attributes that are in no column of this file, and values of another type than their column's",
    ),
)

DAY_COLUMN = Field("day", "date", "UTC day of trace_start_ns of all rows of a file; null if it is not the same for all", nullable=True)
"""The partition column: it is in the table, not in the files."""

ATTRIBUTE_COLUMN_TYPES: Mapping[ColumnType, Primitive] = {"string": "string", "int": "long", "double": "double", "bool": "boolean"}

STATISTICS_COLUMNS = ("start_ns", "trace_start_ns", "trace_duration_ns")
"""The columns whose least and greatest value the Delta log keeps per file."""

COLUMN_NAME_BYTES_MAX = 255
_SCOPES: tuple[AttributeScope, ...] = ("span", "resource", "instrumentation")
# Parquet writers of the Spark family refuse the first eleven; control characters survive in no SQL dialect.
_FORBIDDEN = re.compile(r"[ ,;{}()=\x00-\x1f\x7f]")


def column_name(scope: AttributeScope, key: str) -> str | None:
    """The name of the column for an attribute, `<scope>.<key>`; None if a table cannot have such a column.

    Different attributes have different names. That a table may hold only one of two names that differ in case is `column_clash`.
    """
    if not key or _FORBIDDEN.search(key):
        return None
    name = f"{scope}.{key}"
    try:
        return name if len(name.encode()) <= COLUMN_NAME_BYTES_MAX else None
    except UnicodeEncodeError:  # a lone surrogate
        return None


def column_attribute(name: str) -> tuple[AttributeScope, str] | None:
    """The inverse of `column_name`: scope and key, or None if `name` is not the name of an attribute column."""
    for scope in _SCOPES:
        if name.startswith(f"{scope}.") and column_name(scope, name[len(scope) + 1 :]) == name:
            return scope, name[len(scope) + 1 :]
    return None


def column_fold(name: str) -> str:
    """A text that is equal for names which some reader of Delta tables takes for the same, as most ignore case.

    Through upper case first, because Java's comparison, which Spark uses, calls texts equal whose upper or lower cases are.
    """
    return name.upper().lower()


def column_clash(name: str, columns: Iterable[str]) -> str | None:
    """The column that keeps `name` out of a table with `columns`: equal but for case, and spelled differently. None if there is none."""
    fold = column_fold(name)
    return next((other for other in columns if other != name and column_fold(other) == fold), None)

"""Rows of the span table as arrays of numbers and string codes, and from there back to a span batch: the inverse of `blocks/build`.

`Columns` is what both ways of reading a row group lead to: through Arrow (`rows.py`) and straight from the pages (`windows.py`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spanlake.model.errors import CorruptData
from spanlake.model.kernel import kernel
from spanlake.model.schema import AttributeScope
from spanlake.model.spans import ATTR, EVENT, LINK, RESOURCE, SCOPE, SPAN, Records, SpanBatch, Strings

SCOPE_BY_LENGTH: Mapping[int, AttributeScope] = {
    len("span"): "span",
    len("resource"): "resource",
    len("instrumentation"): "instrumentation",
}
"""Scope names differ in length, so that a string code's length tells which one it is."""
VALUE_FIELDS = ("string_value", "int_value", "double_value", "bool_value", "other_value")
_ORDINAL_BITS = 32


@dataclass(frozen=True, slots=True)
class AttributeColumn:
    """An attribute column: code of its key, OTLP type number, and per row the value as in ATTR.value and whether there is one."""

    scope: AttributeScope
    key: int
    type: int
    values: NDArray[np.int64]
    valid: NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Columns:
    """Rows of whole traces, in order. `values` and `counts` are by path: the column's name, for parts of lists followed by the field's.

    Values are numbers, bits of doubles, codes of `strings` (0 for null), or ids as numbers (`trace_hi`, `trace_lo`, `span_id`,
    `parent_span_id`; 0 for an empty one). `counts` has the lengths of lists: of `events`, `links` and `attributes` per row, of
    `events.attributes` and `links.attributes` per event and link. A path that is absent stands for zeros, empty strings and empty lists.
    """

    rows: int
    strings: Strings
    values: Mapping[str, NDArray[np.int64]]
    counts: Mapping[str, NDArray[np.int64]]
    attributes: Sequence[AttributeColumn]

    def of(self, path: str, count: int) -> NDArray[np.int64]:
        """The values of a path that has `count` of them."""
        values = self.values.get(path)
        if values is None:
            return np.zeros(count, np.int64)
        _check_length(path, len(values), count)
        return values

    def lengths(self, path: str, count: int) -> NDArray[np.int64]:
        """The lengths of the lists of a path that has `count` of them."""
        lengths = self.counts.get(path)
        if lengths is None:
            return np.zeros(count, np.int64)
        _check_length(path, len(lengths), count)
        return lengths


def _check_length(path: str, found: int, expected: int) -> None:
    if found != expected:
        raise CorruptData(f"column {path} has {found} values where others have {expected}")


@kernel
def unpivot_attributes(rows: Any, values: Any, valid: Any, keys: Any, types: Any, rest: Any) -> tuple[Any, Any]:
    """Attributes of owners from columns and overflow. rows: the table row of each owner; values, valid: [column, row]; keys, types: per
    column; rest: (first, count per table row, ATTR records). Returns (ATTR records, int32[2, owners]: first and count)."""
    found = np.empty((2, len(rows)), np.int32)
    rest_first, rest_count, rest_attrs = rest
    total = 0
    for i in range(len(rows)):
        total += rest_count[rows[i]]
        for column in range(len(keys)):
            total += valid[column, rows[i]]
    out = np.empty(total, rest_attrs.dtype)
    filled = 0
    for i in range(len(rows)):
        row = rows[i]
        found[0, i] = filled
        for column in range(len(keys)):
            if valid[column, row]:
                out[filled].key = keys[column]
                out[filled].type = types[column]
                out[filled].value = values[column, row]
                filled += 1
        for j in range(rest_first[row], rest_first[row] + rest_count[row]):
            out[filled] = rest_attrs[j]
            filled += 1
        found[1, i] = filled - found[0, i]
    return out, found


def columns_to_batch(columns: Columns) -> SpanBatch:
    """The rows as a batch, in their order."""
    spans = _spans(columns)
    # Ordinals are per trace, and a trace begins where nested_left is 1.
    trace = np.cumsum(columns.of("nested_left", columns.rows) == 1) << _ORDINAL_BITS
    _, scope_rows, spans["scope"] = np.unique(trace | columns.of("scope_index", columns.rows), return_index=True, return_inverse=True)
    resource_keys = (trace | columns.of("resource_index", columns.rows))[scope_rows]
    _, first_scopes, resource_of = np.unique(resource_keys, return_index=True, return_inverse=True)
    resource_rows = scope_rows[first_scopes]
    scopes = _scopes(columns, scope_rows, resource_of)
    resources = _resources(columns, resource_rows)
    rest = _overflow(columns)
    events, event_attrs = _parts(columns, "event", EVENT, spans)
    links, link_attrs = _parts(columns, "link", LINK, spans)
    owners: list[tuple[Records, Records]] = []
    for scope, rows, records in (
        ("span", np.arange(columns.rows), spans),
        ("instrumentation", scope_rows, scopes),
        ("resource", resource_rows, resources),
    ):
        owners.append((records, _unpivot(columns, scope, rows, records, rest)))
    owners += [(events, event_attrs), (links, link_attrs)]
    begin = 0
    for records, attrs in owners:
        records["attr_first"] += begin
        begin += len(attrs)
    return SpanBatch(columns.strings, spans, scopes, resources, events, links, np.concatenate([attrs for _, attrs in owners]))


_SPAN_PATHS = {
    **{name: name for name in ("trace_hi", "trace_lo", "span_id", "start_ns", "duration_ns", "name", "trace_state", "status_message")},
    **{name: name for name in ("status_code", "kind", "flags", "dropped_attributes", "dropped_events", "dropped_links")},
    "parent_id": "parent_span_id",
}


def _spans(columns: Columns) -> Records:
    spans = np.zeros(columns.rows, SPAN)
    for field, path in _SPAN_PATHS.items():
        spans[field] = columns.of(path, columns.rows)
    return spans


def _scopes(columns: Columns, rows: NDArray[np.int64], resource_of: NDArray[np.int64]) -> Records:
    scopes = np.zeros(len(rows), SCOPE)
    scopes["resource"] = resource_of
    for field in ("name", "version", "schema_url", "dropped_attributes"):
        scopes[field] = columns.of(f"scope_{field}", columns.rows)[rows]
    return scopes


def _resources(columns: Columns, rows: NDArray[np.int64]) -> Records:
    resources = np.zeros(len(rows), RESOURCE)
    for field in ("schema_url", "entity_refs", "dropped_attributes"):
        resources[field] = columns.of(f"resource_{field}", columns.rows)[rows]
    return resources


def _parts(columns: Columns, kind: str, record: np.dtype[Any], spans: Records) -> tuple[Records, Records]:
    """(records, their ATTR records) of the events or links of all rows; sets the spans' ranges."""
    path = f"{kind}s"
    counts = columns.lengths(path, columns.rows)
    spans[f"{kind}_first"], spans[f"{kind}_count"] = np.cumsum(counts) - counts, counts
    parts = np.zeros(int(counts.sum()), record)
    for field in record.names or ():
        if not field.startswith("attr_"):
            parts[field] = columns.of(f"{path}.{field}", len(parts))
    attr_counts = columns.lengths(f"{path}.attributes", len(parts))
    parts["attr_first"], parts["attr_count"] = np.cumsum(attr_counts) - attr_counts, attr_counts
    return parts, _attribute_records(columns, f"{path}.attributes", int(attr_counts.sum()))


def _attribute_records(columns: Columns, path: str, count: int) -> Records:
    """ATTR records of structs with the fields of `model.schema.ATTRIBUTE`."""
    attrs = np.zeros(count, ATTR)
    attrs["key"], attrs["type"] = columns.of(f"{path}.key", count), columns.of(f"{path}.type", count)
    value = np.zeros(count, np.int64)
    for field in VALUE_FIELDS:
        value |= columns.of(f"{path}.{field}", count)  # all but one are null, which is 0
    attrs["value"] = value
    return attrs


_Rest = Mapping[str, tuple[NDArray[np.int64], NDArray[np.int64], Records]]


def _overflow(columns: Columns) -> _Rest:
    """Per scope: (first, count per row, ATTR records) of the overflow list."""
    counts = columns.lengths("attributes", columns.rows)
    total = int(counts.sum())
    attrs = _attribute_records(columns, "attributes", total)
    row_of = np.repeat(np.arange(columns.rows), counts)
    lengths = columns.strings.length[columns.of("attributes.scope", total)]
    parts: dict[str, tuple[NDArray[np.int64], NDArray[np.int64], Records]] = {}
    for length, scope in SCOPE_BY_LENGTH.items():
        own = lengths == length
        per_row = np.bincount(row_of[own], minlength=columns.rows).astype(np.int64)
        parts[scope] = (np.cumsum(per_row) - per_row, per_row, attrs[own])
    return parts


def _unpivot(columns: Columns, scope: str, rows: NDArray[np.int64], owners: Records, rest: _Rest) -> Records:
    """The attributes of the owners at these rows, back to back; sets the owners' attr_first and attr_count."""
    own = [column for column in columns.attributes if column.scope == scope]
    values = np.stack([column.values for column in own]) if own else np.empty((0, columns.rows), np.int64)
    valid = np.stack([column.valid for column in own]) if own else np.empty((0, columns.rows), np.bool_)
    keys = np.array([column.key for column in own], np.int32)
    types = np.array([column.type for column in own], np.uint8)
    attrs: Records
    attrs, (owners["attr_first"], owners["attr_count"]) = unpivot_attributes(rows, values, valid, keys, types, rest[scope])
    return attrs

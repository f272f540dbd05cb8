"""From the columns of the span table back to a span batch: the inverse of `blocks/build`.

Works on any slice of a row group that begins and ends at trace boundaries. The string table of the result has the dictionaries of the
columns one after the other, so equal strings of different columns have different codes; merging batches into a pool evens that out.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from spanlake.blocks.build.arrays import ranges
from spanlake.model.kernel import kernel
from spanlake.model.schema import column_attribute
from spanlake.model.spans import (
    ARRAY,
    ATTR,
    BOOL,
    BYTES,
    DOUBLE,
    EVENT,
    INT,
    KVLIST,
    LINK,
    RESOURCE,
    SCOPE,
    SPAN,
    STRING,
    Records,
    SpanBatch,
    Strings,
)

_SCOPES = ("span", "resource", "instrumentation")


class StringTable:
    """Collects Arrow strings into one string table. Code 0 is the empty string."""

    def __init__(self) -> None:
        self._data: list[NDArray[np.uint8]] = []
        self._offsets: list[NDArray[np.int64]] = [np.zeros(1, np.int64)]
        self._lengths: list[NDArray[np.int32]] = [np.zeros(1, np.int32)]
        self._bytes = 0
        self._codes = 1

    def add(self, array: pa.Array) -> int:
        """Append a string or binary array (nulls as empty strings); returns the code of its first entry."""
        data, offsets = binary_parts(array)
        begin = int(offsets[0])
        self._data.append(data[begin : int(offsets[-1])])
        self._offsets.append(offsets[:-1].astype(np.int64) - begin + self._bytes)
        self._lengths.append(np.diff(offsets).astype(np.int32))
        self._bytes += int(offsets[-1]) - begin
        first = self._codes
        self._codes += len(array)
        return first

    def text(self, text: str) -> int:
        """The code of a new entry."""
        return self.add(pa.array([text], pa.string()))

    def codes(self, array: pa.Array) -> NDArray[np.int64]:
        """Codes of a string, binary or dictionary array; 0 where null."""
        if isinstance(array, pa.DictionaryArray):
            codes = integers(array.indices) + self.add(array.dictionary)
        else:
            codes = np.arange(len(array), dtype=np.int64) + self.add(array)
        return np.where(validity(array), codes, 0) if array.null_count else codes

    def strings(self) -> Strings:
        return Strings(np.concatenate([np.empty(0, np.uint8), *self._data]), np.concatenate(self._offsets), np.concatenate(self._lengths))


def binary_parts(array: pa.Array) -> tuple[NDArray[np.uint8], NDArray[np.int32]]:
    """(data, offsets) of a string or binary array: entry i is data[offsets[i]:offsets[i + 1]]."""
    _, offsets, data = array.buffers()
    if offsets is None or len(array) == 0:
        return np.empty(0, np.uint8), np.zeros(len(array) + 1, np.int32)
    bounds = np.frombuffer(offsets, np.int32, len(array) + 1, array.offset * 4)
    return (np.empty(0, np.uint8) if data is None else np.frombuffer(data, np.uint8)), bounds


def integers(array: pa.Array) -> NDArray[np.int64]:
    """An integer array as int64, 0 where null."""
    filled = array.fill_null(0) if array.null_count else array
    values: NDArray[np.int64] = filled.to_numpy(zero_copy_only=False).astype(np.int64, copy=False)
    return values


def validity(array: pa.Array) -> NDArray[np.bool_]:
    """Which entries are not null."""
    valid: NDArray[np.bool_] = array.is_valid().to_numpy(zero_copy_only=False)
    return valid


def ids(array: pa.Array) -> NDArray[np.uint64]:
    """Eight-byte ids of a binary array as integers; 0 for empty ones."""
    data, offsets = binary_parts(array)
    present = np.diff(offsets) == 8
    values = np.zeros(len(array), np.uint64)
    values[present] = np.frombuffer(data[int(offsets[0]) : int(offsets[-1])].tobytes(), ">u8")
    return values


@kernel
def unpivot_attributes(rows: Any, values: Any, valid: Any, keys: Any, types: Any, rest: Any, out: Any) -> Any:
    """Attributes of owners from columns and overflow. rows: the table row of each owner; values, valid: [column, row]; keys, types: per
    column; rest: (first, count per table row, ATTR records). Fills `out` (ATTR records), returns int32[2, owners]: first and count."""
    found = np.empty((2, len(rows)), np.int32)
    rest_first, rest_count, rest_attrs = rest
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
    return found


class _Attributes:
    """The attribute columns and the overflow list of a table, ready to be handed out per owner."""

    def __init__(self, table: pa.Table, strings: StringTable) -> None:
        self._rows = table.num_rows
        self._columns: dict[str, list[tuple[int, int, NDArray[np.int64], NDArray[np.bool_]]]] = {scope: [] for scope in _SCOPES}
        for name in table.column_names:
            attribute = column_attribute(name)
            if attribute is not None:
                array = one_chunk(table.column(name))
                self._columns[attribute[0]].append((strings.text(attribute[1]), *_typed_values(array, strings), validity(array)))
        self._rest = _overflow(table, strings)

    def of(self, scope: str, rows: NDArray[np.int64], owners: Records) -> Records:
        """The attributes of the owners at these table rows, back to back; sets the owners' attr_first and attr_count."""
        columns = self._columns[scope]
        values = np.stack([column[2] for column in columns]) if columns else np.empty((0, self._rows), np.int64)
        valid = np.stack([column[3] for column in columns]) if columns else np.empty((0, self._rows), np.bool_)
        keys = np.array([column[0] for column in columns], np.int32)
        types = np.array([column[1] for column in columns], np.uint8)
        rest = self._rest[scope]
        total = int(valid.sum(axis=0, dtype=np.int64)[rows].sum() + rest[1][rows].sum())
        out = np.empty(total, ATTR)
        owners["attr_first"], owners["attr_count"] = unpivot_attributes(rows, values, valid, keys, types, rest, out)
        return out


def _typed_values(array: pa.Array, strings: StringTable) -> tuple[int, NDArray[np.int64]]:
    """(type number, ATTR values) of an attribute column."""
    kind = array.type
    if pa.types.is_integer(kind):
        return INT, integers(array)
    if pa.types.is_floating(kind):
        return DOUBLE, array.fill_null(0.0).to_numpy(zero_copy_only=False).view(np.int64)
    if pa.types.is_boolean(kind):
        return BOOL, array.fill_null(False).to_numpy(zero_copy_only=False).astype(np.int64)
    return STRING, strings.codes(array)


def _overflow(table: pa.Table, strings: StringTable) -> dict[str, tuple[NDArray[np.int64], NDArray[np.int64], Records]]:
    """Per scope: (first, count per row, ATTR records) of the overflow list."""
    count = table.num_rows
    if "attributes" not in table.column_names:
        nothing = (np.zeros(count, np.int64), np.zeros(count, np.int64), np.empty(0, ATTR))
        return dict.fromkeys(_SCOPES, nothing)
    array = one_chunk(table.column("attributes"))
    row_of = np.repeat(np.arange(count), list_counts(array))
    entries = array.flatten()
    attrs = attribute_records(entries, strings)
    scopes = entries.field("scope").dictionary_encode()
    numbers = integers(scopes.indices)
    names = scopes.dictionary.to_pylist()
    parts = {}
    for scope in _SCOPES:
        own = numbers == names.index(scope) if scope in names else np.zeros(len(entries), np.bool_)
        counts = np.bincount(row_of[own], minlength=count)
        parts[scope] = (np.cumsum(counts) - counts, counts, attrs[own])
    return parts


def attribute_records(entries: pa.StructArray, strings: StringTable) -> Records:
    """ATTR records of structs with the fields of `model.schema.ATTRIBUTE`."""
    types = integers(entries.field("type"))
    floats = entries.field("double_value").fill_null(0.0).to_numpy(zero_copy_only=False).view(np.int64)
    choices = [
        (types == STRING, strings.codes(entries.field("string_value"))),
        (types == INT, integers(entries.field("int_value"))),
        (types == DOUBLE, floats),
        (types == BOOL, integers(entries.field("bool_value").cast(pa.int8()))),
        ((types == ARRAY) | (types == KVLIST) | (types == BYTES), strings.codes(entries.field("other_value"))),
    ]
    attrs = np.zeros(len(entries), ATTR)
    attrs["key"], attrs["type"] = strings.codes(entries.field("key")), types
    attrs["value"] = np.select([which for which, _ in choices], [values for _, values in choices], 0)
    return attrs


def one_chunk(column: pa.ChunkedArray) -> pa.Array:
    """A column as one array."""
    return column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()


def list_counts(array: pa.ListArray) -> NDArray[np.int64]:
    """Entries per list."""
    return np.diff(integers(array.offsets))


def table_to_batch(table: pa.Table) -> SpanBatch:
    """The rows of whole traces as a batch, in the order of the table. Columns that are absent are read as empty or zero."""
    strings = StringTable()
    attributes = _Attributes(table, strings)
    spans = _spans(table, strings)
    first_of_trace = integers(one_chunk(table.column("nested_left"))) == 1
    trace = np.cumsum(first_of_trace) << 32
    keys = trace | integers(one_chunk(table.column("scope_index")))
    _, scope_rows, spans["scope"] = np.unique(keys, return_index=True, return_inverse=True)
    resource_keys = (trace | integers(one_chunk(table.column("resource_index"))))[scope_rows]
    _, first_scopes, resource_of = np.unique(resource_keys, return_index=True, return_inverse=True)
    scopes = _scopes(table.take(pa.array(scope_rows)), strings, resource_of)
    resource_rows = scope_rows[first_scopes]
    resources = _resources(table.take(pa.array(resource_rows)), strings)
    events, event_attrs = _parts(table, "events", EVENT, strings, spans)
    links, link_attrs = _parts(table, "links", LINK, strings, spans)
    parts = [
        (spans, attributes.of("span", np.arange(table.num_rows), spans)),
        (scopes, attributes.of("instrumentation", scope_rows, scopes)),
        (resources, attributes.of("resource", resource_rows, resources)),
        (events, event_attrs),
        (links, link_attrs),
    ]
    begin = 0
    for owners, attrs in parts:
        owners["attr_first"] += begin
        begin += len(attrs)
    return SpanBatch(strings.strings(), spans, scopes, resources, events, links, np.concatenate([attrs for _, attrs in parts]))


def _spans(table: pa.Table, strings: StringTable) -> Records:
    spans = np.zeros(table.num_rows, SPAN)
    trace_id = one_chunk(table.column("trace_id"))
    trace_id = trace_id if isinstance(trace_id, pa.DictionaryArray) else trace_id.dictionary_encode()
    data, offsets = binary_parts(trace_id.dictionary)
    halves = np.frombuffer(data[int(offsets[0]) : int(offsets[-1])].tobytes(), ">u8").reshape(-1, 2)
    which = integers(trace_id.indices)
    spans["trace_hi"], spans["trace_lo"] = halves[which, 0], halves[which, 1]
    spans["span_id"], spans["parent_id"] = (ids(one_chunk(table.column(name))) for name in ("span_id", "parent_span_id"))
    for name in ("start_ns", "duration_ns", "status_code", "kind", "flags", "dropped_attributes", "dropped_events", "dropped_links"):
        spans[name] = integers(one_chunk(table.column(name)))
    for name in ("name", "trace_state", "status_message"):
        spans[name] = strings.codes(one_chunk(table.column(name)))
    return spans


def _scopes(table: pa.Table, strings: StringTable, resource_of: NDArray[np.int64]) -> Records:
    scopes = np.zeros(table.num_rows, SCOPE)
    scopes["resource"] = resource_of
    scopes["dropped_attributes"] = integers(one_chunk(table.column("scope_dropped_attributes")))
    for name in ("name", "version", "schema_url"):
        scopes[name] = strings.codes(one_chunk(table.column(f"scope_{name}")))
    return scopes


def _resources(table: pa.Table, strings: StringTable) -> Records:
    resources = np.zeros(table.num_rows, RESOURCE)
    resources["dropped_attributes"] = integers(one_chunk(table.column("resource_dropped_attributes")))
    resources["schema_url"] = strings.codes(one_chunk(table.column("resource_schema_url")))
    if "resource_entity_refs" in table.column_names:
        resources["entity_refs"] = strings.codes(one_chunk(table.column("resource_entity_refs")))
    return resources


def _parts(table: pa.Table, name: str, record: np.dtype[Any], strings: StringTable, spans: Records) -> tuple[Records, Records]:
    """(records, their ATTR records) of the events or links of all rows; sets the spans' ranges."""
    kind = name.removesuffix("s")
    if name not in table.column_names:
        return np.empty(0, record), np.empty(0, ATTR)
    array = one_chunk(table.column(name))
    counts = list_counts(array)
    spans[f"{kind}_first"], spans[f"{kind}_count"] = np.cumsum(counts) - counts, counts
    entries = array.flatten()
    parts = np.zeros(len(entries), record)
    for field in ("time_ns", "dropped_attributes", "flags"):
        if field in (record.names or ()):
            parts[field] = integers(entries.field(field))
    for field in ("name", "trace_id", "span_id", "trace_state"):
        if field in (record.names or ()):
            parts[field] = strings.codes(entries.field(field))
    lists = entries.field("attributes")
    attr_counts = list_counts(lists)
    parts["attr_first"], parts["attr_count"] = np.cumsum(attr_counts) - attr_counts, attr_counts
    return parts, attribute_records(lists.flatten(), strings)


def rows_of_traces(trace_first: NDArray[np.int64], traces: NDArray[np.int64]) -> NDArray[np.int64]:
    """The rows of the given traces, of which each is the range [trace_first[t], trace_first[t + 1])."""
    return ranges(trace_first[traces], trace_first[traces + 1] - trace_first[traces])

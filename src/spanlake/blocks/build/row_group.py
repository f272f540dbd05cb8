"""The Arrow table of one row group: rows of an arranged batch as the columns of the span table."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from spanlake.blocks.build.arrays import (
    PoolArrays,
    attribute_fields,
    big_endian,
    column_array,
    fixed_width_binary,
    lists,
    numbers,
    optional_ids,
    ranges,
)
from spanlake.blocks.build.choose import SCOPES, Column, KeyCounts
from spanlake.blocks.build.pivot import Pivot, Pivoted
from spanlake.blocks.memory.arrange import Arrangement
from spanlake.blocks.schema import file_schema
from spanlake.model.kernel import kernel
from spanlake.model.schema import AttributeScope
from spanlake.model.spans import EMPTY_STRING, STRING, Records, SpanBatch, Strings, sampling_weight


@kernel
def find_attribute(firsts: Any, lengths: Any, attrs: Any, key: int, kind: int, missing: int) -> Any:
    """Per owner, the value of its first attribute with that key and type, or `missing`."""
    found = np.full(len(firsts), missing, np.int64)
    for i in range(len(firsts)):
        for j in range(firsts[i], firsts[i] + lengths[i]):
            if attrs[j].key == key and attrs[j].type == kind:
                found[i] = attrs[j].value
                break
    return found


def code_of(strings: Strings, text: bytes) -> int:
    """The code of a string, -1 if the table does not have it."""
    found = np.flatnonzero(strings.length == len(text))
    for at, byte in enumerate(text):
        found = found[strings.data[strings.offset[found] + at] == byte]
    return int(found[0]) if len(found) else -1


ID_COLUMNS = ("span_id", "parent_span_id")


@dataclass(frozen=True, slots=True)
class _Owners:
    """The scopes or resources of some rows: each that occurs once, and which of them each row has."""

    records: Records
    of_row: NDArray[np.int64]

    def column(self, name: str) -> NDArray[Any]:
        """A field per row."""
        values: NDArray[Any] = self.records[name][self.of_row]
        return values


def _owners_of(table: Records, indexes: NDArray[Any]) -> _Owners:
    """The records at these indexes. Like numpy's unique, but without sorting."""
    place = np.zeros(len(table), np.int64)
    place[indexes] = 1
    used = np.flatnonzero(place)
    place[used] = np.arange(len(used))
    return _Owners(table[used], place[indexes])


@dataclass(frozen=True, slots=True)
class _Rows:
    """Output rows [begin, end) with their owners."""

    spans: Records
    scopes: _Owners
    resources: _Owners


class RowGroups:
    """Builds the row groups of one batch whose rows are in the order of its arrangement; owns what they share."""

    def __init__(self, batch: SpanBatch, arrangement: Arrangement, columns: Sequence[Column], keys: KeyCounts) -> None:
        self._batch = batch
        self._arrangement = arrangement
        self._columns = columns
        self._pool = PoolArrays(batch.strings)
        codes = {batch.strings.text_at(code): code for code in keys.codes.tolist()}
        self._pivots = {scope: Pivot(batch, [column for column in columns if column.scope == scope], codes) for scope in SCOPES}
        self._schema = file_schema({column.name: column.type for column in columns})
        self.schema = dictionary_schema(self._schema)
        resources = batch.resources
        key = code_of(batch.strings, b"service.name")
        firsts, counts = (np.ascontiguousarray(resources[name]) for name in ("attr_first", "attr_count"))
        self._service_of = find_attribute(firsts, counts, batch.attrs, key, STRING, EMPTY_STRING)

    def table(self, begin: int, end: int) -> pa.Table:
        """Output rows [begin, end), which begin and end at trace boundaries."""
        rows = self._rows(begin, end)
        traces = self._traces(begin, end)
        columns = {
            **self._identity(rows, traces),
            **self._tree(begin, end),
            **self._trace(traces, end - begin),
            **self._owners(rows),
            **self._parts(rows),
            **self._attributes(rows),
        }
        return pa.Table.from_arrays([columns[name] for name in self.schema.names], schema=self.schema)

    def _rows(self, begin: int, end: int) -> _Rows:
        spans = self._batch.spans[begin:end]
        scopes = _owners_of(self._batch.scopes, spans["scope"])
        resources = _owners_of(self._batch.resources, scopes.records["resource"])
        return _Rows(spans, scopes, _Owners(resources.records, resources.of_row[scopes.of_row]))

    def _traces(self, begin: int, end: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """The traces of the rows, and the place in it of each row's trace."""
        first, last = np.searchsorted(self._arrangement.trace_first, [begin, end])
        lengths = np.diff(self._arrangement.trace_first[first : last + 1])
        return np.arange(first, last), np.repeat(np.arange(last - first, dtype=np.int64), lengths)

    def _identity(self, rows: _Rows, traces: tuple[NDArray[np.int64], NDArray[np.int64]]) -> dict[str, pa.Array]:
        spans, pool = rows.spans, self._pool
        firsts = self._batch.spans[self._arrangement.trace_first[traces[0]]]
        trace_ids = np.empty((len(firsts), 2), np.uint64)
        trace_ids[:, 0], trace_ids[:, 1] = firsts["trace_hi"], firsts["trace_lo"]
        return {
            "trace_id": pa.DictionaryArray.from_arrays(
                numbers(traces[1].astype(np.int32)), fixed_width_binary(big_endian(trace_ids.reshape(-1)), 16)
            ),
            "span_id": fixed_width_binary(big_endian(spans["span_id"]), 8),
            "parent_span_id": optional_ids(spans["parent_id"]),
            "trace_state": pool.dictionary(spans["trace_state"]),
            "flags": numbers(spans["flags"].astype(np.int64)),
            "name": pool.dictionary(spans["name"]),
            "kind": numbers(spans["kind"]),
            "status_code": numbers(spans["status_code"]),
            "status_message": pool.dictionary(spans["status_message"]),
            "start_ns": numbers(spans["start_ns"]),
            "duration_ns": numbers(spans["duration_ns"]),
            "dropped_attributes": numbers(spans["dropped_attributes"].astype(np.int64)),
            "dropped_events": numbers(spans["dropped_events"].astype(np.int64)),
            "dropped_links": numbers(spans["dropped_links"].astype(np.int64)),
            "sampling_weight": self._weights(spans["trace_state"]),
        }

    def _weights(self, trace_states: NDArray[np.int32]) -> pa.Array:
        if not trace_states.any():
            return pa.nulls(len(trace_states), pa.float64())
        distinct, inverse = np.unique(trace_states, return_inverse=True)
        weights = pa.array([sampling_weight(self._batch.strings.text_at(code)) for code in distinct], pa.float64())
        return weights.take(numbers(inverse))

    def _tree(self, begin: int, end: int) -> dict[str, pa.Array]:
        names = ("nested_left", "nested_right", "nested_parent", "child_count", "resource_index", "scope_index")
        return {name: numbers(getattr(self._arrangement, name)[begin:end]) for name in names}

    def _trace(self, traces: tuple[NDArray[np.int64], NDArray[np.int64]], count: int) -> dict[str, pa.Array]:
        which, trace_of = traces
        arrangement = self._arrangement
        roots = arrangement.trace_root[which]
        root_spans = self._batch.spans[np.maximum(roots, 0)]
        services = self._service_of[self._batch.scopes["resource"][root_spans["scope"]]]
        assert len(trace_of) == count
        return {
            "trace_start_ns": numbers(arrangement.trace_start_ns[which][trace_of]),
            "trace_duration_ns": numbers(arrangement.trace_duration_ns[which][trace_of]),
            "root_name": self._pool.dictionary(np.where(roots >= 0, root_spans["name"], EMPTY_STRING)[trace_of]),
            "root_service": self._pool.dictionary(np.where(roots >= 0, services, EMPTY_STRING)[trace_of]),
        }

    def _owners(self, rows: _Rows) -> dict[str, pa.Array]:
        pool, scopes, resources = self._pool, rows.scopes, rows.resources
        refs = resources.column("entity_refs")
        return {
            "scope_name": pool.dictionary(scopes.column("name")),
            "scope_version": pool.dictionary(scopes.column("version")),
            "scope_schema_url": pool.dictionary(scopes.column("schema_url")),
            "scope_dropped_attributes": numbers(scopes.column("dropped_attributes").astype(np.int64)),
            "resource_schema_url": pool.dictionary(resources.column("schema_url")),
            "resource_dropped_attributes": numbers(resources.column("dropped_attributes").astype(np.int64)),
            "resource_entity_refs": pool.dictionary(refs, refs != EMPTY_STRING, kind=pa.binary()),
        }

    def _parts(self, rows: _Rows) -> dict[str, pa.Array]:
        """Events and links."""
        spans, pool = rows.spans, self._pool
        events = self._batch.events[ranges(spans["event_first"], spans["event_count"])]
        links = self._batch.links[ranges(spans["link_first"], spans["link_count"])]
        event_type, link_type = self.schema.field("events").type, self.schema.field("links").type
        event_fields = [
            numbers(events["time_ns"]),
            pool.dictionary(events["name"]),
            numbers(events["dropped_attributes"].astype(np.int64)),
            self._part_attributes(events, event_type),
        ]
        link_fields = [
            pool.dictionary(links["trace_id"], kind=pa.binary()),
            pool.dictionary(links["span_id"], kind=pa.binary()),
            pool.dictionary(links["trace_state"]),
            numbers(links["flags"].astype(np.int64)),
            numbers(links["dropped_attributes"].astype(np.int64)),
            self._part_attributes(links, link_type),
        ]
        return {
            "events": lists(spans["event_count"], event_type, event_fields),
            "links": lists(spans["link_count"], link_type, link_fields),
        }

    def _part_attributes(self, owners: Any, owner_type: pa.ListType) -> pa.Array:
        attrs = self._batch.attrs[ranges(owners["attr_first"], owners["attr_count"])]
        return lists(owners["attr_count"], owner_type.value_type.field("attributes").type, attribute_fields(attrs, self._pool))

    def _attributes(self, rows: _Rows) -> dict[str, pa.Array]:
        """The attribute columns, and the overflow list of what is in none: per row, span before resource before scope."""
        pivoted = self._pivoted(rows)
        columns: dict[str, pa.Array] = {}
        for scope, part in pivoted.items():
            own = [column for column in self._columns if column.scope == scope]
            for number, column in enumerate(own):
                columns[column.name] = column_array(column.type, part.values[number], part.valid[number], self._pool)
        owners = np.concatenate([part.rest_owner for part in pivoted.values()])
        scopes = np.repeat(np.arange(len(SCOPES)), [len(part.rest_owner) for part in pivoted.values()])
        order = np.argsort(owners, kind="stable")
        attrs = self._batch.attrs[np.concatenate([part.rest_attr for part in pivoted.values()])[order]]
        scope_names = pa.DictionaryArray.from_arrays(numbers(scopes[order].astype(np.int32)), pa.array(SCOPES))
        counts = np.bincount(owners, minlength=len(rows.spans))
        kind = self.schema.field("attributes").type
        return {**columns, "attributes": lists(counts, kind, [scope_names, *attribute_fields(attrs, self._pool)])}

    def _pivoted(self, rows: _Rows) -> dict[AttributeScope, Pivoted]:
        return {
            "span": self._pivots["span"].spread(rows.spans["attr_first"], rows.spans["attr_count"]),
            "resource": self._of_owners("resource", rows.resources),
            "instrumentation": self._of_owners("instrumentation", rows.scopes),
        }

    def _of_owners(self, scope: AttributeScope, owners: _Owners) -> Pivoted:
        """The attributes of each row's resource or scope, pivoted once per owner."""
        return self._pivots[scope].spread(owners.records["attr_first"], owners.records["attr_count"]).expand(owners.of_row)


def dictionary_schema(schema: pa.Schema) -> pa.Schema:
    """The schema with dictionaries for all strings and bytes but span ids: how row groups are handed to the Parquet writer."""
    return pa.schema([field if field.name in ID_COLUMNS else field.with_type(_dictionary_type(field.type)) for field in schema])


def _dictionary_type(kind: pa.DataType) -> pa.DataType:
    if pa.types.is_list(kind):
        fields = [field.with_type(_dictionary_type(field.type)) for field in kind.value_type]
        return pa.list_(kind.value_field.with_type(pa.struct(fields)))
    return pa.dictionary(pa.int32(), kind) if pa.types.is_string(kind) or pa.types.is_binary(kind) else kind

"""From the columns of a block to scan batches: which leaves the fields of a request need, and what their values mean."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from spanlake.blocks.file.reader import repeated
from spanlake.blocks.file.rows import binary_parts, ids, integers, list_counts, one_chunk, validity
from spanlake.blocks.scan.layout import OVERFLOW, BlockLayout, open_ranges
from spanlake.blocks.scan.typed.entries import NUMBER_TYPES, RANKS, Entries, entry_values
from spanlake.blocks.scan.typed.link_ids import link_ids
from spanlake.blocks.scan.typed.values import numbers, of_parts, offsets_of, one_array, span_ids, texts
from spanlake.model.errors import CorruptData
from spanlake.model.scan import Children, Field, Ids, Numbers, NumberType, Part, ScanBatch, Texts, Values
from spanlake.model.spans import BOOL, DOUBLE, INT, STRING
from spanlake.objectstore.store import ObjectStore

TRACE_ID = "trace_id"
_ATTRIBUTE_SCOPES = ("span", "resource", "instrumentation")
_TEXTS = ("name", "status_message", "root_name", "root_service", "scope_name", "scope_version", "trace_state")
_NUMBERS: Mapping[str, NumberType] = {
    "kind": NumberType.KIND,
    "status_code": NumberType.STATUS,
    "start_ns": NumberType.INT,
    "duration_ns": NumberType.DURATION,
    "nested_left": NumberType.INT,
    "nested_right": NumberType.INT,
    "nested_parent": NumberType.INT,
    "child_count": NumberType.INT,
    "trace_start_ns": NumberType.INT,
    "trace_duration_ns": NumberType.DURATION,
}


def leaves_of(layout: BlockLayout, fields: Iterable[Field]) -> list[str]:
    """The Parquet leaves that hold the fields, trace_id first."""
    needed: dict[str, None] = {TRACE_ID: None}
    for field in fields:
        for path in _paths_of(layout, field):
            needed.update(dict.fromkeys(layout.leaves_under(path)))
    return list(needed)


def _paths_of(layout: BlockLayout, field: Field) -> list[str]:
    if field.scope == "intrinsic":
        return [field.name]
    if field.scope in ("event", "link"):
        own = f"{field.scope}s.list.element"
        # The count is there even where no event has the attribute; a constant leaf costs next to nothing.
        return [f"{own}.dropped_attributes", f"{own}.{field.name[1:] if field.name.startswith(':') else 'attributes'}"]
    column = layout.column_of(field)
    return [*([column] if column else []), *([OVERFLOW] if layout.in_overflow(field) else [])]


@dataclass(frozen=True, slots=True)
class RowGroupTable:
    """Some columns of some row groups."""

    table: pa.Table
    bytes_read: int


def read_columns(store: ObjectStore, layout: BlockLayout, groups: Sequence[int], leaves: Sequence[str]) -> RowGroupTable:
    """Leaves of row groups, strings as dictionaries. What has no value in them is left out; constants are made up, not read."""
    varying, constant = _split(layout, groups, leaves)
    footer = layout.footer
    places = layout.places_of(varying, groups)
    dictionaries = [leaf for leaf in varying if leaf == TRACE_ID or layout.column_types.get(leaf) == pa.string()]
    with open_ranges(store, footer, places) as source:
        try:
            file = pq.ParquetFile(source, metadata=footer.metadata, read_dictionary=dictionaries)
            table = file.read_row_groups(list(groups), columns=varying, use_threads=False)
        except (pa.ArrowInvalid, OSError) as failure:
            raise CorruptData(f"row groups {list(groups)} of block {footer.key} cannot be read: {failure}") from failure
    for leaf, value in constant.items():
        table = table.append_column(leaf, repeated(value, layout.column_types[leaf], table.num_rows))
    return RowGroupTable(table, sum(length for _, length in places))


def _split(layout: BlockLayout, groups: Sequence[int], leaves: Sequence[str]) -> tuple[list[str], dict[str, Any]]:
    """(leaves to be read, the value of each leaf that has the same one in all rows)."""
    varying: list[str] = []
    constant: dict[str, Any] = {}
    for leaf in leaves:
        told = layout.statistics(leaf)
        if leaf == TRACE_ID:
            varying.append(leaf)
        elif told.has_values[list(groups)].any():
            values = {(told.least[number], told.greatest[number]) for number in groups}
            least, greatest = next(iter(values))
            full = leaf in layout.column_types and not told.has_nulls[list(groups)].any()
            if full and len(values) == 1 and _is_one_value(least, greatest):
                constant[leaf] = least
            else:
                varying.append(leaf)
    return varying, constant


def _is_one_value(least: Any, greatest: Any) -> bool:
    """Whether a column can have this value only. Writers may cut long strings, and floats have two zeros."""
    short = not isinstance(least, (str, bytes)) or len(least) < 32
    return least is not None and bool(least == greatest) and short and not isinstance(least, float)


def trace_bounds(table: pa.Table) -> tuple[NDArray[np.int64], NDArray[np.uint64], NDArray[np.uint64]]:
    """(first row of each trace and the number of rows, high, low per trace)."""
    trace_ids = one_array(table.column(TRACE_ID))
    codes = integers(trace_ids.indices)
    changes = np.flatnonzero(codes[1:] != codes[:-1]) + 1
    trace_first = np.concatenate([[0], changes, [len(codes)]]) if len(codes) else np.zeros(1, np.int64)
    data, offsets = binary_parts(trace_ids.dictionary)
    halves = np.frombuffer(data[int(offsets[0]) : int(offsets[-1])].tobytes(), ">u8").reshape(-1, 2).astype(np.uint64)
    which = codes[trace_first[:-1]]
    return trace_first.astype(np.int64), halves[which, 0], halves[which, 1]


def table_to_scan_batch(table: pa.Table, layout: BlockLayout, fields: Iterable[Field]) -> ScanBatch:
    """The fields of all rows, which are whole traces."""
    trace_first, high, low = trace_bounds(table)
    wanted = sorted(set(fields), key=lambda field: (field.scope, field.name))
    attributes = [field for field in wanted if field.scope in _ATTRIBUTE_SCOPES]
    values = {field: _intrinsic(table, field.name, (trace_first, high, low)) for field in wanted if field.scope == "intrinsic"}
    values |= _attributes(table, layout, attributes)
    events = _children(table, "event", [field for field in wanted if field.scope == "event"])
    links = _children(table, "link", [field for field in wanted if field.scope == "link"])
    return ScanBatch(trace_first, high, low, values, events, links)


def _intrinsic(table: pa.Table, name: str, traces: tuple[NDArray[np.int64], NDArray[np.uint64], NDArray[np.uint64]]) -> Values:
    rows = table.num_rows
    if name == TRACE_ID:
        counts = np.diff(traces[0])
        return Values(rows, (Ids(np.ones(rows, np.bool_), np.repeat(traces[1], counts), np.repeat(traces[2], counts), 16),))
    column = one_array(table.column(name))
    if name in ("span_id", "parent_span_id"):
        return of_parts(rows, span_ids(ids(column)))
    if name in _TEXTS:
        return of_parts(rows, texts(column))
    return of_parts(rows, numbers(_NUMBERS[name], integers(column)))


def _attributes(table: pa.Table, layout: BlockLayout, fields: Sequence[Field]) -> dict[Field, Values]:
    """Values of attributes: from their columns, and from the overflow list where it has a type that counts more, or the only value."""
    rows = table.num_rows
    columns = {field: _column_part(table, layout.column_of(field)) for field in fields}
    overflowing = [field for field in fields if OVERFLOW in table.column_names and layout.in_overflow(field)]
    rest = EntryLists(one_chunk(table.column(OVERFLOW)), scoped=True) if overflowing else None
    values = {}
    for field, part in columns.items():
        if rest is None or field not in overflowing:
            values[field] = of_parts(rows, part)
        else:
            values[field] = _combined(rows, part, rest.find(field.name, scope=field.scope))
    return values


def _column_part(table: pa.Table, name: str | None) -> Texts | Numbers | None:
    if name is None or name not in table.column_names:
        return None
    return _array_part(one_array(table.column(name)))


def values_of_array(array: pa.Array) -> Values:
    """An attribute column as values."""
    return of_parts(len(array), _array_part(array))


def _array_part(array: pa.Array) -> Texts | Numbers | None:
    if isinstance(array, pa.DictionaryArray) or pa.types.is_string(array.type):
        return texts(array)
    valid = validity(array)
    if pa.types.is_boolean(array.type):
        return numbers(NumberType.BOOL, integers(array.cast(pa.int8())), valid)
    if pa.types.is_floating(array.type):
        return numbers(NumberType.FLOAT, array.fill_null(0.0).to_numpy(zero_copy_only=False), valid)
    return numbers(NumberType.INT, integers(array), valid)


_TYPE_OF_NUMBERS = {kind: number for number, kind in NUMBER_TYPES.items()}


def _combined(rows: int, part: Texts | Numbers | None, rest: Entries) -> Values:
    """A column and the overflow values of the same key: per row, the type of the lower rank counts."""
    if part is None:
        return entry_values(rest, rows)
    rank = RANKS[_TYPE_OF_NUMBERS[part.type] if not isinstance(part, Texts) else STRING]
    wins = ~part.valid[rest.owners] | (RANKS[rest.types] < rank)
    rest = rest.only(wins)
    valid = part.valid.copy()
    valid[rest.owners] = False
    return of_parts(rows, replace(part, valid=valid), *entry_values(rest, rows).parts)


def _children(table: pa.Table, kind: str, fields: Sequence[Field]) -> Children | None:
    """Events or links of all rows; None if no field of theirs is wanted."""
    if not fields:
        return None
    name = f"{kind}s"
    if name not in table.column_names:
        return Children(np.zeros(table.num_rows + 1, np.int64), {field: Values(0) for field in fields})
    array = one_chunk(table.column(name))
    entries = array.flatten()
    names = [entries.type.field(index).name for index in range(entries.type.num_fields)]
    rest = EntryLists(entries.field("attributes"), scoped=False) if "attributes" in names else None
    values = {}
    for field in fields:
        if field.name.startswith(":"):
            values[field] = of_parts(len(entries), _child_part(entries, field.name))
        else:
            values[field] = entry_values(rest.find(field.name), len(entries)) if rest is not None else Values(len(entries))
    return Children(offsets_of(list_counts(array)), values)


def _child_part(entries: pa.StructArray, name: str) -> Part | None:
    column = entries.field(name[1:])
    if name == ":name":
        return texts(column)
    if name == ":time_ns":
        return numbers(NumberType.INT, integers(column))
    return link_ids(column, 16 if name == ":trace_id" else 8)


class EntryLists:
    """Lists of attribute structs, one per owner, in which keys are looked up. Scoped: the structs say their scope."""

    def __init__(self, lists: pa.ListArray, *, scoped: bool) -> None:
        self._owner_of = np.repeat(np.arange(len(lists)), list_counts(lists))
        self._entries = lists.flatten()
        self._keys = _Codes(self._entries.field("key"))
        self._scopes = _Codes(self._entries.field("scope")) if scoped else None

    def find(self, key: str, *, scope: str = "") -> Entries:
        """The value that counts of each owner that has the key."""
        chosen = self._keys.equal(key)
        if self._scopes is not None:
            chosen &= self._scopes.equal(scope)
        places = np.flatnonzero(chosen)
        owners = self._owner_of[places]
        types = integers(self._entries.field("type").take(pa.array(places))).astype(np.uint8)
        order = np.lexsort((places, RANKS[types], owners))
        first = np.ones(len(order), np.bool_)
        first[1:] = owners[order][1:] != owners[order][:-1]
        best = order[first]
        return self._read(places[best], owners[best], types[best])

    def _read(self, places: NDArray[np.int64], owners: NDArray[np.int64], types: NDArray[np.uint8]) -> Entries:
        rows = self._entries.take(pa.array(places))
        floats = rows.field("double_value").fill_null(0.0).to_numpy(zero_copy_only=False).view(np.int64)
        choices = [
            (types == INT, integers(rows.field("int_value"))),
            (types == DOUBLE, floats),
            (types == BOOL, integers(rows.field("bool_value").cast(pa.int8()))),
        ]
        bits = np.select([which for which, _ in choices], [values for _, values in choices], 0)
        return Entries(owners, types, bits, _StructStrings(rows))


class _Codes:
    """A string array compared with texts through its dictionary."""

    def __init__(self, array: pa.Array) -> None:
        encoded = array.dictionary_encode()
        self._codes = integers(encoded.indices)
        self._texts: dict[str, int] = {text: code for code, text in enumerate(encoded.dictionary.to_pylist())}

    def equal(self, text: str) -> NDArray[np.bool_]:
        equal: NDArray[np.bool_] = self._codes == self._texts.get(text, -1)
        return equal


@dataclass(frozen=True, slots=True)
class _StructStrings:
    """Strings of entries that are attribute structs."""

    rows: pa.StructArray

    def texts(self, chosen: NDArray[np.int64]) -> pa.DictionaryArray:
        return self.rows.field("string_value").take(pa.array(chosen)).dictionary_encode()

    def messages(self, chosen: NDArray[np.int64]) -> pa.DictionaryArray:
        return self.rows.field("other_value").take(pa.array(chosen)).dictionary_encode()

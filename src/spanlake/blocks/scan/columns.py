"""From the columns of a block to scan batches: which leaves the fields of a request need, and what their values mean."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from spanlake.blocks.file.reader import repeated
from spanlake.blocks.file.rows import ids, integers, list_counts, one_chunk, validity
from spanlake.blocks.scan.layout import OVERFLOW, OVERFLOW_KEYS, BlockLayout, LeafValues, open_ranges
from spanlake.blocks.scan.pages import GroupColumns
from spanlake.blocks.scan.typed.entries import NUMBER_TYPES, RANKS, Entries, entry_values
from spanlake.blocks.scan.typed.link_ids import link_ids
from spanlake.blocks.scan.typed.values import numbers, of_parts, offsets_of, one_array, span_ids, texts
from spanlake.model.errors import CorruptData
from spanlake.model.scan import Children, Field, Ids, Numbers, NumberType, Part, ScanStatistics, Texts, Values
from spanlake.model.spans import BOOL, DOUBLE, INT, STRING
from spanlake.objectstore.store import ObjectStore

TRACE_ID = "trace_id"
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
_NUMBER_TYPES = {pa.bool_(): NumberType.BOOL, pa.float64(): NumberType.FLOAT, pa.int64(): NumberType.INT}


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
class Traces:
    """Traces one after the other: the first row of each and the number of rows, and their ids."""

    first: NDArray[np.int64]
    high: NDArray[np.uint64]
    low: NDArray[np.uint64]


@dataclass(frozen=True, slots=True)
class BlockRequest:
    """What a batch of a block may be asked for, and where what is read for it is noted. `known`: the values of a leaf, if at hand."""

    store: ObjectStore
    fields: frozenset[Field]
    known: Callable[[str], LeafValues | None]
    statistics: ScanStatistics


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
        if leaf == TRACE_ID:
            varying.append(leaf)
        elif layout.statistics(leaf).has_values[list(groups)].any():
            value = constant_of(layout, groups, leaf)
            if value is None:
                varying.append(leaf)
            else:
                constant[leaf] = value
    return varying, constant


def constant_of(layout: BlockLayout, groups: Sequence[int], leaf: str) -> Any:
    """The value that every row of some row groups has, as the statistics tell; None if they do not tell."""
    told = layout.statistics(leaf)
    values = {(told.least[number], told.greatest[number]) for number in groups}
    if len(values) > 1 or leaf not in layout.column_types or told.has_nulls[list(groups)].any():
        return None
    least, greatest = next(iter(values))
    return least if _is_one_value(least, greatest) else None


def _is_one_value(least: Any, greatest: Any) -> bool:
    """Whether a column can have this value only. Writers may cut long strings, and floats have two zeros."""
    short = not isinstance(least, (str, bytes)) or len(least) < 32
    return least is not None and bool(least == greatest) and short and not isinstance(least, float)


class BlockColumns(Mapping[Field, Values]):
    """The columns of some rows of a piece, read when they are asked for. For one thread.

    `rows`: which rows of the piece, None for all. `traces`: those that the chosen rows are, one after the other.
    """

    def __init__(self, piece: GroupColumns, request: BlockRequest, rows: NDArray[np.int64] | None, traces: Traces) -> None:
        self._piece = piece
        self._request = request
        self._rows = rows
        self._traces = traces
        self._found: dict[Field, Values] = {}
        self._overflow: EntryLists | None = None

    @property
    def count(self) -> int:
        return int(self._traces.first[-1])

    def __len__(self) -> int:
        return len(self._request.fields)

    def __iter__(self) -> Iterator[Field]:
        return iter(self._request.fields)

    def __getitem__(self, field: Field) -> Values:
        found = self._found.get(field)
        if found is None:
            if field not in self._request.fields:
                raise KeyError(field)
            before = self._piece.bytes_read
            found = self._found[field] = self._read(field)
            self._request.statistics.bytes += self._piece.bytes_read - before
        return found

    def _read(self, field: Field) -> Values:
        if field.scope != "intrinsic":
            return self._attribute(field)
        if field.name == TRACE_ID:
            traces, counts = self._traces, np.diff(self._traces.first)
            return Values(self.count, (Ids(np.ones(self.count, np.bool_), traces.high.repeat(counts), traces.low.repeat(counts), 16),))
        if field.name in ("span_id", "parent_span_id"):
            return of_parts(self.count, span_ids(self._ids(field.name)))
        return of_parts(self.count, self._flat(field.name, _NUMBERS.get(field.name)))

    def _attribute(self, field: Field) -> Values:
        """From its column, and from the overflow list where it has a type that counts more, or the only value."""
        layout = self._piece.layout
        column = layout.column_of(field)
        part = self._flat(column, None) if column is not None else None
        if not layout.in_overflow(field) or not layout.statistics(OVERFLOW_KEYS).has_values[self._piece.groups].any():
            return of_parts(self.count, part)
        if self._overflow is None:
            self._overflow = EntryLists(one_chunk(self.table(layout.leaves_under(OVERFLOW)).column(OVERFLOW)), scoped=True)
        return _combined(self.count, part, self._overflow.find(field.name, scope=field.scope))

    def _flat(self, leaf: str, number: NumberType | None) -> Texts | Numbers | None:
        """A flat column. `number`: what its numbers mean, None for an attribute."""
        groups, layout = self._piece.groups, self._piece.layout
        told = layout.statistics(leaf)
        if not told.has_values[groups].any():
            return None
        value = constant_of(layout, groups, leaf)
        if value is not None:
            array = repeated(value, layout.column_types[leaf], self.count)
            return _array_part(array) if number is None else numbers(number, integers(array))
        try:
            return self._selected(self._decoded(leaf, number))
        except CorruptData:
            array = one_array(self.table([leaf]).column(leaf))
            return _array_part(array) if number is None else numbers(number, integers(array))

    def _decoded(self, leaf: str, number: NumberType | None) -> Texts | Numbers:
        kind = self._piece.layout.column_types[leaf]
        if kind == pa.string():
            codes, valid, dictionary = self._piece.codes(leaf, self._request.known(leaf))
            return Texts(valid, codes, dictionary)
        values, valid = self._piece.numbers(leaf)
        meaning = number or _NUMBER_TYPES[kind]
        return Numbers(meaning, valid, values.view(np.float64) if meaning is NumberType.FLOAT else values)

    def _selected(self, part: Texts | Numbers) -> Texts | Numbers:
        if self._rows is None:
            return part
        if isinstance(part, Texts):
            return Texts(part.valid[self._rows], part.codes[self._rows], part.dictionary)
        return Numbers(part.type, part.valid[self._rows], part.values[self._rows])

    def _ids(self, leaf: str) -> NDArray[np.uint64]:
        try:
            found = self._piece.ids(leaf)
        except CorruptData:
            return ids(one_array(self.table([leaf]).column(leaf)))
        return found if self._rows is None else found[self._rows]

    def table(self, leaves: Sequence[str]) -> pa.Table:
        """Leaves of the rows through Arrow."""
        found = read_columns(self._request.store, self._piece.layout, self._piece.groups, [TRACE_ID, *leaves])
        self._piece.bytes_read += found.bytes_read
        return found.table if self._rows is None else found.table.take(pa.array(self._rows))


class BlockChildren(Mapping[str, Children]):
    """Events and links of some rows of a piece, read when they are asked for. For one thread."""

    def __init__(self, columns: BlockColumns, request: BlockRequest, piece: GroupColumns) -> None:
        self._columns = columns
        self._request = request
        self._piece = piece
        self._fields = {scope: [field for field in request.fields if field.scope == scope] for scope in ("event", "link")}
        self._found: dict[str, Children] = {}

    def __len__(self) -> int:
        return sum(map(bool, self._fields.values()))

    def __iter__(self) -> Iterator[str]:
        return (scope for scope, fields in self._fields.items() if fields)

    def __getitem__(self, scope: str) -> Children:
        fields = self._fields[scope]
        if not fields:
            raise KeyError(scope)
        found = self._found.get(scope)
        if found is None:
            before = self._piece.bytes_read
            table = self._columns.table(leaves_of(self._piece.layout, fields))
            self._request.statistics.bytes += self._piece.bytes_read - before
            found = self._found[scope] = _children(table, scope, fields)
        return found


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


def _children(table: pa.Table, kind: str, fields: Sequence[Field]) -> Children:
    """Events or links of all rows."""
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

"""Verifying what is stored: every block against itself, against what its footer and the log say of it, and the log against the files.

A check reads all bytes of a block, with the checksums of its pages, makes spans of its rows, and builds the rows anew from the spans:
whatever can be computed must be what is stored. It reads only, and knows no way to repair anything.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from spanlake.blocks.build.choose import KEYS_MAX, Column, KeyInfo, add_keys, count_attributes, describe_keys
from spanlake.blocks.build.row_group import RowGroups
from spanlake.blocks.catalog import Block, TableSnapshot, block_key
from spanlake.blocks.file.footer import BlockInfo
from spanlake.blocks.file.reader import Footer, read_footer, read_row_group
from spanlake.blocks.file.rows import list_counts, one_chunk, table_to_batch, validity
from spanlake.blocks.memory.append import merge
from spanlake.blocks.memory.arrange import Arrangement, arrange
from spanlake.blocks.schema import file_schema
from spanlake.model.errors import CorruptData, KeyMissing
from spanlake.model.schema import ColumnType, column_attribute
from spanlake.model.spans import SpanBatch
from spanlake.objectstore.store import ObjectStore

RESTORE = "restore the file from a backup; without one its spans are lost, and it must be removed from the table"
REPORT = "the file is readable, but queries may miss or misplace its spans: report this with the version that wrote it"
DELETE = "nothing needs it: delete it, or let a server with compaction.enabled do so"
DEAD_SECONDS = 86_400.0
"""How long a file may be in storage without being in the table; `Catalog.dead_files` takes it as the grace."""


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that is wrong: where, what, and what to do."""

    place: str
    problem: str
    remedy: str


def check_files(store: ObjectStore, snapshot: TableSnapshot, dead: Sequence[str]) -> Iterator[Finding]:
    """The log against the files in storage. `dead` are the paths that `Catalog.dead_files` gives for DEAD_SECONDS."""
    sizes: dict[str, int] = {}
    for prefix in {block.path.partition("/")[0] for block in snapshot.blocks}:
        sizes |= {info.key: info.size_bytes for info in store.list(block_key(snapshot.tenant, prefix))}
    for block in snapshot.blocks:
        key = block_key(snapshot.tenant, block.path)
        if key not in sizes:
            yield Finding(key, "the table has this block, but the file is missing", RESTORE)
        elif sizes[key] != block.size_bytes:
            yield Finding(key, f"the file has {sizes[key]:,} bytes; the log says {block.size_bytes:,}", RESTORE)
    for path in dead:
        yield Finding(block_key(snapshot.tenant, path), "the file is in storage, but has not been in the table for a day or more", DELETE)


def check_block(store: ObjectStore, snapshot: TableSnapshot, block: Block, *, on_rows: Callable[[int], None]) -> Iterator[Finding]:
    """One block of the table, whose file is there and has the right size. `on_rows` is told of rows as they are done."""
    key = block_key(snapshot.tenant, block.path)
    try:
        footer = read_footer(store, key, block.size_bytes)
    except (CorruptData, KeyMissing) as failure:
        yield Finding(key, str(failure), RESTORE)
        return
    wrong = [*_check_columns(footer, snapshot.columns), *_check_footer(footer)]
    yield from wrong
    if wrong:
        return
    found = _Found()
    for number in range(footer.metadata.num_row_groups):
        try:
            table = read_row_group(store, footer, number, verify=True)
            yield from _check_row_group(footer, number, table, found)
        except CorruptData as failure:
            yield Finding(f"{key}, row group {number}", str(failure), RESTORE)
        on_rows(footer.metadata.row_group(number).num_rows)
    if found.row_groups == footer.metadata.num_row_groups:
        yield from _check_totals(footer, block, found)


def _check_columns(footer: Footer, columns: Mapping[str, ColumnType]) -> Iterator[Finding]:
    """The file's columns against the table's."""
    schema = footer.metadata.schema.to_arrow_schema().remove_metadata()
    own = [name for name in schema.names if column_attribute(name) is not None]
    for name in own:
        if name not in columns:
            yield Finding(footer.key, f"column {name} is not in the table", REPORT)
    expected = file_schema({name: columns[name] for name in own if name in columns})
    for field in expected:
        if field.name not in schema.names:
            yield Finding(footer.key, f"column {field.name} is missing", RESTORE)
        elif schema.field(field.name) != field:
            yield Finding(footer.key, f"column {field.name} is {schema.field(field.name).type}; the table has {field.type}", RESTORE)


def _check_footer(footer: Footer) -> Iterator[Finding]:
    """Row groups as spanlake's footer and as Parquet's metadata describe them, and their order."""
    told = footer.info.row_groups
    rows = [footer.metadata.row_group(number).num_rows for number in range(footer.metadata.num_row_groups)]
    if [group.rows for group in told] != rows:
        yield Finding(footer.key, f"its row groups have {rows} rows; the footer says {[group.rows for group in told]}", REPORT)
    bounds = [(group.first_trace, group.last_trace) for group in told]
    for number, (first, last) in enumerate(bounds):
        if first > last:
            yield Finding(f"{footer.key}, row group {number}", f"its first trace {first} comes after its last {last}", REPORT)
        if number and bounds[number - 1][1] >= first:
            yield Finding(f"{footer.key}, row group {number}", f"trace {first} is not after those of the row group before", REPORT)


class _Found:
    """What the row groups of a block have been seen to hold."""

    def __init__(self) -> None:
        self.row_groups = 0
        self.rows = 0
        self.traces = 0
        self.keys: list[KeyInfo] = []
        self.times: list[dict[str, tuple[int, int]]] = []

    def add(self, batch: SpanBatch, table: pa.Table) -> None:
        self.row_groups += 1
        self.rows += len(batch)
        self.traces += int((table.column("nested_left").to_numpy() == 1).sum())
        self.keys = add_keys([*self.keys, *describe_keys(batch, count_attributes(batch))])
        times = {name: table.column(name).to_numpy() for name in ("start_ns", "trace_start_ns", "trace_duration_ns")}
        times["trace_end_ns"] = times["trace_start_ns"] + times["trace_duration_ns"]
        self.times.append({name: (int(values.min()), int(values.max())) for name, values in times.items()})

    def least(self, name: str) -> int:
        return min(times[name][0] for times in self.times)

    def greatest(self, name: str) -> int:
        return max(times[name][1] for times in self.times)


def _check_totals(footer: Footer, block: Block, found: _Found) -> Iterator[Finding]:
    """What the footer and the log say of all rows."""
    info = footer.info
    exact: dict[str, tuple[object, object, object]] = {
        "rows": (found.rows, info.rows, block.rows),
        "traces": (found.traces, info.traces, info.traces),
        "least start": (found.least("start_ns"), info.start_min_ns, block.start_min_ns),
        "greatest start": (found.greatest("start_ns"), info.start_max_ns, block.start_max_ns),
        "least trace start": (found.least("trace_start_ns"), info.trace_start_min_ns, block.trace_start_min_ns),
        "greatest trace start": (found.greatest("trace_start_ns"), info.trace_start_max_ns, info.trace_start_max_ns),
        "greatest trace duration": (found.greatest("trace_duration_ns"), info.trace_duration_max_ns, info.trace_duration_max_ns),
        "greatest trace end": (found.greatest("trace_end_ns"), info.trace_end_max_ns, info.trace_end_max_ns),
        # The log has no ends of traces, only a bound made of two other greatest values.
        "bound of trace ends": (_end_bound(info), _end_bound(info), block.trace_end_max_ns),
    }
    for name, (actual, footer_says, log_says) in exact.items():
        for who, told in (("its footer", footer_says), ("the log", log_says)):
            if told != actual:
                yield Finding(footer.key, f"{name}: {actual} in the rows, {told} in {who}", REPORT)
    if len({key.key for key in info.keys}) < KEYS_MAX and list(info.keys) != found.keys:
        different = {(key.scope, key.key) for key in [*info.keys, *found.keys] if key not in info.keys or key not in found.keys}
        yield Finding(footer.key, f"the footer's counts of {len(different)} keys are wrong, of {min(different)} for one", REPORT)
    days = {_day(found.least("trace_start_ns")), _day(found.greatest("trace_start_ns"))}
    if block.day is not None and days != {block.day}:
        yield Finding(footer.key, f"its traces start on {' to '.join(map(str, sorted(days, key=str)))}, not on {block.day}", REPORT)


def _end_bound(info: BlockInfo) -> int:
    return info.trace_start_max_ns + info.trace_duration_max_ns


def _day(time_ns: int) -> date | None:
    """The UTC day of a time; None beyond the years that Python knows."""
    try:
        return (datetime(1970, 1, 1, tzinfo=UTC) + timedelta(seconds=time_ns // 1_000_000_000)).date()
    except OverflowError:
        return None


def _check_row_group(footer: Footer, number: int, table: pa.Table, found: _Found) -> Iterator[Finding]:
    """The rows of a row group against what they should be, and against its statistics."""
    place = f"{footer.key}, row group {number}"
    batch = merge([table_to_batch(table)])  # so that equal keys have equal codes
    found.add(batch, table)
    yield from _check_statistics(footer, number, table)
    arrangement = arrange(batch.spans, batch.scopes)
    if len(arrangement) < len(batch):
        yield Finding(place, f"{len(batch) - len(arrangement)} of its spans are there twice", REPORT)
        return
    traces = [batch.spans[name][arrangement.rows[arrangement.trace_first[:-1]]] for name in ("trace_hi", "trace_lo")]
    ids = list(zip(traces[0].tolist(), traces[1].tolist(), strict=True))
    bounds = tuple(f"{high:016x}{low:016x}" for high, low in (ids[0], ids[-1]))
    told = footer.info.row_groups[number]
    if (told.first_trace, told.last_trace) != bounds:
        yield Finding(place, f"has traces {bounds[0]} to {bounds[1]}; the footer says {told.first_trace} to {told.last_trace}", REPORT)
    absent = [trace for trace in ids if not footer.trace_filter.may_have(*trace)]
    if absent:
        high, low = absent[0]
        yield Finding(place, f"{len(absent)} traces are not in the filter of the block, such as {high:016x}{low:016x}", REPORT)
    yield from _check_rows(place, table, batch, arrangement)


def _check_rows(place: str, table: pa.Table, batch: SpanBatch, arrangement: Arrangement) -> Iterator[Finding]:
    """The rows against those that their spans would be stored as.

    Where spans share an id, which of them is a parent depends on the order of arrival, which is not stored; their traces are left out.
    """
    trace_of = np.repeat(np.arange(len(arrangement.trace_first) - 1), np.diff(arrangement.trace_first))
    span_ids = batch.spans["span_id"][arrangement.rows]
    order = np.lexsort((span_ids, trace_of))
    shared = (span_ids[order][1:] == span_ids[order][:-1]) & (trace_of[order][1:] == trace_of[order][:-1])
    certain = ~np.isin(trace_of, trace_of[order][1:][shared])
    moved = np.flatnonzero((arrangement.rows != np.arange(len(batch))) & certain)
    if len(moved):
        yield Finding(place, f"row {moved[0]} is not where its trace id and its place in the tree belong", REPORT)
        return
    columns = tuple(_columns_of(table.schema))
    built = RowGroups(batch.take(arrangement.rows), arrangement, columns, count_attributes(batch))
    expected = built.table(0, len(batch))
    for name in expected.column_names:
        rows = np.flatnonzero(_differences(one_chunk(table.column(name)), one_chunk(expected.column(name))) & certain)
        if len(rows):
            yield Finding(f"{place}, column {name}", f"row {rows[0]} is not what its span makes of it", REPORT)


def _columns_of(schema: pa.Schema) -> Iterator[Column]:
    kinds: dict[pa.DataType, ColumnType] = {pa.int64(): "int", pa.float64(): "double", pa.bool_(): "bool"}
    for field in schema:
        attribute = column_attribute(field.name)
        if attribute is not None:
            yield Column(field.name, *attribute, kinds.get(field.type, "string"))


def _differences(actual: pa.Array, expected: pa.Array) -> NDArray[np.bool_]:
    """Which entries of two arrays, equal but for dictionaries in their types, differ; to the bit where they are numbers."""
    if pa.types.is_list(actual.type):
        lengths = list_counts(actual)
        different: NDArray[np.bool_] = lengths != list_counts(expected)
        if not different.any():
            owners = np.repeat(np.arange(len(actual)), lengths)
            parts, others = actual.flatten(), expected.flatten()
            for number in range(parts.type.num_fields):
                different[owners[_differences(parts.field(number), others.field(number))]] = True
        return different
    actual, expected = _plain(actual), _plain(expected)
    valid = validity(actual)
    equal: NDArray[np.bool_] = pc.equal(actual, expected).fill_null(fill_value=True).to_numpy(zero_copy_only=False)
    unlike: NDArray[np.bool_] = (valid != validity(expected)) | (valid & ~equal)
    return unlike


def _plain(array: pa.Array) -> pa.Array:
    """Without a dictionary; the bits of doubles as integers, because NaN equals nothing."""
    if isinstance(array, pa.DictionaryArray):
        return array.dictionary_decode()
    return array.view(pa.int64()) if pa.types.is_floating(array.type) else array


def _check_statistics(footer: Footer, number: int, table: pa.Table) -> Iterator[Finding]:
    """The nulls, least and greatest values in the metadata of a row group."""
    group = footer.metadata.row_group(number)
    for i in range(group.num_columns):
        chunk, statistics = group.column(i), group.column(i).statistics
        name = chunk.path_in_schema
        if statistics is None or footer.metadata.schema.column(i).max_repetition_level:
            continue
        column = _decoded(one_chunk(table.column(name)))
        wrong = []
        if statistics.has_null_count and statistics.null_count != column.null_count:
            wrong.append(f"{statistics.null_count} nulls instead of {column.null_count}")
        if statistics.has_min_max:
            bounds = pc.min_max(column).as_py()
            told = {"min": statistics.min, "max": statistics.max}
            wrong += [f"{bound} {told[bound]!r} instead of {bounds[bound]!r}" for bound in told if told[bound] != bounds[bound]]
        if wrong:
            yield Finding(f"{footer.key}, row group {number}, column {name}", f"its statistics say {', '.join(wrong)}", REPORT)


def _decoded(array: pa.Array) -> pa.Array:
    return array.dictionary_decode() if isinstance(array, pa.DictionaryArray) else array

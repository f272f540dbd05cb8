"""Reading block files: footers, one trace, or whole row groups as span batches."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from spanlake.blocks.file.columns import columns_to_batch
from spanlake.blocks.file.footer import BlockInfo, decode_footer
from spanlake.blocks.file.rows import ids, one_chunk, table_to_batch
from spanlake.blocks.file.trace_filter import TraceFilter
from spanlake.blocks.file.windows import Layout, open_group, read_layout
from spanlake.model.errors import CorruptData, KeyMissing
from spanlake.model.spans import SpanBatch
from spanlake.objectstore.reader import RangeReader
from spanlake.objectstore.store import ObjectStore


@dataclass(frozen=True, slots=True)
class Footer:
    """What is kept in memory of a block."""

    key: str
    size_bytes: int
    metadata: pq.FileMetaData
    info: BlockInfo
    trace_filter: TraceFilter
    layout: Layout
    memory_bytes: int


def open_source(store: ObjectStore, key: str, size_bytes: int) -> Any:
    """A file object for pyarrow: the file itself where it is local. KeyMissing if that is gone."""
    path = store.local_path(key)
    if path is None:
        return pa.PythonFile(RangeReader(store, key, size_bytes), mode="r")
    try:
        return pa.OSFile(str(path))
    except FileNotFoundError:
        raise KeyMissing(key) from None


def read_footer(store: ObjectStore, key: str, size_bytes: int) -> Footer:
    """Read a block's footer. KeyMissing if the file is gone, CorruptData if it is no block."""
    with open_source(store, key, size_bytes) as source:
        try:
            metadata = pq.read_metadata(source)
        except (pa.ArrowInvalid, OSError) as failure:
            raise CorruptData(f"block {key} is not a readable Parquet file: {failure}") from failure
    info, trace_filter = decode_footer(metadata.metadata or {}, key)
    layout = read_layout(metadata)
    return Footer(key, size_bytes, metadata, info, trace_filter, layout, 3 * metadata.serialized_size + layout.chunks.nbytes)


def read_row_group(store: ObjectStore, footer: Footer, number: int, *, threads: bool = False, verify: bool = False) -> pa.Table:
    """A row group with dictionaries for its strings, without the columns that the statistics show to have no value in it.

    Columns that have one value in all rows, as the statistics tell, are made up instead of read, unless the checksums of all pages are to
    be verified.
    """
    leaves, constant = split_columns(footer.metadata, number)
    if verify:
        leaves, constant = list(range(footer.metadata.num_columns)), {}
    schema = footer.metadata.schema.to_arrow_schema()
    dictionaries = [field.name for field in schema if _is_dictionary(field)]
    with open_source(store, footer.key, footer.size_bytes) as source:
        try:
            options = {"read_dictionary": dictionaries, "pre_buffer": True, "page_checksum_verification": verify}
            file = pq.ParquetFile(source, metadata=footer.metadata, **options)
            # By index: an attribute key may have dots, so its name can look like the path of a nested field.
            table = file.reader.read_row_group(number, column_indices=leaves, use_threads=threads)
            if verify:
                table.validate(full=True)  # page headers have no checksum
        except (pa.ArrowInvalid, OSError) as failure:
            raise CorruptData(f"row group {number} of block {footer.key} cannot be read: {failure}") from failure
    for name, value in constant.items():
        table = table.append_column(name, repeated(value, schema.field(name).type, table.num_rows))
    return table


def repeated(value: Any, kind: pa.DataType, count: int) -> pa.Array:
    """An array that holds one value `count` times; strings as a dictionary."""
    if pa.types.is_string(kind):
        return pa.DictionaryArray.from_arrays(pa.repeat(pa.scalar(0, pa.int32()), count), pa.array([value], kind))
    return pa.repeat(pa.scalar(value, kind), count)


def _is_dictionary(field: pa.Field) -> bool:
    return bool(pa.types.is_string(field.type) or field.name == "trace_id")


def split_columns(metadata: pq.FileMetaData, number: int) -> tuple[list[int], dict[str, Any]]:
    """(leaves of a row group whose values must be read, the value of each column that has the same one in every row).

    The leaves of columns without any value are in neither. `trace_id` is always read.
    """
    group = metadata.row_group(number)
    varying: dict[int, str] = {}
    empty: set[str] = set()
    constant: dict[str, Any] = {}
    for i in range(group.num_columns):
        column, chunk = metadata.schema.column(i), group.column(i)
        statistics = chunk.statistics
        nulls = statistics.null_count if statistics is not None and statistics.has_null_count else None
        depth = column.max_repetition_level
        name = column.path.partition(".")[0] if depth else column.path
        if nulls == 0 and not depth and name != "trace_id" and statistics.has_min_max and _is_one_value(statistics):
            constant[name] = statistics.min
        elif nulls == chunk.num_values and (not depth or depth == column.max_definition_level == 1):
            empty.add(name)  # a flat column, or a list of structs one of whose required fields is nowhere
        else:
            varying[i] = name
    return [i for i, name in varying.items() if name not in empty], constant


def _is_one_value(statistics: pq.Statistics) -> bool:
    """Whether the least and the greatest value are equal, and exact: writers may cut long strings, and floats have two zeros."""
    least, greatest = statistics.min, statistics.max
    short = not isinstance(least, (str, bytes)) or len(least) < 32
    return bool(least == greatest and short and not isinstance(least, float))


def find_trace(store: ObjectStore, footer: Footer, high: int, low: int) -> tuple[SpanBatch | None, int]:
    """The rows of one trace in a block (None if it is not there), and the bytes that were read to find out."""
    if not footer.trace_filter.may_have(high, low):
        return None, 0
    wanted = f"{high:016x}{low:016x}"
    number = next((i for i, group in enumerate(footer.info.row_groups) if group.first_trace <= wanted <= group.last_trace), None)
    if number is None:
        return None, 0
    inspected = int(footer.layout.chunks[number, :, 1].sum())
    try:
        group = open_group(store, footer.key, footer.layout, number)
        first, last = group.rows_of(high, low, footer.info.row_groups[number].rows)
        return columns_to_batch(group.columns((first, last))) if last > first else None, inspected
    except CorruptData:
        return find_trace_through_arrow(store, footer, number, (high, low)), inspected


def find_trace_through_arrow(store: ObjectStore, footer: Footer, number: int, trace: tuple[int, int]) -> SpanBatch | None:
    """The rows of a trace in a row group, None if it is not there. Slower than `find_trace`, and reads whatever Parquet allows."""
    table = read_row_group(store, footer, number)
    trace_ids = one_chunk(table.column("trace_id"))
    rows = np.flatnonzero((ids(trace_ids) == trace[0]) & (ids(trace_ids, begin=8) == trace[1]))
    return table_to_batch(table.slice(int(rows[0]), len(rows))) if len(rows) else None

"""Reading block files: footers, one trace, or whole row groups as span batches."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from spanlake.blocks.file.footer import BlockInfo, decode_footer
from spanlake.blocks.file.rows import binary_parts, integers, one_chunk, table_to_batch
from spanlake.blocks.file.trace_filter import TraceFilter
from spanlake.model.errors import CorruptData
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
    memory_bytes: int


def open_source(store: ObjectStore, key: str, size_bytes: int) -> Any:
    """A file object for pyarrow: the file itself where it is local."""
    path = store.local_path(key)
    return pa.OSFile(str(path)) if path is not None else pa.PythonFile(RangeReader(store, key, size_bytes), mode="r")


def read_footer(store: ObjectStore, key: str, size_bytes: int) -> Footer:
    """Read a block's footer. CorruptData if the file is no block."""
    with open_source(store, key, size_bytes) as source:
        try:
            metadata = pq.read_metadata(source)
        except (pa.ArrowInvalid, OSError) as failure:
            raise CorruptData(f"block {key} is not a readable Parquet file: {failure}") from failure
    info, trace_filter = decode_footer(metadata.metadata or {}, key)
    return Footer(key, size_bytes, metadata, info, trace_filter, 3 * metadata.serialized_size)


def read_row_group(store: ObjectStore, footer: Footer, number: int, *, threads: bool = False) -> pa.Table:
    """A row group with dictionaries for its strings, without the columns that have no value in it.

    Columns that have one value in all rows, as the statistics tell, are made up instead of read: a third of them, typically.
    """
    varying, constant = split_columns(footer.metadata, number)
    schema = footer.metadata.schema.to_arrow_schema()
    with open_source(store, footer.key, footer.size_bytes) as source:
        dictionaries = [field.name for field in schema if _is_dictionary(field)]
        try:
            file = pq.ParquetFile(source, metadata=footer.metadata, read_dictionary=dictionaries, pre_buffer=True)
            table = file.read_row_group(number, columns=varying, use_threads=threads)
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
    return pa.types.is_string(field.type) or field.name == "trace_id"


def split_columns(metadata: pq.FileMetaData, number: int) -> tuple[list[str], dict[str, Any]]:
    """(columns of a row group whose values must be read, the value of each column that has the same one in every row).

    Columns without any value are in neither. `trace_id` is always read.
    """
    group = metadata.row_group(number)
    varying: dict[str, None] = {}
    constant: dict[str, Any] = {}
    for i in range(group.num_columns):
        chunk = group.column(i)
        path: str = chunk.path_in_schema
        name = path.partition(".list.")[0]
        statistics = chunk.statistics
        if name in varying:
            continue
        if statistics is None or not statistics.has_null_count:
            varying[name] = None
        elif statistics.null_count == 0 and name == path != "trace_id" and statistics.has_min_max and _is_one_value(statistics):
            constant[name] = statistics.min
        elif statistics.null_count < chunk.num_values:
            varying[name] = None
    return list(varying), constant


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
    table = read_row_group(store, footer, number, threads=True)
    trace_ids = one_chunk(table.column("trace_id"))
    data, offsets = binary_parts(trace_ids.dictionary)
    halves = np.frombuffer(data[int(offsets[0]) : int(offsets[-1])].tobytes(), ">u8").reshape(-1, 2)
    codes = np.flatnonzero((halves[:, 0] == high) & (halves[:, 1] == low))
    inspected = int(footer.metadata.row_group(number).total_byte_size)
    if not len(codes):
        return None, inspected
    rows = np.flatnonzero(integers(trace_ids.indices) == codes[0])
    return table_to_batch(_without_dictionaries(table.slice(int(rows[0]), len(rows)))), inspected


def _without_dictionaries(table: pa.Table) -> pa.Table:
    """A few rows of a row group with plain columns, so that the dictionaries of all its rows need not be carried along."""
    columns = [
        pa.chunked_array([column.chunk(0).dictionary_decode()]) if pa.types.is_dictionary(column.type) else column
        for column in table.columns
    ]
    return pa.table(columns, names=table.column_names)

"""Writing one block file: row groups in, a finished Parquet file with its footer out.

Encodings were chosen by size and CPU on the load generator's spans (docs/formats/block.md has the figures): dictionaries for whatever
repeats, deltas for times and tree numbers, plain lengths-then-bytes for span ids, which do not compress at all.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from spanlake.blocks.build.choose import Column, KeyCounts, KeyInfo, add_keys, choose_columns, count_attributes, describe_keys
from spanlake.blocks.build.row_group import ID_COLUMNS, RowGroups
from spanlake.blocks.file.footer import BlockInfo, RowGroupInfo, encode_footer
from spanlake.blocks.file.trace_filter import build_filter
from spanlake.blocks.memory.arrange import Arrangement
from spanlake.model.schema import ColumnType
from spanlake.model.settings import BlockSettings
from spanlake.model.spans import SpanBatch

_DELTA_COLUMNS = ("start_ns", "duration_ns")
# Whether there are any events, links and overflow attributes, and which keys the latter can have.
_NESTED_STATISTICS = ("events.list.element.dropped_attributes", "links.list.element.dropped_attributes", "attributes.list.element.key")
PAGE_ROWS = 16_384
_BATCH_ROWS = 8192


@dataclass(frozen=True, slots=True)
class WrittenBlock:
    """A finished file in scratch space and what the catalog and the log need to know of it."""

    path: Path
    size_bytes: int
    info: BlockInfo
    columns: dict[str, ColumnType]


def row_group_bounds(trace_first: NDArray[np.int64], spans: int) -> list[tuple[int, int]]:
    """Output rows of each row group: whole traces, closed as soon as `spans` rows are reached."""
    total = int(trace_first[-1])
    bounds = []
    begin = 0
    while begin < total:
        end = int(trace_first[min(int(np.searchsorted(trace_first, begin + spans)), len(trace_first) - 1)])
        bounds.append((begin, end))
        begin = end
    return bounds


class BlockWriter:
    """Writes arranged batches, whose traces must come in the order of their ids, to one file.

    One batch for a flush; several, each a range of trace ids, for a compaction. All of them share the columns chosen at the beginning.
    """

    def __init__(self, path: Path, columns: Sequence[Column], settings: BlockSettings, *, zstd_level: int) -> None:
        self._path = path
        self._columns = tuple(columns)
        self._settings = settings
        self._zstd_level = zstd_level
        self._writer: pq.ParquetWriter | None = None
        self._groups: list[RowGroupInfo] = []
        self._trace_ids: list[NDArray[np.uint64]] = []
        self._times: list[tuple[tuple[int, int], ...]] = []
        self._keys: list[KeyInfo] = []

    def write(self, batch: SpanBatch, arrangement: Arrangement, *, keys: KeyCounts | None = None) -> None:
        """Append row groups. The rows are in the order of the arrangement. `keys` are those of the batch, if they are known already."""
        keys = count_attributes(batch) if keys is None else keys
        self._keys = add_keys([*self._keys, *describe_keys(batch, keys)])
        groups = RowGroups(batch, arrangement, self._columns, keys)
        if self._writer is None:
            self._writer = self._open(groups.schema)
        for begin, end in row_group_bounds(arrangement.trace_first, self._settings.row_group_spans):
            self._writer.write_table(groups.table(begin, end), row_group_size=end - begin)
            first, last = (_trace_hex(batch, row) for row in (begin, end - 1))
            self._groups.append(RowGroupInfo(end - begin, first, last))
        self._note(batch, arrangement)

    def finish(self) -> WrittenBlock:
        """Close the file. At least one batch must have been written."""
        assert self._writer is not None
        ids = np.concatenate(self._trace_ids, axis=1)
        info = self._info(ids.shape[1])
        self._writer.add_key_value_metadata(encode_footer(info, build_filter(ids[0], ids[1])))
        self._writer.close()
        columns = {column.name: column.type for column in self._columns}
        return WrittenBlock(self._path, self._path.stat().st_size, info, columns)

    def abandon(self) -> None:
        """Remove the unfinished file."""
        if self._writer is not None:
            self._writer.close()
        self._path.unlink(missing_ok=True)

    def _open(self, schema: pa.Schema) -> pq.ParquetWriter:
        encodings = dict.fromkeys(_DELTA_COLUMNS, "DELTA_BINARY_PACKED") | dict.fromkeys(ID_COLUMNS, "DELTA_LENGTH_BYTE_ARRAY")
        return pq.ParquetWriter(
            self._path,
            schema,
            compression="zstd",
            compression_level=self._zstd_level,
            use_dictionary=_dictionary_columns(schema),
            column_encoding=encodings,
            store_schema=False,
            write_page_index=True,
            write_page_checksum=True,
            write_statistics=_statistics_columns(schema),
            write_batch_size=_BATCH_ROWS,
            max_rows_per_page=PAGE_ROWS,
        )

    def _note(self, batch: SpanBatch, arrangement: Arrangement) -> None:
        firsts = batch.spans[arrangement.trace_first[:-1]]
        self._trace_ids.append(np.stack([firsts["trace_hi"], firsts["trace_lo"]]))
        starts, durations = arrangement.trace_start_ns, arrangement.trace_duration_ns
        # Ends are not kept: start and duration give them back, wrapping as the duration did.
        self._times.append((_extremes(batch.spans["start_ns"]), _extremes(starts), _extremes(durations), _extremes(starts + durations)))

    def _info(self, traces: int) -> BlockInfo:
        starts, trace_starts, durations, ends = zip(*self._times, strict=True)
        return BlockInfo(
            rows=sum(group.rows for group in self._groups),
            traces=traces,
            start_min_ns=min(least for least, _ in starts),
            start_max_ns=max(greatest for _, greatest in starts),
            trace_start_min_ns=min(least for least, _ in trace_starts),
            trace_start_max_ns=max(greatest for _, greatest in trace_starts),
            trace_duration_max_ns=max(greatest for _, greatest in durations),
            trace_end_max_ns=max(greatest for _, greatest in ends),
            row_groups=tuple(self._groups),
            keys=tuple(self._keys),
        )


def _extremes(values: NDArray[np.int64]) -> tuple[int, int]:
    return int(values.min()), int(values.max())


def _trace_hex(batch: SpanBatch, row: int) -> str:
    span = batch.spans[row]
    return f"{int(span['trace_hi']):016x}{int(span['trace_lo']):016x}"


def _dictionary_columns(schema: pa.Schema) -> list[str]:
    """Paths of the Parquet leaves that get dictionaries: all but ids, times and tree numbers."""
    plain = {*_DELTA_COLUMNS, *ID_COLUMNS}
    return [path for field in schema if field.name not in plain for path in _leaves(field.name, field.type)]


def _statistics_columns(schema: pa.Schema) -> list[str]:
    """The leaves with null counts and least and greatest values: what a scan can skip row groups by. Ids are as good as random."""
    flat = [field.name for field in schema if not pa.types.is_list(field.type) and field.name not in ID_COLUMNS]
    return [*flat, *_NESTED_STATISTICS]


def _leaves(path: str, kind: pa.DataType) -> Iterator[str]:
    if pa.types.is_list(kind):
        yield from _leaves(f"{path}.list.element", kind.value_type)
    elif pa.types.is_struct(kind):
        for field in kind:
            yield from _leaves(f"{path}.{field.name}", field.type)
    else:
        yield path


def write_block(
    path: Path, batch: SpanBatch, arrangement: Arrangement, *, table: Mapping[str, ColumnType], settings: BlockSettings
) -> WrittenBlock:
    """A block of one batch, with columns chosen for it. The rows are in the order of the arrangement."""
    keys = count_attributes(batch)
    limits = {"columns_max": settings.columns_max, "table_columns_max": settings.table_columns_max}
    columns = choose_columns(describe_keys(batch, keys), rows=len(batch), table=table, **limits)
    writer = BlockWriter(path, columns, settings, zstd_level=settings.zstd_level)
    try:
        writer.write(batch, arrangement, keys=keys)
        return writer.finish()
    except BaseException:
        writer.abandon()
        raise

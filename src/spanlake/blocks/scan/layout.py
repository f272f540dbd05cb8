"""What a block's footer says, ready for lookups: leaves of the file, key counts, statistics and dictionaries of its row groups."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from spanlake.blocks.build.choose import KEYS_MAX, TYPE_NUMBERS
from spanlake.blocks.file.reader import Footer
from spanlake.blocks.scan.dictionary_page import decode_dictionary, dictionary_span
from spanlake.blocks.scan.typed.values import offsets_of
from spanlake.model.scan import Field
from spanlake.model.schema import ColumnType, column_name
from spanlake.objectstore.reader import RangeReader
from spanlake.objectstore.store import ObjectStore

OVERFLOW = "attributes"
OVERFLOW_KEYS = "attributes.list.element.key"
_ARROW_COLUMN_TYPES: dict[pa.DataType, ColumnType] = {pa.string(): "string", pa.int64(): "int", pa.float64(): "double", pa.bool_(): "bool"}


@dataclass(frozen=True, slots=True)
class LeafStatistics:
    """Per row group: whether there is any value and any null, and the least and greatest value (None where the writer did not say)."""

    has_values: NDArray[np.bool_]
    has_nulls: NDArray[np.bool_]
    least: tuple[Any, ...]
    greatest: tuple[Any, ...]


@dataclass(frozen=True, slots=True)
class LeafValues:
    """The distinct values of a column per row group: row group i has values[offsets[i]:offsets[i + 1]] if it is `known`."""

    values: pa.Array
    offsets: NDArray[np.int64]
    known: NDArray[np.bool_]
    bytes_read: int


class BlockLayout:
    """Lookups into one footer. Computed on first use; harmless to compute twice."""

    def __init__(self, footer: Footer) -> None:
        self.footer = footer
        self._statistics: dict[str, LeafStatistics] = {}

    @cached_property
    def leaves(self) -> Mapping[str, int]:
        """Index of each Parquet leaf by its path."""
        schema = self.footer.metadata.schema
        return {schema.column(index).path: index for index in range(len(schema))}

    @cached_property
    def column_types(self) -> Mapping[str, pa.DataType]:
        """Arrow types of the top-level columns."""
        return {field.name: field.type for field in self.footer.metadata.schema.to_arrow_schema()}

    @cached_property
    def _keys(self) -> Mapping[tuple[str, str], Mapping[str, int]]:
        return {(info.scope, info.key): info.spans for info in self.footer.info.keys}

    @cached_property
    def crowded(self) -> bool:
        """Whether the block has so many keys that the footer may not list all."""
        return len({key for _, key in self._keys}) >= KEYS_MAX

    @cached_property
    def first_traces(self) -> Sequence[str]:
        """The first trace id (32 hex digits) of each row group."""
        return [group.first_trace for group in self.footer.info.row_groups]

    def key_types(self, field: Field) -> Mapping[str, int] | None:
        """How many spans have the attribute, per type; None if the footer does not know."""
        found = self._keys.get((field.scope, field.name))
        return found if found is not None or self.crowded else {}

    def column_of(self, field: Field) -> str | None:
        """The column of a span, resource or instrumentation attribute; None if it has none in this file."""
        name = column_name(field.scope, field.name)  # type: ignore[arg-type]
        return name if name in self.leaves else None

    def in_overflow(self, field: Field) -> bool:
        """Whether the overflow list may have values of an attribute that are not in its column."""
        types = self.key_types(field)
        if types is None:
            return True
        column = self.column_of(field)
        kind = _ARROW_COLUMN_TYPES[self.column_types[column]] if column is not None else None
        return any(count and name != kind for name, count in types.items())

    def statistics(self, leaf: str) -> LeafStatistics:
        """What the footer says about the values of a leaf."""
        if leaf not in self._statistics:
            self._statistics[leaf] = self._read_statistics(self.leaves[leaf])
        return self._statistics[leaf]

    def _read_statistics(self, index: int) -> LeafStatistics:
        has_values, has_nulls, least, greatest = [], [], [], []
        for number in range(self.footer.metadata.num_row_groups):
            chunk = self.footer.metadata.row_group(number).column(index)
            found = chunk.statistics
            nulls = found.null_count if found is not None and found.has_null_count else None
            has_values.append(nulls is None or nulls < chunk.num_values)
            has_nulls.append(nulls is None or nulls > 0)
            exact = found is not None and found.has_min_max
            least.append(found.min if exact else None)
            greatest.append(found.max if exact else None)
        return LeafStatistics(np.array(has_values, np.bool_), np.array(has_nulls, np.bool_), tuple(least), tuple(greatest))

    def text_type(self, leaf: str) -> pa.DataType:
        """string, or binary for ids."""
        return self.column_types.get(leaf, pa.string())

    def leaf_type(self, leaf: str) -> pa.DataType:
        """What `decode_dictionary` makes of its values."""
        kind = self.footer.metadata.schema.column(self.leaves[leaf]).physical_type
        return {"BYTE_ARRAY": pa.string(), "INT32": pa.int32(), "INT64": pa.int64(), "DOUBLE": pa.float64(), "BOOLEAN": pa.bool_()}[kind]

    def places_of(self, leaves: Sequence[str], groups: Sequence[int]) -> list[tuple[int, int]]:
        """(offset, stored bytes) of column chunks."""
        places = []
        for number in groups:
            group = self.footer.metadata.row_group(number)
            for leaf in leaves:
                chunk = group.column(self.leaves[leaf])
                first = chunk.dictionary_page_offset if chunk.has_dictionary_page else None
                places.append((chunk.data_page_offset if first is None else first, int(chunk.total_compressed_size)))
        return places

    def dictionary_bytes(self, leaf: str) -> int:
        """Stored bytes of the dictionaries of a leaf in all row groups."""
        metadata, index = self.footer.metadata, self.leaves[leaf]
        spans = (dictionary_span(metadata.row_group(number).column(index)) for number in range(metadata.num_row_groups))
        return sum(span[1] for span in spans if span is not None)

    def leaves_under(self, path: str) -> list[str]:
        """The leaf of that path, or those below it."""
        return [path] if path in self.leaves else [leaf for leaf in self.leaves if leaf.startswith(f"{path}.")]


def open_ranges(store: ObjectStore, footer: Footer, ranges: Sequence[tuple[int, int]]) -> Any:
    """A file object for pyarrow. `ranges` (offset, length) is what will be read of it, fetched at once where the file is not local."""
    path = store.local_path(footer.key)
    if path is not None:
        return pa.OSFile(str(path))
    reader = RangeReader(store, footer.key, footer.size_bytes)
    reader.fetch(ranges)
    return pa.PythonFile(reader, mode="r")


def read_leaf_values(store: ObjectStore, layout: BlockLayout, leaf: str) -> LeafValues:
    """The distinct values of a leaf in every row group, from dictionary pages, or from statistics where they tell all."""
    statistics = layout.statistics(leaf)
    metadata, index = layout.footer.metadata, layout.leaves[leaf]
    chunks = [metadata.row_group(number).column(index) for number in range(metadata.num_row_groups)]
    places = [dictionary_span(chunk) if has else None for chunk, has in zip(chunks, statistics.has_values, strict=True)]
    arrays: list[pa.Array | None] = []
    with open_ranges(store, layout.footer, [place for place in places if place is not None]) as source:
        for number, (chunk, place) in enumerate(zip(chunks, places, strict=True)):
            if not statistics.has_values[number]:
                arrays.append(pa.array([], layout.leaf_type(leaf)))
            elif place is not None:
                arrays.append(decode_dictionary(source.read_at(place[1], place[0]), chunk))
            else:
                arrays.append(_told_values(chunk, statistics.least[number], statistics.greatest[number]))
    known = [array for array in arrays if array is not None]
    counts = [0 if array is None else len(array) for array in arrays]
    values = pa.concat_arrays(known) if known else pa.array([], pa.string())
    bytes_read = sum(place[1] for place in places if place is not None)
    return LeafValues(values, offsets_of(np.array(counts, np.int64)), np.array([array is not None for array in arrays]), bytes_read)


def _told_values(chunk: pq.ColumnChunkMetaData, least: Any, greatest: Any) -> pa.Array | None:
    """The values of a boolean column, which its statistics tell."""
    if chunk.physical_type != "BOOLEAN" or least is None:
        return None
    return pa.array(sorted({least, greatest}), pa.bool_())


assert set(_ARROW_COLUMN_TYPES.values()) == set(TYPE_NUMBERS)

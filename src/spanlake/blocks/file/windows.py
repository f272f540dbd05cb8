"""Reading a few rows of a row group straight from its pages: what a trace by id needs, ten times faster than through Arrow.

pyarrow decodes whole column chunks, and for each of them sets up a reader and two decompression contexts: 0.1 ms before the first value.
Here one context decompresses the pages that have wanted rows, and kernels decode only those rows. They know the encodings that our
writer uses; for anything else, and for broken files, CorruptData is raised, and the caller takes the general path, which reads all of
Parquet and says what is wrong. A property test holds the two paths equal.
"""

from __future__ import annotations

import mmap
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TypeVar

import numpy as np
import pyarrow.parquet as pq
import zstandard
from numpy.typing import NDArray

from spanlake.blocks.file.columns import AttributeColumn, Columns
from spanlake.blocks.file.encodings import BAD, PLAIN_DICTIONARY, RLE_DICTIONARY
from spanlake.blocks.file.leaves import (
    BOOL,
    CONTROL_WORDS,
    ID,
    ID_LOW,
    INT32,
    INT64,
    LEAF_FIELDS,
    PART_FIELDS,
    SCRATCH_ROWS,
    TEXT,
    decode_leaf,
)
from spanlake.blocks.file.page_headers import (
    BEGIN,
    COMPRESSED,
    DICTIONARY_PAGE,
    ENCODING,
    LEAF,
    PAGE_FIELDS,
    TYPE,
    UNCOMPRESSED,
    VALUES,
    walk_pages,
)
from spanlake.model import spans as model
from spanlake.model.errors import CorruptData, KeyMissing
from spanlake.model.schema import AttributeScope, column_attribute
from spanlake.model.spans import Strings
from spanlake.objectstore.store import ObjectStore

T = TypeVar("T", bound=np.generic)

_KINDS = {"BOOLEAN": BOOL, "INT32": INT32, "INT64": INT64, "DOUBLE": INT64, "BYTE_ARRAY": TEXT}
_ATTRIBUTE_TYPES = {"BOOLEAN": model.BOOL, "INT64": model.INT, "DOUBLE": model.DOUBLE, "BYTE_ARRAY": model.STRING}
_IDS = {"span_id": (("span_id", ID),), "parent_span_id": (("parent_span_id", ID),), "trace_id": (("trace_hi", ID), ("trace_lo", ID_LOW))}
_TRACE_ID = frozenset(("trace_hi", "trace_lo"))
# Columns that follow from others; a span batch has no place for them.
_DERIVED = frozenset(
    ("nested_right", "nested_parent", "child_count", "trace_start_ns", "trace_duration_ns", "root_name", "root_service", "sampling_weight")
)
# The leaves that tell the lengths of lists: the first field of each, so that every list is told about once.
_FIRST_FIELDS = {"events": "time_ns", "links": "trace_id", "attributes": "scope", "events.attributes": "key", "links.attributes": "key"}
_LISTS = {path: (path,) for path in ("events", "links", "attributes")} | {
    path: (path.partition(".")[0], path) for path in ("events.attributes", "links.attributes")
}
_TEXT_BYTES = 1 << 16
_SCRATCH_VALUES = 1 << 14


@dataclass(frozen=True, slots=True)
class Leaf:
    """A leaf column as the kernels see it."""

    chunk: int
    path: str
    kind: int
    definition_max: int
    repetition_max: int
    list_path: str  # the list whose lengths this leaf tells; "" if another does, or if it is in none
    lists: tuple[str, ...]  # the lists that it is in
    attribute: tuple[AttributeScope, int, int] | None  # scope, string code of the key, OTLP type number


@dataclass(frozen=True, slots=True)
class Layout:
    """Where the values of a block are: its leaves, and per row group and column chunk the position and length of its pages."""

    leaves: tuple[Leaf, ...]
    chunks: NDArray[np.int64]  # [row group, chunk, 2]
    keys: Strings  # the empty string, then the keys of the attribute columns


def read_layout(metadata: pq.FileMetaData) -> Layout:
    """The layout of a block from its footer."""
    leaves: list[Leaf] = []
    keys: list[bytes] = [b""]
    for number in range(metadata.num_columns):
        column = metadata.schema.column(number)
        levels = (column.max_definition_level, column.max_repetition_level)
        # Lists and structs are required, so each list adds one definition level, and a nullable leaf one more.
        known = levels[0] - levels[1] in {0, 1} and levels[1] <= 2
        kind = _KINDS.get(column.physical_type, BAD) if known else BAD
        attribute = column_attribute(column.path)
        if attribute is not None:
            described = (attribute[0], len(keys), _ATTRIBUTE_TYPES.get(column.physical_type, BAD))
            kind = BAD if described[2] == BAD else kind
            keys.append(attribute[1].encode())
            leaves.append(Leaf(number, column.path, kind, *levels, "", (), described))
        elif column.path not in _DERIVED:
            path = column.path.replace(".list.element", "")
            parent, _, field = path.rpartition(".")
            within = (parent if _FIRST_FIELDS.get(parent) == field else "", _LISTS.get(parent, ()))
            leaves.extend(
                Leaf(number, name, kind, *levels, *within, None) for name, kind in _IDS.get(path if kind == TEXT else "", ((path, kind),))
            )
    lengths = np.array([len(key) for key in keys], np.int32)
    texts = Strings(np.frombuffer(bytearray().join(keys), np.uint8), np.cumsum(lengths, dtype=np.int64) - lengths, lengths)
    return Layout(tuple(leaves), _chunk_places(metadata), texts)


def _chunk_places(metadata: pq.FileMetaData) -> NDArray[np.int64]:
    places = np.empty((metadata.num_row_groups, metadata.num_columns, 2), np.int64)
    for number in range(metadata.num_row_groups):
        group = metadata.row_group(number)
        for i in range(metadata.num_columns):
            chunk = group.column(i)
            places[number, i] = chunk.dictionary_page_offset or chunk.data_page_offset, chunk.total_compressed_size
    return places


def open_group(store: ObjectStore, key: str, layout: Layout, number: int) -> GroupPages:
    """The pages of a row group: mapped where the file is local, else read with one request. KeyMissing if the file is gone."""
    chunks = layout.chunks[number]
    begin, end = int(chunks[:, 0].min()), int(chunks.sum(axis=1).max())
    path = store.local_path(key)
    if path is None:
        return GroupPages(np.frombuffer(store.get_range(key, begin, end - begin), np.uint8), layout, chunks - (begin, 0))
    aligned = begin - begin % mmap.ALLOCATIONGRANULARITY
    try:
        with path.open("rb") as file:
            mapped = mmap.mmap(file.fileno(), end - aligned, access=mmap.ACCESS_READ, offset=aligned)
    except FileNotFoundError:
        raise KeyMissing(key) from None
    except (OSError, ValueError) as failure:
        raise CorruptData(f"block {key} is shorter than its footer says: {failure}") from failure
    return GroupPages(np.frombuffer(mapped, np.uint8), layout, chunks - (aligned, 0))


class GroupPages:
    """The pages of one row group, for one thread at a time. Methods raise CorruptData for what is broken or not known here."""

    def __init__(self, data: NDArray[np.uint8], layout: Layout, chunks: NDArray[np.int64]) -> None:
        """data: bytes with all column chunks, which lie at `chunks` (position and length)."""
        self._layout = layout
        self._bytes = data.data
        self._decompressor = zstandard.ZstdDecompressor()
        self._kept: dict[int, bytes] = {}
        self._scratch = np.empty((SCRATCH_ROWS, _SCRATCH_VALUES), np.int64)
        self._control = np.zeros(CONTROL_WORDS, np.int64)
        room = 0
        found = 8 * len(chunks)
        while found > room:
            room = found
            pages = np.empty((room + 1, PAGE_FIELDS), np.int64)
            found = walk_pages(data, chunks, pages)
        if found == BAD:
            raise CorruptData("a page header cannot be read")
        begins = np.searchsorted(pages[:found, LEAF], np.arange(len(chunks) + 1)).tolist()
        listed: list[list[int]] = pages[:found].tolist()
        self._pages = [listed[begin:end] for begin, end in pairwise(begins)]

    def columns(self, window: tuple[int, int]) -> Columns:
        """Rows [window[0], window[1])."""
        texts = _Texts(self._layout.keys)
        values: dict[str, NDArray[np.int64]] = {}
        counts: dict[str, NDArray[np.int64]] = {}
        attributes: list[AttributeColumn] = []
        empty: set[str] = set()
        for leaf in self._layout.leaves:
            if self._is_null(leaf) or not empty.isdisjoint(leaf.lists):
                continue
            found, valid, lengths = self._decode(leaf, window, texts)
            if leaf.attribute is not None:
                attributes.append(AttributeColumn(*leaf.attribute, found, valid))
            else:
                values[leaf.path] = found
            if leaf.list_path:
                counts[leaf.list_path] = lengths
                if not len(found):
                    empty.add(leaf.list_path)
        return Columns(window[1] - window[0], texts.strings(), values, counts, attributes)

    def rows_of(self, high: int, low: int, rows: int) -> tuple[int, int]:
        """The rows [first, last) of a trace in a group of `rows` rows; first == last if it is not there."""
        texts = _Texts(self._layout.keys)
        leaves = {leaf.path: leaf for leaf in self._layout.leaves if leaf.path in _TRACE_ID}
        first, last = 0, rows
        for path, wanted in (("trace_hi", high), ("trace_lo", low)):
            found = np.flatnonzero(self._decode(leaves[path], (first, last), texts)[0].view(np.uint64) == np.uint64(wanted))
            if not len(found):
                return 0, 0
            first, last = first + int(found[0]), first + int(found[-1]) + 1
        return first, last

    def numbers_of(self, path: str, rows: int) -> NDArray[np.int64]:
        """The numbers, or the ids as numbers, of one flat leaf in a group of `rows` rows."""
        leaf = next(leaf for leaf in self._layout.leaves if leaf.path == path)
        return self._decode(leaf, (0, rows), _Texts(self._layout.keys))[0]

    def _is_null(self, leaf: Leaf) -> bool:
        """Whether a dictionary without entries shows that the leaf has no value at all."""
        if leaf.list_path or not self._pages[leaf.chunk]:
            return False
        first, *others = self._pages[leaf.chunk]
        empty = first[TYPE] == DICTIONARY_PAGE and first[VALUES] == 0
        return empty and all(page[ENCODING] in {RLE_DICTIONARY, PLAIN_DICTIONARY} for page in others)

    def _decode(self, leaf: Leaf, window: tuple[int, int], texts: _Texts) -> tuple[NDArray[np.int64], NDArray[np.bool_], NDArray[np.int64]]:
        """(values, validity, list lengths) of a leaf."""
        if leaf.kind == BAD:
            raise CorruptData(f"column {leaf.path} has a type that is not known here")
        rows = window[1] - window[0]
        dictionary, dictionary_count = b"", 0
        bodies: list[bytes] = []
        parts: list[tuple[int, ...]] = []
        row = position = levels = widest = 0
        keep = leaf.path in _TRACE_ID  # two leaves of one chunk, which are read twice
        for page in self._pages[leaf.chunk]:
            count = page[VALUES]
            if page[TYPE] == DICTIONARY_PAGE:
                dictionary, dictionary_count, widest = self._body(page, keep=keep), count, max(widest, count)
                continue
            first, row = row, row + count
            if leaf.repetition_max == 0 and (row <= window[0] or first >= window[1]):
                continue
            bodies.append(self._body(page, keep=keep))
            parts.append((position, position + len(bodies[-1]), count, page[ENCODING], first))
            position += len(bodies[-1])
            levels += count
            widest = max(widest, count)
        room = levels if leaf.repetition_max else min(levels, rows)
        values, valid, counts = np.empty(room, np.int64), np.empty(room, np.bool_), np.empty(levels if leaf.repetition_max else 0, np.int64)
        if leaf.kind == TEXT:
            texts.reserve(room, position + len(dictionary))
        self._control[:LEAF_FIELDS] = leaf.kind, leaf.definition_max, leaf.repetition_max, dictionary_count, *window
        if widest > self._scratch.shape[1]:
            self._scratch = np.empty((SCRATCH_ROWS, widest), np.int64)
        pages = np.frombuffer(bodies[0] if len(bodies) == 1 else b"".join(bodies), np.uint8)
        memory = pages, np.frombuffer(dictionary, np.uint8), self._scratch
        table = np.array(parts, np.int64).reshape(-1, PART_FIELDS)
        entries, parents = decode_leaf(self._control, memory, table, (values, valid.view(np.uint8), counts), texts.arrays)
        if entries == BAD or (leaf.repetition_max == 0 and entries != rows):
            raise CorruptData(f"column {leaf.path} is broken or encoded in a way that is not known here")
        return values[:entries], valid[:entries], counts[:parents]

    def _body(self, page: Sequence[int], *, keep: bool) -> bytes:
        begin, compressed, uncompressed = page[BEGIN], page[COMPRESSED], page[UNCOMPRESSED]
        if begin in self._kept:
            return self._kept[begin]
        try:
            body = self._decompressor.decompress(self._bytes[begin : begin + compressed], max_output_size=uncompressed)
        except (zstandard.ZstdError, MemoryError) as failure:
            raise CorruptData(f"a page cannot be decompressed: {failure}") from failure
        if len(body) != uncompressed:
            raise CorruptData(f"a page has {len(body)} bytes instead of {uncompressed}")
        if keep:
            self._kept[begin] = body
        return body


class _Texts:
    """The string table that the kernels fill, and its room."""

    def __init__(self, keys: Strings) -> None:
        count, size = len(keys), len(keys.data)
        offsets, lengths = np.empty(4 * count, np.int64), np.empty(4 * count, np.int32)
        data = np.empty(size + _TEXT_BYTES, np.uint8)
        offsets[:count], lengths[:count], data[:size] = keys.offset, keys.length, keys.data
        self.arrays = offsets, lengths, data, np.array([count, size])

    def reserve(self, codes: int, size: int) -> None:
        """Make room for so many more strings and bytes."""
        offsets, lengths, data, used = self.arrays
        codes += int(used[0])
        size += int(used[1])
        if codes > len(offsets):
            offsets, lengths = _grown(offsets, codes), _grown(lengths, codes)
        if size > len(data):
            data = _grown(data, size)
        self.arrays = offsets, lengths, data, used

    def strings(self) -> Strings:
        offsets, lengths, data, used = self.arrays
        return Strings(data[: used[1]], offsets[: used[0]], lengths[: used[0]])


def _grown(array: NDArray[T], size: int) -> NDArray[T]:
    """The array with room for at least `size` elements."""
    grown: NDArray[T] = np.empty(max(size, 2 * len(array)), array.dtype)
    grown[: len(array)] = array
    return grown

"""Some row groups of a block whose columns are decoded straight from their pages, one column at a time, when it is asked for.

The fast path of scans: no Arrow reader is set up, dictionary codes stay codes, and a column that no condition gets to is never touched.
What the kernels do not know raises CorruptData, and the caller goes through Arrow.
"""

from __future__ import annotations

import mmap
from collections.abc import Iterable, Sequence

import numpy as np
import pyarrow as pa
import zstandard
from numpy.typing import NDArray

from spanlake.blocks.file.encodings import BAD
from spanlake.blocks.file.flat import (
    DICTIONARY_BEGIN,
    DICTIONARY_COUNT,
    FIRST_CODE,
    PAGE_BEGIN,
    PAGE_ENCODING,
    PAGE_END,
    PAGE_VALUES,
    PART_FIELDS,
    decode_codes,
    decode_numbers,
    decode_texts,
)
from spanlake.blocks.file.leaves import BOOL, INT32, INT64, TEXT
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
from spanlake.blocks.file.windows import GroupPages
from spanlake.blocks.scan.layout import BlockLayout, LeafValues
from spanlake.blocks.scan.typed.values import offsets_of
from spanlake.model.errors import CorruptData, KeyMissing
from spanlake.objectstore.ranges import FetchedRanges, merge_ranges
from spanlake.objectstore.store import ObjectStore

Bytes = NDArray[np.uint8]
SMALL_DICTIONARY_BYTES = 2
"""Bytes per row up to which it is worth while to look for entries that row groups have in common."""
_KINDS = {"BOOLEAN": BOOL, "INT32": INT32, "INT64": INT64, "DOUBLE": INT64, "BYTE_ARRAY": TEXT}
_ENTRY_BYTES_MIN = {INT32: 4, INT64: 8, TEXT: 4}


class GroupColumns:
    """Row groups `groups` of a block, for one thread. `bytes_read` grows with every column."""

    def __init__(self, store: ObjectStore, layout: BlockLayout, groups: Sequence[int], *, fetch: Iterable[str] = ()) -> None:
        """`fetch`: the leaves that are brought with one request if the file is not local."""
        self.layout = layout
        self.groups = list(groups)
        self.bytes_read = 0
        self._store = store
        self._file: Bytes | None = None
        self._fetched = FetchedRanges()
        self._group_rows = [layout.footer.info.row_groups[number].rows for number in self.groups]
        self.rows = sum(self._group_rows)
        if store.local_path(layout.footer.key) is None:
            ranges = merge_ranges(layout.places_of(list(fetch), self.groups))
            parts = store.get_ranges(layout.footer.key, ranges)
            self._fetched = FetchedRanges(tuple(start for start, _ in ranges), tuple(memoryview(part) for part in parts))

    def codes(self, leaf: str, known: LeafValues | None) -> tuple[NDArray[np.int32], NDArray[np.bool_], pa.Array]:
        """(code per row, which rows have a value, dictionary) of a text column. A large dictionary may have an entry once per row group.

        `known`: the values of the leaf in the whole block, if they are at hand.
        """
        if known is not None and not known.known[self.groups].all():
            known = None
        pages = self._pages(leaf, TEXT, with_dictionaries=known is None)
        if known is None:
            dictionary, first_codes = self._dictionary(leaf, pages)
        else:
            begin = int(known.offsets[self.groups[0]])
            dictionary = known.values.slice(begin, int(known.offsets[self.groups[-1] + 1]) - begin)
            first_codes = known.offsets[self.groups] - begin
            pages.parts[:, DICTIONARY_COUNT] = np.diff(known.offsets)[self.groups][pages.group_of_part]
        pages.parts[:, FIRST_CODE] = first_codes[pages.group_of_part]
        dictionary, code_of = self._distinct(dictionary)
        codes, valid = np.empty(self.rows, np.int32), np.empty(self.rows, np.bool_)
        about = self._is_nullable(leaf), code_of
        self._check(leaf, decode_codes(pages.memory, pages.parts, about, pages.scratch(), (codes, valid.view(np.uint8))))
        return codes, valid, dictionary

    def _distinct(self, dictionary: pa.Array) -> tuple[pa.Array, NDArray[np.int32]]:
        """(a small dictionary without what row groups repeat, the place in it of each entry; empty if nothing is repeated)."""
        if len(self.groups) > 1 and dictionary.type == pa.string() and dictionary.nbytes <= self.rows * SMALL_DICTIONARY_BYTES:
            encoded = dictionary.dictionary_encode()
            if len(encoded.dictionary) < len(dictionary):
                return encoded.dictionary, encoded.indices.to_numpy()
        return dictionary, np.empty(0, np.int32)

    def numbers(self, leaf: str) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
        """(value per row: int64, the bits of a double, 0 or 1; which rows have one) of a column of numbers."""
        kind = self._kind(leaf)
        pages = self._pages(leaf, kind, with_dictionaries=True)
        for group, (begin, end, count) in zip(pages.dictionary_groups, pages.dictionaries.tolist(), strict=True):
            if count * _ENTRY_BYTES_MIN.get(kind, 1 << 31) > end - begin:
                raise CorruptData(f"the dictionary of column {leaf} is cut")
            own = pages.group_of_part == group
            pages.parts[own, DICTIONARY_BEGIN], pages.parts[own, DICTIONARY_COUNT] = begin, count
        values, valid = np.empty(self.rows, np.int64), np.empty(self.rows, np.bool_)
        about = kind, self._is_nullable(leaf)
        self._check(leaf, decode_numbers(pages.memory, pages.parts, about, pages.scratch(), (values, valid.view(np.uint8))))
        return values, valid

    def ids(self, leaf: str) -> NDArray[np.uint64]:
        """The 8-byte ids of a column, 0 for those that are shorter."""
        memory, chunks = self._chunks(leaf)
        index = self.layout.leaves[leaf]
        found = []
        for place, rows in zip(chunks, self._group_rows, strict=True):
            only = np.zeros((self.layout.footer.layout.chunks.shape[1], 2), np.int64)
            only[index] = place
            found.append(GroupPages(memory, self.layout.footer.layout, only).numbers_of(leaf, rows).view(np.uint64))
        return np.concatenate(found)

    def _kind(self, leaf: str) -> int:
        return _KINDS.get(self._described(leaf).physical_type, BAD)

    def _described(self, leaf: str) -> pa.parquet.ColumnSchema:
        return self.layout.footer.metadata.schema.column(self.layout.leaves[leaf])

    def _is_nullable(self, leaf: str) -> bool:
        return bool(self._described(leaf).max_definition_level)

    def _check(self, leaf: str, rows: int) -> None:
        if rows != self.rows:
            raise CorruptData(f"column {leaf} is broken or encoded in a way that is not known here")

    def _chunks(self, leaf: str) -> tuple[Bytes, NDArray[np.int64]]:
        """(bytes, position and length in them of the chunk of each row group)."""
        chunks = np.ascontiguousarray(self.layout.footer.layout.chunks[self.groups, self.layout.leaves[leaf]])
        self.bytes_read += int(chunks[:, 1].sum())
        if self._store.local_path(self.layout.footer.key) is not None:
            return self._mapped(), chunks
        parts = [self._part(begin, length) for begin, length in chunks.tolist()]
        lengths = np.array([len(part) for part in parts], np.int64)
        return np.frombuffer(b"".join(parts), np.uint8), np.stack([offsets_of(lengths)[:-1], lengths], axis=1)

    def _part(self, begin: int, length: int) -> bytes:
        found = self._fetched.find(begin, length)
        return self._store.get_range(self.layout.footer.key, begin, length) if found is None else found

    def _mapped(self) -> Bytes:
        if self._file is None:
            path = self._store.local_path(self.layout.footer.key)
            assert path is not None
            try:
                with path.open("rb") as file:
                    self._file = np.frombuffer(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ), np.uint8)
            except FileNotFoundError:
                raise KeyMissing(self.layout.footer.key) from None
            except (OSError, ValueError) as failure:
                raise CorruptData(f"block {self.layout.footer.key} cannot be mapped: {failure}") from failure
        return self._file

    def _pages(self, leaf: str, kind: int, *, with_dictionaries: bool) -> _Pages:
        """The decompressed pages of a column."""
        described = self._described(leaf)
        if self._kind(leaf) != kind or kind == BAD or described.max_definition_level > 1 or described.max_repetition_level:
            raise CorruptData(f"column {leaf} has a type that is not known here")
        memory, chunks = self._chunks(leaf)
        listed = _list_pages(memory, chunks)
        if not with_dictionaries:
            listed = listed[listed[:, TYPE] != DICTIONARY_PAGE]
        self._check(leaf, int(listed[listed[:, TYPE] != DICTIONARY_PAGE, VALUES].sum()))
        return _decompressed(memory, listed)

    def _dictionary(self, leaf: str, pages: _Pages) -> tuple[pa.Array, NDArray[np.int64]]:
        """(the dictionaries of all row groups as one array, the code of each row group's first entry)."""
        counts = np.zeros(len(self.groups), np.int64)
        counts[pages.dictionary_groups] = pages.dictionaries[:, 2]
        room = pages.dictionaries[:, 1] - pages.dictionaries[:, 0]
        if (pages.dictionaries[:, 2] * _ENTRY_BYTES_MIN[TEXT] > room).any():
            raise CorruptData(f"the dictionary of column {leaf} is cut")
        total = int(counts.sum())
        offsets, texts = np.empty(total + 1, np.int32), np.empty(int(room.sum()), np.uint8)
        filled = decode_texts(pages.memory, pages.dictionaries, offsets, texts)
        if filled == BAD:
            raise CorruptData(f"the dictionary of column {leaf} is broken")
        first_codes = offsets_of(counts)[:-1]
        pages.parts[:, DICTIONARY_COUNT] = counts[pages.group_of_part]
        kind = self.layout.text_type(leaf)
        return pa.Array.from_buffers(kind, total, [None, pa.py_buffer(offsets), pa.py_buffer(texts[:filled])]), first_codes


def _list_pages(memory: Bytes, chunks: NDArray[np.int64]) -> NDArray[np.int64]:
    """The pages of column chunks; LEAF is the ordinal of the chunk."""
    room, found = 0, 4 * len(chunks)
    pages = np.empty((0, PAGE_FIELDS), np.int64)
    while found > room:
        room = found
        pages = np.empty((room + 1, PAGE_FIELDS), np.int64)
        found = walk_pages(memory, chunks, pages)
    if found == BAD:
        raise CorruptData("a page header cannot be read")
    return pages[:found]


class _Pages:
    """Decompressed pages in one piece of memory. `parts` is as the kernels take it, except for what concerns dictionaries."""

    def __init__(self, memory: Bytes, ends: NDArray[np.int64], pages: NDArray[np.int64]) -> None:
        is_dictionary = pages[:, TYPE] == DICTIONARY_PAGE
        begins = ends - pages[:, UNCOMPRESSED]
        self.memory = memory
        self.dictionaries = np.stack([begins, ends, pages[:, VALUES]], axis=1)[is_dictionary]
        self.dictionary_groups = pages[is_dictionary, LEAF]
        data = ~is_dictionary
        self.parts = np.zeros((int(data.sum()), PART_FIELDS), np.int64)
        self.parts[:, PAGE_BEGIN], self.parts[:, PAGE_END] = begins[data], ends[data]
        self.parts[:, PAGE_VALUES], self.parts[:, PAGE_ENCODING] = pages[data, VALUES], pages[data, ENCODING]
        self.group_of_part = pages[data, LEAF]

    def scratch(self) -> NDArray[np.int64]:
        return np.empty(int(self.parts[:, PAGE_VALUES].max(initial=0)), np.int64)


def _decompressed(memory: Bytes, pages: NDArray[np.int64]) -> _Pages:
    data, decompressor = memory.data, zstandard.ZstdDecompressor()
    bodies: list[bytes] = []
    try:
        for begin, compressed, uncompressed in pages[:, [BEGIN, COMPRESSED, UNCOMPRESSED]].tolist():
            bodies.append(decompressor.decompress(data[begin : begin + compressed], max_output_size=uncompressed))
    except (zstandard.ZstdError, MemoryError) as failure:
        raise CorruptData(f"a page cannot be decompressed: {failure}") from failure
    lengths = np.array([len(body) for body in bodies], np.int64)
    if not np.array_equal(lengths, pages[:, UNCOMPRESSED]):
        raise CorruptData("a page has another length than its header says")
    return _Pages(np.frombuffer(b"".join(bodies), np.uint8), np.cumsum(lengths), pages)

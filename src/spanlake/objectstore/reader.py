"""An object as a seekable file: what pyarrow needs to read Parquet from a store without local files.

    reader = RangeReader(store, key, size_bytes)
    reader.fetch([(4, 1000), (5_000_000, 2000)])     # one get_ranges for everything that the next steps will read
    pyarrow.parquet.ParquetFile(pyarrow.PythonFile(reader, mode="r"))

There is no read-ahead and no hidden cache: a read is answered from what `fetch` brought, or is one request.
"""

from __future__ import annotations

import io
from collections.abc import Sequence

from spanlake.objectstore.ranges import FetchedRanges, merge_ranges
from spanlake.objectstore.store import ObjectStore


class RangeReader:
    """A read-only binary file over one object of a known, unchanging size. One thread at a time, as with any file."""

    def __init__(self, store: ObjectStore, key: str, size_bytes: int) -> None:
        self._store = store
        self._key = key
        self._size_bytes = size_bytes
        self._position = 0
        self._closed = False
        self._fetched = FetchedRanges()

    @property
    def closed(self) -> bool:
        return self._closed

    @property
    def mode(self) -> str:
        return "rb"

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def writable(self) -> bool:
        return False

    def flush(self) -> None:
        """Nothing is ever written."""

    def close(self) -> None:
        """Forget what was fetched; further reads raise ValueError."""
        self._closed = True
        self._fetched = FetchedRanges()

    def size(self) -> int:
        """Bytes of the object."""
        return self._size_bytes

    def tell(self) -> int:
        self._check_open()
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Like that of any file; a position beyond the end is fine and reads as empty."""
        self._check_open()
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._size_bytes}[whence]
        if base + offset < 0:
            raise ValueError(f"seek to {base + offset} in object {self._key!r}")
        self._position = base + offset
        return self._position

    def read(self, size: int | None = -1, /) -> bytes:
        """Up to `size` bytes, all that is left if negative; fewer only at the end of the object."""
        self._check_open()
        left = max(self._size_bytes - self._position, 0)
        length = left if size is None or size < 0 else min(size, left)
        if not length:
            return b""
        data = self._fetched.find(self._position, length)
        if data is None:
            data = self._store.get_range(self._key, self._position, length)
        self._position += length
        return data

    def fetch(self, ranges: Sequence[tuple[int, int]]) -> None:
        """Bring the (start, length) ranges into memory with one call, instead of all that was fetched before.

        Ranges that touch or overlap are merged, so that reads across their border are answered too.
        """
        self._check_open()
        merged = merge_ranges(ranges)
        parts = self._store.get_ranges(self._key, merged)
        self._fetched = FetchedRanges(tuple(start for start, _ in merged), tuple(memoryview(part) for part in parts))

    def _check_open(self) -> None:
        if self._closed:
            raise ValueError(f"the reader of object {self._key!r} is closed")

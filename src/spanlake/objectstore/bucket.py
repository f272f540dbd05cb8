"""The object store on S3, GCS, Azure and in memory: obstore's synchronous calls behind our contract.

obstore's own retries are off but for multipart uploads, where a lost part must not cost the whole file: `RetryingStore` is the one place
that retries, because a conditional put that is retried blindly can mistake its own first attempt for a rival. obstore's asynchronous API
is never used: its threads crash the interpreter on exit.
"""

from __future__ import annotations

import shutil
import tempfile
import weakref
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from spanlake.model.errors import StoreError
from spanlake.objectstore.failures import bucket_failures, local_failures, says_bucket_is_missing
from spanlake.objectstore.ranges import FetchedRanges, merge_ranges
from spanlake.objectstore.store import ObjectInfo, check_key, check_prefix, check_range, is_key

if TYPE_CHECKING:
    from obstore import ObjectMeta
    from obstore.store import ObjectStore as Obstore

MIB = 1 << 20
# 10,000 parts, the limit of S3, of 16 MiB make 160 GB; four at once hold 64 MiB of memory.
PART_BYTES = 16 * MIB
PARTS_AT_ONCE = 4
# Ranges nearer than this share a request: at 100 MB/s a gap of 1 MiB costs 10 ms, less than a request.
COALESCE_BYTES = MIB
LIST_PAGE = 1000
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class BucketClients:
    """Two obstore clients for one root: `once` never retries by itself, `parts` retries the parts of multipart uploads."""

    once: Obstore
    parts: Obstore


class BucketStore:
    """An ObjectStore over obstore; `scratch` is made on first use and removed at exit if none was given."""

    def __init__(self, url: str, clients: BucketClients, scratch: Path | None = None) -> None:
        self._url = url
        self._clients = clients
        self._scratch = scratch

    @property
    def url(self) -> str:
        return self._url

    @property
    def scratch(self) -> Path:
        if self._scratch is None:
            self._scratch = Path(tempfile.mkdtemp(prefix="spanlake-"))
            weakref.finalize(self, shutil.rmtree, self._scratch, ignore_errors=True)
        self._scratch.mkdir(parents=True, exist_ok=True)
        return self._scratch

    def get(self, key: str) -> bytes:
        check_key(key)
        with bucket_failures("get", key, self._url):
            return self._clients.once.get(key).bytes().to_bytes()

    def get_range(self, key: str, start: int, length: int) -> bytes:
        return self.get_ranges(key, [(start, length)])[0]

    def get_ranges(self, key: str, ranges: Sequence[tuple[int, int]]) -> list[bytes]:
        check_key(key)
        for start, length in ranges:
            check_range(key, start, length)
        # We merge, not obstore: it panics when merged ranges reach beyond the end of the object. It sends them in parallel.
        merged = merge_ranges(ranges, COALESCE_BYTES)
        if not merged:
            return [b""] * len(ranges)
        starts, lengths = zip(*merged, strict=True)
        with bucket_failures("get_ranges", key, self._url):
            parts = self._clients.once.get_ranges(key, starts=starts, lengths=lengths, coalesce=0)
        fetched = FetchedRanges(starts, tuple(memoryview(part) for part in parts))
        return [_found(fetched, key, start, length) if length else b"" for start, length in ranges]

    def head(self, key: str) -> ObjectInfo:
        check_key(key)
        with bucket_failures("head", key, self._url):
            return _info(self._clients.once.head(key))

    def put(self, key: str, data: bytes) -> None:
        check_key(key)
        client = self._clients.once if len(data) <= PART_BYTES else self._clients.parts
        with bucket_failures("put", key, self._url):
            client.put(key, data, chunk_size=PART_BYTES, max_concurrency=PARTS_AT_ONCE)

    def put_if_absent(self, key: str, data: bytes) -> None:
        check_key(key)
        with bucket_failures("put_if_absent", key, self._url):
            self._clients.once.put(key, data, mode="create")

    def put_file(self, key: str, path: Path) -> None:
        check_key(key)
        if not path.is_file():
            raise StoreError(f"put_file of object {key!r} failed: there is no file {path}", transient=False)
        with bucket_failures("put_file", key, self._url):
            self._clients.parts.put(key, path, chunk_size=PART_BYTES, max_concurrency=PARTS_AT_ONCE)
        with local_failures("put_file", key):
            path.unlink(missing_ok=True)

    def delete(self, keys: Sequence[str]) -> None:
        names = [check_key(key) for key in keys]
        if not names:
            return
        with bucket_failures("delete", names[0], self._url):
            try:
                self._clients.once.delete(names)
            except FileNotFoundError:
                # GCS and Azure stop at the first key without an object; S3 does not care.
                for name in names:
                    self._delete_one(name)

    def list(self, prefix: str) -> Iterator[ObjectInfo]:
        trimmed = check_prefix(prefix)
        return self._pages(trimmed)

    def local_path(self, key: str) -> None:
        check_key(key)

    def _pages(self, prefix: str) -> Iterator[ObjectInfo]:
        with bucket_failures("list", prefix, self._url):
            for page in self._clients.once.list(prefix or None, chunk_size=LIST_PAGE):
                # Foreign objects can have names that no method of ours takes.
                yield from (_info(meta) for meta in page if is_key(meta["path"]))

    def _delete_one(self, name: str) -> None:
        try:
            self._clients.once.delete([name])
        except FileNotFoundError as error:
            if says_bucket_is_missing(str(error)):
                raise


def _info(meta: ObjectMeta) -> ObjectInfo:
    modified_ns = (meta["last_modified"] - EPOCH) // timedelta(microseconds=1) * 1000
    return ObjectInfo(key=meta["path"], size_bytes=meta["size"], modified_ns=modified_ns)


def _found(fetched: FetchedRanges, key: str, start: int, length: int) -> bytes:
    """The range, if all its bytes came: stores cut ranges at the end of the object without a word."""
    data = fetched.find(start, length)
    if data is None:
        raise StoreError(f"object {key!r} ends before the range {start}+{length}", transient=False)
    return data

"""The contract of an object store: bytes by key, and nothing about what the bytes mean.

`ObjectStore` is what the rest of spanlake sees; `opening.open_store` chooses the implementation. Every implementation passes the same
`ObjectStoreContract` in tests/objectstore.

A key is a path of segments joined by `/`, relative to the root of the store: `tables/single-tenant/date=2026-01-31/x.parquet`. The
alphabet of keys is what every backend, and the `deltalake` library opening a table under the same root, spells alike.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from spanlake.model.errors import InvalidInput

# S3 and GCS take 1024 bytes including the prefix of the root; POSIX file names take 255.
KEY_BYTES_MAX = 800
SEGMENT_BYTES_MAX = 255

# Characters that a URL parser or the Delta log between us and the store would read as something else.
FORBIDDEN_CHARACTERS = frozenset("\\#?[]%")

# Where the local store writes what is not finished; no key may lead into it.
SCRATCH_SEGMENT = ".scratch"


@dataclass(frozen=True, slots=True)
class ObjectInfo:
    """One stored object; `modified_ns` is UTC nanoseconds since the epoch, as coarse as the store keeps it (S3: seconds)."""

    key: str
    size_bytes: int
    modified_ns: int


class ObjectStore(Protocol):
    """Bytes by key. Thread-safe; every method blocks.

    All methods raise InvalidInput for a key that `check_key` refuses, and StoreError when the store fails: `transient` says whether
    trying again can help. After a StoreError of a put or delete its effect is unknown unless the subclass says otherwise.
    """

    @property
    def url(self) -> str:
        """The canonical URL of the root, percent-encoded, without a trailing slash: `file:///abs/dir`, `s3://bucket/prefix`."""
        ...

    @property
    def scratch(self) -> Path:
        """An existing local directory for files that `put_file` shall take: `put_file` of a local store then is only a rename.

        Outside of every key, not durable; files of crashed processes are removed when the store is opened a day later.
        """
        ...

    def get(self, key: str) -> bytes:
        """The whole object. KeyMissing if there is none."""
        ...

    def get_range(self, key: str, start: int, length: int) -> bytes:
        """Exactly `length` bytes from `start`; StoreError (not transient) if the object ends before. Nothing is asked for length 0."""
        ...

    def get_ranges(self, key: str, ranges: Sequence[tuple[int, int]]) -> list[bytes]:
        """`get_range` for each (start, length), in that order; near ranges of a remote object share a request."""
        ...

    def head(self, key: str) -> ObjectInfo:
        """What `list` would tell about one object. KeyMissing if there is none (or, on S3, no such bucket: HEAD cannot tell)."""
        ...

    def put(self, key: str, data: bytes) -> None:
        """Store or replace, atomically and durably: a reader sees the old or the new object, a return means that it survives a crash."""
        ...

    def put_if_absent(self, key: str, data: bytes) -> None:
        """`put`, but KeyExists if there is an object: of all concurrent callers exactly one succeeds."""
        ...

    def put_file(self, key: str, path: Path) -> None:
        """`put` of a finished file, which the store takes over: `path` is gone on return, and still complete after most errors."""
        ...

    def delete(self, keys: Sequence[str]) -> None:
        """Remove objects, in no particular order; keys without an object are fine. Not atomic: an error may leave some removed."""
        ...

    def list(self, prefix: str) -> Iterator[ObjectInfo]:
        """The objects below the directory `prefix` (whole segments; `""` is the root), at any depth, in no particular order.

        An object whose key is `prefix` itself is not below it. Objects put or deleted meanwhile may or may not be seen.
        """
        ...

    def local_path(self, key: str) -> Path | None:
        """The file that holds (or would hold) the object, to be memory-mapped and never written; None for a remote store."""
        ...


def check_key(key: str) -> str:
    """The key itself, or InvalidInput that says what is wrong with it."""
    if not key:
        raise InvalidInput("an object key must not be empty")
    if len(key.encode("utf-8", "replace")) > KEY_BYTES_MAX:
        raise InvalidInput(f"object key {key[:80]!r}… is longer than {KEY_BYTES_MAX} bytes")
    for segment in key.split("/"):
        problem = _problem_of_segment(segment)
        if problem:
            raise InvalidInput(f"object key {key!r} {problem}")
    if key.partition("/")[0] == SCRATCH_SEGMENT:
        raise InvalidInput(f"object key {key!r} leads into the directory for unfinished files, {SCRATCH_SEGMENT}")
    return key


def check_prefix(prefix: str) -> str:
    """The prefix without its trailing slash, or InvalidInput; `""` stands for the root."""
    trimmed = prefix.removesuffix("/")
    return check_key(trimmed) if prefix else ""


def check_range(key: str, start: int, length: int) -> None:
    """InvalidInput unless both numbers can be part of an object."""
    if start < 0 or length < 0:
        raise InvalidInput(f"range of object {key!r} must not be negative: start {start}, length {length}")


def is_key(text: str) -> bool:
    """Whether `check_key` would accept the text. Listings skip foreign objects that it would not."""
    try:
        check_key(text)
    except InvalidInput:
        return False
    return True


def is_key_segment(segment: str) -> bool:
    """Whether the text can be one segment of a key."""
    return not _problem_of_segment(segment)


def _problem_of_segment(segment: str) -> str:
    if not segment:
        return "has an empty segment: remove leading, trailing and double slashes"
    if segment in {".", ".."}:
        return f"has the segment {segment!r}: keys are absolute paths below the root"
    if not segment.isprintable():
        return "has a control or unprintable character"
    bad = FORBIDDEN_CHARACTERS.intersection(segment)
    if bad:
        return f"has the character {min(bad)!r}, which storage URLs cannot carry safely"
    if len(segment.encode()) > SEGMENT_BYTES_MAX:
        return f"has a segment longer than {SEGMENT_BYTES_MAX} bytes"
    return ""

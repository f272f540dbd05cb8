"""Trying again: transient errors of any store, with a bounded number of attempts and exponential backoff with jitter.

The difficult part is an error after which the request may nevertheless have taken effect (a lost answer). Reads, overwrites and deletes
can simply be repeated; `put_if_absent` and `put_file` look at what is stored before they believe the second failure.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TypeVar

from spanlake.model.errors import KeyExists, KeyMissing, StoreError
from spanlake.model.settings import StoreSettings
from spanlake.objectstore.store import ObjectInfo, ObjectStore

T = TypeVar("T")


class RetryingStore:
    """An ObjectStore that repeats failed calls of another one.

    `sleep` waits that many seconds; `jitter` gives numbers in [0, 1). The last error is raised as StoreError that tells the attempts.
    """

    def __init__(
        self,
        inner: ObjectStore,
        settings: StoreSettings,
        *,
        sleep: Callable[[float], None] = time.sleep,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        assert settings.attempts_max >= 1
        self._inner = inner
        self._settings = settings
        self._sleep = sleep
        self._jitter = jitter

    @property
    def url(self) -> str:
        return self._inner.url

    @property
    def scratch(self) -> Path:
        return self._inner.scratch

    def get(self, key: str) -> bytes:
        return self._repeat(lambda: self._inner.get(key))

    def get_range(self, key: str, start: int, length: int) -> bytes:
        return self._repeat(lambda: self._inner.get_range(key, start, length))

    def get_ranges(self, key: str, ranges: Sequence[tuple[int, int]]) -> list[bytes]:
        return self._repeat(lambda: self._inner.get_ranges(key, ranges))

    def head(self, key: str) -> ObjectInfo:
        return self._repeat(lambda: self._inner.head(key))

    def put(self, key: str, data: bytes) -> None:
        self._repeat(lambda: self._inner.put(key, data))

    def put_if_absent(self, key: str, data: bytes) -> None:
        """As the contract says if writers put different bytes; two that put the same bytes can both succeed after a lost answer."""
        failed_before = False

        def attempt() -> None:
            nonlocal failed_before
            try:
                self._inner.put_if_absent(key, data)
            except KeyExists:
                # The object may be our own, from an attempt whose answer was lost.
                if not (failed_before and self._holds(key, data)):
                    raise
            except StoreError:
                failed_before = True
                raise

        self._repeat(attempt)

    def put_file(self, key: str, path: Path) -> None:
        size_bytes = path.stat().st_size if path.is_file() else -1

        def attempt() -> None:
            # The store takes the file over when it succeeds, so a missing file is an earlier success without an answer.
            if size_bytes < 0 or path.exists() or not self._has_size(key, size_bytes):
                self._inner.put_file(key, path)

        self._repeat(attempt)

    def delete(self, keys: Sequence[str]) -> None:
        self._repeat(lambda: self._inner.delete(keys))

    def list(self, prefix: str) -> Iterator[ObjectInfo]:
        # A listing that breaks off cannot be continued, for it has no order: each attempt reads it whole.
        return iter(self._repeat(lambda: list(self._inner.list(prefix))))

    def local_path(self, key: str) -> Path | None:
        return self._inner.local_path(key)

    def _holds(self, key: str, data: bytes) -> bool:
        try:
            return self._inner.get(key) == data
        except KeyMissing:
            return False

    def _has_size(self, key: str, size_bytes: int) -> bool:
        try:
            return self._inner.head(key).size_bytes == size_bytes
        except KeyMissing:
            return False

    def _repeat(self, call: Callable[[], T]) -> T:
        attempts_max = self._settings.attempts_max
        for attempt in range(1, attempts_max):
            try:
                return call()
            except StoreError as error:
                if not error.transient:
                    raise
            self._sleep(self._backoff_seconds(attempt))
        try:
            return call()
        except StoreError as error:
            if not error.transient:
                raise
            raise StoreError(f"{error} (attempt {attempts_max} of {attempts_max})", transient=True) from error

    def _backoff_seconds(self, attempt: int) -> float:
        """Between half and all of the doubled pause, so that clients that failed together do not come back together."""
        # The exponent is bounded because a float is not: 2.0**1100 overflows.
        pause = self._settings.backoff_first_seconds * 2.0 ** min(attempt - 1, 60)
        return min(pause, self._settings.backoff_max_seconds) * (0.5 + 0.5 * self._jitter())

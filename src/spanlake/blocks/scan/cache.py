"""What is worth remembering of blocks, which never change: bounded by bytes, least recently used first to go."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class BoundedCache(Generic[K, V]):
    """Thread-safe; two threads that miss the same key may both make its value."""

    def __init__(self, *, bytes_max: int) -> None:
        self._bytes_max = bytes_max
        self._lock = threading.Lock()
        self._entries: OrderedDict[K, tuple[V, int]] = OrderedDict()
        self._bytes = 0

    @property
    def memory_bytes(self) -> int:
        return self._bytes

    def get(self, key: K) -> V | None:
        with self._lock:
            entry = self._entries.get(key)
            if entry is None:
                return None
            self._entries.move_to_end(key)
            return entry[0]

    def get_or_make(self, key: K, make: Callable[[], tuple[V, int]]) -> V:
        """The value of a key; `make` gives it with its size in bytes. A value above half of the bound is not kept."""
        found = self.get(key)
        if found is not None:
            return found
        value, size = make()
        with self._lock:
            if key not in self._entries and size <= self._bytes_max // 2:
                self._entries[key] = value, size
                self._bytes += size
            while self._bytes > self._bytes_max:
                self._bytes -= self._entries.popitem(last=False)[1][1]
        return value

"""Footers of blocks in memory: each is read once, the least recently used ones go when they outgrow their bound."""

from __future__ import annotations

import threading
from collections import OrderedDict

from spanlake.blocks.catalog import Block, block_key
from spanlake.blocks.file.reader import Footer, read_footer
from spanlake.objectstore.store import ObjectStore


class FooterCache:
    """Thread-safe; two threads that miss the same footer may both read it."""

    def __init__(self, store: ObjectStore, *, bytes_max: int) -> None:
        self._store = store
        self._bytes_max = bytes_max
        self._lock = threading.Lock()
        self._footers: OrderedDict[str, Footer] = OrderedDict()
        self._bytes = 0

    @property
    def memory_bytes(self) -> int:
        return self._bytes

    def get(self, tenant: str, block: Block) -> Footer:
        """The footer of a block. KeyMissing if the file is gone, CorruptData if it is no block."""
        key = block_key(tenant, block.path)
        with self._lock:
            footer = self._footers.get(key)
            if footer is not None:
                self._footers.move_to_end(key)
                return footer
        footer = read_footer(self._store, key, block.size_bytes)
        with self._lock:
            if key not in self._footers:
                self._footers[key] = footer
                self._bytes += footer.memory_bytes
            while self._bytes > self._bytes_max and len(self._footers) > 1:
                self._bytes -= self._footers.popitem(last=False)[1].memory_bytes
        return footer

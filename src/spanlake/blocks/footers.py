"""Footers of blocks in memory: each is read once, the least recently used ones go when they outgrow their bound."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from spanlake.blocks.catalog import Block, block_key
from spanlake.blocks.file.reader import Footer, read_footer
from spanlake.objectstore.store import ObjectStore

READS_AT_ONCE = 16  # of a remote store, where a read is mostly waiting


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
        return self.get_all(tenant, [block])[0]

    def get_all(self, tenant: str, blocks: Sequence[Block]) -> list[Footer]:
        """The footers of blocks, in their order. KeyMissing if a file is gone, CorruptData if one is no block."""
        keys = [block_key(tenant, block.path) for block in blocks]
        with self._lock:
            known = {key: footer for key in keys if (footer := self._footers.get(key)) is not None}
            for key in known:
                self._footers.move_to_end(key)
        missing = [(key, block.size_bytes) for key, block in zip(keys, blocks, strict=True) if key not in known]
        if len(missing) > 1 and self._store.local_path("any") is None:
            with ThreadPoolExecutor(min(READS_AT_ONCE, len(missing)), "footers") as threads:
                read = list(threads.map(lambda wanted: read_footer(self._store, *wanted), missing))
        else:
            read = [read_footer(self._store, *wanted) for wanted in missing]
        self._keep(read)
        known |= {footer.key: footer for footer in read}
        return [known[key] for key in keys]

    def _keep(self, footers: Sequence[Footer]) -> None:
        with self._lock:
            for footer in footers:
                if footer.key not in self._footers:
                    self._footers[footer.key] = footer
                    self._bytes += footer.memory_bytes
            while self._bytes > self._bytes_max and len(self._footers) > 1:
                self._bytes -= self._footers.popitem(last=False)[1].memory_bytes

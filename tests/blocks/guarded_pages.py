"""A program that decodes damaged pages which end at memory that nobody may touch; `test_block_file_windows` runs it.

A kernel that reads past a page dies here with SIGSEGV. It prints how many pages it damaged, and how many row groups were read all the same.
"""

from __future__ import annotations

import ctypes
import mmap
import sys
from collections.abc import Sequence
from itertools import cycle
from random import Random

import numpy as np
from test_block_file_windows import LAYOUTS, file_of, pages_of, spans_table

from spanlake.blocks.file.columns import columns_to_batch
from spanlake.blocks.file.windows import GroupPages, Layout
from spanlake.model.errors import CorruptData

PAGE = mmap.PAGESIZE
ROOM = 32 * PAGE
PROT_NONE = 0
DAMAGED_SHARE = 0.01  # the first page that makes no sense ends the reading of a row group


class GuardedMemory:
    """Room for a page of a file in front of a page of memory without access."""

    def __init__(self) -> None:
        self._map = mmap.mmap(-1, ROOM + PAGE)
        self._end = ctypes.addressof(ctypes.c_char.from_buffer(self._map)) + ROOM
        protect = ctypes.CDLL(None, use_errno=True).mprotect
        protect.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)
        if protect(self._end, PAGE, PROT_NONE):
            raise OSError(ctypes.get_errno(), "mprotect")

    def put(self, body: bytes) -> memoryview:
        begin = self._end - len(body)
        ctypes.memmove(begin, body, len(body))
        return memoryview((ctypes.c_ubyte * len(body)).from_address(begin)).cast("B")


class DamagedPages(GroupPages):
    """A row group some of whose pages are not what they were, each at the end of its memory."""

    def __init__(self, data: bytes, layout: Layout, random: Random) -> None:
        super().__init__(np.frombuffer(data, np.uint8), layout, layout.chunks[0])
        self._random = random
        self._memories = cycle([GuardedMemory() for _ in range(4)])
        self.damaged = 0

    def _body(self, page: Sequence[int], *, keep: bool) -> bytes:
        body = bytearray(super()._body(page, keep=False))
        if body and self._random.random() < DAMAGED_SHARE:
            self.damaged += 1
            for _ in range(self._random.randint(1, 4)):
                body[self._random.randrange(len(body))] = self._random.choice((0, 1, 2, 127, 128, 255, self._random.randrange(256)))
            if self._random.random() < 0.3:
                body = body[: self._random.randrange(len(body))]
        return next(self._memories).put(bytes(body))  # type: ignore[return-value]  # the kernels take any buffer


def main() -> None:
    """Arguments: a seed, how many times to read each layout of pages."""
    random = Random(int(sys.argv[1]))
    damaged = read = 0
    rows = len(spans_table(0, 300))
    for name in LAYOUTS:
        data = file_of(0, 300, name)
        for _ in range(int(sys.argv[2])):
            pages = DamagedPages(data, pages_of(data)[1], random)
            try:
                first = random.randrange(rows)
                columns_to_batch(pages.columns((first, random.randint(first, rows))))
                read += 1
            except CorruptData:
                pass
            damaged += pages.damaged
    print(damaged, read)


if __name__ == "__main__":
    main()

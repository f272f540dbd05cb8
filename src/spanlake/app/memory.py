"""How the C allocator treats this process's memory.

glibc returns large blocks to the kernel at every free and maps them anew at the next allocation. A page fault costs as much as decoding
four spans, and every payload needs fresh arrays, so a server keeps freed memory up to a bound instead: half the CPU of ingestion
on the machine where this was measured (ADR 4).
"""

from __future__ import annotations

import contextlib
import ctypes

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD, _M_ARENA_MAX = -1, -3, -8
KEPT_BYTES = 128 << 20
MAPPED_BYTES = 32 << 20
ARENAS = 4


def keep_freed_memory() -> None:
    """Tune glibc's malloc for a server; without effect on other C libraries."""
    with contextlib.suppress(OSError, AttributeError):
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(_M_MMAP_THRESHOLD, MAPPED_BYTES)
        mallopt(_M_TRIM_THRESHOLD, KEPT_BYTES)
        mallopt(_M_ARENA_MAX, ARENAS)

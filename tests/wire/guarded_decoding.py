"""A program that decodes, encodes and interns damaged payloads which end, or begin, at memory that nobody may touch.

`test_otlp_bounds` runs it: a kernel that reads past a payload dies here with SIGSEGV. It prints how many payloads it went through.
"""

from __future__ import annotations

import ctypes
import mmap
import sys
from random import Random

from otlp_requests import OddWriter, random_request
from test_otlp_fuzz import mutated

from spanlake.blocks.memory.pool import StringPool
from spanlake.model.errors import InvalidInput
from spanlake.wire.otlp.decode import decode_otlp
from spanlake.wire.otlp.encode import encode_otlp

PAGE = mmap.PAGESIZE
ROOM = 16 * PAGE
PROT_NONE = 0


class GuardedMemory:
    """Room for a payload between two pages without access."""

    def __init__(self) -> None:
        self._map = mmap.mmap(-1, ROOM + 2 * PAGE)
        self._address = ctypes.addressof(ctypes.c_char.from_buffer(self._map))
        protect = ctypes.CDLL(None, use_errno=True).mprotect
        protect.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)
        for page in (self._address, self._address + PAGE + ROOM):
            if protect(page, PAGE, PROT_NONE):
                raise OSError(ctypes.get_errno(), "mprotect")

    def put(self, payload: bytes, *, at_end: bool) -> memoryview:
        """The payload directly before the second forbidden page, or behind the first."""
        begin = self._address + PAGE + (ROOM - len(payload) if at_end else 0)
        ctypes.memmove(begin, payload, len(payload))
        return memoryview((ctypes.c_ubyte * len(payload)).from_address(begin)).cast("B")


def use(payload: memoryview) -> None:
    """Everything that reads a payload."""
    try:
        batch = decode_otlp(payload).batch
    except InvalidInput:
        return
    encode_otlp(batch)
    StringPool().intern(batch.strings)


def main() -> None:
    """Arguments: a seed, how many requests to damage."""
    random, memory, done = Random(int(sys.argv[1])), GuardedMemory(), 0
    for _ in range(int(sys.argv[2])):
        whole = OddWriter(random, random.choice([0.0, 0.2])).write(random_request(random))
        cuts = [whole[: random.randrange(len(whole))] for _ in range(20)]
        for payload in (whole, *cuts, *(mutated(random, whole) for _ in range(20))):
            for at_end in (True, False):
                use(memory.put(payload[:ROOM], at_end=at_end))
                done += 1
    print(done)


if __name__ == "__main__":
    main()

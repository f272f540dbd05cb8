"""How the Python interpreter shares its time among threads and collects garbage in a server.

Pushes wait for the interpreter lock several times on their way to an acknowledgement, next to queries that hold it. Two defaults of Python
make these waits long: a thread gives the lock up only after 5 ms, and every few seconds the collector looks at all objects there are,
which are mostly those of the libraries (100 ms each time, with the lock). Measured with bench/bench_ack_latency.py: docs/operating.md.
"""

from __future__ import annotations

import gc
import sys

SWITCH_SECONDS = 0.001
COLLECTED_AFTER = (10_000, 20, 50)
"""New containers before a look at the youngest, and looks before one at the next generation. What a query makes is freed without it."""


def favour_short_work() -> None:
    """Set both for this process; call when everything is imported, as what exists now is never looked at again."""
    sys.setswitchinterval(SWITCH_SECONDS)
    gc.set_threshold(*COLLECTED_AFTER)
    gc.freeze()

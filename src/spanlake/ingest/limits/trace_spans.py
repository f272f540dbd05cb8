"""Spans per trace: a bounded table of how many spans each trace has had lately.

Two generations of one hash table. Counting goes to the current one; a trace that only the previous one knows goes on from there. When
the current one is half full it becomes the previous one, so a trace is forgotten only after `TRACES_MIN` others have come since its last
span. One table serves all tenants: what is counted under is the trace id and a secret number of the tenant.
"""

from __future__ import annotations

import hashlib
import secrets
import threading

import numpy as np
from numpy.typing import NDArray

from spanlake.model.kernel import inner, kernel, multiply_fold
from spanlake.model.spans import SpanBatch

TRACES_MIN = 1 << 19
SLOTS_MAX = 2 * TRACES_MIN
_SLOTS_FIRST = 1 << 12
_KEY_BYTES = 16
_MULTIPLIER = 0x9E3779B97F4A7C15 - (1 << 64)


def _table(slots: int) -> NDArray[np.int64]:
    """An empty table. Rows: high half and low half of the id, spans. Open addressing; in a free slot both halves are 0."""
    return np.zeros((3, slots), np.int64)


class TraceSpans:
    """Thread-safe; at most 48 MB, and next to nothing while no tenant has the limit."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._secret = secrets.token_bytes(_KEY_BYTES)
        self._current, self._previous = _table(_SLOTS_FIRST), _table(1)
        self._used = 0

    def count(self, tenant: str, batch: SpanBatch, spans_max: int) -> NDArray[np.bool_]:
        """Count the spans of a batch; which of them are within the limit of their trace. Those beyond are not counted."""
        ids = self._ids(tenant, batch)
        kept = np.ones(len(batch), np.bool_)
        with self._lock:
            self.make_room(len(batch))
            self._used += count_spans(ids, self._current, self._previous, spans_max, kept)
        return kept

    def forget(self, tenant: str, batch: SpanBatch) -> None:
        """Take back what was counted for these spans."""
        ids = self._ids(tenant, batch)
        with self._lock:
            self.make_room(len(batch))
            self._used += uncount_spans(ids, self._current, self._previous)

    def _ids(self, tenant: str, batch: SpanBatch) -> NDArray[np.int64]:
        salt = np.frombuffer(hashlib.blake2b(tenant.encode(), digest_size=_KEY_BYTES, key=self._secret).digest(), np.int64)
        ids = np.empty((2, len(batch)), np.int64)
        for half, name in enumerate(("trace_hi", "trace_lo")):
            ids[half] = batch.spans[name].view(np.int64) ^ salt[half]
        return ids

    def make_room(self, spans: int) -> None:
        """Have half of the slots free after so many new traces. The others call this."""
        while 2 * (self._used + spans) > self._current.shape[1]:
            slots = 2 * self._current.shape[1]
            if slots > SLOTS_MAX and self._used:
                self._previous, self._current, self._used = self._current, _table(SLOTS_MAX), 0
            else:  # larger than the bound only for a push with more traces than that
                grown = _table(slots)
                move_counts(self._current, grown)
                self._current = grown


@inner
def find_slot(high: int, low: int, table: NDArray[np.int64]) -> int:
    """The slot of an id, or the free one where it belongs."""
    mask = table.shape[1] - 1
    slot: int = multiply_fold(low ^ _MULTIPLIER, high ^ _MULTIPLIER) & mask
    while (table[0, slot] | table[1, slot]) != 0 and (table[0, slot] != high or table[1, slot] != low):
        slot = (slot + 1) & mask
    return slot


@inner
def enter(high: int, low: int, table: NDArray[np.int64], previous: NDArray[np.int64]) -> tuple[int, int]:
    """(slot of an id, 1 if it was new there); a new id starts with its number in the table before."""
    slot = find_slot(high, low, table)
    if (table[0, slot] | table[1, slot]) != 0:
        return slot, 0
    table[0, slot], table[1, slot] = high, low
    table[2, slot] = previous[2, find_slot(high, low, previous)]
    return slot, 1


@kernel
def count_spans(
    ids: NDArray[np.int64], table: NDArray[np.int64], previous: NDArray[np.int64], spans_max: int, kept: NDArray[np.bool_]
) -> int:
    """Count `ids` (2 x rows: high, low halves) in `table` (3 x slots, a power of two, at least half of them free after this).

    Where the number of an id has reached `spans_max`, `kept[row]` becomes false and the number stays. Returns the slots that were taken.
    """
    taken = 0
    for row in range(ids.shape[1]):
        slot, new = enter(ids[0, row], ids[1, row], table, previous)
        taken += new
        if table[2, slot] >= spans_max:
            kept[row] = False
        else:
            table[2, slot] += 1
    return taken


@kernel
def uncount_spans(ids: NDArray[np.int64], table: NDArray[np.int64], previous: NDArray[np.int64]) -> int:
    """Undo `count_spans` for rows that were kept, with tables as there. Returns the slots that were taken."""
    taken = 0
    for row in range(ids.shape[1]):
        slot, new = enter(ids[0, row], ids[1, row], table, previous)
        taken += new
        if table[2, slot] > 0:
            table[2, slot] -= 1
    return taken


@kernel
def move_counts(table: NDArray[np.int64], larger: NDArray[np.int64]) -> None:
    """Put everything from one table into a larger one, which is empty."""
    for old in range(table.shape[1]):
        if (table[0, old] | table[1, old]) != 0:
            slot = find_slot(table[0, old], table[1, old], larger)
            larger[0, slot], larger[1, slot], larger[2, slot] = table[0, old], table[1, old], table[2, old]

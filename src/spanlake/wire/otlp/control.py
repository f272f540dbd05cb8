"""What the decode kernels share: the reasons for refusing a span, and the control block that says where output goes.

The control block is one int64 array. It is passed as an address, because an array argument costs Numba reference counting at every
call; `decode.py` builds it and keeps the arrays alive.
"""

from __future__ import annotations

from spanlake.model.kernel import inlined, load64, store32, store64

# Why a span, or a whole payload, is refused. 0 is "kept"; FULL is no reason, it asks for more room.
(
    OK,
    MALFORMED,
    WRONG_WIRE_TYPE,
    INVALID_UTF8,
    BAD_TRACE_ID,
    ZERO_TRACE_ID,
    BAD_SPAN_ID,
    ZERO_SPAN_ID,
    BAD_PARENT_ID,
    TOO_DEEP,
    SCATTERED,
    FULL,
) = range(12)
REASONS = FULL

# The layout of the control block, in bytes. It begins with [address, rows, capacity] per table.
STRINGS, SPANS, SCOPES, RESOURCES, EVENTS, LINKS, ATTRS = range(7)
TABLES = 7
ADDRESS, ROWS, CAPACITY, TABLE_BYTES = 0, 8, 16, 24
LENGTHS = TABLES * TABLE_BYTES  # address of int32[strings]; the STRINGS table itself is int64 offsets
SCHEMA = LENGTHS + 8  # address of schema.SCHEMA
SCRATCH = SCHEMA + 8  # address of int64[schema.scratch_words(depth_max)]
DEPTH_MAX = SCRATCH + 8
NOTES = DEPTH_MAX + 8  # [position, length] of the span's ids as they were read
NOTED = 3
REJECTED = NOTES + 16 * NOTED  # int64[REASONS]: spans refused
CONTROL_WORDS = REJECTED // 8 + REASONS

TRACE_ID_NOTE, SPAN_ID_NOTE, PARENT_ID_NOTE = range(NOTED)


@inlined
def table(out: int, number: int) -> int:
    """Address of a table's first row."""
    return load64(out + TABLE_BYTES * number)


@inlined
def count(out: int, number: int) -> int:
    """Rows of a table so far."""
    return load64(out + TABLE_BYTES * number + ROWS)


@inlined
def set_count(out: int, number: int, rows: int) -> None:
    """Set the rows of a table."""
    store64(out + TABLE_BYTES * number + ROWS, rows)


@inlined
def is_full(out: int, number: int) -> bool:
    """Whether a table has no room for one more row."""
    return load64(out + TABLE_BYTES * number + ROWS) >= load64(out + TABLE_BYTES * number + CAPACITY)


@inlined
def reject(out: int, reason: int) -> None:
    """Count one refused span."""
    store64(out + REJECTED + 8 * reason, load64(out + REJECTED + 8 * reason) + 1)


@inlined
def fill(address: int, size: int) -> None:
    """Zero `size` bytes (a multiple of four)."""
    for position in range(0, size, 4):
        store32(address + position, 0)


@inlined
def note(out: int, number: int, begin: int, length: int) -> None:
    """Remember where an id is."""
    store64(out + NOTES + 16 * number, begin)
    store64(out + NOTES + 16 * number + 8, length)

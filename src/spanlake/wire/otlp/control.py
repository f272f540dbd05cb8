"""What the decode kernels share: the reasons for refusing a span, and the control block that says where output goes.

The control block is one int64 array. It is passed as an address, because an array argument costs Numba reference counting at every
call; `decode.py` builds it and keeps the arrays alive.
"""

from __future__ import annotations

from spanlake.model.kernel import inlined, load64, store32, store64

# Why a span, or a whole payload, is refused. 0 is "kept".
OK, TRUNCATED, WRONG_WIRE_TYPE, INVALID_UTF8, BAD_TRACE_ID, ZERO_TRACE_ID, BAD_SPAN_ID, ZERO_SPAN_ID, BAD_PARENT_ID, TOO_DEEP, FULL = range(
    11
)
REASONS = 10

# Tables, and the layout of the control block: an int64 array of [address, rows, capacity] per table, then the rest.
STRINGS, SPANS, SCOPES, RESOURCES, EVENTS, LINKS, ATTRS, RESOURCE_FRAMES, SCOPE_FRAMES, SPAN_FRAMES = range(10)
TABLES = 10
LENGTHS = 8 * 3 * TABLES  # address of int32[strings]; the STRINGS table itself is int64 offsets
DEPTH_MAX = LENGTHS + 8
REJECTED = DEPTH_MAX + 8  # int64[REASONS]
CONTROL_WORDS = 3 * TABLES + 2 + REASONS

# A frame is where a message lies in the payload: int64[4]. `owner` is the row of the enclosing message's frame, `reason` why what
# belongs to the message is refused. Resource and scope rows have the numbers of their frames.
FRAME_BYTES = 32
FRAME_BEGIN, FRAME_END, FRAME_OWNER, FRAME_REASON = 0, 8, 16, 24


@inlined
def table(out: int, number: int) -> int:
    """Address of a table's first row."""
    return load64(out + 24 * number)


@inlined
def count(out: int, number: int) -> int:
    """Rows of a table so far."""
    return load64(out + 24 * number + 8)


@inlined
def set_count(out: int, number: int, rows: int) -> None:
    """Set the rows of a table."""
    store64(out + 24 * number + 8, rows)


@inlined
def is_full(out: int, number: int) -> bool:
    """Whether a table has no room for one more row."""
    return load64(out + 24 * number + 8) >= load64(out + 24 * number + 16)


@inlined
def reject(out: int, reason: int) -> None:
    """Count one refused span."""
    store64(out + REJECTED + 8 * reason, load64(out + REJECTED + 8 * reason) + 1)


@inlined
def fill(address: int, size: int) -> None:
    """Zero `size` bytes (a multiple of four)."""
    for position in range(0, size, 4):
        store32(address + position, 0)

"""The framing kernel: where the ResourceSpans, ScopeSpans and Span messages of an ExportTraceServiceRequest begin and end.

It reads tags and lengths only. Framing that is broken hides where spans begin and end, so it fails the payload as a whole;
everything inside a framed message is the business of `owners` and `spans`, which can refuse a span without its neighbours.
"""

from __future__ import annotations

from spanlake.model.kernel import kernel, load64, store64
from spanlake.wire.otlp.control import (
    FRAME_BEGIN,
    FRAME_BYTES,
    FRAME_END,
    FRAME_OWNER,
    FRAME_REASON,
    FULL,
    OK,
    RESOURCE_FRAMES,
    SCOPE_FRAMES,
    SPAN_FRAMES,
    TRUNCATED,
    WRONG_WIRE_TYPE,
    count,
    is_full,
    set_count,
    table,
)
from spanlake.wire.protobuf import BAD, LEN, read_length, read_tag, skip_field


@kernel
def add_frame(out: int, number: int, begin: int, end: int, owner: int) -> bool:
    """Append a frame; False when its table is full."""
    if is_full(out, number):
        return False
    row = count(out, number)
    frame = table(out, number) + row * FRAME_BYTES
    store64(frame + FRAME_BEGIN, begin)
    store64(frame + FRAME_END, end)
    store64(frame + FRAME_OWNER, owner)
    store64(frame + FRAME_REASON, OK)
    set_count(out, number, row + 1)
    return True


@kernel
def find_children(data: int, out: int, wanted: int, number: int, owner: int, position: int, end: int) -> int:
    """Frame every field `wanted` of the message in [position, end) into table `number`. OK, FULL, or why the framing is broken.

    Fields 1 and 2 of all three enclosing messages are length-delimited.
    """
    while position < end:
        field, wire_type, position = read_tag(data, position, end)
        if position == BAD:
            return TRUNCATED
        if field <= wanted and wire_type != LEN:
            return WRONG_WIRE_TYPE
        if field == wanted:
            begin, position = read_length(data, position, end)
            if begin == BAD:
                return TRUNCATED
            if not add_frame(out, number, begin, position, owner):
                return FULL
        else:
            position = skip_field(data, field, wire_type, position, end)
            if position == BAD:
                return TRUNCATED
    return OK


@kernel
def find_frames(data: int, end: int, out: int) -> int:
    """Frame a whole payload of `end` bytes. OK, FULL (start over with more room), or why the payload is malformed."""
    reason = find_children(data, out, 1, RESOURCE_FRAMES, 0, 0, end)
    for outer, inner in ((RESOURCE_FRAMES, SCOPE_FRAMES), (SCOPE_FRAMES, SPAN_FRAMES)):
        for row in range(count(out, outer)):
            if reason != OK:
                return reason
            frame = table(out, outer) + row * FRAME_BYTES
            reason = find_children(data, out, 2, inner, row, load64(frame + FRAME_BEGIN), load64(frame + FRAME_END))
    return reason

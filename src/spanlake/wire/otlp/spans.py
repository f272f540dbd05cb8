"""Decode kernels for spans and what is in them: events, links, status (trace/v1/trace.proto).

A span that cannot be kept is counted under its reason and leaves no trace in the arrays. Fields of a message may come in any order, so
events and links are read in passes of their own, in which everything else is skipped: the rows of each kind stay one run.
"""

from __future__ import annotations

from spanlake.model.kernel import byte_swap, kernel, load8, load32, load64, store32, store64
from spanlake.model.layout import (
    EVENT_ATTR_COUNT,
    EVENT_ATTR_FIRST,
    EVENT_BYTES,
    EVENT_DROPPED,
    EVENT_NAME,
    EVENT_TIME,
    LINK_ATTR_COUNT,
    LINK_ATTR_FIRST,
    LINK_BYTES,
    LINK_DROPPED,
    LINK_FLAGS,
    LINK_SPAN_ID,
    LINK_TRACE_ID,
    LINK_TRACE_STATE,
    SPAN_ATTR_COUNT,
    SPAN_ATTR_FIRST,
    SPAN_BYTES,
    SPAN_DROPPED,
    SPAN_DROPPED_EVENTS,
    SPAN_DROPPED_LINKS,
    SPAN_DURATION,
    SPAN_EVENT_COUNT,
    SPAN_EVENT_FIRST,
    SPAN_FLAGS,
    SPAN_KIND,
    SPAN_LINK_COUNT,
    SPAN_LINK_FIRST,
    SPAN_NAME,
    SPAN_PARENT_ID,
    SPAN_SCOPE,
    SPAN_SPAN_ID,
    SPAN_START,
    SPAN_STATUS_CODE,
    SPAN_STATUS_MESSAGE,
    SPAN_TRACE_HI,
    SPAN_TRACE_LO,
    SPAN_TRACE_STATE,
)
from spanlake.wire.otlp.control import (
    ATTRS,
    BAD_PARENT_ID,
    BAD_SPAN_ID,
    BAD_TRACE_ID,
    EVENTS,
    FRAME_BEGIN,
    FRAME_BYTES,
    FRAME_END,
    FRAME_OWNER,
    FRAME_REASON,
    FULL,
    LINKS,
    OK,
    SCOPE_FRAMES,
    SPAN_FRAMES,
    SPANS,
    STRINGS,
    TRUNCATED,
    WRONG_WIRE_TYPE,
    ZERO_SPAN_ID,
    ZERO_TRACE_ID,
    count,
    fill,
    is_full,
    reject,
    set_count,
    table,
)
from spanlake.wire.otlp.values import add_string, read_attribute, read_number, read_plain_attributes, read_text
from spanlake.wire.protobuf import BAD, FIXED32, FIXED64, LEN, VARINT, is_utf8, read_length, read_tag, skip_field


@kernel
def read_event(data: int, out: int, event: int, position: int, end: int) -> int:
    """Reason of the Event message in [position, end), written to the record at `event`."""
    store64(event + EVENT_TIME, 0)
    store32(event + EVENT_NAME, 0)
    store32(event + EVENT_DROPPED, 0)
    attrs = count(out, ATTRS)
    store32(event + EVENT_ATTR_FIRST, attrs)
    while position < end:
        field, wire_type, position = read_tag(data, position, end)
        if position == BAD:
            return TRUNCATED
        reason = OK
        if field == 1:
            reason, value, position = read_number(data, FIXED64, wire_type, position, end)
            store64(event + EVENT_TIME, value)
        elif field == 2:
            reason, code, position = read_text(data, out, wire_type, position, end)
            store32(event + EVENT_NAME, code)
        elif field == 3:
            reason, position = read_attribute(data, out, wire_type, position, end)
        elif field == 4:
            reason, value, position = read_number(data, VARINT, wire_type, position, end)
            store32(event + EVENT_DROPPED, value)
        else:
            position = skip_field(data, field, wire_type, position, end)
            reason = TRUNCATED if position == BAD else OK
        if reason != OK:
            return reason
    store32(event + EVENT_ATTR_COUNT, count(out, ATTRS) - attrs)
    return OK


@kernel
def read_bytes(data: int, out: int, wire_type: int, position: int, end: int) -> tuple[int, int, int]:
    """(reason, string code, position behind) of a bytes field."""
    if wire_type != LEN:
        return WRONG_WIRE_TYPE, 0, BAD
    begin, stop = read_length(data, position, end)
    if begin == BAD:
        return TRUNCATED, 0, BAD
    code = add_string(out, begin, stop)
    return (FULL if code == BAD else OK), code, stop


@kernel
def read_link(data: int, out: int, link: int, position: int, end: int) -> int:
    """Reason of the Link message in [position, end), written to the record at `link`. Link ids of any length are kept as they are."""
    fill(link, LINK_BYTES)
    attrs = count(out, ATTRS)
    store32(link + LINK_ATTR_FIRST, attrs)
    while position < end:
        field, wire_type, position = read_tag(data, position, end)
        if position == BAD:
            return TRUNCATED
        reason = OK
        if field in (1, 2):
            reason, code, position = read_bytes(data, out, wire_type, position, end)
            if field == 1:
                store32(link + LINK_TRACE_ID, code)
            else:
                store32(link + LINK_SPAN_ID, code)
        elif field == 3:
            reason, code, position = read_text(data, out, wire_type, position, end)
            store32(link + LINK_TRACE_STATE, code)
        elif field == 4:
            reason, position = read_attribute(data, out, wire_type, position, end)
        elif field in (5, 6):
            reason, value, position = read_number(data, VARINT if field == 5 else FIXED32, wire_type, position, end)
            if field == 5:
                store32(link + LINK_DROPPED, value)
            else:
                store32(link + LINK_FLAGS, value)
        else:
            position = skip_field(data, field, wire_type, position, end)
            reason = TRUNCATED if position == BAD else OK
        if reason != OK:
            return reason
    store32(link + LINK_ATTR_COUNT, count(out, ATTRS) - attrs)
    return OK


@kernel
def read_status(data: int, out: int, span: int, position: int, end: int) -> int:
    """Reason of the Status message in [position, end), added to the span."""
    while position < end:
        field, wire_type, position = read_tag(data, position, end)
        if position == BAD:
            return TRUNCATED
        reason = OK
        if field == 2:
            reason, code, position = read_text(data, out, wire_type, position, end)
            store32(span + SPAN_STATUS_MESSAGE, code)
        elif field == 3:
            reason, value, position = read_number(data, VARINT, wire_type, position, end)
            store32(span + SPAN_STATUS_CODE, value)
        else:
            position = skip_field(data, field, wire_type, position, end)
            reason = TRUNCATED if position == BAD else OK
        if reason != OK:
            return reason
    return OK


@kernel
def read_parts(data: int, out: int, wanted: int, position: int, end: int) -> int:
    """Second pass over a span: its events (wanted = 11) or links (13), so that each kind is one run of rows."""
    kind = EVENTS if wanted == 11 else LINKS
    while position < end:
        field, wire_type, position = read_tag(data, position, end)
        if field != wanted:
            position = skip_field(data, field, wire_type, position, end)
            continue
        begin, stop = read_length(data, position, end)
        row = count(out, kind)
        if is_full(out, kind):
            return FULL
        set_count(out, kind, row + 1)
        if wanted == 11:
            reason = read_event(data, out, table(out, EVENTS) + row * EVENT_BYTES, begin, stop)
        else:
            reason = read_link(data, out, table(out, LINKS) + row * LINK_BYTES, begin, stop)
        if reason != OK:
            return reason
        position = stop
    return OK


@kernel
def read_trace_id(data: int, span: int, begin: int, end: int) -> int:
    """Reason of a trace id in [begin, end), written to the span."""
    if end - begin != 16:
        return BAD_TRACE_ID
    high = load64(data + begin)
    low = load64(data + begin + 8)
    store64(span + SPAN_TRACE_HI, byte_swap(high))
    store64(span + SPAN_TRACE_LO, byte_swap(low))
    return ZERO_TRACE_ID if high == 0 and low == 0 else OK


@kernel
def read_id_field(data: int, span: int, field: int, wire_type: int, position: int, end: int) -> tuple[int, int]:
    """(reason, position behind) of trace_id (1), span_id (2) or parent_span_id (4); an empty or zero parent is none."""
    if wire_type != LEN:
        return WRONG_WIRE_TYPE, BAD
    begin, stop = read_length(data, position, end)
    if begin == BAD:
        return TRUNCATED, BAD
    if field == 1:
        return read_trace_id(data, span, begin, stop), stop
    if stop - begin == 0 and field == 4:
        store64(span + SPAN_PARENT_ID, 0)
        return OK, stop
    if stop - begin != 8:
        return (BAD_SPAN_ID if field == 2 else BAD_PARENT_ID), stop
    value = byte_swap(load64(data + begin))
    if field == 4:
        store64(span + SPAN_PARENT_ID, value)
        return OK, stop
    store64(span + SPAN_SPAN_ID, value)
    return (ZERO_SPAN_ID if value == 0 else OK), stop


@kernel
def clear_span(out: int, span: int, scope: int) -> None:
    """Defaults of every field, with the ranges beginning at the present counts."""
    fill(span, SPAN_BYTES)
    store32(span + SPAN_SCOPE, scope)
    store32(span + SPAN_ATTR_FIRST, count(out, ATTRS))
    store32(span + SPAN_EVENT_FIRST, count(out, EVENTS))
    store32(span + SPAN_LINK_FIRST, count(out, LINKS))


@kernel
def read_span_number(data: int, span: int, field: int, wire_type: int, position: int, end: int) -> tuple[int, int]:
    """(reason, position behind) of a span's numeric field; the end time is left in `duration_ns`."""
    wanted = FIXED64 if field in (7, 8) else FIXED32 if field == 16 else VARINT
    reason, value, position = read_number(data, wanted, wire_type, position, end)
    if field == 7:
        store64(span + SPAN_START, value)
    elif field == 8:
        store64(span + SPAN_DURATION, value)
    elif field == 6:
        store32(span + SPAN_KIND, value)
    elif field == 16:
        store32(span + SPAN_FLAGS, value)
    elif field == 10:
        store32(span + SPAN_DROPPED, value)
    elif field == 12:
        store32(span + SPAN_DROPPED_EVENTS, value)
    else:
        store32(span + SPAN_DROPPED_LINKS, value)
    return reason, position


@kernel
def read_span_field(data: int, out: int, span: int, field: int, wire_type: int, position: int, end: int) -> tuple[int, int]:
    """(reason, position behind) of one field of a span; events and links are only skipped here."""
    if field == 9:
        return read_attribute(data, out, wire_type, position, end)
    if field in (1, 2, 4):
        return read_id_field(data, span, field, wire_type, position, end)
    if field in (3, 5):
        reason, code, position = read_text(data, out, wire_type, position, end)
        if field == 5:
            store32(span + SPAN_NAME, code)
        else:
            store32(span + SPAN_TRACE_STATE, code)
        return reason, position
    if field in (6, 7, 8, 10, 12, 14, 16):
        return read_span_number(data, span, field, wire_type, position, end)
    if field in (11, 13, 15) and wire_type != LEN:
        return WRONG_WIRE_TYPE, BAD
    if field == 15:
        begin, stop = read_length(data, position, end)
        if begin == BAD:
            return TRUNCATED, BAD
        return read_status(data, out, span, begin, stop), stop
    position = skip_field(data, field, wire_type, position, end)
    return (TRUNCATED if position == BAD else OK), position


@kernel
def read_plain_head(data: int, out: int, span: int, position: int, end: int) -> int:
    """Fast path for the first fields of a span in the order and form that encoders write them: position behind those found.

    trace_id (0A 10), span_id (12 08), then parent_span_id (22 08), name (2A, below 128 bytes), kind (30, one byte), start (39) and
    end (41), each optional. Zero ids and everything else are left to the general path.
    """
    if end - position < 28 or load64(data + position) & 0xFFFF != 0x100A or load64(data + position + 18) & 0xFFFF != 0x0812:
        return position
    high, low, own = load64(data + position + 2), load64(data + position + 10), load64(data + position + 20)
    if (high == 0 and low == 0) or own == 0:
        return position
    store64(span + SPAN_TRACE_HI, byte_swap(high))
    store64(span + SPAN_TRACE_LO, byte_swap(low))
    store64(span + SPAN_SPAN_ID, byte_swap(own))
    position += 28
    if end - position >= 10 and load64(data + position) & 0xFFFF == 0x0822:
        store64(span + SPAN_PARENT_ID, byte_swap(load64(data + position + 2)))
        position += 10
    if end - position >= 2 and load8(data + position) == 0x2A:
        stop = position + 2 + load8(data + position + 1)
        if stop - position < 130 and stop <= end and is_utf8(data, position + 2, stop):
            name = add_string(out, position + 2, stop)
            if name == BAD:
                return position
            store32(span + SPAN_NAME, name)
            position = stop
    if end - position >= 2 and load8(data + position) == 0x30 and load8(data + position + 1) < 128:
        store32(span + SPAN_KIND, load8(data + position + 1))
        position += 2
    if end - position >= 9 and load8(data + position) == 0x39:
        store64(span + SPAN_START, load64(data + position + 1))
        position += 9
    if end - position >= 9 and load8(data + position) == 0x41:
        store64(span + SPAN_DURATION, load64(data + position + 1))
        position += 9
    return position


@kernel
def read_span(data: int, out: int, span: int, scope: int, position: int, end: int) -> int:
    """Reason of the Span message in [position, end), written to the record at `span`."""
    whole = position
    clear_span(out, span, scope)
    position = read_plain_head(data, out, span, position, end)
    seen_ids = 3 if position > whole else 0
    events = links = False
    while position < end:
        if load8(data + position) == 0x4A:
            position = read_plain_attributes(data, out, 0x4A, position, end)
            if position == end:
                break
        field, wire_type, position = read_tag(data, position, end)
        if position == BAD:
            return TRUNCATED
        reason, position = read_span_field(data, out, span, field, wire_type, position, end)
        if reason != OK:
            return reason
        seen_ids |= field if field <= 2 else 0
        events |= field == 11
        links |= field == 13
    if seen_ids != 3:
        return BAD_SPAN_ID if seen_ids & 1 else BAD_TRACE_ID
    store32(span + SPAN_ATTR_COUNT, count(out, ATTRS) - load32(span + SPAN_ATTR_FIRST))
    store64(span + SPAN_DURATION, load64(span + SPAN_DURATION) - load64(span + SPAN_START))
    reason = read_parts(data, out, 11, whole, end) if events else OK
    if reason == OK and links:
        reason = read_parts(data, out, 13, whole, end)
    store32(span + SPAN_EVENT_COUNT, count(out, EVENTS) - load32(span + SPAN_EVENT_FIRST))
    store32(span + SPAN_LINK_COUNT, count(out, LINKS) - load32(span + SPAN_LINK_FIRST))
    return reason


@kernel
def read_spans(data: int, out: int) -> int:
    """Read every framed span into the next row, or count it as refused and undo what it wrote. OK, or FULL: start over with more room."""
    for i in range(count(out, SPAN_FRAMES)):
        frame = table(out, SPAN_FRAMES) + i * FRAME_BYTES
        scope = load64(frame + FRAME_OWNER)
        reason = load64(table(out, SCOPE_FRAMES) + scope * FRAME_BYTES + FRAME_REASON)
        if reason != OK:
            reject(out, reason)
            continue
        if is_full(out, SPANS):
            return FULL
        strings, attrs, events, links = count(out, STRINGS), count(out, ATTRS), count(out, EVENTS), count(out, LINKS)
        row = count(out, SPANS)
        span = table(out, SPANS) + row * SPAN_BYTES
        reason = read_span(data, out, span, scope, load64(frame + FRAME_BEGIN), load64(frame + FRAME_END))
        if reason == OK:
            set_count(out, SPANS, row + 1)
            continue
        if reason == FULL:
            return FULL
        set_count(out, STRINGS, strings)
        set_count(out, ATTRS, attrs)
        set_count(out, EVENTS, events)
        set_count(out, LINKS, links)
        reject(out, reason)
    return OK

"""The decode kernel for a whole payload: walks down to the spans and reads each with what it belongs to.

It runs twice. The first walk reads tags and lengths only: framing that is broken hides where spans begin and end, so it fails the
payload as a whole; and it counts, so that tables of spans, scopes and resources have exactly the room that they need. The second walk
reads. A resource or scope that cannot be kept takes its spans with it; a span that cannot be kept is counted under its reason
and leaves nothing in the tables.
"""

from __future__ import annotations

from spanlake.model import layout as at
from spanlake.model.kernel import byte_swap, inner, kernel, load64, store32, store64
from spanlake.wire.otlp.control import (
    ATTRS,
    BAD_PARENT_ID,
    BAD_SPAN_ID,
    BAD_TRACE_ID,
    EVENTS,
    FULL,
    LENGTHS,
    LINKS,
    MALFORMED,
    NOTES,
    OK,
    PARENT_ID_NOTE,
    REASONS,
    REJECTED,
    RESOURCES,
    SCOPES,
    SCRATCH,
    SPAN_ID_NOTE,
    SPANS,
    STRINGS,
    TRACE_ID_NOTE,
    WRONG_WIRE_TYPE,
    ZERO_SPAN_ID,
    ZERO_TRACE_ID,
    count,
    fill,
    note,
    reject,
    set_count,
    table,
)
from spanlake.wire.otlp.fields import read_record
from spanlake.wire.otlp.schema import EVENT, LINK, RESOURCE_SPANS, SCOPE_SPANS, SPAN
from spanlake.wire.protobuf import BAD, LEN, SHORT, read_tag, read_varint, skip_field


@inner
def next_child(data: int, groups: int, wanted: int, position: int, end: int) -> tuple[int, int, int]:
    """(reason, begin, end) of the next field `wanted` of an enclosing message, which has LEN fields up to `wanted`; begin BAD: no more."""
    while position < end:
        tag, position = read_tag(data, position, end)
        if position == BAD:
            return MALFORMED, BAD, BAD
        if tag >> 3 <= wanted and tag & 7 != LEN:
            return WRONG_WIRE_TYPE, BAD, BAD
        begin = position
        position = skip_field(data, groups, tag, position, end)
        if position == BAD:
            return MALFORMED, BAD, BAD
        if tag >> 3 == wanted:
            return OK, read_varint(data, begin, end, SHORT)[1], position
    return OK, BAD, end


@inner
def read_ids(data: int, out: int, span: int) -> int:
    """Reason of the ids that were noted, written to the span. An empty or zero parent is none."""
    notes = out + NOTES
    if load64(notes + 16 * TRACE_ID_NOTE + 8) != 16:
        return BAD_TRACE_ID
    if load64(notes + 16 * SPAN_ID_NOTE + 8) != 8:
        return BAD_SPAN_ID
    high = load64(data + load64(notes + 16 * TRACE_ID_NOTE))
    low = load64(data + load64(notes + 16 * TRACE_ID_NOTE) + 8)
    own = load64(data + load64(notes + 16 * SPAN_ID_NOTE))
    store64(span + at.SPAN_TRACE_HI, byte_swap(high))
    store64(span + at.SPAN_TRACE_LO, byte_swap(low))
    store64(span + at.SPAN_SPAN_ID, byte_swap(own))
    if (high | low) == 0:
        return ZERO_TRACE_ID
    if own == 0:
        return ZERO_SPAN_ID
    parent_length = load64(notes + 16 * PARENT_ID_NOTE + 8)
    if parent_length == 8:
        store64(span + at.SPAN_PARENT_ID, byte_swap(load64(data + load64(notes + 16 * PARENT_ID_NOTE))))
        return OK
    return OK if parent_length == 0 else BAD_PARENT_ID


@inner
def read_parts(data: int, out: int, number: int, first: int) -> int:
    """Reason of the rows of EVENTS or LINKS from `first` on, which hold where their messages are."""
    message = EVENT if number == EVENTS else LINK
    size = at.EVENT_BYTES if number == EVENTS else at.LINK_BYTES
    for row in range(first, count(out, number)):
        record = table(out, number) + row * size
        reason = read_record(data, out, message, record, load64(record), load64(record + 8))
        if reason != OK:
            return reason
    return OK


@inner
def read_span(data: int, out: int, scope: int, position: int, end: int) -> int:
    """Reason of the Span message in [position, end): a new row if it is OK, else nothing."""
    strings, attrs, events, links = count(out, STRINGS), count(out, ATTRS), count(out, EVENTS), count(out, LINKS)
    row = count(out, SPANS)
    span = table(out, SPANS) + row * at.SPAN_BYTES
    for number in range(TRACE_ID_NOTE, PARENT_ID_NOTE + 1):
        note(out, number, 0, 0)
    reason = read_record(data, out, SPAN, span, position, end)
    if reason == OK:
        reason = read_ids(data, out, span)
    for number in range(EVENTS, LINKS + 1):
        if reason == OK:
            reason = read_parts(data, out, number, events if number == EVENTS else links)
    if reason == OK:
        store32(span + at.SPAN_SCOPE, scope)
        store64(span + at.SPAN_DURATION, load64(span + at.SPAN_DURATION) - load64(span + at.SPAN_START))
        store32(span + at.SPAN_EVENT_FIRST, events)
        store32(span + at.SPAN_EVENT_COUNT, count(out, EVENTS) - events)
        store32(span + at.SPAN_LINK_FIRST, links)
        store32(span + at.SPAN_LINK_COUNT, count(out, LINKS) - links)
        set_count(out, SPANS, row + 1)
        return OK
    set_count(out, STRINGS, strings)
    set_count(out, ATTRS, attrs)
    set_count(out, EVENTS, events)
    set_count(out, LINKS, links)
    return reason


@inner
def read_owner(data: int, out: int, level: int, position: int, end: int) -> int:
    """Reason of a ResourceSpans (level 0) or ScopeSpans (level 1) message: a new row of what it says about its spans."""
    number = RESOURCES if level == 0 else SCOPES
    message = RESOURCE_SPANS if level == 0 else SCOPE_SPANS
    row = count(out, number)
    record = table(out, number) + row * (at.RESOURCE_BYTES if level == 0 else at.SCOPE_BYTES)
    set_count(out, number, row + 1)
    reason = read_record(data, out, message, record, position, end)
    if level == 1:
        store32(record + at.SCOPE_RESOURCE, count(out, RESOURCES) - 1)
    return reason


@inner
def begin_tables(out: int) -> None:
    """String 0 is the empty one; nothing is refused yet."""
    store64(table(out, STRINGS), 0)
    store32(load64(out + LENGTHS), 0)
    set_count(out, STRINGS, 1)
    fill(out + REJECTED, 8 * REASONS)


@kernel
def walk_payload(data: int, out: int, end: int, reads: int) -> int:
    """Walk a payload of `end` bytes; count what is in it, or read it if `reads` is not 0. OK, FULL, or why it is malformed as a whole."""
    groups = load64(out + SCRATCH)
    level = 0
    position = 0
    resource_end = end
    scope_end = end
    resource_reason = OK
    reason = OK
    if reads != 0:
        begin_tables(out)
    while level >= 0:
        limit = end if level == 0 else resource_end if level == 1 else scope_end
        problem, begin, position = next_child(data, groups, 1 if level == 0 else 2, position, limit)
        if problem != OK:
            return problem
        if begin == BAD:
            level -= 1
        elif level == 2:
            if reads == 0:
                set_count(out, SPANS, count(out, SPANS) + 1)
            else:
                problem = read_span(data, out, count(out, SCOPES) - 1, begin, position) if reason == OK else reason
                if problem == FULL:
                    return FULL
                if problem != OK:
                    reject(out, problem)
        else:
            if reads == 0:
                number = RESOURCES if level == 0 else SCOPES
                set_count(out, number, count(out, number) + 1)
            elif level == 0 or resource_reason == OK:
                reason = read_owner(data, out, level, begin, position)
                if reason == FULL:
                    return FULL
            if level == 0:
                resource_reason = reason
                resource_end = position
            else:
                scope_end = position
            level += 1
            position = begin
    return OK

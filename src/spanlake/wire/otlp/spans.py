"""The decode kernel for a whole payload: walks down to the spans and reads each with what it belongs to.

It runs twice. The first walk reads tags and lengths only: framing that is broken hides where spans begin and end, so it fails the
payload as a whole; and it counts, so that tables of spans, scopes and resources have exactly the room that they need. The second walk
reads. A resource or scope that cannot be kept takes its spans with it; a span that cannot be kept is counted under its reason
and leaves nothing in the tables.
"""

from __future__ import annotations

from spanlake.model import spans as at
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
    NOTED,
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
from spanlake.wire.otlp.fields import add_row, read_record, record_bytes
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
def complete_span(data: int, out: int, span: int, events: int, links: int) -> int:
    """Reason of a span whose fields and parts have been read: what can be known only now is written to it."""
    store32(span + at.SPAN_SCOPE, count(out, SCOPES) - 1)
    store64(span + at.SPAN_DURATION, load64(span + at.SPAN_DURATION) - load64(span + at.SPAN_START))
    store32(span + at.SPAN_EVENT_FIRST, events)
    store32(span + at.SPAN_EVENT_COUNT, count(out, EVENTS) - events)
    store32(span + at.SPAN_LINK_FIRST, links)
    store32(span + at.SPAN_LINK_COUNT, count(out, LINKS) - links)
    return read_ids(data, out, span)


@inner
def read_message(data: int, out: int, message: int, position: int, end: int) -> int:
    """Reason of the RESOURCE_SPANS, SCOPE_SPANS or SPAN message in [position, end): a new row if it is OK, else nothing.

    A span's events and links are read after it. One call of `read_record` serves them all: LLVM optimises it again in every caller.
    """
    strings, attrs, events, links = count(out, STRINGS), count(out, ATTRS), count(out, EVENTS), count(out, LINKS)
    event = events
    link = links
    row = add_row(out, RESOURCES - message, record_bytes(out, message))
    record = row
    part = message
    for number in range(NOTED):
        note(out, number, 0, 0)
    while True:
        reason = read_record(data, out, part, record, position, end)
        if reason != OK:
            break
        if event < count(out, EVENTS):
            part = EVENT
            record = table(out, EVENTS) + event * at.EVENT_BYTES
            event += 1
        elif link < count(out, LINKS):
            part = LINK
            record = table(out, LINKS) + link * at.LINK_BYTES
            link += 1
        else:
            break
        position = load64(record)
        end = load64(record + 8)
    if message == SCOPE_SPANS:
        store32(row + at.SCOPE_RESOURCE, count(out, RESOURCES) - 1)
    if message == SPAN and reason == OK:
        reason = complete_span(data, out, row, events, links)
    if reason != OK:
        set_count(out, RESOURCES - message, count(out, RESOURCES - message) - 1)
        set_count(out, STRINGS, strings)
        set_count(out, ATTRS, attrs)
        set_count(out, EVENTS, events)
        set_count(out, LINKS, links)
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
    if reads != 0:
        begin_tables(out)
    groups = load64(out + SCRATCH)
    message = RESOURCE_SPANS
    position = 0
    resource_end = end
    scope_end = end
    resource_reason = OK
    scope_reason = OK
    while message >= RESOURCE_SPANS:
        limit = end if message == RESOURCE_SPANS else resource_end if message == SCOPE_SPANS else scope_end
        problem, begin, position = next_child(data, groups, 1 if message == RESOURCE_SPANS else 2, position, limit)
        if problem != OK:
            return problem
        if begin == BAD:
            message -= 1
            continue
        reason = OK if message == RESOURCE_SPANS else resource_reason if message == SCOPE_SPANS else scope_reason
        if reads == 0:
            set_count(out, RESOURCES - message, count(out, RESOURCES - message) + 1)
        elif reason == OK:
            reason = read_message(data, out, message, begin, position)
            if reason == FULL:
                return FULL
        if message == SPAN:
            if reason != OK:
                reject(out, reason)
            continue
        if message == RESOURCE_SPANS:
            resource_reason = reason
            resource_end = position
        scope_reason = reason
        scope_end = position
        message += 1
        position = begin
    return OK


assert (RESOURCE_SPANS, SCOPE_SPANS, SPAN) == (0, 1, 2) == (RESOURCES - RESOURCES, RESOURCES - SCOPES, RESOURCES - SPANS)
"""Messages count downwards from where their tables count upwards: table RESOURCES - message."""

"""The decode kernel for any OTLP message: what it does with each field is written in `schema`.

A repeated singular message field (legal protobuf, written by nobody) merges, as in official parsers.
"""

from __future__ import annotations

from spanlake.model.kernel import inlined, inner, load8, load32, load64, store8, store32, store64
from spanlake.model.spans import ATTR_BYTES, ATTR_TYPE, ATTR_VALUE, EVENT_BYTES, LINK_BYTES
from spanlake.wire.otlp.control import (
    ATTRS,
    DEPTH_MAX,
    EVENTS,
    FULL,
    INVALID_UTF8,
    LENGTHS,
    MALFORMED,
    OK,
    SCATTERED,
    SCHEMA,
    SCRATCH,
    STRINGS,
    TOO_DEEP,
    WRONG_WIRE_TYPE,
    count,
    fill,
    is_full,
    note,
    set_count,
    table,
)
from spanlake.wire.otlp.plain import read_plain_attributes, read_plain_head
from spanlake.wire.otlp.schema import (
    ARRAY,
    ATTR_FIRST_SHIFT,
    ATTR_TAG_SHIFT,
    ATTRIBUTE,
    CHILD_SHIFT,
    CODE,
    DEEPER,
    ENTER,
    FIELD_BYTES,
    FIELDS,
    KNOWN,
    MESSAGE_BYTES,
    NOTE,
    PART,
    PLACE_SHIFT,
    RUN,
    SPAN,
    STORE32,
    STORE64,
    STORE_VALUE,
    TRUTH,
    UTF8,
    WHOLE,
)
from spanlake.wire.protobuf import (
    BAD,
    FIXED32,
    FIXED64,
    GROUP_DEPTH_MAX,
    LEN,
    LONG,
    SHORT,
    VARINT,
    is_utf8,
    read_tag,
    read_varint,
    skip_field,
)

_OPEN_BYTES = 32  # an open message in the scratch: end, message, record, begin


@inner
def add_string(out: int, begin: int, end: int) -> int:
    """Code for bytes [begin, end); 0, the empty string, for none of them; -FULL when the table is full."""
    if begin == end:
        return 0
    if is_full(out, STRINGS):
        return -FULL
    code = count(out, STRINGS)
    store64(table(out, STRINGS) + 8 * code, begin)
    store32(load64(out + LENGTHS) + 4 * code, end - begin)
    set_count(out, STRINGS, code + 1)
    return code


@inner
def add_row(out: int, number: int, size: int) -> int:
    """Address of a new row, of `size` bytes and not cleared, of a table; BAD when the table is full."""
    if is_full(out, number):
        return BAD
    row = count(out, number)
    set_count(out, number, row + 1)
    return table(out, number) + row * size


@inner
def add_part(out: int, number: int, begin: int, end: int) -> int:
    """Reason of a new row of EVENTS or LINKS that holds where its message is."""
    part = add_row(out, number, EVENT_BYTES if number == EVENTS else LINK_BYTES)
    if part == BAD:
        return FULL
    store64(part, begin)
    store64(part + 8, end)
    return OK


@inner
def keep_run(out: int, place: int, begin: int, end: int) -> int:
    """Reason of adding bytes [begin, end) to the run whose code is at `place`: they must follow it directly."""
    code = load32(place)
    length = load32(load64(out + LENGTHS) + 4 * code)
    if code == 0:
        code = add_string(out, begin, end)
        store32(place, code)
        return FULL if code < 0 else OK
    if load64(table(out, STRINGS) + 8 * code) + length != begin:
        return SCATTERED
    store32(load64(out + LENGTHS) + 4 * code, length + end - begin)
    return OK


@inner
def keep_whole(out: int, attr: int, field: int, begin: int, end: int) -> int:
    """Code of the value message [begin, end), of which an array or map is field `field`; -FULL; or -SCATTERED.

    An array that follows another in an earlier value message of the same attribute would have to be merged with it.
    """
    if load8(attr + ATTR_TYPE) == field:
        code = load64(attr + ATTR_VALUE)
        return code if load64(table(out, STRINGS) + 8 * code) == begin else -SCATTERED
    return add_string(out, begin, end)


@inner
def read_content(data: int, wire_type: int, position: int, end: int) -> tuple[int, int, int]:
    """(position behind, value, begin) of a field's content; for LEN the value is the length. BAD if it is cut or a group."""
    value = 0
    if wire_type == VARINT:
        value, position = read_varint(data, position, end, LONG)
        return position, value, 0
    width = 8 if wire_type == FIXED64 else 4
    if wire_type == LEN:
        value, position = read_varint(data, position, end, SHORT)
        width = value
    if position == BAD or width < 0 or width > end - position:
        return BAD, value, 0
    if wire_type == FIXED64:
        value = load64(data + position)
    elif wire_type == FIXED32:
        value = load32(data + position)
    return position + width, value, position


@inlined
def store_number(record: int, field: int, entry: int, value: int) -> None:
    """Write a field's value to where its entry says; `field` is its number, which in a value message is the type."""
    if entry & STORE32:
        store32(record + (entry >> PLACE_SHIFT), value)
    elif entry & STORE64:
        store64(record + (entry >> PLACE_SHIFT), value)
    else:
        store64(record + ATTR_VALUE, 1 if entry & TRUTH and value != 0 else value)
        store8(record + ATTR_TYPE, field)


@inlined
def push(stack: int, end: int, message: int, record: int, begin: int) -> int:
    """Remember an open message; returns the new top of the stack."""
    store64(stack, end)
    store64(stack + 8, message)
    store64(stack + 16, record)
    store64(stack + 24, begin)
    return stack + _OPEN_BYTES


@inner
def read_fields(data: int, out: int, message: int, record: int, position: int, end: int) -> int:
    """Reason of the message in [position, end), whose fields go to `record`. Nested messages are read without recursion."""
    bottom = load64(out + SCRATCH) + 8 * GROUP_DEPTH_MAX
    stack = bottom
    begin = position
    depth = 0
    while True:
        if position == end:
            if stack == bottom:
                return OK
            depth -= 1 if message >= ARRAY else 0
            stack -= _OPEN_BYTES
            end, message, record, begin = load64(stack), load64(stack + 8), load64(stack + 16), load64(stack + 24)
            continue
        start = position
        entries = load64(out + SCHEMA) + MESSAGE_BYTES * message
        plain_tag = load64(entries) >> ATTR_TAG_SHIFT
        if load8(data + position) == plain_tag:
            position = read_plain_attributes(data, out, plain_tag, position, end)
            if position != start:
                continue
        tag, position = read_tag(data, position, end)
        if position == BAD:
            return MALFORMED
        field = tag >> 3
        entry = load64(entries + FIELD_BYTES * field) if field < FIELDS else 0
        if entry & KNOWN == 0:
            position = skip_field(data, load64(out + SCRATCH), tag, position, end)
            if position == BAD:
                return MALFORMED
            continue
        if entry & 7 != tag & 7:
            return WRONG_WIRE_TYPE
        position, value, content = read_content(data, tag & 7, position, end)
        if position == BAD:
            return MALFORMED
        place = entry >> PLACE_SHIFT
        if entry & UTF8 and not is_utf8(data, content, position):
            return INVALID_UTF8
        if entry & (CODE | WHOLE):
            value = add_string(out, content, position) if entry & CODE else keep_whole(out, record, field, begin, end)
            if value < 0:
                return -value
        reason = OK
        if entry & (STORE32 | STORE64 | STORE_VALUE):
            store_number(record, field, entry, value)
        elif entry & NOTE:
            note(out, place, content, value)
        elif entry & PART:
            reason = add_part(out, place, content, position)
        elif entry & RUN:
            reason = keep_run(out, record + place, start, position)
        if reason != OK:
            return reason
        if entry & ENTER:
            depth += 1 if entry & DEEPER else 0
            if depth > load64(out + DEPTH_MAX):
                return TOO_DEEP
            stack = push(stack, end, message, record, begin)
            end = position
            position = content
            begin = content
            message = (entry >> CHILD_SHIFT) & 255
            if entry & ATTRIBUTE:
                record = add_row(out, ATTRS, ATTR_BYTES)
                if record == BAD:
                    return FULL
                fill(record, ATTR_TYPE)
                store8(record + ATTR_TYPE, 0)


@inlined
def record_bytes(out: int, message: int) -> int:
    """Size of the record of a message that owns attributes."""
    return load64(load64(out + SCHEMA) + MESSAGE_BYTES * message) & 0xFFFF


@inner
def read_record(data: int, out: int, message: int, record: int, position: int, end: int) -> int:
    """Reason of the message in [position, end), of a kind that owns attributes, written to the new record at `record`."""
    fill(record, record_bytes(out, message))
    attr_first = record + ((load64(load64(out + SCHEMA) + MESSAGE_BYTES * message) >> ATTR_FIRST_SHIFT) & 0xFFFF)
    first = count(out, ATTRS)
    store32(attr_first, first)
    if message == SPAN:
        position = read_plain_head(data, out, record, position, end)
    reason = read_fields(data, out, message, record, position, end)
    store32(attr_first + 4, count(out, ATTRS) - first)
    return reason

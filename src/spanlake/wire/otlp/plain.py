"""Fast paths for the forms that encoders write, which leave everything else to `fields.read_fields`.

Both give the same result as the general path where they apply, and stop in front of the first field where they do not. What makes
them fast is that counts and addresses stay in registers from field to field.
"""

from __future__ import annotations

from spanlake.model.kernel import inner, load8, load64, store8, store32, store64
from spanlake.model.spans import (
    ATTR_BYTES,
    ATTR_KEY,
    ATTR_TYPE,
    ATTR_VALUE,
    BOOL,
    DOUBLE,
    INT,
    NULL,
    SPAN_DURATION,
    SPAN_KIND,
    SPAN_NAME,
    SPAN_START,
    STRING,
)
from spanlake.wire.otlp.control import (
    ATTRS,
    CAPACITY,
    LENGTHS,
    PARENT_ID_NOTE,
    SPAN_ID_NOTE,
    STRINGS,
    TABLE_BYTES,
    TRACE_ID_NOTE,
    count,
    is_full,
    note,
    set_count,
    table,
)
from spanlake.wire.protobuf import is_utf8


@inner
def read_plain_head(data: int, out: int, span: int, position: int, end: int) -> int:
    """Read the first fields of a span if they are in order: position behind those found.

    trace_id (0A 10), span_id (12 08), then parent_span_id (22 08), name (2A, below 128 bytes), kind (30, one byte), start (39) and
    end (41), each optional.
    """
    if end - position < 28 or load64(data + position) & 0xFFFF != 0x100A or load64(data + position + 18) & 0xFFFF != 0x0812:
        return position
    note(out, TRACE_ID_NOTE, position + 2, 16)
    note(out, SPAN_ID_NOTE, position + 20, 8)
    position += 28
    if end - position >= 10 and load64(data + position) & 0xFFFF == 0x0822:
        note(out, PARENT_ID_NOTE, position + 2, 8)
        position += 10
    if end - position > 2 and load8(data + position) == 0x2A:
        length = load8(data + position + 1)
        stop = position + 2 + length
        if length == 0 or length > 127 or stop > end or is_full(out, STRINGS) or not is_utf8(data, position + 2, stop):
            return position
        code = count(out, STRINGS)
        store64(table(out, STRINGS) + 8 * code, position + 2)
        store32(load64(out + LENGTHS) + 4 * code, length)
        set_count(out, STRINGS, code + 1)
        store32(span + SPAN_NAME, code)
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


@inner
def read_plain_number(data: int, tag: int, position: int, end: int) -> tuple[int, int]:
    """(type, value) of a value message that ends with a bool, int or double, of which the tag has been read; NULL for anything else."""
    if tag == 0x21 and end - position == 8:
        return DOUBLE, load64(data + position)
    value = 0
    shift = 0
    byte = 128
    while byte > 127 and position < end and shift < 70:
        byte = load8(data + position)
        value |= (byte & 127) << shift
        position += 1
        shift += 7
    if byte > 127 or position != end:
        return NULL, value
    if tag == 0x10:
        return BOOL, 1 if value != 0 else 0
    return (INT if tag == 0x18 else NULL), value


@inner
def read_plain_attributes(data: int, out: int, tag: int, position: int, end: int) -> int:
    """Read a run of attribute fields with the given one-byte tag: position behind those of ordinary form.

    That form: lengths below 16 KiB, a key (0A) of 1 … 127 bytes, a value (12) that holds one string (0A), bool (10), int (18) or
    double (21).
    """
    index = count(out, ATTRS)
    code = count(out, STRINGS)
    room = min(load64(out + TABLE_BYTES * ATTRS + CAPACITY) - index, (load64(out + TABLE_BYTES * STRINGS + CAPACITY) - code) >> 1)
    attr = table(out, ATTRS) + index * ATTR_BYTES
    last = attr + room * ATTR_BYTES
    offsets = table(out, STRINGS) + 8 * code
    lengths = load64(out + LENGTHS) + 4 * code
    while attr < last and end - position > 8 and load8(data + position) == tag:
        # Of a two-byte length (below 16 KiB) the second byte is below 128; if it is not, the sum is too large for the checks.
        at = position + 2
        stop = at + load8(data + position + 1)
        if stop - at > 127:
            stop += 1 - 128 + (load8(data + at) << 7)
            at += 1
        key_length = load8(data + at + 1)
        key = at + 2
        value = key + key_length + 2
        if stop > end or value + 2 > stop or stop - at > 16383 or load8(data + at) != 0x0A or key_length == 0 or key_length > 127:
            break
        value_length = load8(data + value - 1)
        if load8(data + value - 2) != 0x12 or not is_utf8(data, key, value - 2):
            break
        if value_length > 127:
            value_length += (load8(data + value) << 7) - 128
            value += 1
        kind = load8(data + value)
        if value + value_length != stop or value_length < 2:
            break
        value += 1
        store64(offsets, key)
        store32(lengths, key_length)
        if kind == 0x0A:
            number = load8(data + value)
            value += 1
            if number > 127 and value < stop:
                number += (load8(data + value) << 7) - 128
                value += 1
            if value + number != stop or number == 0 or not is_utf8(data, value, stop):
                break
            store64(offsets + 8, value)
            store32(lengths + 4, number)
            store64(attr + ATTR_VALUE, code + 1)
            store32(attr + ATTR_KEY, code)
            store8(attr + ATTR_TYPE, STRING)
            code, offsets, lengths = code + 2, offsets + 16, lengths + 8
        else:
            field, number = read_plain_number(data, kind, value, stop)
            if field == NULL:
                break
            store8(attr + ATTR_TYPE, field)
            store64(attr + ATTR_VALUE, number)
            store32(attr + ATTR_KEY, code)
            code, offsets, lengths = code + 1, offsets + 8, lengths + 4
        attr += ATTR_BYTES
        position = stop
    set_count(out, ATTRS, (attr - table(out, ATTRS)) // ATTR_BYTES)
    set_count(out, STRINGS, code)
    return position

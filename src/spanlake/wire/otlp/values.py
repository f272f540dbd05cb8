"""Decode kernels for what OTLP messages share: strings, numbers, AnyValue and KeyValue (common/v1/common.proto)."""

from __future__ import annotations

import numpy as np

from spanlake.model.kernel import inlined, kernel, load8, load32, load64, store8, store32, store64
from spanlake.model.layout import ATTR_BYTES, ATTR_KEY, ATTR_TYPE, ATTR_VALUE
from spanlake.model.spans import DOUBLE, NULL, STRING
from spanlake.wire.otlp.control import (
    ATTRS,
    DEPTH_MAX,
    FULL,
    INVALID_UTF8,
    LENGTHS,
    OK,
    STRINGS,
    TOO_DEEP,
    TRUNCATED,
    WRONG_WIRE_TYPE,
    count,
    is_full,
    set_count,
    table,
)
from spanlake.wire.protobuf import BAD, FIXED64, LEN, VARINT, is_utf8, read_length, read_tag, read_varint, skip_field


@inlined
def put_string(out: int, code: int, begin: int, length: int) -> None:
    """Write an entry of the string table; the caller has checked that there is room."""
    store64(table(out, STRINGS) + 8 * code, begin)
    store32(load64(out + LENGTHS) + 4 * code, length)


@kernel
def add_string(out: int, begin: int, end: int) -> int:
    """Code for bytes [begin, end); 0, the empty string, for none of them; BAD when the table is full."""
    if begin == end:
        return 0
    code = count(out, STRINGS)
    if is_full(out, STRINGS):
        return BAD
    put_string(out, code, begin, end - begin)
    set_count(out, STRINGS, code + 1)
    return code


@kernel
def read_text(data: int, out: int, wire_type: int, position: int, end: int) -> tuple[int, int, int]:
    """(reason, string code, position behind) of a UTF-8 string field."""
    if wire_type != LEN:
        return WRONG_WIRE_TYPE, 0, BAD
    begin, stop = read_length(data, position, end)
    if begin == BAD:
        return TRUNCATED, 0, BAD
    if not is_utf8(data, begin, stop):
        return INVALID_UTF8, 0, BAD
    code = add_string(out, begin, stop)
    return (FULL if code == BAD else OK), code, stop


@kernel
def read_number(data: int, wanted: int, wire_type: int, position: int, end: int) -> tuple[int, int, int]:
    """(reason, value bits, position behind) of a varint, fixed64 or fixed32 field."""
    value = 0
    if wire_type != wanted:
        return WRONG_WIRE_TYPE, value, BAD
    if wanted == VARINT:
        value, position = read_varint(data, position, end)
        return (TRUNCATED if position == BAD else OK), value, position
    width = 8 if wanted == FIXED64 else 4
    if end - position < width:
        return TRUNCATED, value, BAD
    value = load64(data + position) if wanted == FIXED64 else load32(data + position)
    return OK, value, position + width


# Messages on the validator's stack.
_ANY, _ARRAY, _LIST, _PAIR = range(4)


@kernel
def _child_message(parent: int, field: int) -> int:
    """Which message field `field` of message `parent` holds; -1: bytes; -2: UTF-8; -3: varint; -4: fixed64; -5: unknown."""
    if parent == _ANY:
        return (-5, -2, -3, -3, -4, _ARRAY, _LIST, -1)[field] if field < 8 else -5
    if parent == _ARRAY:
        return _ANY if field == 1 else -5
    if parent == _LIST:
        return _PAIR if field == 1 else -5
    return -2 if field == 1 else _ANY if field == 2 else -5


@kernel
def check_value(data: int, position: int, end: int, depth_max: int) -> int:
    """Reason why the AnyValue message in [position, end) is not well formed, or OK. Iterative: depth is bounded by `depth_max`.

    A nesting of n arrays or maps is n deep; each takes up to three messages.
    """
    ends = np.empty(3 * depth_max + 4, np.int64)
    messages = np.empty(3 * depth_max + 4, np.int64)
    ends[0], messages[0] = end, _ANY
    top = depth = 0
    while top >= 0:
        if position == ends[top]:
            depth -= 1 if messages[top] in (_ARRAY, _LIST) else 0
            top -= 1
            continue
        field, wire_type, position = read_tag(data, position, ends[top])
        if position == BAD:
            return TRUNCATED
        child = _child_message(messages[top], field)
        if child == -5:
            position = skip_field(data, field, wire_type, position, ends[top])
        elif child in (-3, -4):
            reason, _, position = read_number(data, VARINT if child == -3 else FIXED64, wire_type, position, ends[top])
            if reason != OK:
                return reason
        elif wire_type != LEN:
            return WRONG_WIRE_TYPE
        else:
            begin, stop = read_length(data, position, ends[top])
            position = begin if child >= 0 else stop
            if begin != BAD and child == -2 and not is_utf8(data, begin, stop):
                return INVALID_UTF8
            if begin != BAD and child >= 0:
                depth += 1 if child in (_ARRAY, _LIST) else 0
                if depth > depth_max:
                    return TOO_DEEP
                top += 1
                ends[top], messages[top] = stop, child
        if position == BAD:
            return TRUNCATED
    return OK


@kernel
def read_value(data: int, out: int, position: int, end: int) -> tuple[int, int, int]:
    """(reason, type, value) of the AnyValue message in [position, end); the last field set wins, none is NULL."""
    whole = position
    kind = NULL
    value = 0
    while position < end:
        field, wire_type, position = read_tag(data, position, end)
        if position == BAD:
            return TRUNCATED, NULL, value
        reason = OK
        if field == 1:
            reason, code, position = read_text(data, out, wire_type, position, end)
            value = code
        elif field in (2, 3, 4):
            reason, value, position = read_number(data, FIXED64 if field == 4 else VARINT, wire_type, position, end)
            if field == 2:
                value = 1 if value != 0 else 0
        elif field in (5, 6, 7):
            begin, stop = (BAD, BAD) if wire_type != LEN else read_length(data, position, end)
            if begin == BAD:
                return (WRONG_WIRE_TYPE if wire_type != LEN else TRUNCATED), NULL, value
            code = add_string(out, begin if field == 7 else whole, stop if field == 7 else end)
            reason = FULL if code == BAD else OK if field == 7 else check_value(data, whole, end, load64(out + DEPTH_MAX))
            value, position = code, stop
        else:
            position = skip_field(data, field, wire_type, position, end)
            if position == BAD:
                return TRUNCATED, NULL, value
            continue
        if reason != OK:
            return reason, NULL, value
        kind = field
    return OK, kind, value


@kernel
def read_plain_attributes(data: int, out: int, tag: int, position: int, end: int) -> int:
    """Fast path of `read_attribute` for a run of attribute fields: position behind those of the form that encoders write.

    That form: the given one-byte field tag, lengths below 128, key (0A), value (12), one field in the value: string (0A), bool (10),
    one-byte int (18) or double (21). It stops before the first attribute of any other form, which is left to the general path;
    that gives the same result for this form too. Counts and addresses stay in registers, which is the point.
    """
    index = count(out, ATTRS)
    code = count(out, STRINGS)
    room = min(load64(out + 24 * ATTRS + 16) - index, (load64(out + 24 * STRINGS + 16) - code) >> 1)
    attr = table(out, ATTRS) + index * ATTR_BYTES
    offsets = table(out, STRINGS) + 8 * code
    lengths = load64(out + LENGTHS) + 4 * code
    first = attr
    while room > 0 and end - position > 8 and load8(data + position) == tag and load8(data + position + 2) == 0x0A:
        stop = position + 2 + load8(data + position + 1)
        key = position + 4
        key_length = load8(data + position + 3)
        value = key + key_length + 4
        if stop > end or stop - key > 124 or value > stop or key_length == 0 or load8(data + value - 4) != 0x12:
            break
        kind = load8(data + value - 2)
        byte = load8(data + value - 1)
        if value - 2 + load8(data + value - 3) != stop or not is_utf8(data, key, key + key_length):
            break
        store64(offsets, key)
        store32(lengths, key_length)
        store32(attr + ATTR_KEY, code)
        if kind == 0x0A and value + byte == stop and byte > 0 and is_utf8(data, value, stop):
            store64(offsets + 8, value)
            store32(lengths + 4, byte)
            store64(attr + ATTR_VALUE, code + 1)
            store8(attr + ATTR_TYPE, STRING)
            code, offsets, lengths = code + 2, offsets + 16, lengths + 8
        elif value == stop and ((kind == 0x18 and byte < 128) or (kind == 0x10 and byte < 2)):
            store64(attr + ATTR_VALUE, byte)
            store8(attr + ATTR_TYPE, kind >> 3)
            code, offsets, lengths = code + 1, offsets + 8, lengths + 4
        elif kind == 0x21 and value + 7 == stop:
            store64(attr + ATTR_VALUE, load64(data + value - 1))
            store8(attr + ATTR_TYPE, DOUBLE)
            code, offsets, lengths = code + 1, offsets + 8, lengths + 4
        else:
            break
        attr += ATTR_BYTES
        room -= 1
        position = stop
    set_count(out, ATTRS, index + (attr - first) // ATTR_BYTES)
    set_count(out, STRINGS, code)
    return position


@kernel
def read_attribute(data: int, out: int, wire_type: int, position: int, end: int) -> tuple[int, int]:
    """(reason, position behind) of one KeyValue field, appended to the attributes."""
    if wire_type != LEN:
        return WRONG_WIRE_TYPE, BAD
    position, stop = read_length(data, position, end)
    if position == BAD:
        return TRUNCATED, BAD
    index = count(out, ATTRS)
    if is_full(out, ATTRS):
        return FULL, BAD
    key = 0
    kind = NULL
    value = 0
    while position < stop:
        field, inner, position = read_tag(data, position, stop)
        if position == BAD:
            return TRUNCATED, BAD
        reason = OK
        if field == 1:
            reason, key, position = read_text(data, out, inner, position, stop)
        elif field == 2:
            begin, close = (BAD, BAD) if inner != LEN else read_length(data, position, stop)
            if begin == BAD:
                return (WRONG_WIRE_TYPE if inner != LEN else TRUNCATED), BAD
            reason, kind, value = read_value(data, out, begin, close)
            position = close
        else:
            position = skip_field(data, field, inner, position, stop)
            if position == BAD:
                return TRUNCATED, BAD
        if reason != OK:
            return reason, BAD
    attr = table(out, ATTRS) + index * ATTR_BYTES
    store64(attr + ATTR_VALUE, value)
    store32(attr + ATTR_KEY, key)
    store8(attr + ATTR_TYPE, kind)
    set_count(out, ATTRS, index + 1)
    return OK, stop

"""A span batch to OTLP protobuf bytes (TracesData, which is also tempopb.Trace).

The kernel writes backwards, so that the length of every nested message is known when its header is written, in one pass and with no
size computation. Rows come grouped: all rows of a ScopeSpans adjacent, all ScopeSpans of a ResourceSpans adjacent.

Clients decode the result with generated code that dereferences sub-messages without a check, so `resource`, `scope` and `status` are
always present, if need be empty (wire contract, section 1.3); all other fields with default values are absent.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from spanlake.model import layout as at
from spanlake.model.kernel import byte_swap, inlined, kernel, load8, load32, load64, store8, store64
from spanlake.model.spans import ARRAY, BOOL, DOUBLE, INT, KVLIST, NULL, SpanBatch

FULL = -1
_MARGIN = 512  # free bytes that every fixed-size group of fields may rely on
_DATA, _OFFSETS, _LENGTHS, _SPANS, _SCOPES, _RESOURCES, _EVENTS, _LINKS, _ATTRS, _BUFFER = range(10)


@kernel
def put_varint(buffer: int, position: int, value: int) -> int:
    """Write a varint that ends at `position`; returns where it begins."""
    width = 1
    rest = (value >> 7) & 0x1FFFFFFFFFFFFFF
    while rest:
        width += 1
        rest >>= 7
    for i in range(width - 1):
        store8(buffer + position - width + i, (value >> (7 * i)) & 127 | 128)
    store8(buffer + position - 1, (value >> (7 * (width - 1))) & 127)
    return position - width


@kernel
def put_header(buffer: int, position: int, field: int, end: int) -> int:
    """Write tag and length of a length-delimited field whose content is [position, end)."""
    position = put_varint(buffer, position, end - position)
    return put_varint(buffer, position, field << 3 | 2)


@kernel
def put_number(buffer: int, position: int, field: int, value: int) -> int:
    """Write a varint field, unless it is zero."""
    if value == 0:
        return position
    return put_varint(buffer, put_varint(buffer, position, value), field << 3)


@kernel
def put_fixed64(buffer: int, position: int, field: int, value: int) -> int:
    """Write a fixed64 field, unless it is zero."""
    if value == 0:
        return position
    store64(buffer + position - 8, value)
    return put_varint(buffer, position - 8, field << 3 | 1)


@kernel
def put_fixed32(buffer: int, position: int, field: int, value: int) -> int:
    """Write a fixed32 field, unless it is zero."""
    if value == 0:
        return position
    for i in range(4):
        store8(buffer + position - 4 + i, (value >> (8 * i)) & 255)
    return put_varint(buffer, position - 4, field << 3 | 5)


@kernel
def put_id(buffer: int, position: int, field: int, value: int) -> int:
    """Write an eight-byte id field."""
    store64(buffer + position - 8, byte_swap(value))
    return put_varint(buffer, put_varint(buffer, position - 8, 8), field << 3 | 2)


@kernel
def put_raw(out: int, position: int, code: int) -> int:
    """Write the bytes of a string code, without a header; FULL if they do not fit."""
    length = load32(load64(out + 8 * _LENGTHS) + 4 * code)
    if position - length < _MARGIN:
        return FULL
    buffer = load64(out + 8 * _BUFFER)
    source = load64(out + 8 * _DATA) + load64(load64(out + 8 * _OFFSETS) + 8 * code)
    position -= length
    for i in range(0, length - 7, 8):
        store64(buffer + position + i, load64(source + i))
    for i in range(length & ~7, length):
        store8(buffer + position + i, load8(source + i))
    return position


@kernel
def put_string(out: int, position: int, field: int, code: int) -> int:
    """Write a string or bytes field, unless it is empty."""
    if load32(load64(out + 8 * _LENGTHS) + 4 * code) == 0:
        return position
    begin = put_raw(out, position, code)
    return FULL if begin == FULL else put_header(load64(out + 8 * _BUFFER), begin, field, position)


@kernel
def put_value(out: int, position: int, kind: int, value: int) -> int:
    """Write the content of an AnyValue message."""
    buffer = load64(out + 8 * _BUFFER)
    if kind == NULL:
        return position
    if kind in (ARRAY, KVLIST):
        return put_raw(out, position, value)
    if kind == DOUBLE:
        store64(buffer + position - 8, value)
        return put_varint(buffer, position - 8, kind << 3 | 1)
    if kind in (BOOL, INT):
        return put_varint(buffer, put_varint(buffer, position, value), kind << 3)
    begin = put_raw(out, position, value)
    return FULL if begin == FULL else put_header(buffer, begin, kind, position)


@kernel
def put_attributes(out: int, position: int, field: int, first: int, count: int) -> int:
    """Write `count` KeyValue fields in order."""
    buffer = load64(out + 8 * _BUFFER)
    for i in range(first + count - 1, first - 1, -1):
        attr = load64(out + 8 * _ATTRS) + i * at.ATTR_BYTES
        end = position
        if position < _MARGIN:
            return FULL
        begin = put_value(out, position, load8(attr + at.ATTR_TYPE), load64(attr + at.ATTR_VALUE))
        if begin == FULL:
            return FULL
        begin = put_header(buffer, begin, 2, position)
        begin = put_string(out, begin, 1, load32(attr + at.ATTR_KEY))
        if begin == FULL:
            return FULL
        position = put_header(buffer, begin, field, end)
    return position


@kernel
def put_events(out: int, position: int, first: int, count: int) -> int:
    """Write a span's Event fields in order."""
    buffer = load64(out + 8 * _BUFFER)
    for i in range(first + count - 1, first - 1, -1):
        if position < _MARGIN:
            return FULL
        event = load64(out + 8 * _EVENTS) + i * at.EVENT_BYTES
        end = position
        position = put_number(buffer, position, 4, load32(event + at.EVENT_DROPPED))
        position = put_attributes(out, position, 3, load32(event + at.EVENT_ATTR_FIRST), load32(event + at.EVENT_ATTR_COUNT))
        if position < _MARGIN:
            return FULL
        position = put_string(out, position, 2, load32(event + at.EVENT_NAME))
        if position == FULL:
            return FULL
        position = put_fixed64(buffer, position, 1, load64(event + at.EVENT_TIME))
        position = put_header(buffer, position, 11, end)
    return position


@kernel
def put_links(out: int, position: int, first: int, count: int) -> int:
    """Write a span's Link fields in order."""
    buffer = load64(out + 8 * _BUFFER)
    for i in range(first + count - 1, first - 1, -1):
        if position < _MARGIN:
            return FULL
        link = load64(out + 8 * _LINKS) + i * at.LINK_BYTES
        end = position
        position = put_fixed32(buffer, position, 6, load32(link + at.LINK_FLAGS))
        position = put_number(buffer, position, 5, load32(link + at.LINK_DROPPED))
        position = put_attributes(out, position, 4, load32(link + at.LINK_ATTR_FIRST), load32(link + at.LINK_ATTR_COUNT))
        for field, code in ((3, at.LINK_TRACE_STATE), (2, at.LINK_SPAN_ID), (1, at.LINK_TRACE_ID)):
            if position < _MARGIN:
                return FULL
            position = put_string(out, position, field, load32(link + code))
        if position == FULL:
            return FULL
        position = put_header(buffer, position, 13, end)
    return position


@kernel
def put_parts(out: int, position: int, span: int) -> int:
    """Write a span's links, events and attributes."""
    buffer = load64(out + 8 * _BUFFER)
    position = put_number(buffer, position, 14, load32(span + at.SPAN_DROPPED_LINKS))
    position = put_links(out, position, load32(span + at.SPAN_LINK_FIRST), load32(span + at.SPAN_LINK_COUNT))
    if position < _MARGIN:
        return FULL
    position = put_number(buffer, position, 12, load32(span + at.SPAN_DROPPED_EVENTS))
    position = put_events(out, position, load32(span + at.SPAN_EVENT_FIRST), load32(span + at.SPAN_EVENT_COUNT))
    if position < _MARGIN:
        return FULL
    position = put_number(buffer, position, 10, load32(span + at.SPAN_DROPPED))
    return put_attributes(out, position, 9, load32(span + at.SPAN_ATTR_FIRST), load32(span + at.SPAN_ATTR_COUNT))


@inlined
def sign_extend(value: int) -> int:
    """The int32 whose bits are the low half of `value`, as protobuf encodes enums."""
    return value - 0x100000000 if value >= 0x80000000 else value


@kernel
def put_span(out: int, position: int, span: int) -> int:
    """Write one Span field of a ScopeSpans message."""
    if position < _MARGIN:
        return FULL
    buffer = load64(out + 8 * _BUFFER)
    end = position
    position = put_fixed32(buffer, position, 16, load32(span + at.SPAN_FLAGS))
    status_end = position
    position = put_number(buffer, position, 3, sign_extend(load32(span + at.SPAN_STATUS_CODE)))
    position = put_string(out, position, 2, load32(span + at.SPAN_STATUS_MESSAGE))
    if position < _MARGIN:
        return FULL
    position = put_header(buffer, position, 15, status_end)
    position = put_parts(out, position, span)
    if position < _MARGIN:
        return FULL
    start = load64(span + at.SPAN_START)
    position = put_fixed64(buffer, position, 8, start + load64(span + at.SPAN_DURATION))
    position = put_fixed64(buffer, position, 7, start)
    position = put_number(buffer, position, 6, sign_extend(load32(span + at.SPAN_KIND)))
    position = put_string(out, position, 5, load32(span + at.SPAN_NAME))
    if position < _MARGIN:
        return FULL
    if load64(span + at.SPAN_PARENT_ID) != 0:
        position = put_id(buffer, position, 4, load64(span + at.SPAN_PARENT_ID))
    position = put_string(out, position, 3, load32(span + at.SPAN_TRACE_STATE))
    if position < _MARGIN:
        return FULL
    position = put_id(buffer, position, 2, load64(span + at.SPAN_SPAN_ID))
    store64(buffer + position - 8, byte_swap(load64(span + at.SPAN_TRACE_LO)))
    store64(buffer + position - 16, byte_swap(load64(span + at.SPAN_TRACE_HI)))
    position = put_header(buffer, position - 16, 1, position)
    return put_header(buffer, position, 2, end)


@kernel
def close_scope(out: int, position: int, scope: int, end: int) -> int:
    """Write the scope in front of its spans, [position, end) without the trailing schema URL, and the ScopeSpans header."""
    if position < _MARGIN:
        return FULL
    buffer = load64(out + 8 * _BUFFER)
    message_end = position
    position = put_number(buffer, position, 4, load32(scope + at.SCOPE_DROPPED))
    position = put_attributes(out, position, 3, load32(scope + at.SCOPE_ATTR_FIRST), load32(scope + at.SCOPE_ATTR_COUNT))
    for field, code in ((2, at.SCOPE_VERSION), (1, at.SCOPE_NAME)):
        if position < _MARGIN:
            return FULL
        position = put_string(out, position, field, load32(scope + code))
    if position < _MARGIN:
        return FULL
    position = put_header(buffer, position, 1, message_end)
    return put_header(buffer, position, 2, end)


@kernel
def close_resource(out: int, position: int, resource: int, end: int) -> int:
    """Write the resource in front of its ScopeSpans, and the ResourceSpans header."""
    if position < _MARGIN:
        return FULL
    buffer = load64(out + 8 * _BUFFER)
    message_end = position
    position = put_raw(out, position, load32(resource + at.RESOURCE_ENTITY_REFS))
    if position < _MARGIN:
        return FULL
    position = put_number(buffer, position, 2, load32(resource + at.RESOURCE_DROPPED))
    position = put_attributes(out, position, 1, load32(resource + at.RESOURCE_ATTR_FIRST), load32(resource + at.RESOURCE_ATTR_COUNT))
    if position < _MARGIN:
        return FULL
    position = put_header(buffer, position, 1, message_end)
    return put_header(buffer, position, 1, end)


@kernel
def put_rows(out: int, rows: int, position: int) -> int:
    """Write all rows as TracesData that ends at `position`; returns where it begins, or FULL."""
    scope = resource = 0
    scope_end = resource_end = position
    for row in range(rows - 1, -1, -1):
        span = load64(out + 8 * _SPANS) + row * at.SPAN_BYTES
        own_scope = load64(out + 8 * _SCOPES) + load32(span + at.SPAN_SCOPE) * at.SCOPE_BYTES
        if own_scope != scope:
            if scope:
                position = close_scope(out, position, scope, scope_end)
            own_resource = load64(out + 8 * _RESOURCES) + load32(own_scope + at.SCOPE_RESOURCE) * at.RESOURCE_BYTES
            if own_resource != resource:
                if resource and position != FULL:
                    position = close_resource(out, position, resource, resource_end)
                resource, resource_end = own_resource, position
                if position != FULL:
                    position = put_string(out, position, 3, load32(resource + at.RESOURCE_SCHEMA_URL))
            scope, scope_end = own_scope, position
            if position != FULL:
                position = put_string(out, position, 3, load32(scope + at.SCOPE_SCHEMA_URL))
        if position != FULL:
            position = put_span(out, position, span)
        if position < _MARGIN:
            return FULL
    if rows:
        position = close_scope(out, position, scope, scope_end)
        if position != FULL:
            position = close_resource(out, position, resource, resource_end)
    return position


def encode_otlp(batch: SpanBatch) -> bytes:
    """TracesData of all rows; rows of one scope, and scopes of one resource, must be adjacent."""
    arrays = (batch.strings.data, batch.strings.offset, batch.strings.length, batch.spans, batch.scopes, batch.resources)
    tables = [np.ascontiguousarray(array) for array in (*arrays, batch.events, batch.links, batch.attrs)]
    size = 4 * _MARGIN + 512 * len(batch)
    while True:
        buffer: NDArray[np.uint8] = np.empty(size, np.uint8)
        out = np.array([table.ctypes.data for table in (*tables, buffer)], np.int64)
        begin = put_rows(out.ctypes.data, len(batch), size)
        if begin != FULL:
            return buffer[begin:].tobytes()
        size *= 4

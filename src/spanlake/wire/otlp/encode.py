"""A span batch to OTLP protobuf bytes (TracesData, which is also tempopb.Trace).

The kernels write backwards, so that the length of every nested message is known when its header is written, in one pass and with no
size computation; what they write for each record is a table (`_PROGRAMS`), last field first. Rows come grouped: all rows of a
ScopeSpans adjacent, all ScopeSpans of a ResourceSpans adjacent.

Clients decode the result with generated code that dereferences sub-messages without a check, so `resource`, `scope`, `status` and the
`value` of an attribute are always present, if need be empty (wire contract, section 1.3); all other fields with default values are
absent.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from spanlake.model import spans as at
from spanlake.model.kernel import byte_swap, inner, kernel, load8, load32, load64, store8, store32, store64
from spanlake.model.spans import ARRAY, DOUBLE, KVLIST, NULL, STRING, SpanBatch
from spanlake.wire.protobuf import FIXED32, FIXED64, LEN, VARINT

_FULL = -1
_REST = (1 << 57) - 1  # what is left of 64 bits without the sign when seven are taken
_MARGIN = 256  # free bytes that a field other than a string, and the headers around it, may rely on

# The control block: addresses, in words.
_DATA, _OFFSETS, _LENGTHS, _SPANS, _SCOPES, _RESOURCES, _EVENTS, _LINKS, _ATTRS, _BUFFER, _PROGRAM = range(11)

# A step of a program: what to write | protobuf tag << 8 | offset in the record << 32 (of a message: its program).
(
    _END,
    _NUMBER,  # uint32 as varint
    _ENUM,  # int32 as varint
    _LONG,  # fixed64
    _STOP_TIME,  # start_ns + duration_ns, as fixed64
    _SHORT,  # fixed32
    _TEXT,  # string code: the string
    _RAW,  # string code: fields as they were received, tags included
    _ID,  # 64 bits, big-endian
    _LONG_ID,  # 128 bits, big-endian
    _ATTRIBUTES,  # range of attributes
    _EVENT_PARTS,  # range of events
    _LINK_PARTS,  # range of links
    _CLOSE,  # a message in place ends here; its fields follow
    _OPEN,  # and begins here
) = range(15)
_SPAN_PROGRAM, _SCOPE_PROGRAM, _RESOURCE_PROGRAM, _EVENT_PROGRAM, _LINK_PROGRAM = range(5)
_STEPS = 20


def _step(kind: int, field: int, offset: int) -> int:
    wire_type = {_NUMBER: VARINT, _ENUM: VARINT, _LONG: FIXED64, _STOP_TIME: FIXED64, _SHORT: FIXED32}.get(kind, LEN)
    return kind | (field << 3 | wire_type) << 8 | offset << 32


_STEPS_OF = {
    _SPAN_PROGRAM: (
        _step(_SHORT, 16, at.SPAN_FLAGS),
        _step(_CLOSE, 15, 0),
        _step(_ENUM, 3, at.SPAN_STATUS_CODE),
        _step(_TEXT, 2, at.SPAN_STATUS_MESSAGE),
        _step(_OPEN, 15, 0),
        _step(_NUMBER, 14, at.SPAN_DROPPED_LINKS),
        _step(_LINK_PARTS, 13, at.SPAN_LINK_FIRST),
        _step(_NUMBER, 12, at.SPAN_DROPPED_EVENTS),
        _step(_EVENT_PARTS, 11, at.SPAN_EVENT_FIRST),
        _step(_NUMBER, 10, at.SPAN_DROPPED),
        _step(_ATTRIBUTES, 9, at.SPAN_ATTR_FIRST),
        _step(_STOP_TIME, 8, at.SPAN_START),
        _step(_LONG, 7, at.SPAN_START),
        _step(_ENUM, 6, at.SPAN_KIND),
        _step(_TEXT, 5, at.SPAN_NAME),
        _step(_ID, 4, at.SPAN_PARENT_ID),
        _step(_TEXT, 3, at.SPAN_TRACE_STATE),
        _step(_ID, 2, at.SPAN_SPAN_ID),
        _step(_LONG_ID, 1, at.SPAN_TRACE_HI),
    ),
    _SCOPE_PROGRAM: (
        _step(_NUMBER, 4, at.SCOPE_DROPPED),
        _step(_ATTRIBUTES, 3, at.SCOPE_ATTR_FIRST),
        _step(_TEXT, 2, at.SCOPE_VERSION),
        _step(_TEXT, 1, at.SCOPE_NAME),
    ),
    _RESOURCE_PROGRAM: (
        _step(_RAW, 3, at.RESOURCE_ENTITY_REFS),
        _step(_NUMBER, 2, at.RESOURCE_DROPPED),
        _step(_ATTRIBUTES, 1, at.RESOURCE_ATTR_FIRST),
    ),
    _EVENT_PROGRAM: (
        _step(_NUMBER, 4, at.EVENT_DROPPED),
        _step(_ATTRIBUTES, 3, at.EVENT_ATTR_FIRST),
        _step(_TEXT, 2, at.EVENT_NAME),
        _step(_LONG, 1, at.EVENT_TIME),
    ),
    _LINK_PROGRAM: (
        _step(_SHORT, 6, at.LINK_FLAGS),
        _step(_NUMBER, 5, at.LINK_DROPPED),
        _step(_ATTRIBUTES, 4, at.LINK_ATTR_FIRST),
        _step(_TEXT, 3, at.LINK_TRACE_STATE),
        _step(_TEXT, 2, at.LINK_SPAN_ID),
        _step(_TEXT, 1, at.LINK_TRACE_ID),
    ),
}


def _programs() -> NDArray[np.int64]:
    made = np.full((len(_STEPS_OF), _STEPS), _END, np.int64)
    for program, steps in _STEPS_OF.items():
        made[program, : len(steps)] = steps
    made.flags.writeable = False
    return made


_PROGRAMS = _programs()


@inner
def put_varint(position: int, value: int) -> int:
    """Write a varint that ends at an address; returns where it begins."""
    width = 1
    rest = (value >> 7) & _REST
    while rest != 0:
        width += 1
        rest = rest >> 7
    position -= width
    rest = value
    for i in range(width - 1):
        store8(position + i, rest & 127 | 128)
        rest = (rest >> 7) & _REST
    store8(position + width - 1, rest)
    return position


@inner
def put_header(position: int, tag: int, end: int) -> int:
    """Write tag and length of a length-delimited field whose content is [position, end)."""
    return put_varint(put_varint(position, end - position), tag)


@inner
def put_bytes(out: int, position: int, code: int) -> int:
    """Write the bytes of a string code, without a header; _FULL if they do not leave the margin free."""
    length = load32(load64(out + 8 * _LENGTHS) + 4 * code)
    if position - length < load64(out + 8 * _BUFFER) + _MARGIN:
        return _FULL
    source = load64(out + 8 * _DATA) + load64(load64(out + 8 * _OFFSETS) + 8 * code)
    position -= length
    for i in range(0, length - 7, 8):
        store64(position + i, load64(source + i))
    for i in range(length & ~7, length):
        store8(position + i, load8(source + i))
    return position


@inner
def put_attribute(out: int, position: int, attr: int) -> int:
    """Write the content of a KeyValue message."""
    end = position
    kind = load8(attr + at.ATTR_TYPE)
    value = load64(attr + at.ATTR_VALUE)
    if kind == DOUBLE:
        position -= 8
        store64(position, value)
        position = put_varint(position, kind << 3 | FIXED64)
    elif STRING < kind < DOUBLE:  # BOOL, INT
        position = put_varint(put_varint(position, value), kind << 3 | VARINT)
    elif kind != NULL:
        position = put_bytes(out, position, value)
        if position == _FULL:
            return _FULL
        if kind not in (ARRAY, KVLIST):  # those are kept as whole messages
            position = put_header(position, kind << 3 | LEN, end)
    position = put_header(position, 2 << 3 | LEN, end)
    key = load32(attr + at.ATTR_KEY)
    if key != 0:
        end = position
        position = put_bytes(out, position, key)
        if position == _FULL:
            return _FULL
        if position != end:
            position = put_header(position, 1 << 3 | LEN, end)
    return position


@inner
def put_attributes(out: int, position: int, tag: int, first: int, count: int) -> int:
    """Write `count` KeyValue fields in order; _FULL if they do not leave the margin free."""
    for i in range(first + count - 1, first - 1, -1):
        end = position
        position = put_attribute(out, position, load64(out + 8 * _ATTRS) + i * at.ATTR_BYTES)
        if position == _FULL:
            return _FULL
        position = put_header(position, tag, end)
        if position < load64(out + 8 * _BUFFER) + _MARGIN:
            return _FULL
    return position


@inner
def put_scalar(position: int, kind: int, tag: int, place: int) -> int:
    """Write a field with a number or an id, unless that is zero."""
    value = load32(place) if kind in (_NUMBER, _ENUM, _SHORT) else load64(place)
    if kind == _ENUM and value >= 0x80000000:
        value -= 0x100000000
    elif kind == _STOP_TIME:
        value += load64(place + at.SPAN_DURATION - at.SPAN_START)
    if kind == _LONG_ID:
        store64(position - 8, byte_swap(load64(place + 8)))
        store64(position - 16, byte_swap(value))
        return put_header(position - 16, tag, position)
    if value == 0:
        return position
    if kind == _SHORT:
        store32(position - 4, value)
        return put_varint(position - 4, tag)
    if kind == _ID:
        store64(position - 8, byte_swap(value))
        return put_header(position - 8, tag, position)
    if kind in (_LONG, _STOP_TIME):
        store64(position - 8, value)
        return put_varint(position - 8, tag)
    return put_varint(put_varint(position, value), tag)


@inner
def put_record(out: int, position: int, program: int, record: int) -> int:
    """Write all fields of a record, last first; a span's events and links are records of their own. _FULL if there is no room."""
    step = load64(out + 8 * _PROGRAM) + 8 * _STEPS * program
    span_step = span = rows = end = tag = 0
    size = 0
    while True:
        entry = load64(step)
        step += 8
        kind = entry & 255
        place = record + (entry >> 32)
        if kind == _END:
            if rows == 0:
                return position
            position = put_header(position, tag, end)
            rows -= 1
            record -= size
            step = load64(out + 8 * _PROGRAM) + 8 * _STEPS * (_EVENT_PROGRAM if size == at.EVENT_BYTES else _LINK_PROGRAM)
            if rows == 0:
                step = span_step
                record = span
            end = position
        elif kind == _ATTRIBUTES:
            position = put_attributes(out, position, (entry >> 8) & 0xFFFF, load32(place), load32(place + 4))
        elif kind in (_TEXT, _RAW):
            begin = put_bytes(out, position, load32(place))
            if begin not in (_FULL, position) and kind == _TEXT:
                begin = put_header(begin, (entry >> 8) & 0xFFFF, position)
            position = begin
        elif kind in (_EVENT_PARTS, _LINK_PARTS):
            rows = load32(place + 4)
            if rows > 0:
                span_step = step
                span = record
                end = position
                tag = (entry >> 8) & 0xFFFF
                size = at.EVENT_BYTES if kind == _EVENT_PARTS else at.LINK_BYTES
                last = load32(place) + rows - 1
                record = load64(out + 8 * (_EVENTS if kind == _EVENT_PARTS else _LINKS)) + size * last
                step = load64(out + 8 * _PROGRAM) + 8 * _STEPS * (_EVENT_PROGRAM if kind == _EVENT_PARTS else _LINK_PROGRAM)
        elif kind == _CLOSE:
            end = position
        elif kind == _OPEN:
            position = put_header(position, (entry >> 8) & 0xFFFF, end)
        else:
            position = put_scalar(position, kind, (entry >> 8) & 0xFFFF, place)
        if position < load64(out + 8 * _BUFFER) + _MARGIN:
            return _FULL


@inner
def put_url(out: int, position: int, code: int) -> int:
    """Write the schema URL of a ScopeSpans or ResourceSpans message."""
    begin = put_bytes(out, position, code)
    return begin if begin in (_FULL, position) else put_header(begin, 3 << 3 | LEN, position)


@inner
def put_owner(out: int, position: int, program: int, record: int, end: int) -> int:
    """Write a scope or resource in front of what belongs to it, and the header of the ScopeSpans or ResourceSpans up to `end`."""
    owner_end = position
    position = put_record(out, position, program, record)
    if position == _FULL:
        return _FULL
    position = put_header(position, 1 << 3 | LEN, owner_end)
    return put_header(position, (2 if program == _SCOPE_PROGRAM else 1) << 3 | LEN, end)


@kernel
def put_rows(out: int, rows: int, position: int) -> int:
    """Write all rows as TracesData that ends at an address; returns where it begins, or _FULL."""
    scope = resource = 0
    scope_end = resource_end = position
    for row in range(rows - 1, -2, -1):
        span = load64(out + 8 * _SPANS) + row * at.SPAN_BYTES
        own_scope = own_resource = 0
        if row >= 0:
            own_scope = load64(out + 8 * _SCOPES) + load32(span + at.SPAN_SCOPE) * at.SCOPE_BYTES
            own_resource = load64(out + 8 * _RESOURCES) + load32(own_scope + at.SCOPE_RESOURCE) * at.RESOURCE_BYTES
        if scope not in (own_scope, 0):
            position = put_owner(out, position, _SCOPE_PROGRAM, scope, scope_end)
            if own_resource != resource and position != _FULL:
                position = put_owner(out, position, _RESOURCE_PROGRAM, resource, resource_end)
        if own_resource != resource and row >= 0 and position != _FULL:
            resource_end = position
            position = put_url(out, position, load32(own_resource + at.RESOURCE_SCHEMA_URL))
        if own_scope != scope and row >= 0 and position != _FULL:
            scope_end = position
            position = put_url(out, position, load32(own_scope + at.SCOPE_SCHEMA_URL))
        scope = own_scope
        resource = own_resource
        if row >= 0 and position != _FULL:
            end = position
            position = put_record(out, position, _SPAN_PROGRAM, span)
            if position != _FULL:
                position = put_header(position, 2 << 3 | LEN, end)
        if position == _FULL:
            return _FULL
    return position


def encode_otlp(batch: SpanBatch) -> bytes:
    """TracesData of all rows; rows of one scope, and scopes of one resource, must be adjacent."""
    arrays = (batch.strings.data, batch.strings.offset, batch.strings.length, batch.spans, batch.scopes, batch.resources)
    tables = [np.ascontiguousarray(array) for array in (*arrays, batch.events, batch.links, batch.attrs)]
    size = 4 * _MARGIN + 512 * len(batch)
    while True:
        buffer: NDArray[np.uint8] = np.empty(size, np.uint8)
        out = np.array([table.ctypes.data for table in (*tables, buffer, _PROGRAMS)], np.int64)
        end = buffer.ctypes.data + size
        begin = put_rows(out.ctypes.data, len(batch), end)
        if begin != _FULL:
            return buffer[size - (end - begin) :].tobytes()
        size *= 4

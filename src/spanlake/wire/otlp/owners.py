"""Decode kernels for what spans belong to: Resource (resource/v1/resource.proto) and InstrumentationScope (common/v1/common.proto).

A resource or scope that is malformed takes its spans with it: its reason is left in its frame. A repeated singular message
field (legal protobuf, written by nobody) merges, as in official parsers.
"""

from __future__ import annotations

from spanlake.model.kernel import kernel, load32, load64, store32, store64
from spanlake.model.layout import (
    RESOURCE_ATTR_COUNT,
    RESOURCE_ATTR_FIRST,
    RESOURCE_BYTES,
    RESOURCE_DROPPED,
    RESOURCE_ENTITY_REFS,
    RESOURCE_SCHEMA_URL,
    SCOPE_ATTR_COUNT,
    SCOPE_ATTR_FIRST,
    SCOPE_BYTES,
    SCOPE_DROPPED,
    SCOPE_NAME,
    SCOPE_RESOURCE,
    SCOPE_SCHEMA_URL,
    SCOPE_VERSION,
)
from spanlake.wire.otlp.control import (
    ATTRS,
    FRAME_BEGIN,
    FRAME_BYTES,
    FRAME_END,
    FRAME_OWNER,
    FRAME_REASON,
    FULL,
    LENGTHS,
    OK,
    RESOURCE_FRAMES,
    RESOURCES,
    SCOPE_FRAMES,
    SCOPES,
    STRINGS,
    TRUNCATED,
    WRONG_WIRE_TYPE,
    count,
    fill,
    is_full,
    set_count,
    table,
)
from spanlake.wire.otlp.values import add_string, read_attribute, read_number, read_text
from spanlake.wire.protobuf import BAD, LEN, VARINT, read_length, read_tag, skip_field


@kernel
def read_resource(data: int, out: int, resource: int, position: int, end: int) -> int:
    """Reason of the Resource message in [position, end), added to the record at `resource` (a second message merges)."""
    while position < end:
        start = position
        field, wire_type, position = read_tag(data, position, end)
        if position == BAD:
            return TRUNCATED
        reason = OK
        if field == 1:
            reason, position = read_attribute(data, out, wire_type, position, end)
        elif field == 2:
            reason, value, position = read_number(data, VARINT, wire_type, position, end)
            store32(resource + RESOURCE_DROPPED, value)
        else:
            position = skip_field(data, field, wire_type, position, end)
            reason = TRUNCATED if position == BAD else OK
            if reason == OK and field == 3:
                if wire_type != LEN:
                    return WRONG_WIRE_TYPE
                reason = _add_entity_ref(out, resource, start, position)
        if reason != OK:
            return reason
    return OK


@kernel
def _add_entity_ref(out: int, resource: int, begin: int, end: int) -> int:
    """Extend the resource's run of EntityRef fields (kept as received); refs that are not adjacent keep the last run only."""
    code = load32(resource + RESOURCE_ENTITY_REFS)
    length = load32(load64(out + LENGTHS) + 4 * code)
    if code != 0 and load64(table(out, STRINGS) + 8 * code) + length == begin:
        store32(load64(out + LENGTHS) + 4 * code, length + end - begin)
        return OK
    code = add_string(out, begin, end)
    if code == BAD:
        return FULL
    store32(resource + RESOURCE_ENTITY_REFS, code)
    return OK


@kernel
def read_scope(data: int, out: int, scope: int, position: int, end: int) -> int:
    """Reason of the InstrumentationScope message in [position, end), added to the record at `scope`."""
    while position < end:
        field, wire_type, position = read_tag(data, position, end)
        if position == BAD:
            return TRUNCATED
        reason = OK
        if field in (1, 2):
            reason, code, position = read_text(data, out, wire_type, position, end)
            if field == 1:
                store32(scope + SCOPE_NAME, code)
            else:
                store32(scope + SCOPE_VERSION, code)
        elif field == 3:
            reason, position = read_attribute(data, out, wire_type, position, end)
        elif field == 4:
            reason, value, position = read_number(data, VARINT, wire_type, position, end)
            store32(scope + SCOPE_DROPPED, value)
        else:
            position = skip_field(data, field, wire_type, position, end)
            reason = TRUNCATED if position == BAD else OK
        if reason != OK:
            return reason
    return OK


@kernel
def read_owner(data: int, out: int, number: int, row: int, position: int, end: int) -> int:
    """Reason of the owner (field 1) and schema URL (field 3) of a ResourceSpans or ScopeSpans message, whose framing is sound."""
    is_resource = number == RESOURCES
    record = table(out, number) + row * (RESOURCE_BYTES if is_resource else SCOPE_BYTES)
    fill(record, RESOURCE_BYTES if is_resource else SCOPE_BYTES)
    first = record + (RESOURCE_ATTR_FIRST if is_resource else SCOPE_ATTR_FIRST)
    store32(first, count(out, ATTRS))
    while position < end:
        field, wire_type, position = read_tag(data, position, end)
        reason = OK
        if field == 1:
            begin, position = read_length(data, position, end)
            reason = read_resource(data, out, record, begin, position) if is_resource else read_scope(data, out, record, begin, position)
        elif field == 3:
            reason, code, position = read_text(data, out, wire_type, position, end)
            store32(record + (RESOURCE_SCHEMA_URL if is_resource else SCOPE_SCHEMA_URL), code)
        else:
            position = skip_field(data, field, wire_type, position, end)
        if reason != OK:
            return reason
    store32(record + (RESOURCE_ATTR_COUNT if is_resource else SCOPE_ATTR_COUNT), count(out, ATTRS) - load32(first))
    return OK


@kernel
def read_owners(data: int, out: int) -> int:
    """Read every framed resource and scope into the row of its frame. OK, or FULL: start over with more room."""
    for number, frames in ((RESOURCES, RESOURCE_FRAMES), (SCOPES, SCOPE_FRAMES)):
        for row in range(count(out, frames)):
            frame = table(out, frames) + row * FRAME_BYTES
            if is_full(out, number):
                return FULL
            set_count(out, number, row + 1)
            reason = read_owner(data, out, number, row, load64(frame + FRAME_BEGIN), load64(frame + FRAME_END))
            if reason == FULL:
                return FULL
            if number == SCOPES:
                resource = load64(frame + FRAME_OWNER)
                store32(table(out, SCOPES) + row * SCOPE_BYTES + SCOPE_RESOURCE, resource)
                refused = load64(table(out, RESOURCE_FRAMES) + resource * FRAME_BYTES + FRAME_REASON)
                reason = refused if refused != OK else reason
            store64(frame + FRAME_REASON, reason)
    return OK

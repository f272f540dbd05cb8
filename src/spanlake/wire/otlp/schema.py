"""The OTLP trace messages as data: for every field its wire type and what the decode kernels do with it.

One table drives one kernel (`fields.read_fields`), because machine code per message and field takes many seconds to compile.
Source: opentelemetry-proto 1.11: trace/v1/trace.proto, resource/v1/resource.proto, common/v1/common.proto. A field that is not here is
unknown: it is skipped. (Among them the `…_strindex` fields, which only profiles may use and other receivers must treat as absent.)
"""

from __future__ import annotations

import numpy as np

from spanlake.model import spans as at
from spanlake.wire.otlp.control import EVENTS, LINKS, PARENT_ID_NOTE, SPAN_ID_NOTE, TRACE_ID_NOTE
from spanlake.wire.protobuf import FIXED32, FIXED64, GROUP_DEPTH_MAX, LEN, VARINT

# Messages. ARRAY and LIST are last: they make up the depth of a value. NESTED values are checked but not stored.
RESOURCE_SPANS, SCOPE_SPANS, SPAN, EVENT, LINK, RESOURCE, SCOPE, STATUS, ENTITY_REF, KEY_VALUE, VALUE = range(11)
NESTED_VALUE, NESTED_KEY_VALUE, ARRAY, LIST = range(11, 15)
MESSAGES = 15

# An entry of the table: wire type | what to do, in this order | child message << 24 | offset, table or note << 32. 0 is unknown.
KNOWN = 1 << 3
UTF8 = 1 << 4  # the content must be valid UTF-8
CODE = 1 << 5  # intern the content; the field's value is its code
WHOLE = 1 << 6  # intern the content of the enclosing message, of which this field is kept as received
TRUTH = 1 << 7  # the value is 0 or 1
STORE32 = 1 << 8  # write the value to the record, at the offset
STORE64 = 1 << 9
STORE_VALUE = 1 << 10  # write the value and its type to the attribute record
NOTE = 1 << 11  # remember where the content is
PART = 1 << 12  # begin a row of the table: the content is read later
RUN = 1 << 13  # extend the run of these fields, kept as received, whose code is at the offset
ATTRIBUTE = 1 << 14  # begin a row of attributes, and enter the child message
DEEPER = 1 << 15  # count a level of nesting
ENTER = 1 << 16  # read the child message in place

CHILD_SHIFT, PLACE_SHIFT = 24, 32
FIELDS = 17  # field numbers 1 … 16; entry 0 describes the message's record
FIELD_BYTES = 8
MESSAGE_BYTES = FIELDS * FIELD_BYTES
# Entry 0: record bytes | offset of attr_first << 16 | one-byte tag of the attributes << 32. attr_count follows attr_first.
ATTR_FIRST_SHIFT, ATTR_TAG_SHIFT = 16, 32
NO_TAG = 256  # no byte equals it


def _text(offset: int) -> int:
    return LEN | UTF8 | CODE | STORE32 | offset << PLACE_SHIFT


def _number(wire_type: int, offset: int) -> int:
    return wire_type | (STORE64 if wire_type == FIXED64 else STORE32) | offset << PLACE_SHIFT


def _raw(offset: int) -> int:
    return LEN | CODE | STORE32 | offset << PLACE_SHIFT


def _note(number: int) -> int:
    return LEN | NOTE | number << PLACE_SHIFT


def _part(table: int) -> int:
    return LEN | PART | table << PLACE_SHIFT


def _enter(child: int, *, also: int = 0) -> int:
    return LEN | also | ENTER | child << CHILD_SHIFT


_ATTRIBUTE = _enter(KEY_VALUE, also=ATTRIBUTE)
_REFS = _enter(ENTITY_REF, also=RUN) | at.RESOURCE_ENTITY_REFS << PLACE_SHIFT

_ENTRIES: dict[int, dict[int, int]] = {
    RESOURCE_SPANS: {1: _enter(RESOURCE), 2: LEN, 3: _text(at.RESOURCE_SCHEMA_URL)},
    RESOURCE: {1: _ATTRIBUTE, 2: _number(VARINT, at.RESOURCE_DROPPED), 3: _REFS},
    ENTITY_REF: dict.fromkeys((1, 2, 3, 4), LEN | UTF8),
    SCOPE_SPANS: {1: _enter(SCOPE), 2: LEN, 3: _text(at.SCOPE_SCHEMA_URL)},
    SCOPE: {1: _text(at.SCOPE_NAME), 2: _text(at.SCOPE_VERSION), 3: _ATTRIBUTE, 4: _number(VARINT, at.SCOPE_DROPPED)},
    SPAN: {
        1: _note(TRACE_ID_NOTE),
        2: _note(SPAN_ID_NOTE),
        3: _text(at.SPAN_TRACE_STATE),
        4: _note(PARENT_ID_NOTE),
        5: _text(at.SPAN_NAME),
        6: _number(VARINT, at.SPAN_KIND),
        7: _number(FIXED64, at.SPAN_START),
        8: _number(FIXED64, at.SPAN_DURATION),  # the end time, until the span is complete
        9: _ATTRIBUTE,
        10: _number(VARINT, at.SPAN_DROPPED),
        11: _part(EVENTS),
        12: _number(VARINT, at.SPAN_DROPPED_EVENTS),
        13: _part(LINKS),
        14: _number(VARINT, at.SPAN_DROPPED_LINKS),
        15: _enter(STATUS),
        16: _number(FIXED32, at.SPAN_FLAGS),
    },
    STATUS: {2: _text(at.SPAN_STATUS_MESSAGE), 3: _number(VARINT, at.SPAN_STATUS_CODE)},
    EVENT: {1: _number(FIXED64, at.EVENT_TIME), 2: _text(at.EVENT_NAME), 3: _ATTRIBUTE, 4: _number(VARINT, at.EVENT_DROPPED)},
    LINK: {
        1: _raw(at.LINK_TRACE_ID),
        2: _raw(at.LINK_SPAN_ID),
        3: _text(at.LINK_TRACE_STATE),
        4: _ATTRIBUTE,
        5: _number(VARINT, at.LINK_DROPPED),
        6: _number(FIXED32, at.LINK_FLAGS),
    },
    KEY_VALUE: {1: _text(at.ATTR_KEY), 2: _enter(VALUE)},
    VALUE: {
        1: LEN | UTF8 | CODE | STORE_VALUE,
        2: VARINT | TRUTH | STORE_VALUE,
        3: VARINT | STORE_VALUE,
        4: FIXED64 | STORE_VALUE,
        5: _enter(ARRAY, also=WHOLE | STORE_VALUE | DEEPER),
        6: _enter(LIST, also=WHOLE | STORE_VALUE | DEEPER),
        7: LEN | CODE | STORE_VALUE,
    },
    NESTED_VALUE: {1: LEN | UTF8, 2: VARINT, 3: VARINT, 4: FIXED64, 5: _enter(ARRAY, also=DEEPER), 6: _enter(LIST, also=DEEPER), 7: LEN},
    NESTED_KEY_VALUE: {1: LEN | UTF8, 2: _enter(NESTED_VALUE)},
    ARRAY: {1: _enter(NESTED_VALUE)},
    LIST: {1: _enter(NESTED_KEY_VALUE)},
}
_RECORDS = {  # message: record bytes, offset of attr_first
    RESOURCE_SPANS: (at.RESOURCE_BYTES, at.RESOURCE_ATTR_FIRST),
    SCOPE_SPANS: (at.SCOPE_BYTES, at.SCOPE_ATTR_FIRST),
    SPAN: (at.SPAN_BYTES, at.SPAN_ATTR_FIRST),
    EVENT: (at.EVENT_BYTES, at.EVENT_ATTR_FIRST),
    LINK: (at.LINK_BYTES, at.LINK_ATTR_FIRST),
}


def scratch_words(depth_max: int) -> int:
    """Scratch for one reader: the tags of open groups, then four words per open message; a level of nesting takes up to three."""
    return GROUP_DEPTH_MAX + 4 * (3 * depth_max + 8)


def _schema() -> np.ndarray[tuple[int, int], np.dtype[np.int64]]:
    made = np.zeros((MESSAGES, FIELDS), np.int64)
    for message, fields in _ENTRIES.items():
        for field, entry in fields.items():
            made[message, field] = entry | KNOWN
        size, attr_first = _RECORDS.get(message, (0, 0))
        tag = next((field << 3 | LEN for field, entry in fields.items() if entry & ATTRIBUTE), NO_TAG)
        made[message, 0] = size | attr_first << ATTR_FIRST_SHIFT | tag << ATTR_TAG_SHIFT
    made.flags.writeable = False
    return made


SCHEMA = _schema()

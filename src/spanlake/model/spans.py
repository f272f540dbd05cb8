"""Spans in memory: the one row form that decoding makes, live storage keeps, blocks are built from and answers are encoded from.

A `SpanBatch` is a handful of record arrays plus one string table. Rows refer to strings by *code* (an index into the
string table) and to attributes, events and links by *range* (first index and count), so rows can be permuted,
sliced and concatenated without touching what they refer to. Nothing here does I/O, and nothing here knows protobuf or Parquet.

Units: every time is in nanoseconds since the Unix epoch, every duration in nanoseconds. Ids are big-endian integers, so
numeric order is byte order. `parent_id == 0` means that the span has no parent (OTLP allows neither a zero span id nor a zero
parent id).
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

Records: TypeAlias = NDArray[Any]
"""A one-dimensional array of one of the record types below (numpy cannot say which in its type)."""

SPAN = np.dtype(
    [
        ("trace_hi", "u8"),
        ("trace_lo", "u8"),
        ("span_id", "u8"),
        ("parent_id", "u8"),
        ("start_ns", "i8"),
        ("duration_ns", "i8"),  # end - start, wrapping; negative when the sender's end is before its start
        ("name", "i4"),  # string code
        ("trace_state", "i4"),  # string code
        ("status_message", "i4"),  # string code
        ("status_code", "i4"),
        ("kind", "i4"),
        ("scope", "i4"),  # index into scopes
        ("attr_first", "i4"),
        ("attr_count", "i4"),
        ("event_first", "i4"),
        ("event_count", "i4"),
        ("link_first", "i4"),
        ("link_count", "i4"),
        ("flags", "u4"),
        ("dropped_attributes", "u4"),
        ("dropped_events", "u4"),
        ("dropped_links", "u4"),
    ]
)
SCOPE = np.dtype(
    [
        ("resource", "i4"),  # index into resources
        ("name", "i4"),
        ("version", "i4"),
        ("schema_url", "i4"),
        ("attr_first", "i4"),
        ("attr_count", "i4"),
        ("dropped_attributes", "u4"),
    ]
)
RESOURCE = np.dtype(
    [
        ("schema_url", "i4"),
        ("entity_refs", "i4"),  # string code of the EntityRef fields as received, tags included; "" if none
        ("attr_first", "i4"),
        ("attr_count", "i4"),
        ("dropped_attributes", "u4"),
    ]
)
EVENT = np.dtype([("time_ns", "i8"), ("name", "i4"), ("attr_first", "i4"), ("attr_count", "i4"), ("dropped_attributes", "u4")])
LINK = np.dtype(
    [
        ("trace_id", "i4"),  # string code of the raw bytes: links may carry ids of any length
        ("span_id", "i4"),
        ("trace_state", "i4"),
        ("attr_first", "i4"),
        ("attr_count", "i4"),
        ("dropped_attributes", "u4"),
        ("flags", "u4"),
    ]
)
ATTR = np.dtype([("value", "i8"), ("key", "i4"), ("type", "u1")])  # packed: 13 bytes

# Attribute types: the field numbers of OTLP's AnyValue; NULL is a value with no field set.
NULL, STRING, BOOL, INT, DOUBLE, ARRAY, KVLIST, BYTES = range(8)
"""`ATTR.value` is a string code (STRING, BYTES), 0/1 (BOOL), the integer (INT), the bits of the float (DOUBLE), or the string
code of the serialized AnyValue message (ARRAY, KVLIST)."""

STATUS_UNSET, STATUS_OK, STATUS_ERROR = range(3)
KIND_UNSPECIFIED, KIND_INTERNAL, KIND_SERVER, KIND_CLIENT, KIND_PRODUCER, KIND_CONSUMER = range(6)


@dataclass(frozen=True, slots=True)
class Strings:
    """A string table: code `c` stands for `data[offset[c]:offset[c] + length[c]]` (UTF-8 or raw bytes).

    Codes need not be distinct per text: a decoder gives each occurrence its own code, a pool gives each text one.
    """

    data: NDArray[np.uint8]
    offset: NDArray[np.int64]
    length: NDArray[np.int32]

    def __len__(self) -> int:
        return len(self.offset)

    def bytes_at(self, code: int) -> bytes:
        begin = int(self.offset[code])
        return self.data[begin : begin + int(self.length[code])].tobytes()

    def text_at(self, code: int) -> str:
        return self.bytes_at(code).decode("utf-8", "replace")


@dataclass(frozen=True, slots=True)
class SpanBatch:
    """Rows of spans with everything that they refer to. Arrays are shared, never written after construction."""

    strings: Strings
    spans: Records  # SPAN
    scopes: Records  # SCOPE
    resources: Records  # RESOURCE
    events: Records  # EVENT
    links: Records  # LINK
    attrs: Records  # ATTR

    def __len__(self) -> int:
        return len(self.spans)

    def take(self, rows: NDArray[Any]) -> SpanBatch:
        """The rows selected by an index or boolean array; strings, events, links and attributes are shared."""
        return replace(self, spans=self.spans[rows])


EMPTY_STRING = 0
"""Every string table built by spanlake holds the empty string at code 0."""


def empty_batch() -> SpanBatch:
    """A batch with no rows and only the empty string."""
    strings = Strings(np.empty(0, np.uint8), np.zeros(1, np.int64), np.zeros(1, np.int32))
    return SpanBatch(
        strings,
        np.empty(0, SPAN),
        np.empty(0, SCOPE),
        np.empty(0, RESOURCE),
        np.empty(0, EVENT),
        np.empty(0, LINK),
        np.empty(0, ATTR),
    )


_THRESHOLD = re.compile(r"(?:^|,)\s*ot=(?:[^,]*;)?th:([0-9a-f]{1,14})(?:;|,|$)")


def sampling_weight(trace_state: str) -> float | None:
    """How many spans one stands for, from the threshold `ot=th:` of a tracestate: 2^56 / (2^56 - th). None if it says nothing.

    Source: OpenTelemetry specification, tracestate handling (OTEP 235).
    """
    match = _THRESHOLD.search(trace_state)
    if match is None:
        return None
    return 2**56 / (2**56 - int(match[1].ljust(14, "0"), 16))


# Byte offsets inside the records, as plain integers: kernels freeze them as constants.


def _at(record: np.dtype[np.void], name: str) -> int:
    assert record.fields is not None
    return int(record.fields[name][1])


SPAN_BYTES = SPAN.itemsize
SPAN_TRACE_HI = _at(SPAN, "trace_hi")
SPAN_TRACE_LO = _at(SPAN, "trace_lo")
SPAN_SPAN_ID = _at(SPAN, "span_id")
SPAN_PARENT_ID = _at(SPAN, "parent_id")
SPAN_START = _at(SPAN, "start_ns")
SPAN_DURATION = _at(SPAN, "duration_ns")
SPAN_NAME = _at(SPAN, "name")
SPAN_TRACE_STATE = _at(SPAN, "trace_state")
SPAN_STATUS_MESSAGE = _at(SPAN, "status_message")
SPAN_STATUS_CODE = _at(SPAN, "status_code")
SPAN_KIND = _at(SPAN, "kind")
SPAN_SCOPE = _at(SPAN, "scope")
SPAN_ATTR_FIRST = _at(SPAN, "attr_first")
SPAN_ATTR_COUNT = _at(SPAN, "attr_count")
SPAN_EVENT_FIRST = _at(SPAN, "event_first")
SPAN_EVENT_COUNT = _at(SPAN, "event_count")
SPAN_LINK_FIRST = _at(SPAN, "link_first")
SPAN_LINK_COUNT = _at(SPAN, "link_count")
SPAN_FLAGS = _at(SPAN, "flags")
SPAN_DROPPED = _at(SPAN, "dropped_attributes")
SPAN_DROPPED_EVENTS = _at(SPAN, "dropped_events")
SPAN_DROPPED_LINKS = _at(SPAN, "dropped_links")

SCOPE_BYTES = SCOPE.itemsize
SCOPE_RESOURCE = _at(SCOPE, "resource")
SCOPE_NAME = _at(SCOPE, "name")
SCOPE_VERSION = _at(SCOPE, "version")
SCOPE_SCHEMA_URL = _at(SCOPE, "schema_url")
SCOPE_ATTR_FIRST = _at(SCOPE, "attr_first")
SCOPE_ATTR_COUNT = _at(SCOPE, "attr_count")
SCOPE_DROPPED = _at(SCOPE, "dropped_attributes")

RESOURCE_BYTES = RESOURCE.itemsize
RESOURCE_SCHEMA_URL = _at(RESOURCE, "schema_url")
RESOURCE_ENTITY_REFS = _at(RESOURCE, "entity_refs")
RESOURCE_ATTR_FIRST = _at(RESOURCE, "attr_first")
RESOURCE_ATTR_COUNT = _at(RESOURCE, "attr_count")
RESOURCE_DROPPED = _at(RESOURCE, "dropped_attributes")

EVENT_BYTES = EVENT.itemsize
EVENT_TIME = _at(EVENT, "time_ns")
EVENT_NAME = _at(EVENT, "name")
EVENT_ATTR_FIRST = _at(EVENT, "attr_first")
EVENT_ATTR_COUNT = _at(EVENT, "attr_count")
EVENT_DROPPED = _at(EVENT, "dropped_attributes")

LINK_BYTES = LINK.itemsize
LINK_TRACE_ID = _at(LINK, "trace_id")
LINK_SPAN_ID = _at(LINK, "span_id")
LINK_TRACE_STATE = _at(LINK, "trace_state")
LINK_ATTR_FIRST = _at(LINK, "attr_first")
LINK_ATTR_COUNT = _at(LINK, "attr_count")
LINK_DROPPED = _at(LINK, "dropped_attributes")
LINK_FLAGS = _at(LINK, "flags")

ATTR_BYTES = ATTR.itemsize
ATTR_VALUE = _at(ATTR, "value")
ATTR_KEY = _at(ATTR, "key")
ATTR_TYPE = _at(ATTR, "type")

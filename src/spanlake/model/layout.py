"""Byte offsets inside the record types of `model.spans`, as plain integers: kernels freeze them as constants."""

from __future__ import annotations

import numpy as np

from spanlake.model.spans import ATTR, EVENT, LINK, RESOURCE, SCOPE, SPAN


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

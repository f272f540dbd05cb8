"""Hypothesis strategies for OTLP messages of the official classes: any combination of fields, defaults and unset ones included."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, ArrayValue, EntityRef, InstrumentationScope, KeyValue, KeyValueList
from opentelemetry.proto.resource.v1.resource_pb2 import Resource
from opentelemetry.proto.trace.v1.trace_pb2 import ResourceSpans, ScopeSpans, Span, Status, TracesData

texts = st.text(max_size=6)
uint32s = st.integers(0, (1 << 32) - 1)
uint64s = st.integers(0, (1 << 64) - 1)
int64s = st.integers(-(1 << 63), (1 << 63) - 1)


def messages(message: Any, /, **fields: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """Messages of one class with any subset of `fields` set."""
    return st.fixed_dictionaries({}, optional=fields).map(lambda chosen: message(**chosen))


def lists(items: st.SearchStrategy[Any], most: int = 3) -> st.SearchStrategy[Any]:
    return st.lists(items, max_size=most)


def _nested(values: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    pairs = messages(KeyValue, key=texts, value=values)
    return st.one_of(
        lists(values).map(lambda items: AnyValue(array_value=ArrayValue(values=items))),
        lists(pairs).map(lambda items: AnyValue(kvlist_value=KeyValueList(values=items))),
    )


any_values = st.recursive(
    st.one_of(
        st.just(AnyValue()),
        texts.map(lambda value: AnyValue(string_value=value)),
        st.booleans().map(lambda value: AnyValue(bool_value=value)),
        int64s.map(lambda value: AnyValue(int_value=value)),
        st.floats(allow_nan=False).map(lambda value: AnyValue(double_value=value)),
        st.binary(max_size=5).map(lambda value: AnyValue(bytes_value=value)),
    ),
    _nested,
    max_leaves=5,
)
attributes = lists(messages(KeyValue, key=texts, value=any_values))
entity_refs = lists(messages(EntityRef, schema_url=texts, type=texts, id_keys=lists(texts), description_keys=lists(texts)), 2)
resources = messages(Resource, attributes=attributes, dropped_attributes_count=uint32s, entity_refs=entity_refs)
scopes = messages(InstrumentationScope, name=texts, version=texts, attributes=attributes, dropped_attributes_count=uint32s)
events = messages(Span.Event, time_unix_nano=uint64s, name=texts, attributes=attributes, dropped_attributes_count=uint32s)
links = messages(
    Span.Link,
    trace_id=st.binary(max_size=16),
    span_id=st.binary(max_size=8),
    trace_state=texts,
    attributes=attributes,
    dropped_attributes_count=uint32s,
    flags=uint32s,
)
spans = messages(
    Span,
    trace_id=st.binary(min_size=16, max_size=16),
    span_id=st.binary(min_size=8, max_size=8),
    trace_state=texts,
    parent_span_id=st.binary(max_size=8),
    name=texts,
    kind=st.integers(0, 7),
    start_time_unix_nano=uint64s,
    end_time_unix_nano=uint64s,
    attributes=attributes,
    dropped_attributes_count=uint32s,
    events=lists(events, 2),
    dropped_events_count=uint32s,
    links=lists(links, 2),
    dropped_links_count=uint32s,
    status=messages(Status, message=texts, code=st.integers(0, 4)),
    flags=uint32s,
)
scope_spans = messages(ScopeSpans, scope=scopes, spans=lists(spans), schema_url=texts)
resource_spans = messages(ResourceSpans, resource=resources, scope_spans=lists(scope_spans, 2), schema_url=texts)
traces_data = messages(TracesData, resource_spans=lists(resource_spans, 2))

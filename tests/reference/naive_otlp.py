"""Spans of the naive evaluator from and to OTLP, by the official protobuf classes and JSON; nothing of spanlake's own codecs."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from naive_spans import Event, Link, RawValue, Resource, Scope, Span
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, InstrumentationScope, KeyValue
from opentelemetry.proto.resource.v1 import resource_pb2
from opentelemetry.proto.trace.v1 import trace_pb2

# ---- from OTLP/JSON ----


def spans_of_json(request: Mapping[str, Any]) -> Iterator[Span]:
    """The spans of an ExportTraceServiceRequest, in order."""
    for resource_spans in request.get("resourceSpans", ()):
        resource = Resource(_attributes(resource_spans.get("resource", {})))
        for scope_spans in resource_spans.get("scopeSpans", ()):
            written = scope_spans.get("scope", {})
            scope = Scope(written.get("name", ""), written.get("version", ""), _attributes(written))
            for span in scope_spans.get("spans", ()):
                yield _span(span, resource, scope)


def _span(span: Mapping[str, Any], resource: Resource, scope: Scope) -> Span:
    start_ns, status = int(span.get("startTimeUnixNano", 0)), span.get("status", {})
    return Span(
        trace_id=int(span["traceId"], 16),
        span_id=int(span["spanId"], 16),
        parent_id=int(span.get("parentSpanId") or "0", 16),
        name=span.get("name", ""),
        kind=span.get("kind", 0),
        status=status.get("code", 0),
        status_message=status.get("message", ""),
        start_ns=start_ns,
        duration_ns=int(span.get("endTimeUnixNano", 0)) - start_ns,
        attributes=_attributes(span),
        events=[Event(int(event["timeUnixNano"]), event.get("name", ""), _attributes(event)) for event in span.get("events", ())],
        links=[Link(int(link["traceId"], 16), int(link["spanId"], 16), _attributes(link)) for link in span.get("links", ())],
        resource=resource,
        scope=scope,
        trace_state=span.get("traceState", ""),
    )


def _attributes(holder: Mapping[str, Any]) -> dict[str, RawValue]:
    return {pair["key"]: _raw(pair.get("value", {})) for pair in holder.get("attributes", ())}


def _raw(value: Mapping[str, Any]) -> RawValue:
    match next(iter(value.items()), None):
        case ("intValue", number):
            return int(number)
        case ("doubleValue", number):
            return float(number)
        case ("bytesValue", text):
            return base64.b64decode(text)
        case ("arrayValue", array):
            return [_raw(element) for element in array.get("values", ())]
        case ("kvlistValue", pairs):
            return {pair["key"]: _raw(pair.get("value", {})) for pair in pairs.get("values", ())}
        case ("stringValue" | "boolValue", plain):
            return plain  # type: ignore[no-any-return]
        case _:
            return None


# ---- to OTLP/protobuf ----


def payload_of_spans(spans: Iterable[Span]) -> bytes:
    """An ExportTraceServiceRequest (TracesData has the same bytes); spans that share resource and scope stand together."""
    data = trace_pb2.TracesData()
    last: tuple[Resource, Scope] | None = None
    for span in spans:
        if last is None or last[0] is not span.resource:
            resource = resource_pb2.Resource(attributes=_pairs(span.resource.attributes))
            data.resource_spans.append(trace_pb2.ResourceSpans(resource=resource))
        if last is None or last[0] is not span.resource or last[1] is not span.scope:
            scope = InstrumentationScope(name=span.scope.name, version=span.scope.version, attributes=_pairs(span.scope.attributes))
            data.resource_spans[-1].scope_spans.append(trace_pb2.ScopeSpans(scope=scope))
        data.resource_spans[-1].scope_spans[-1].spans.append(_message(span))
        last = (span.resource, span.scope)
    return data.SerializeToString()


def _message(span: Span) -> trace_pb2.Span:
    return trace_pb2.Span(
        trace_id=span.trace_id.to_bytes(16, "big"),
        span_id=span.span_id.to_bytes(8, "big"),
        parent_span_id=span.parent_id.to_bytes(8, "big") if span.parent_id else b"",
        trace_state=span.trace_state,
        name=span.name,
        kind=span.kind,  # type: ignore[arg-type]
        start_time_unix_nano=span.start_ns,
        end_time_unix_nano=span.start_ns + span.duration_ns,
        status=trace_pb2.Status(code=span.status, message=span.status_message),  # type: ignore[arg-type]
        attributes=_pairs(span.attributes),
        events=[
            trace_pb2.Span.Event(time_unix_nano=event.time_ns, name=event.name, attributes=_pairs(event.attributes))
            for event in span.events
        ],
        links=[
            trace_pb2.Span.Link(
                trace_id=link.trace_id.to_bytes(16, "big"), span_id=link.span_id.to_bytes(8, "big"), attributes=_pairs(link.attributes)
            )
            for link in span.links
        ],
    )


def _pairs(attributes: Mapping[str, RawValue]) -> list[KeyValue]:
    return [KeyValue(key=key, value=_any_value(value)) for key, value in attributes.items()]


def _any_value(raw: RawValue) -> AnyValue:
    value = AnyValue()
    if isinstance(raw, bool):
        value.bool_value = raw
    elif isinstance(raw, int):
        value.int_value = raw
    elif isinstance(raw, float):
        value.double_value = raw
    elif isinstance(raw, str):
        value.string_value = raw
    elif isinstance(raw, bytes):
        value.bytes_value = raw
    elif isinstance(raw, list):
        value.array_value.SetInParent()
        value.array_value.values.extend(_any_value(element) for element in raw)
    elif isinstance(raw, dict):
        value.kvlist_value.SetInParent()
        value.kvlist_value.values.extend(_pairs(raw))
    return value

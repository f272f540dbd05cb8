"""Answers of searches and tag queries as Tempo's JSON (wire contract, sections 1.4 and 1.6).

The data source decodes searches strictly: a field that the table there does not list makes the whole query fail. The dialect is that
of jsonpb: 64-bit integers are strings, 32-bit ones numbers, fields with default values are left out.
"""

from __future__ import annotations

import math
from typing import Any, assert_never

import orjson

from spanlake.model.queries import Inspected, SearchAnswer, TagNamesAnswer, TagValuesAnswer
from spanlake.model.results import Attributes, ResultType, ServiceStatistics, SpanFound, SpansetFound, TraceFound, TypedValue

NO_ROOT_YET = "<root span not yet received>"
NS_PER_MS = 1_000_000
_UINT32_MAX, _UINT64_MAX = (1 << 32) - 1, (1 << 64) - 1


def encode_search(answer: SearchAnswer, *, spansets: bool = True) -> bytes:
    """The body of `/api/search`. Answers to legacy searches, by tags, have no spansets."""
    traces = [_trace(trace, spansets=spansets) for trace in answer.traces]
    return _json({"traces": traces, "metrics": search_metrics(answer.inspected)})


def search_metrics(seen: Inspected) -> dict[str, Any]:
    """`metrics` of searches and of metrics queries."""
    return set_fields(
        {
            "inspectedTraces": min(seen.traces, _UINT32_MAX),
            "inspectedBytes": uint64_text(seen.bytes),
            "totalBlocks": seen.blocks,
            "completedJobs": seen.jobs,
            "totalJobs": seen.jobs_total,
            "totalBlockBytes": uint64_text(seen.block_bytes),
            "inspectedSpans": uint64_text(seen.spans),
        }
    )


def _trace(trace: TraceFound, *, spansets: bool) -> dict[str, Any]:
    sets = [_spanset(spanset) for spanset in trace.spansets] if spansets else []
    return set_fields(
        {
            "traceID": shown_trace_id(trace),
            "rootServiceName": shown_root_service(trace),
            "rootTraceName": trace.root_name,
            "startTimeUnixNano": uint64_text(trace.start_ns),
            "durationMs": min(max(trace.duration_ns, 0) // NS_PER_MS, _UINT32_MAX),
            "spanSet": sets[0] if sets else None,
            "spanSets": sets,
            "serviceStats": {one.service: _service(one) for one in trace.services},
        }
    )


def shown_trace_id(trace: TraceFound) -> str:
    """Hex without zeros in front."""
    return f"{trace.trace_id:x}"


def shown_root_service(trace: TraceFound) -> str:
    """The service of the root span, or the text that clients show where none is known."""
    return trace.root_service or NO_ROOT_YET


def _service(statistics: ServiceStatistics) -> dict[str, Any]:
    return set_fields({"spanCount": statistics.spans, "errorCount": statistics.errors})


def _spanset(spanset: SpansetFound) -> dict[str, Any]:
    return set_fields(
        {"spans": [_span(span) for span in spanset.spans], "matched": spanset.matched, "attributes": shown_attributes(spanset.attributes)}
    )


def _span(span: SpanFound) -> dict[str, Any]:
    return set_fields(
        {
            "spanID": f"{span.span_id:016x}",
            "name": span.name,
            "startTimeUnixNano": uint64_text(span.start_ns),
            "durationNanos": uint64_text(span.duration_ns),
            "attributes": shown_attributes(span.attributes),
        }
    )


def shown_attributes(attributes: Attributes) -> list[dict[str, Any]]:
    """Repeated KeyValue."""
    return [{"key": key, "value": _value(value)} for key, value in attributes]


def _value(typed: TypedValue) -> dict[str, Any]:
    """An AnyValue, in which defaults are written: the field says the type."""
    value = typed.value
    match typed.type:
        case ResultType.STRING:
            return {"stringValue": value}
        case ResultType.INT:
            return {"intValue": str(value)}
        case ResultType.DOUBLE:
            assert isinstance(value, float)
            return {"doubleValue": shown_double(value)}
        case ResultType.BOOL:
            return {"boolValue": value}
        case ResultType.ARRAY:
            assert isinstance(value, tuple)
            return {"arrayValue": {"values": [_value(element) for element in value]}}
        case _:
            assert_never(typed.type)


def shown_double(value: float) -> float | str:
    """A double, of which the unusual ones are texts."""
    if math.isfinite(value):
        return value
    return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"


def encode_tag_names_v1(answer: TagNamesAnswer, *, intrinsics: bool) -> bytes:
    """The body of `/api/search/tags`: the names of all scopes together, intrinsics only if they were asked for."""
    return _json({"tagNames": tag_names_v1(answer, intrinsics=intrinsics), "metrics": _tag_metrics(answer.inspected)})


def tag_names_v1(answer: TagNamesAnswer, *, intrinsics: bool) -> list[str]:
    """The distinct names of all scopes, sorted."""
    return sorted({name for scope, names in answer.scopes if intrinsics or scope != "intrinsic" for name in names})


def encode_tag_names_v2(answer: TagNamesAnswer) -> bytes:
    """The body of `/api/v2/search/tags`."""
    scopes = [{"name": scope, "tags": names} for scope, names in answer.scopes]
    return _json({"scopes": scopes, "metrics": _tag_metrics(answer.inspected)})


def encode_tag_values_v1(answer: TagValuesAnswer) -> bytes:
    """The body of `/api/search/tag/{name}/values`."""
    return _json({"tagValues": tag_values_v1(answer), "metrics": _tag_metrics(answer.inspected)})


def tag_values_v1(answer: TagValuesAnswer) -> list[str]:
    """The distinct values as text, sorted."""
    return sorted({one.value for one in answer.values})


def encode_tag_values_v2(answer: TagValuesAnswer) -> bytes:
    """The body of `/api/v2/search/tag/{tag}/values`."""
    values = [{"type": one.type, "value": one.value} for one in answer.values]
    return _json({"tagValues": values, "metrics": _tag_metrics(answer.inspected)})


def _tag_metrics(seen: Inspected) -> dict[str, Any]:
    return set_fields({"inspectedBytes": uint64_text(seen.bytes)})


def uint64_text(number: int) -> str:
    """A uint64; a negative number wraps as it does in Tempo, 0 is the default."""
    return str(number & _UINT64_MAX) if number else ""


def set_fields(fields: dict[str, Any]) -> dict[str, Any]:
    """Without those that have their default value."""
    return {name: value for name, value in fields.items() if value}


def _json(document: dict[str, Any]) -> bytes:
    return orjson.dumps(document)

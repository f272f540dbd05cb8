"""Strict reading of the JSON answers: any field that the wire contract does not list is a failure, as it is in Grafana's data source."""

from __future__ import annotations

import json
from typing import Any

from naive_series import Labels
from series_answers import ShownExemplar

UINT64 = ("startTimeUnixNano", "durationNanos", "inspectedBytes", "totalBlockBytes", "inspectedSpans", "timestampMs")
TEXTS = ("traceID", "rootServiceName", "rootTraceName", "spanID", "name", "status", "message")
FIELDS: dict[str, frozenset[str]] = {
    "search": frozenset({"traces", "metrics"}),
    "trace": frozenset(
        {"traceID", "rootServiceName", "rootTraceName", "startTimeUnixNano", "durationMs", "spanSet", "spanSets", "serviceStats"}
    ),
    "spanset": frozenset({"spans", "matched", "attributes"}),
    "span": frozenset({"spanID", "name", "startTimeUnixNano", "durationNanos", "attributes"}),
    "metrics": frozenset(
        {"inspectedTraces", "inspectedBytes", "totalBlocks", "completedJobs", "totalJobs", "totalBlockBytes", "inspectedSpans"}
    ),
    "service": frozenset({"spanCount", "errorCount"}),
    "names_v2": frozenset({"scopes", "metrics"}),
    "values_v2": frozenset({"tagValues", "metrics"}),
    "query_range": frozenset({"series", "metrics", "status", "message"}),
    "range_series": frozenset({"labels", "samples", "exemplars"}),
    "sample": frozenset({"timestampMs", "value"}),
    "exemplar": frozenset({"labels", "value", "timestampMs"}),
    "query_instant": frozenset({"series", "metrics", "status", "message"}),
    "instant_series": frozenset({"labels", "value"}),
}


def strict(kind: str, document: dict[str, Any]) -> dict[str, Any]:
    """The document, if it has no other fields than it may have and 64-bit integers are strings."""
    assert document.keys() <= FIELDS[kind], f"{kind} has unknown fields {document.keys() - FIELDS[kind]}"
    for name, value in document.items():
        assert isinstance(value, str) == (name in UINT64) or name in TEXTS, name
    return document


def read_search(body: bytes, base_ns: int) -> dict[str, Any]:
    """A search answer in the form of the corpus."""
    document = strict("search", json.loads(body))
    strict("metrics", document["metrics"])
    return {trace["traceID"].zfill(32): _trace(trace, base_ns) for trace in document["traces"]}


def _trace(trace: dict[str, Any], base_ns: int) -> dict[str, Any]:
    strict("trace", trace)
    assert trace["traceID"] == trace["traceID"].lstrip("0")
    assert trace["spanSet"] == trace["spanSets"][0]
    services = {name: strict("service", one) for name, one in trace.get("serviceStats", {}).items()}
    return {
        "root": [trace["rootServiceName"], trace.get("rootTraceName")],
        "start": int(trace["startTimeUnixNano"]) - base_ns,
        "ms": trace.get("durationMs", 0),
        "stats": {name: [one.get("spanCount", 0), one.get("errorCount", 0)] for name, one in services.items()},
        "sets": [_spanset(spanset, base_ns) for spanset in trace["spanSets"]],
    }


def _spanset(spanset: dict[str, Any], base_ns: int) -> dict[str, Any]:
    strict("spanset", spanset)
    matched = spanset["matched"]
    spans = [_span(span, base_ns) for span in spanset["spans"]]
    return {"matched": matched, "attributes": _attributes(spanset), "spans": spans if matched <= 100 else None}


def _span(span: dict[str, Any], base_ns: int) -> list[Any]:
    strict("span", span)
    assert len(span["spanID"]) == 16
    start, duration = int(span["startTimeUnixNano"]) - base_ns, int(span.get("durationNanos", 0))
    return [span["spanID"], span.get("name"), start, duration, _attributes(span)]


def _attributes(holder: dict[str, Any]) -> list[Any]:
    return [[one["key"], _value(one["value"])] for one in holder.get("attributes", [])]


def _value(value: dict[str, Any]) -> list[Any]:
    ((kind, plain),) = value.items()
    match kind:
        case "stringValue":
            return ["string", plain]
        case "intValue":
            return ["int", int(plain)]
        case "doubleValue":
            return ["double", float(plain)]
        case "boolValue":
            return ["bool", plain]
        case _:
            return ["array", [_value(element) for element in plain["values"]]]


def read_tag_names(body: bytes) -> dict[str, list[str]]:
    document = strict("names_v2", json.loads(body))
    return {scope["name"]: scope["tags"] for scope in document["scopes"]}


def read_tag_values(body: bytes) -> list[list[str]]:
    document = strict("values_v2", json.loads(body))
    return sorted([one["type"], one["value"]] for one in document["tagValues"])


def read_query_range(body: bytes) -> tuple[dict[Labels, dict[int, float]], tuple[ShownExemplar, ...]]:
    """Labels → time in ns → value, and all exemplars. What is zero is left out of the JSON."""
    document = strict("query_range", json.loads(body))
    strict("metrics", document["metrics"])
    series, exemplars = {}, []
    for one in document.get("series", []):
        strict("range_series", one)
        samples = [strict("sample", sample) for sample in one["samples"]]
        series[_labels(one)] = {int(sample["timestampMs"]) * 1_000_000: _number(sample) for sample in samples}
        for found in one.get("exemplars", []):
            strict("exemplar", found)
            trace_id = str(dict(_labels(found))["trace:id"][1])
            exemplars.append(ShownExemplar(int(trace_id, 16), int(found["timestampMs"]), _number(found)))
    assert len(series) == len(document.get("series", []))
    return series, tuple(exemplars)


def read_query_instant(body: bytes) -> dict[Labels, float]:
    """Labels → value."""
    document = strict("query_instant", json.loads(body))
    strict("metrics", document["metrics"])
    return {_labels(strict("instant_series", one)): _number(one) for one in document.get("series", [])}


def _labels(holder: dict[str, Any]) -> Labels:
    pairs = [(one["key"], _value(one["value"])) for one in holder["labels"]]
    return tuple((key, (kind, content)) for key, (kind, content) in pairs)


def _number(holder: dict[str, Any]) -> float:
    """Infinities are strings."""
    return float(holder.get("value", 0.0))

"""Answers of searches, tags and metrics as the messages of package tempopb, for HTTP clients that accept protobuf and for gRPC streams.

One function per message, from the answer's own type to the message's bytes, without framing. Fields with default values are left out,
but `metrics` is always there: the browser reads it unguarded. Field numbers: wire-contract section 2.6.
"""

from __future__ import annotations

import struct
from typing import assert_never

import numpy as np
from numpy.typing import NDArray

from spanlake.model.metrics import Exemplar, MetricsAnswer, Series
from spanlake.model.queries import Inspected, SearchAnswer, TagNamesAnswer, TagValuesAnswer
from spanlake.model.results import Attributes, ResultType, ServiceStatistics, SpanFound, SpansetFound, TraceFound, TypedValue
from spanlake.wire.fields import BYTES, FIXED64, VARINT, encode_bytes, encode_tag, encode_varint
from spanlake.wire.search_json import shown_root_service, shown_trace_id, tag_names_v1, tag_values_v1

NS_PER_MS = 1_000_000
PARTIAL = 1
"""tempopb.PartialStatus; 0 is COMPLETE."""

_UINT32_MAX, _UINT64_MASK = (1 << 32) - 1, (1 << 64) - 1
_NUMBERS = range(16)
_BYTES = tuple(encode_tag(number, BYTES) if number else b"" for number in _NUMBERS)
_VARINT = tuple(encode_tag(number, VARINT) if number else b"" for number in _NUMBERS)
_FIXED64 = tuple(encode_tag(number, FIXED64) if number else b"" for number in _NUMBERS)
_double = struct.Struct("<d").pack


def encode_search_response(answer: SearchAnswer, *, spansets: bool = True) -> bytes:
    """SearchResponse. Answers to legacy searches, by tags, have no spansets."""
    traces = [encode_bytes(_BYTES[1], _trace(trace, spansets=spansets)) for trace in answer.traces]
    return b"".join((*traces, encode_bytes(_BYTES[2], _search_metrics(answer.inspected))))


def encode_tags_response(answer: TagNamesAnswer, *, intrinsics: bool) -> bytes:
    """SearchTagsResponse: the names of all scopes together, intrinsics only if they were asked for."""
    return _texts(1, tag_names_v1(answer, intrinsics=intrinsics)) + encode_bytes(_BYTES[2], _tag_metrics(answer.inspected))


def encode_tags_v2_response(answer: TagNamesAnswer) -> bytes:
    """SearchTagsV2Response."""
    scopes = [encode_bytes(_BYTES[1], _text(1, scope) + _texts(2, names)) for scope, names in answer.scopes]
    return b"".join((*scopes, encode_bytes(_BYTES[2], _tag_metrics(answer.inspected))))


def encode_tag_values_response(answer: TagValuesAnswer) -> bytes:
    """SearchTagValuesResponse: values as text."""
    return _texts(1, tag_values_v1(answer)) + encode_bytes(_BYTES[2], _tag_metrics(answer.inspected))


def encode_tag_values_v2_response(answer: TagValuesAnswer) -> bytes:
    """SearchTagValuesV2Response."""
    values = [encode_bytes(_BYTES[1], _text(1, one.type) + _text(2, one.value)) for one in answer.values]
    return b"".join((*values, encode_bytes(_BYTES[2], _tag_metrics(answer.inspected))))


def encode_query_range_response(answer: MetricsAnswer) -> bytes:
    """QueryRangeResponse."""
    series = [encode_bytes(_BYTES[1], _time_series(one)) for one in answer.series]
    return b"".join((*series, encode_bytes(_BYTES[2], _search_metrics(answer.inspected)), _status(answer)))


def encode_query_instant_response(answer: MetricsAnswer) -> bytes:
    """QueryInstantResponse: the first point of each series."""
    series = [encode_bytes(_BYTES[1], _attributes(1, one.labels) + _number(2, float(one.values[0]))) for one in answer.series]
    return b"".join((*series, encode_bytes(_BYTES[2], _search_metrics(answer.inspected)), _status(answer)))


# --- Parts of those messages.


def _trace(trace: TraceFound, *, spansets: bool) -> bytes:
    sets = [_spanset(spanset) for spanset in trace.spansets] if spansets else []
    return b"".join(
        (
            _text(1, shown_trace_id(trace)),
            _text(2, shown_root_service(trace)),
            _text(3, trace.root_name),
            _integer(4, trace.start_ns),
            _integer(5, min(max(trace.duration_ns, 0) // NS_PER_MS, _UINT32_MAX)),
            *(encode_bytes(_BYTES[6], one) for one in sets[:1]),
            *(encode_bytes(_BYTES[7], one) for one in sets),
            *(encode_bytes(_BYTES[8], _service(one)) for one in trace.services),
        )
    )


def _service(statistics: ServiceStatistics) -> bytes:
    """An entry of map<string, ServiceStats>."""
    counts = _integer(1, statistics.spans) + _integer(2, statistics.errors)
    return _text(1, statistics.service) + encode_bytes(_BYTES[2], counts)


def _spanset(spanset: SpansetFound) -> bytes:
    spans = [encode_bytes(_BYTES[1], _span(span)) for span in spanset.spans]
    return b"".join((*spans, _integer(2, spanset.matched), _attributes(3, spanset.attributes)))


def _span(span: SpanFound) -> bytes:
    return b"".join(
        (
            _text(1, f"{span.span_id:016x}"),
            _text(2, span.name or ""),
            _integer(3, span.start_ns),
            _integer(4, span.duration_ns),
            _attributes(5, span.attributes),
        )
    )


def _search_metrics(seen: Inspected) -> bytes:
    """SearchMetrics."""
    small = (seen.blocks, seen.jobs, seen.jobs_total)
    blocks, jobs, jobs_total = (min(number, _UINT32_MAX) for number in small)
    return b"".join(
        (
            _integer(1, min(seen.traces, _UINT32_MAX)),
            _integer(2, seen.bytes),
            _integer(3, blocks),
            _integer(4, jobs),
            _integer(5, jobs_total),
            _integer(6, seen.block_bytes),
            _integer(7, seen.spans),
        )
    )


def _tag_metrics(seen: Inspected) -> bytes:
    """MetadataMetrics."""
    numbers = (seen.bytes, seen.jobs_total, seen.jobs, seen.blocks, seen.block_bytes)
    return b"".join(_integer(field, number) for field, number in enumerate(numbers, 1))


def _status(answer: MetricsAnswer) -> bytes:
    return _integer(3, PARTIAL) + _text(4, answer.partial) if answer.partial else b""


def _time_series(series: Series) -> bytes:
    exemplars = [encode_bytes(_BYTES[4], _exemplar(one)) for one in series.exemplars]
    return b"".join((_attributes(1, series.labels), encode_samples(series.times_ms, series.values), *exemplars))


def _exemplar(exemplar: Exemplar) -> bytes:
    return _attributes(1, exemplar.labels) + _number(2, exemplar.value) + _integer(3, exemplar.time_ms)


def encode_samples(times_ms: NDArray[np.int64], values: NDArray[np.float64]) -> bytes:
    """Field 2 of TimeSeries for every point: a Sample of `value` (also 0) and `timestamp_ms`.

    Samples whose times take equally many bytes, as those of any real range do, are written as the rows of one array.
    """
    values = values + 0.0  # a zero has no sign, as in JSON
    if len(times_ms) and times_ms[0] >= 0 and len(encode_varint(int(times_ms[0]))) == len(encode_varint(int(times_ms[-1]))):
        return _equally_long_samples(times_ms, values)
    samples = (_sample(time_ms, value) for time_ms, value in zip(times_ms.tolist(), values.tolist(), strict=True))
    return b"".join(encode_bytes(_BYTES[2], sample) for sample in samples)


def _sample(time_ms: int, value: float) -> bytes:
    return _FIXED64[1] + _double(value) + _VARINT[2] + encode_varint(time_ms)


def _equally_long_samples(times_ms: NDArray[np.int64], values: NDArray[np.float64]) -> bytes:
    """`times_ms` ascending, none negative, varints all of the same length."""
    time_bytes = len(encode_varint(int(times_ms[0])))
    begin = encode_bytes(_BYTES[2], bytes(10 + time_bytes))[:2] + _FIXED64[1]
    rows = np.empty((len(times_ms), 12 + time_bytes), np.uint8)
    rows[:, :3] = np.frombuffer(begin, np.uint8)
    rows[:, 3:11] = np.ascontiguousarray(values, "<f8").view(np.uint8).reshape(-1, 8)
    rows[:, 11] = _VARINT[2][0]
    for place in range(time_bytes):
        more = 128 if place < time_bytes - 1 else 0
        rows[:, 12 + place] = times_ms >> (7 * place) & 127 | more
    return rows.tobytes()


def _attributes(number: int, attributes: Attributes) -> bytes:
    """Repeated KeyValue."""
    tag = _BYTES[number]
    return b"".join(encode_bytes(tag, _text(1, key) + encode_bytes(_BYTES[2], _any_value(value))) for key, value in attributes)


def _any_value(typed: TypedValue) -> bytes:
    """An AnyValue, in which defaults are written: the field says the type."""
    value = typed.value
    match typed.type:
        case ResultType.STRING:
            return encode_bytes(_BYTES[1], str(value).encode())
        case ResultType.BOOL:
            return _VARINT[2] + (b"\x01" if value else b"\x00")
        case ResultType.INT:
            assert isinstance(value, int)
            return _VARINT[3] + encode_varint(value)
        case ResultType.DOUBLE:
            assert isinstance(value, float)
            return _FIXED64[4] + _double(value)
        case ResultType.ARRAY:
            assert isinstance(value, tuple)
            return encode_bytes(_BYTES[5], b"".join(encode_bytes(_BYTES[1], _any_value(element)) for element in value))
        case _:
            assert_never(typed.type)


def _text(number: int, text: str) -> bytes:
    return encode_bytes(_BYTES[number], text.encode()) if text else b""


def _texts(number: int, texts: tuple[str, ...] | list[str]) -> bytes:
    """Repeated strings, of which empty ones are written too."""
    return b"".join(encode_bytes(_BYTES[number], text.encode()) for text in texts)


def _integer(number: int, value: int) -> bytes:
    """uint32, uint64 or int64; a negative number wraps as in Tempo."""
    return _VARINT[number] + encode_varint(value & _UINT64_MASK) if value else b""


def _number(number: int, value: float) -> bytes:
    """double; 0 is the default."""
    return _FIXED64[number] + _double(value) if value else b""

"""Messages of package tempopb: answers read back, and requests written, by the official protobuf classes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from google.protobuf.json_format import MessageToDict
from hypothesis import given
from hypothesis import strategies as st
from tempo_proto import tempo_message

from spanlake.model.errors import InvalidInput
from spanlake.model.metrics import Exemplar, MetricsAnswer, Series
from spanlake.model.queries import Inspected, SearchAnswer, TagNamesAnswer, TagValue, TagValuesAnswer
from spanlake.model.results import ResultType, ServiceStatistics, SpanFound, SpansetFound, TraceFound, TypedValue
from spanlake.wire.tempo_protobuf import (
    encode_query_instant_response,
    encode_query_range_response,
    encode_samples,
    encode_search_response,
    encode_tag_values_response,
    encode_tag_values_v2_response,
    encode_tags_response,
    encode_tags_v2_response,
)
from spanlake.wire.tempo_protobuf_requests import (
    decode_query_instant_request,
    decode_query_range_request,
    decode_search_request,
    decode_tag_values_request,
    decode_tags_request,
)

S = 1_000_000_000
SEEN = Inspected(traces=10, spans=77, bytes=9999, blocks=2, block_bytes=12345, jobs=4, jobs_total=5)
SEEN_SHOWN = {
    "inspectedTraces": 10,
    "inspectedBytes": "9999",
    "totalBlocks": 2,
    "completedJobs": 4,
    "totalJobs": 5,
    "totalBlockBytes": "12345",
    "inspectedSpans": "77",
}
TAGS_SHOWN = {"inspectedBytes": "9999", "totalJobs": 5, "completedJobs": 4, "totalBlocks": 2, "totalBlockBytes": "12345"}


def text(value: str) -> TypedValue:
    return TypedValue(ResultType.STRING, value)


def read(message: str, encoded: bytes) -> dict[str, Any]:
    """The message as protobuf JSON; default values are left out."""
    parsed = tempo_message(message).FromString(encoded)
    assert parsed.HasField("metrics")
    shown: dict[str, Any] = MessageToDict(parsed)
    return shown


EVERY_TYPE = (
    ("s", text("")),
    ("n", TypedValue(ResultType.INT, -5)),
    ("zero", TypedValue(ResultType.INT, 0)),
    ("f", TypedValue(ResultType.DOUBLE, 1.5)),
    ("b", TypedValue(ResultType.BOOL, value=False)),
    ("a", TypedValue(ResultType.ARRAY, (text("x"), TypedValue(ResultType.INT, 1)))),
)
EVERY_TYPE_SHOWN = [
    {"key": "s", "value": {"stringValue": ""}},
    {"key": "n", "value": {"intValue": "-5"}},
    {"key": "zero", "value": {"intValue": "0"}},
    {"key": "f", "value": {"doubleValue": 1.5}},
    {"key": "b", "value": {"boolValue": False}},
    {"key": "a", "value": {"arrayValue": {"values": [{"stringValue": "x"}, {"intValue": "1"}]}}},
]


def test_search_response_reads_back_when_it_is_full_or_empty() -> None:
    span = SpanFound(0x563D, "HTTP GET", 5 * S, 7, EVERY_TYPE)
    nameless = SpanFound(1, None, 0, 0, ())
    sets = (SpansetFound((("count()", TypedValue(ResultType.INT, 3)),), 3, (span, nameless)), SpansetFound((), 1, (nameless,)))
    services = (ServiceStatistics("frontend", 3, 1), ServiceStatistics("", 1, 0))
    found = TraceFound(0xA1, "frontend", "GET /", 4 * S, 12_999_999, services, sets)
    rootless = TraceFound(1 << 127, "", "", 0, -5, (), ())
    first = {
        "spans": [
            {
                "spanID": "000000000000563d",
                "name": "HTTP GET",
                "startTimeUnixNano": "5000000000",
                "durationNanos": "7",
                "attributes": EVERY_TYPE_SHOWN,
            },
            {"spanID": "0000000000000001"},
        ],
        "matched": 3,
        "attributes": [{"key": "count()", "value": {"intValue": "3"}}],
    }
    answer = SearchAnswer((found, rootless), SEEN)
    assert read("SearchResponse", encode_search_response(answer)) == {
        "traces": [
            {
                "traceID": "a1",
                "rootServiceName": "frontend",
                "rootTraceName": "GET /",
                "startTimeUnixNano": "4000000000",
                "durationMs": 12,
                "spanSet": first,
                "spanSets": [first, {"spans": [{"spanID": "0000000000000001"}], "matched": 1}],
                "serviceStats": {"frontend": {"spanCount": 3, "errorCount": 1}, "": {"spanCount": 1}},
            },
            {"traceID": f"8{'0' * 31}", "rootServiceName": "<root span not yet received>"},
        ],
        "metrics": SEEN_SHOWN,
    }
    legacy = read("SearchResponse", encode_search_response(answer, spansets=False))["traces"][0]
    assert not {"spanSet", "spanSets"} & legacy.keys()
    assert encode_search_response(SearchAnswer((), Inspected())) == b"\x12\x00"


def test_tag_responses_read_back() -> None:
    names = TagNamesAnswer((("resource", ("b", "")), ("span", ("b", "c")), ("intrinsic", ("duration",))), SEEN)
    scopes = [{"name": "resource", "tags": ["b", ""]}, {"name": "span", "tags": ["b", "c"]}, {"name": "intrinsic", "tags": ["duration"]}]
    assert read("SearchTagsV2Response", encode_tags_v2_response(names)) == {"scopes": scopes, "metrics": TAGS_SHOWN}
    flat = read("SearchTagsResponse", encode_tags_response(names, intrinsics=False))
    assert flat == {"tagNames": ["", "b", "c"], "metrics": TAGS_SHOWN}
    assert "duration" in read("SearchTagsResponse", encode_tags_response(names, intrinsics=True))["tagNames"]
    values = TagValuesAnswer((TagValue("int", "5"), TagValue("string", "5"), TagValue("string", "é")), SEEN)
    typed = [{"type": "int", "value": "5"}, {"type": "string", "value": "5"}, {"type": "string", "value": "é"}]
    assert read("SearchTagValuesV2Response", encode_tag_values_v2_response(values)) == {"tagValues": typed, "metrics": TAGS_SHOWN}
    assert read("SearchTagValuesResponse", encode_tag_values_response(values)) == {"tagValues": ["5", "é"], "metrics": TAGS_SHOWN}


def series(labels: Any, times_ms: list[int], values: list[float], *exemplars: Exemplar) -> Series:
    return Series(labels, np.array(times_ms, np.int64), np.array(values, np.float64), exemplars)


def test_query_range_response_reads_back_with_exemplars_and_the_reason_why_it_is_partial() -> None:
    exemplar = Exemplar((("trace:id", text("ab")),), 1_700_000_003_123, 0.25)
    answer = MetricsAnswer((series(EVERY_TYPE, [1_700_000_010_000, 1_700_000_020_000], [1.5, 0.0], exemplar),), SEEN, "too many")
    assert read("QueryRangeResponse", encode_query_range_response(answer)) == {
        "series": [
            {
                "labels": EVERY_TYPE_SHOWN,
                "samples": [{"timestampMs": "1700000010000", "value": 1.5}, {"timestampMs": "1700000020000"}],
                "exemplars": [
                    {"labels": [{"key": "trace:id", "value": {"stringValue": "ab"}}], "value": 0.25, "timestampMs": "1700000003123"}
                ],
            }
        ],
        "metrics": SEEN_SHOWN,
        "status": "PARTIAL",
        "message": "too many",
    }
    assert encode_query_range_response(MetricsAnswer((), Inspected())) == b"\x12\x00"


def test_query_instant_response_reads_back() -> None:
    answer = MetricsAnswer((series((), [5], [float("inf")]), series((), [5], [0.0])), Inspected(), "")
    shown = read("QueryInstantResponse", encode_query_instant_response(answer))
    assert shown == {"series": [{"value": "Infinity"}, {}], "metrics": {}}


@given(st.lists(st.tuples(st.integers(-5, 1 << 62), st.floats(allow_nan=False)), max_size=9, unique_by=lambda pair: pair[0]))
def test_samples_read_back_whatever_their_times_and_values(points: list[tuple[int, float]]) -> None:
    points.sort()
    encoded = encode_samples(np.array([time for time, _ in points], np.int64), np.array([value for _, value in points], np.float64))
    samples = tempo_message("TimeSeries").FromString(encoded).samples
    assert [(sample.timestamp_ms, sample.value) for sample in samples] == points


def test_requests_are_the_parameters_of_the_http_api() -> None:
    request = tempo_message("SearchRequest")(
        Query="{ }", Limit=5, start=100, end=200, SpansPerSpanSet=7, MinDurationMs=10, skipASTTransformations=["all"]
    )
    assert decode_search_request(request.SerializeToString()) == {
        "q": "{ }",
        "limit": "5",
        "start": "100",
        "end": "200",
        "spss": "7",
        "minDuration": "10ms",
    }
    by_tags = tempo_message("SearchRequest")(Tags={"a": 'x "y"\n'}, MaxDurationMs=3)
    assert decode_search_request(by_tags.SerializeToString()) == {"tags": r'a="x \"y\"\n"', "maxDuration": "3ms"}
    tags = tempo_message("SearchTagsRequest")(scope="span", query="{", start=1, end=2, maxTagsPerScope=3, staleValuesThreshold=4)
    assert decode_tags_request(tags.SerializeToString()) == {"scope": "span", "q": "{", "start": "1", "end": "2", "limit": "3"}
    values = tempo_message("SearchTagValuesRequest")(tagName="span.a/b", query="{", start=1, end=2, maxTagValues=3, staleValueThreshold=4)
    assert decode_tag_values_request(values.SerializeToString()) == ("span.a/b", {"q": "{", "start": "1", "end": "2", "limit": "3"})
    ranged = tempo_message("QueryRangeRequest")(
        query="{ } | rate()", start=5, end=1_700_000_000_000_000_000, step=15 * S, exemplars=9, maxSeries=8, queryMode="all"
    )
    assert decode_query_range_request(ranged.SerializeToString()) == {
        "q": "{ } | rate()",
        "start": "0000000000000000005",
        "end": "1700000000000000000",
        "step": "15000000000ns",
        "exemplars": "9",
        "maxSeries": "8",
    }
    instant = tempo_message("QueryInstantRequest")(query="{ } | rate()")
    assert decode_query_instant_request(instant.SerializeToString()) == {"q": "{ } | rate()"}


@pytest.mark.parametrize("decode", [decode_search_request, decode_tags_request, decode_query_range_request, decode_query_instant_request])
def test_empty_request_has_no_parameters(decode: Any) -> None:
    assert decode(b"") == {}


@given(
    st.binary(max_size=40) | st.binary(max_size=20).map(lambda rest: b"\x0a" + rest) | st.binary(max_size=20).map(lambda rest: b"B" + rest)
)
def test_request_that_is_no_message_is_invalid_input(message: bytes) -> None:
    decoders: list[Any] = [decode_search_request, decode_tags_request, decode_tag_values_request, decode_query_range_request]
    for decode in decoders:
        try:
            decode(message)
        except InvalidInput:
            continue

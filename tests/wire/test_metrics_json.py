"""Answers of metrics queries in JSON: exact shapes, and what a strict decoder accepts."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from google.protobuf.json_format import Parse
from hypothesis import given
from hypothesis import strategies as st
from strict_json import NotTempoJson, decode_strictly
from tempo_proto import tempo_message

from spanlake.model.metrics import Exemplar, MetricsAnswer, Series
from spanlake.model.queries import Inspected
from spanlake.model.results import ResultType, TypedValue
from spanlake.wire.metrics_json import encode_query_instant, encode_query_range
from spanlake.wire.tempo_protobuf import encode_query_instant_response, encode_query_range_response

INFINITE = float("inf")
SEEN = Inspected(spans=24, bytes=1, blocks=1, block_bytes=9, jobs=1, jobs_total=1)
SEEN_SHOWN = {
    "inspectedBytes": "1",
    "totalBlocks": 1,
    "completedJobs": 1,
    "totalJobs": 1,
    "totalBlockBytes": "9",
    "inspectedSpans": "24",
}


def series(labels: Any, points: list[tuple[int, float]], *exemplars: Exemplar) -> Series:
    times_ms, values = np.array([time for time, _ in points], np.int64), np.array([value for _, value in points], np.float64)
    return Series(labels, times_ms, values, exemplars)


NAME = (("__name__", TypedValue(ResultType.STRING, "rate")),)
NAME_SHOWN = [{"key": "__name__", "value": {"stringValue": "rate"}}]


def test_range_answer_leaves_out_zeros_and_writes_64_bit_numbers_as_texts() -> None:
    exemplar = Exemplar((("trace:id", TypedValue(ResultType.STRING, "a1")),), 1_700_000_040_000, 0.4)
    points = [(1_700_000_040_000, 0.05), (1_700_000_060_000, 0.0), (1_700_000_080_000, INFINITE), (1_700_000_090_000, -INFINITE)]
    body = encode_query_range(MetricsAnswer((series(NAME, points, exemplar),), SEEN))
    assert decode_strictly("QueryRangeResponse", body) == {
        "series": [
            {
                "labels": NAME_SHOWN,
                "samples": [
                    {"timestampMs": "1700000040000", "value": 0.05},
                    {"timestampMs": "1700000060000"},
                    {"timestampMs": "1700000080000", "value": "Infinity"},
                    {"timestampMs": "1700000090000", "value": "-Infinity"},
                ],
                "exemplars": [
                    {"labels": [{"key": "trace:id", "value": {"stringValue": "a1"}}], "timestampMs": "1700000040000", "value": 0.4}
                ],
            }
        ],
        "metrics": SEEN_SHOWN,
    }


def test_instant_answer_has_the_first_point_of_each_series() -> None:
    body = encode_query_instant(MetricsAnswer((series(NAME, [(5, 1.5)]), series((), [(5, 0.0)])), SEEN))
    assert decode_strictly("QueryInstantResponse", body) == {"series": [{"labels": NAME_SHOWN, "value": 1.5}, {}], "metrics": SEEN_SHOWN}


@pytest.mark.parametrize("encode", [encode_query_range, encode_query_instant])
def test_answer_says_that_it_is_partial_and_has_no_series_when_there_are_none(encode: Any) -> None:
    assert json.loads(encode(MetricsAnswer((), Inspected()))) == {"metrics": {}}
    partial = json.loads(encode(MetricsAnswer((), Inspected(), "too many series")))
    assert partial == {"metrics": {}, "status": "PARTIAL", "message": "too many series"}


VALUES = st.one_of(
    st.text(max_size=5).map(lambda text: TypedValue(ResultType.STRING, text)),
    st.integers(-(1 << 63), (1 << 63) - 1).map(lambda number: TypedValue(ResultType.INT, number)),
    st.floats(allow_nan=False).map(lambda number: TypedValue(ResultType.DOUBLE, number)),
    st.booleans().map(lambda flag: TypedValue(ResultType.BOOL, flag)),
)
LABELS = st.lists(st.tuples(st.text(max_size=5), VALUES), max_size=3).map(tuple)
TIMES_MS = st.integers(0, 1 << 44)
POINTS = st.dictionaries(TIMES_MS, st.floats(allow_nan=False), min_size=1, max_size=4).map(lambda points: sorted(points.items()))
EXEMPLARS = st.lists(st.builds(Exemplar, LABELS, TIMES_MS, st.floats(allow_nan=False)), max_size=2)
SERIES = st.builds(lambda labels, points, exemplars: series(labels, points, *exemplars), LABELS, POINTS, EXEMPLARS)
ANSWERS = st.builds(MetricsAnswer, st.lists(SERIES, max_size=3).map(tuple), st.just(SEEN), st.text(max_size=5))


@given(ANSWERS)
def test_json_and_protobuf_say_the_same_to_strict_decoders(answer: MetricsAnswer) -> None:
    for name, as_json, as_protobuf in (
        ("QueryRangeResponse", encode_query_range(answer), encode_query_range_response(answer)),
        ("QueryInstantResponse", encode_query_instant(answer), encode_query_instant_response(answer)),
    ):
        decode_strictly(name, as_json)
        assert Parse(as_json, tempo_message(name)()) == tempo_message(name).FromString(as_protobuf)


REFUSED = [
    ("SearchResponse", {"metrics": {"backendReads": "1"}}, 'unknown field "backendReads" in tempopb.SearchMetrics'),
    ("SearchResponse", {"traces": [{"durationMs": "5"}]}, r"traces\[0\].durationMs: '5'"),
    ("SearchResponse", {"traces": [{"startTimeUnixNano": 5}]}, "startTimeUnixNano: 5"),
    ("SearchResponse", {"traces": None}, "traces: None is no list"),
    ("SearchResponse", {"traces": [{"serviceStats": {"a": {"spanCount": True}}}]}, r"serviceStats\['a'\].spanCount"),
    ("QueryRangeResponse", {"series": [{"samples": [{"value": "1.5"}]}]}, "value: '1.5'"),
    ("QueryRangeResponse", {"status": "HALF"}, "status"),
    ("SearchTagsV2Response", {"scopes": [{"tags": [1]}]}, r"tags\[0\]: 1"),
]


@pytest.mark.parametrize(("message", "document", "text"), REFUSED)
def test_strict_decoder_refuses_what_a_client_would(message: str, document: Any, text: str) -> None:
    with pytest.raises(NotTempoJson, match=text):
        decode_strictly(message, json.dumps(document).encode())

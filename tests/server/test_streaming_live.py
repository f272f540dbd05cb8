"""A whole server gives the same answers over gRPC as over HTTP, on both ports: point 10 of wire-contract section 8."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import grpc
import orjson
import pytest
from google.protobuf.json_format import MessageToDict
from live import Live, live_server
from serving import WAIT_SECONDS
from tempo_proto import tempo_message

from node import NOW_NS, request, span

S = 1_000_000_000
START = NOW_NS // S


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    with live_server(tmp_path_factory.mktemp("streaming")) as live:
        for number in range(1, 40):
            begin = NOW_NS - number * S
            times = {"start_time_unix_nano": begin, "end_time_unix_nano": begin + S // 2}
            live.push(request(span(number, 1, name="GET /", attributes={"number": number}, **times), span(number, 2, parent=1, **times)))
        yield live


@pytest.fixture(scope="module", params=["http", "grpc"])
def channel(live: Live, request: pytest.FixtureRequest) -> Iterator[grpc.Channel]:
    with grpc.insecure_channel(f"127.0.0.1:{getattr(live.ports, request.param)}") as channel:
        yield channel


def streamed(channel: grpc.Channel, method: str, request: str, response: str, **fields: Any) -> Any:
    """The messages of a stream, joined."""
    kind, answer = tempo_message(request), tempo_message(response)()
    call = channel.unary_stream(f"/tempopb.StreamingQuerier/{method}", kind.SerializeToString, type(answer).FromString)
    messages = list(call(kind(**fields), timeout=WAIT_SECONDS))
    assert all(message.HasField("metrics") for message in messages)
    for message in messages:
        metrics = message.metrics
        answer.MergeFrom(message)
        answer.metrics.CopyFrom(metrics)
    return answer


def over_http(live: Live, path: str, response: str, **parameters: Any) -> Any:
    reply = live.get(path, parameters, accept="application/protobuf")
    assert (reply.status, reply.headers["content-type"]) == (200, "application/protobuf"), reply.body
    return tempo_message(response).FromString(reply.body)


def test_health_check_is_answered_as_grafana_asks_it(live: Live, channel: grpc.Channel) -> None:
    kind, answer = tempo_message("SearchRequest"), tempo_message("SearchResponse")
    call = channel.unary_stream("/tempopb.StreamingQuerier/Search", kind.SerializeToString, answer.FromString)
    stream = call(kind(Query="{}", start=START - 900, end=START, Limit=1), timeout=WAIT_SECONDS)
    assert len(next(stream).traces) == 1
    stream.cancel()


@pytest.mark.parametrize("limit", [0, 1, 100])
@pytest.mark.parametrize("query", ["{}", "{ span.number > 5 } | select(name)", "{ span.number = 700 }"])
def test_search_finds_the_same(live: Live, channel: grpc.Channel, query: str, limit: int) -> None:
    answer = streamed(channel, "Search", "SearchRequest", "SearchResponse", Query=query, Limit=limit, start=START - 60, end=START + 1)
    window = {"start": START - 60, "end": START + 1}
    expected = over_http(live, "/api/search", "SearchResponse", q=query, limit=limit or "", **window)
    assert answer.traces == expected.traces
    assert answer.metrics.inspectedSpans == expected.metrics.inspectedSpans


@pytest.mark.parametrize(
    ("method", "fields", "path", "parameters"),
    [
        ("SearchTags", {}, "/api/search/tags", {}),
        ("SearchTagsV2", {"scope": "span", "query": "{}"}, "/api/v2/search/tags", {"scope": "span"}),
        ("SearchTagValues", {"tagName": "number"}, "/api/search/tag/number/values", {}),
        (
            "SearchTagValuesV2",
            {"tagName": "span.number", "maxTagValues": 3, "query": "{ .number > 7 }"},
            "/api/v2/search/tag/span.number/values",
            {"limit": 3, "q": "{ .number > 7 }"},
        ),
    ],
)
def test_tags_are_the_same(
    live: Live, channel: grpc.Channel, method: str, fields: dict[str, Any], path: str, parameters: dict[str, Any]
) -> None:
    answer = streamed(channel, method, f"{method.removesuffix('V2')}Request", f"{method}Response", **fields)
    assert MessageToDict(answer)
    assert answer == over_http(live, path, f"{method}Response", **parameters)


def numbers_in(document: dict[str, Any]) -> list[tuple[str, list[float]]]:
    """(labels, values) of the series of an answer in JSON."""
    return [(str(one["labels"]), [float(sample.get("value", 0)) for sample in one["samples"]]) for one in document["series"]]


def test_metrics_over_time_are_the_same(live: Live, channel: grpc.Channel) -> None:
    query = "{} | rate() by (name)"
    times = {"start": (START - 60) * S, "end": (START + 1) * S}
    answer = streamed(channel, "MetricsQueryRange", "QueryRangeRequest", "QueryRangeResponse", query=query, step=10 * S, **times)
    reply = live.get("/api/metrics/query_range", {"q": query, "step": "10s", **times})
    assert len(answer.series) == 2
    assert numbers_in(MessageToDict(answer)) == numbers_in(orjson.loads(reply.body))


def test_metrics_at_an_instant_are_the_same(live: Live, channel: grpc.Channel) -> None:
    query = "{} | count_over_time()"
    times = {"start": (START - 60) * S, "end": (START + 1) * S}
    answer = streamed(channel, "MetricsQueryInstant", "QueryInstantRequest", "QueryInstantResponse", query=query, **times)
    reply = live.get("/api/metrics/query", {"q": query, **times})
    assert [one.value for one in answer.series] == [one["value"] for one in orjson.loads(reply.body)["series"]] == [78]


@pytest.mark.parametrize("query", ["{ .a = }", "{ 1 + true } | rate()", "{}", "{ name > } | rate()"])
def test_bad_queries_are_refused_with_the_same_words(live: Live, channel: grpc.Channel, query: str) -> None:
    times = {"start": (START - 60) * S, "end": (START + 1) * S}
    reply = live.get("/api/metrics/query_range", {"q": query, **times})
    assert reply.status == 400
    with pytest.raises(grpc.RpcError) as raised:
        streamed(channel, "MetricsQueryRange", "QueryRangeRequest", "QueryRangeResponse", query=query, **times)
    error: Any = raised.value
    assert (error.code(), error.details()) == (grpc.StatusCode.INVALID_ARGUMENT, reply.body.decode())

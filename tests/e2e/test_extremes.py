"""Payloads at the edges: none to 64 MiB, many services, many keys, long values, one enormous trace."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.resource.v1.resource_pb2 import Resource
from opentelemetry.proto.trace.v1.trace_pb2 import ResourceSpans, ScopeSpans, TracesData
from server_process import Server, serving

from node import NOW_NS, attribute, described, numbers, request, span, spans_in

pytestmark = pytest.mark.slow
MIB = 1 << 20


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with serving(tmp_path_factory.mktemp("extremes"), ingest__cut_interval_seconds=3600) as running:
        yield running


def flush(server: Server) -> None:
    """Everything into blocks, by a restart."""
    assert server.stop() == 0
    server.start()
    assert server.metric("spanlake_live_spans") == 0


def answer(server: Server, trace: int) -> TracesData:
    found = server.trace(trace.to_bytes(16))
    assert found.status == 200, found.body[:200]
    return TracesData.FromString(found.body)


@pytest.mark.parametrize(
    "payload",
    [b"", ExportTraceServiceRequest(resource_spans=[ResourceSpans(scope_spans=[ScopeSpans()])]).SerializeToString()],
)
def test_payloads_without_spans_are_accepted(server: Server, payload: bytes) -> None:
    assert server.push(payload).status == 200
    assert server.push_grpc(payload).status == "OK"


def filled(trace: int, size_bytes: int) -> bytes:
    """A request of exactly that size with one span."""
    text = "x" * (size_bytes - len(request(span(trace, 1, attributes={"text": ""}))) - 40)
    payload = request(span(trace, 1, attributes={"text": text}))
    return request(span(trace, 1, attributes={"text": text + "x" * (size_bytes - len(payload))}))


@pytest.mark.parametrize("protocol", ["grpc", "http"])
def test_a_payload_of_64_mebibytes_is_taken_and_a_larger_one_is_refused(server: Server, protocol: str) -> None:
    send = server.push_grpc if protocol == "grpc" else server.push
    trace = 1 if protocol == "grpc" else 2
    largest = filled(trace, 64 * MIB)
    assert len(largest) == 64 * MIB
    assert send(largest).status in {"OK", 200}
    assert send(largest + b"\x00").status in {"RESOURCE_EXHAUSTED", 413}
    small_answer = server.get(f"/api/v2/traces/{trace:032x}", {"Accept": "application/protobuf"})
    assert small_answer.status == 200
    assert len(small_answer.body) < 64 * MIB, "the answer is larger than query.trace_bytes_max allows"
    assert server.trace(trace.to_bytes(16)).status == 422


def test_ten_thousand_services_and_five_thousand_keys_come_back(server: Server) -> None:
    services = [
        ResourceSpans(
            resource=Resource(attributes=[attribute("service.name", f"service-{number}")]),
            scope_spans=[ScopeSpans(spans=[span(10_000 + number, 1, attributes={f"key-{number % 5000}": number, "common": "x"})])],
        )
        for number in range(10_000)
    ]
    sent = TracesData(resource_spans=services)
    assert server.push(sent.SerializeToString()).status == 200
    for _ in range(2):
        for number in range(0, 10_000, 371):
            expected = described(TracesData(resource_spans=[services[number]]))
            assert described(answer(server, 10_000 + number)) == expected
        flush(server)


def test_a_span_with_five_thousand_attributes_and_long_values_comes_back(server: Server) -> None:
    attributes = {f"key-{number}": f"value {number}" for number in range(5000)} | {
        f"long-{number}": chr(97 + number) * 100_000 for number in range(20)
    }
    sent = request(span(20_001, 1, attributes=attributes), span(20_001, 2, parent=1, name="n" * 100_000))
    assert server.push(sent).status == 200
    for _ in range(2):
        same = described(answer(server, 20_001)) == described(TracesData.FromString(sent))
        assert same  # a comparison by pytest would take minutes to show the difference
        flush(server)


def test_a_trace_of_two_hundred_thousand_spans_comes_back_whole(server: Server) -> None:
    total, part = 200_000, 50_000
    for begin in range(0, total, part):
        numbers_here = range(begin + 1, begin + part + 1)
        payload = request(*(span(30_001, number, parent=number // 8, attributes={}) for number in numbers_here), service=f"part-{begin}")
        assert server.push(payload).status == 200
    for _ in range(2):
        found = answer(server, 30_001)
        assert sorted(numbers(spans_in(found))) == list(range(1, total + 1))
        assert {one.start_time_unix_nano for one in spans_in(found)} == {NOW_NS + number for number in range(1, total + 1)}
        flush(server)
    assert [one.name for one in spans_in(answer(server, 30_001))].count("operation 77") == 1

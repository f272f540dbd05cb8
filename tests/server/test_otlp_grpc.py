"""OTLP over gRPC on real sockets: statuses, details and limits of the wire contract, section 7.3."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import grpc
import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse
from prometheus_client import CollectorRegistry
from serving import FREE_PORTS, WAIT_SECONDS, RecordingReceiver, Served, eventually, read_status, serving

from spanlake.model.errors import CorruptData, InvalidInput, NoTenant, Overloaded, StoreError, TooLarge, Unavailable
from spanlake.model.ingest import Accepted
from spanlake.server.edge_metrics import EdgeMetrics
from spanlake.server.otlp_grpc import EXPORT_METHOD, ExportEdge, OtlpGrpcServer
from spanlake.server.work_pool import WorkPool

PAYLOAD = b"\x0a\x02\x12\x00" * 100  # the receiver of these tests does not look into it


@contextmanager
def channel_to(port: int) -> Iterator[Any]:
    with grpc.insecure_channel(f"127.0.0.1:{port}", options=[("grpc.max_send_message_length", -1)]) as channel:
        yield channel


def export(port: int, payload: bytes = PAYLOAD, method: str = EXPORT_METHOD, **options: Any) -> bytes:
    """One call on a connection of its own; grpc.RpcError if it is refused."""
    with channel_to(port) as channel:
        answer = channel.unary_unary(method)(payload, timeout=WAIT_SECONDS, **options)
        assert isinstance(answer, bytes)
        return answer


def refusal(port: int, payload: bytes = PAYLOAD, method: str = EXPORT_METHOD, **options: Any) -> tuple[Any, str, int | None]:
    """(code, details, seconds of RetryInfo) of a call that is refused."""
    with pytest.raises(grpc.RpcError) as caught:
        export(port, payload, method, **options)
    call: Any = caught.value
    encoded = dict(call.trailing_metadata()).get("grpc-status-details-bin")
    if encoded is None:
        return call.code(), call.details(), None
    code, message, retry_after_seconds = read_status(encoded)
    assert (code, message) == (call.code().value[0], call.details())
    return call.code(), message, retry_after_seconds


@pytest.fixture(scope="module")
def server() -> Iterator[Served]:
    with serving(request_bytes_max=100_000) as served:
        yield served


@pytest.fixture
def served(server: Served) -> Served:
    server.receiver.outcome = Accepted(1)
    server.receiver.pushed.clear()
    return server


@pytest.mark.parametrize("compression", [None, grpc.Compression.Gzip, grpc.Compression.Deflate])
def test_export_succeeds_when_compressed_in_any_way(served: Served, compression: Any) -> None:
    assert export(served.ports.otlp_grpc, compression=compression) == b"\x0a\x00"
    assert served.receiver.pushed == [("single-tenant", PAYLOAD)]


def test_export_succeeds_without_asking_the_receiver_when_it_has_no_spans(served: Served) -> None:
    assert export(served.ports.otlp_grpc, b"") == b"\x0a\x00"
    assert served.receiver.pushed == []


def test_export_reports_rejected_spans_when_only_some_are_kept(served: Served) -> None:
    served.receiver.outcome = Accepted(1, rejected=2, reason="span ids must be 64 bit")
    partial = ExportTraceServiceResponse.FromString(export(served.ports.otlp_grpc)).partial_success
    assert (partial.rejected_spans, partial.error_message) == (2, "span ids must be 64 bit")


RECEIVER_ERRORS = [
    (InvalidInput("bad field"), grpc.StatusCode.INVALID_ARGUMENT, "bad field", None),
    (NoTenant("no org id"), grpc.StatusCode.UNAUTHENTICATED, "no org id", None),
    (TooLarge("too many spans"), grpc.StatusCode.RESOURCE_EXHAUSTED, "too many spans", None),
    (Overloaded("full ünd übervoll", retry_after_seconds=7), grpc.StatusCode.RESOURCE_EXHAUSTED, "full ünd übervoll", 7),
    (Unavailable("warming up"), grpc.StatusCode.UNAVAILABLE, "warming up", None),
    (StoreError("disk full", transient=False), grpc.StatusCode.UNAVAILABLE, "disk full", None),
    (CorruptData("x"), grpc.StatusCode.UNAVAILABLE, "internal error, described in the log of the server", None),
    (ZeroDivisionError("x"), grpc.StatusCode.UNAVAILABLE, "internal error, described in the log of the server", None),
]


@pytest.mark.parametrize(("error", "code", "details", "retry_after_seconds"), RECEIVER_ERRORS)
def test_export_is_refused_with_the_status_of_its_error_when_the_receiver_refuses(
    served: Served, error: Exception, code: Any, details: str, retry_after_seconds: int | None
) -> None:
    served.receiver.outcome = error
    assert refusal(served.ports.otlp_grpc) == (code, details, retry_after_seconds)


@pytest.mark.parametrize("method", ["/opentelemetry.proto.collector.metrics.v1.MetricsService/Export", "/x/y"])
def test_call_is_unimplemented_when_the_method_is_not_ours(served: Served, method: str) -> None:
    assert refusal(served.ports.otlp_grpc, method=method)[0] == grpc.StatusCode.UNIMPLEMENTED


@pytest.mark.parametrize(
    ("size", "compression"), [(100_001, None), (5_000_000, None), (100_001, grpc.Compression.Gzip), (20_000_000, grpc.Compression.Gzip)]
)
def test_export_is_refused_without_retry_info_when_it_is_over_the_limit(served: Served, size: int, compression: Any) -> None:
    code, _, retry_after_seconds = refusal(served.ports.otlp_grpc, bytes(size), compression=compression)
    assert (code, retry_after_seconds) == (grpc.StatusCode.RESOURCE_EXHAUSTED, None)
    assert served.receiver.pushed == []
    assert export(served.ports.otlp_grpc, bytes(100_000)) == b"\x0a\x00"


def test_export_succeeds_when_it_is_as_large_as_64_mib() -> None:
    with serving() as served:
        assert export(served.ports.otlp_grpc, bytes(64 << 20)) == b"\x0a\x00"
        assert [len(payload) for _, payload in served.receiver.pushed] == [64 << 20]


TENANT_CHARACTERS = "use only a-z A-Z 0-9 ! - _ . * ' ( ), and neither '.' nor '..'"
TENANT_CASES = [
    (["team-a"], "team-a", None),
    (["team-a", "team-a"], "team-a", None),
    (["", "team-a"], "team-a", None),
    ([], None, "no org id"),
    ([""], None, "no org id"),
    (["a", "b"], None, "X-Scope-OrgID names 2 tenants, expected one"),
    (["a/b"], None, f"tenant name 'a/b' is refused: {TENANT_CHARACTERS}"),
]


@pytest.mark.parametrize(("values", "tenant", "fault"), TENANT_CASES)
def test_export_goes_to_the_named_tenant_when_multitenancy_is_on(values: list[str], tenant: str | None, fault: str | None) -> None:
    metadata = [("x-scope-orgid", value) for value in values]
    with serving(multitenancy=True) as served:
        if tenant is not None:
            export(served.ports.otlp_grpc, metadata=metadata)
            assert served.receiver.pushed == [(tenant, PAYLOAD)]
        else:
            assert refusal(served.ports.otlp_grpc, metadata=metadata) == (grpc.StatusCode.UNAUTHENTICATED, fault, None)
        assert export(served.ports.otlp_grpc, b"", metadata=metadata) == b"\x0a\x00"


def test_tenant_is_ignored_when_multitenancy_is_off(served: Served) -> None:
    export(served.ports.otlp_grpc, metadata=[("x-scope-orgid", "../.."), ("authorization", "Basic Og==")])
    assert served.receiver.pushed == [("single-tenant", PAYLOAD)]


def test_export_is_refused_with_retry_info_when_the_queue_is_full() -> None:
    with serving(receive_threads=1, receive_queue_max=0) as served, ThreadPoolExecutor(1) as pool:
        served.receiver.gate.clear()
        first = pool.submit(export, served.ports.otlp_grpc)
        assert served.receiver.entered.acquire(timeout=WAIT_SECONDS)
        for _ in range(5):
            code, details, retry_after_seconds = refusal(served.ports.otlp_grpc)
            assert (code, retry_after_seconds) == (grpc.StatusCode.RESOURCE_EXHAUSTED, 1)
            assert details == "job queue full: 1 requests are running or waiting (otlp-grpc)"
        served.receiver.gate.set()
        assert first.result(WAIT_SECONDS) == b"\x0a\x00"
        eventually(lambda: served.metric("spanlake_work_tasks", pool="otlp-grpc") == 0)
        assert export(served.ports.otlp_grpc) == b"\x0a\x00"
        assert served.metric("spanlake_push_requests_total", protocol="otlp_grpc", code="resource_exhausted") == 5
        assert served.metric("spanlake_push_bytes_total", protocol="otlp_grpc") == 2 * len(PAYLOAD)


def test_thread_is_free_again_when_a_message_does_not_arrive_in_time() -> None:
    now = [0.0]
    receiver = RecordingReceiver()
    pool = WorkPool("otlp-grpc", threads=1, queue_max=0)
    server = OtlpGrpcServer(ExportEdge(receiver, pool, FREE_PORTS, EdgeMetrics(CollectorRegistry())), clock=lambda: now[0])
    port = server.start()
    unsent = threading.Event()

    def requests() -> Iterator[bytes]:
        unsent.wait(WAIT_SECONDS)
        yield PAYLOAD

    try:
        with channel_to(port) as channel:
            call = channel.stream_unary(EXPORT_METHOD).future(requests())
            eventually(lambda: server.slow_calls.count() == 1)
            server.slow_calls.sweep()
            assert refusal(port)[0] == grpc.StatusCode.RESOURCE_EXHAUSTED
            now[0] = FREE_PORTS.body_seconds + 1
            server.slow_calls.sweep()
            eventually(lambda: not pool.full)
            assert call.exception(WAIT_SECONDS).code() == grpc.StatusCode.CANCELLED
            unsent.set()
        assert export(port) == b"\x0a\x00"
    finally:
        asyncio.run(server.stop(0))
        pool.close()


def test_call_is_invalid_when_it_has_no_message(served: Served) -> None:
    with channel_to(served.ports.otlp_grpc) as channel, pytest.raises(grpc.RpcError) as caught:
        channel.stream_unary(EXPORT_METHOD)(iter(()), timeout=WAIT_SECONDS)
    call: Any = caught.value
    assert (call.code(), call.details()) == (grpc.StatusCode.INVALID_ARGUMENT, "the call has no message")

"""The stock OpenTelemetry SDK for Python, as users run it, pushes into the receivers."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter as GrpcExporter
from opentelemetry.exporter.otlp.proto.http import Compression
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter as HttpExporter
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter
from serving import Served, serving

from spanlake.model.errors import Overloaded
from spanlake.model.ingest import Accepted

EXPORTERS: list[Callable[[Served], SpanExporter]] = [
    lambda served: GrpcExporter(f"http://127.0.0.1:{served.ports.otlp_grpc}"),
    lambda served: HttpExporter(f"http://127.0.0.1:{served.ports.otlp_http}/v1/traces"),
    lambda served: HttpExporter(f"http://127.0.0.1:{served.ports.otlp_http}/v1/traces", compression=Compression.Gzip),
    lambda served: HttpExporter(f"http://127.0.0.1:{served.ports.otlp_http}/v1/traces", compression=Compression.Deflate),
]


@pytest.fixture(scope="module")
def served() -> Iterator[Served]:
    with serving() as server:
        yield server


@pytest.mark.parametrize("make_exporter", EXPORTERS)
def test_spans_arrive_when_exported_by_the_sdk(served: Served, make_exporter: Callable[[Served], SpanExporter]) -> None:
    served.receiver.pushed.clear()
    provider = TracerProvider(resource=Resource({"service.name": "shop"}))
    provider.add_span_processor(BatchSpanProcessor(make_exporter(served)))
    tracer = provider.get_tracer("tests")
    for number in range(1000):
        with tracer.start_as_current_span(f"span {number}", attributes={"n": number}):
            pass
    assert provider.force_flush()
    provider.shutdown()
    requests = [ExportTraceServiceRequest.FromString(payload) for _, payload in served.receiver.pushed]
    names = [span.name for request in requests for group in request.resource_spans for scope in group.scope_spans for span in scope.spans]
    assert sorted(names) == sorted(f"span {number}" for number in range(1000))


@pytest.mark.slow
@pytest.mark.parametrize("make_exporter", EXPORTERS[:2])
def test_spans_arrive_in_the_end_when_the_server_was_overloaded(served: Served, make_exporter: Callable[[Served], SpanExporter]) -> None:
    served.receiver.pushed.clear()
    outcomes: list[Accepted | Exception] = [Accepted(1), Overloaded("full", retry_after_seconds=1)]
    accept = served.receiver.accept

    def overloaded_once(tenant: str, payload: bytes) -> Accepted:
        served.receiver.outcome = outcomes.pop() if outcomes else Accepted(1)
        return accept(tenant, payload)

    served.receiver.accept = overloaded_once  # type: ignore[method-assign]
    provider = TracerProvider()
    provider.add_span_processor(BatchSpanProcessor(make_exporter(served)))
    provider.get_tracer("tests").start_span("late").end()
    assert provider.force_flush()
    provider.shutdown()
    served.receiver.accept = accept  # type: ignore[method-assign]
    assert len(served.receiver.pushed) == 1

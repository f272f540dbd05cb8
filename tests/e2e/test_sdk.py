"""An application with the stock OpenTelemetry SDK sends spans to a real server; what comes back is what it sent."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter as GrpcExporter
from opentelemetry.exporter.otlp.proto.http import Compression
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter as HttpExporter
from opentelemetry.proto.trace.v1.trace_pb2 import TracesData
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SimpleSpanProcessor, SpanExporter
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import Link, SpanContext, SpanKind, Status, StatusCode, TraceFlags
from server_process import Server, serving

from node import described

pytestmark = pytest.mark.slow

EXPORTERS: dict[str, Callable[[Server], SpanExporter]] = {
    "grpc": lambda server: GrpcExporter(f"http://127.0.0.1:{server.ports['grpc']}"),
    "grpc with gzip": lambda server: GrpcExporter(f"http://127.0.0.1:{server.ports['grpc']}", headers=(("a", "b"),)),
    "http": lambda server: HttpExporter(f"http://127.0.0.1:{server.ports['otlp_http']}/v1/traces"),
    "http with gzip": lambda server: HttpExporter(f"http://127.0.0.1:{server.ports['otlp_http']}/v1/traces", compression=Compression.Gzip),
}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with serving(tmp_path_factory.mktemp("sdk"), ingest__cut_interval_seconds=3600) as running:
        yield running


def instrumented(exporter: SpanExporter) -> tuple[bytes, TracesData]:
    """Run something with every kind of span through the SDK; the trace's id and what was exported."""
    memory = InMemorySpanExporter()
    resource = Resource({"service.name": "shop", "host.cpus": 8, "tags": ["a", "b"]}, schema_url="https://opentelemetry.io/schemas/1.30.0")
    provider = TracerProvider(resource=resource)
    provider.add_span_processor(SimpleSpanProcessor(memory))
    provider.add_span_processor(BatchSpanProcessor(exporter))
    tracer = provider.get_tracer("checkout", "1.2.3", attributes={"library.flag": True})
    other = provider.get_tracer("database")
    link = Link(SpanContext(1 << 100, 1 << 50, is_remote=True, trace_flags=TraceFlags(1)), {"why": "retry"})
    values: dict[str, Any] = {
        "text": "grüße 🌍",
        "empty": "",
        "int": -(2**63),
        "double": 0.1,
        "bool": False,
        "texts": ("a", ""),
        "ints": (1, 2**62),
        "doubles": (1.5, -0.0),
        "bools": (True, False),
        "nothing": (),
    }
    with tracer.start_as_current_span("GET /cart", kind=SpanKind.SERVER, attributes=values, links=[link]) as root:
        with tracer.start_as_current_span("work") as child:
            child.add_event("cache miss", {"key": "user:1", "size": 3})
            child.add_event("bare")
        with other.start_as_current_span("SELECT", kind=SpanKind.CLIENT, attributes={"db.system.name": "postgresql"}) as query:
            query.set_status(Status(StatusCode.ERROR, "deadlock"))
            query.record_exception(ValueError("deadlock detected"))
        for kind in (SpanKind.PRODUCER, SpanKind.CONSUMER, SpanKind.INTERNAL):
            tracer.start_span(kind.name, kind=kind).end()
        root.set_status(StatusCode.OK)
        trace_id = root.get_span_context().trace_id
    assert provider.force_flush()
    exported = encode_spans(memory.get_finished_spans())
    provider.shutdown()
    return trace_id.to_bytes(16), TracesData.FromString(exported.SerializeToString())


@pytest.mark.parametrize("exporter", EXPORTERS)
def test_a_trace_comes_back_as_the_sdk_sent_it(server: Server, exporter: str) -> None:
    trace_id, sent = instrumented(EXPORTERS[exporter](server))
    answer = server.trace(trace_id)
    assert answer.status == 200
    assert described(TracesData.FromString(answer.body)) == described(sent)
    assert sum(described(sent).values()) == 6


def test_traces_come_back_as_they_were_sent_after_a_kill_and_from_storage(tmp_path: Path) -> None:
    with serving(tmp_path) as server:
        traces = dict(instrumented(make(server)) for make in EXPORTERS.values())
        server.kill()
        server.start()
        for live in (True, False):
            assert (server.metric("spanlake_live_spans") > 0) == live
            for trace_id, sent in traces.items():
                assert described(TracesData.FromString(server.trace(trace_id).body)) == described(sent)
            assert server.stop() == 0
            server.start()

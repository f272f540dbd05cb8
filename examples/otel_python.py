"""Sends one trace to spanlake with the stock OpenTelemetry SDK, and says how to look at it.

    pip install opentelemetry-sdk opentelemetry-exporter-otlp-proto-grpc
    python examples/otel_python.py

The exporter's default endpoint, http://localhost:4317, is spanlake's; OTEL_EXPORTER_OTLP_ENDPOINT names another one. Over HTTP,
import the exporter from opentelemetry.exporter.otlp.proto.http.trace_exporter instead; its default is spanlake's port 4318.
"""

from __future__ import annotations

import time

from opentelemetry import trace
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor

provider = TracerProvider(resource=Resource.create({"service.name": "shop", "service.version": "1.0"}))
provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(insecure=True)))
trace.set_tracer_provider(provider)
tracer = trace.get_tracer("examples.otel_python")


def checkout() -> str:
    """One request with three steps, of which one fails. Returns its trace id."""
    with tracer.start_as_current_span("POST /checkout", kind=trace.SpanKind.SERVER) as request:
        request.set_attribute("http.route", "/checkout")
        with tracer.start_as_current_span("SELECT cart", kind=trace.SpanKind.CLIENT) as query:
            query.set_attribute("db.system.name", "postgresql")
            time.sleep(0.01)
        with tracer.start_as_current_span("render receipt") as render:
            render.add_event("cache miss", {"template": "receipt.html"})
            time.sleep(0.02)
        try:
            # A span that is left with an exception records it, and its status becomes an error.
            with tracer.start_as_current_span("charge card", kind=trace.SpanKind.CLIENT):
                time.sleep(0.005)
                raise TimeoutError("the bank did not answer")
        except TimeoutError:
            request.set_status(trace.StatusCode.ERROR, "payment failed")
        return trace.format_trace_id(request.get_span_context().trace_id)


if __name__ == "__main__":
    trace_id = checkout()
    provider.shutdown()  # sends what is still waiting
    print(f"spanlake trace {trace_id}")

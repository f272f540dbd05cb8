"""OTLP bytes ↔ span batches ↔ live storage: what each kernel costs in CPU time, and how long all of them take to compile.

Payloads: the load generator's (services, status, flags, some events), and spans of 450 bytes with nothing but 13 attributes. The best of
many short runs is printed: the others measure the machine's other work.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from random import Random

import numpy as np
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from spanlake.app.load.traces import TraceTemplates
from spanlake.blocks.memory.append import BatchBuffer, concatenate
from spanlake.blocks.memory.arrange import arrange
from spanlake.wire.otlp.decode import decode_otlp
from spanlake.wire.otlp.encode import encode_otlp

NOW_NS = 1_700_000_000_000_000_000
SECONDS = 1.5  # per figure
TEXTS = {
    "http.request.method": ("GET", "POST"),
    "http.route": ("/api/v1/users/{id}", "/api/v1/orders", "/health"),
    "url.scheme": ("https",),
    "server.address": ("shop.example.com", "pay.example.com"),
    "user.id": tuple(f"user-{number}" for number in range(100)),
    "network.peer.address": tuple(f"10.0.0.{number}" for number in range(50)),
    "db.system.name": ("postgresql", "redis"),
    "db.query.text": ("SELECT * FROM users WHERE id = $1", "INSERT INTO orders VALUES ($1, $2)"),
    "k8s.pod.name": tuple(f"checkout-7d9f8c-{number}" for number in range(20)),
    "messaging.destination.name": ("orders", "payments"),
    "feature.variant": ("a", "b"),
}


def attribute_payload(spans: int) -> bytes:
    """Spans with 13 attributes, 11 of them texts."""
    random = Random(1)
    request = ExportTraceServiceRequest()
    resource_spans = request.resource_spans.add()
    resource_spans.resource.attributes.add(key="service.name").value.string_value = "checkout"
    scope_spans = resource_spans.scope_spans.add()
    for number in range(spans):
        span = scope_spans.spans.add(trace_id=random.randbytes(16), span_id=random.randbytes(8), parent_span_id=random.randbytes(8))
        span.name, span.kind = "GET /api/v1/users", 2  # type: ignore[assignment]
        span.start_time_unix_nano, span.end_time_unix_nano = NOW_NS + number, NOW_NS + number + random.randrange(10**9)
        for key, texts in TEXTS.items():
            span.attributes.add(key=key).value.string_value = random.choice(texts)
        span.attributes.add(key="http.response.status_code").value.int_value = random.choice((200, 404, 500))
        span.attributes.add(key="cart.value").value.double_value = random.random()
    return request.SerializeToString()


def best_seconds(work: Callable[[], object]) -> float:
    """The least CPU time of one call."""
    begin = time.process_time()
    work()  # compiles
    seconds = [time.process_time() - begin]
    while sum(seconds) < SECONDS or len(seconds) < 3:
        begin = time.process_time()
        work()
        seconds.append(time.process_time() - begin)
    return min(seconds)


def show(name: str, seconds: float, spans: int, size: int) -> None:
    print(f"{name:<44} {seconds / spans * 1e9:7.0f} ns/span {spans / seconds / 1e6:7.2f} M spans/s {size / seconds / 1e6:8.0f} MB/s")


def measure_payload(name: str, payload: bytes) -> None:
    batch = decode_otlp(payload).batch
    spans = len(batch)
    print(f"{name}: {len(payload) / spans:.0f} B/span, {len(batch.attrs) / spans:.1f} attributes/span")
    show("  decode", best_seconds(lambda: decode_otlp(payload)), spans, len(payload))
    encoded = encode_otlp(batch)
    show("  encode", best_seconds(lambda: encode_otlp(batch)), spans, len(encoded))
    buffer = BatchBuffer()

    def append() -> None:
        nonlocal buffer
        if buffer.spans > 200_000:
            buffer = BatchBuffer()
        buffer.append(batch)

    show("  append to live storage", best_seconds(append), spans, len(payload))


def measure_arrange() -> None:
    templates = TraceTemplates(1, 1000, templates=8)
    buffer = BatchBuffer()
    for number in range(100):
        buffer.append(decode_otlp(templates.payload(number, NOW_NS)).batch)
    whole = concatenate(buffer.chunks())
    mixed = whole.take(np.random.default_rng(1).permutation(len(whole)))
    print(f"{len(whole)} spans in traces of {len(whole) / len(arrange(whole.spans, whole.scopes).trace_root):.0f}")
    for name, batch in (("  arrange, traces in one piece", whole), ("  arrange, rows in random order", mixed)):
        seconds = best_seconds(lambda batch=batch: arrange(batch.spans, batch.scopes))  # type: ignore[misc]
        show(name, seconds, len(batch), batch.spans.nbytes)


COMPILE = """
import time
from spanlake.wire.otlp.decode import decode_otlp
from spanlake.wire.otlp.encode import encode_otlp
from spanlake.blocks.memory.append import BatchBuffer
from spanlake.blocks.memory.arrange import arrange
payload = b""
steps = {
    "decode": lambda: decode_otlp(payload),
    "encode": lambda: encode_otlp(decode_otlp(payload).batch),
    "append": lambda: BatchBuffer().append(decode_otlp(payload).batch),
    "arrange": lambda: arrange(decode_otlp(payload).batch.spans, decode_otlp(payload).batch.scopes),
}
for name, step in steps.items():
    begin = time.process_time()
    step()
    print(f"  {name} {time.process_time() - begin:.2f} s", end="")
print()
"""


def measure_compiling() -> None:
    with tempfile.TemporaryDirectory() as directory:
        for name in ("compiled for the first time", "from the cache"):
            print(f"kernels {name}:", end="", flush=True)
            subprocess.run([sys.executable, "-c", COMPILE], check=True, env={**os.environ, "SPANLAKE_KERNEL_CACHE": directory})


def main() -> None:
    """Print one line per figure."""
    for spans in (1000, 100):
        templates = TraceTemplates(1, spans, templates=1)
        measure_payload(f"load generator, {templates.spans_in(0)} spans", templates.payload(0, NOW_NS))
    measure_payload("13 attributes, 1000 spans", attribute_payload(1000))
    measure_arrange()
    measure_compiling()


if __name__ == "__main__":
    main()

"""How long a push waits for its acknowledgement while heavy queries run: p50, p99 and the longest, without and with them.

Starts a real server with its defaults (fsync: always), fills it, and then pushes small payloads at an even pace over one OTLP/gRPC
connection, beside none, one and several clients that
ask heavy searches one after the other.

    python bench/bench_ack_latency.py [spans] [seconds]
"""

from __future__ import annotations

import http.client
import subprocess
import sys
import tempfile
import threading
import time
import urllib.parse
from contextlib import contextmanager
from typing import TYPE_CHECKING

import grpc
import numpy as np
from opentelemetry.proto.trace.v1.trace_pb2 import ResourceSpans, ScopeSpans, Span, TracesData

from bench_ingest import start

if TYPE_CHECKING:
    from collections.abc import Iterator

EXPORT = "/opentelemetry.proto.collector.trace.v1.TraceService/Export"
PUSHES_PER_SECOND = 20
SPANS_PER_PUSH = 200
ASKING = (0, 1, 4)
"""Clients that ask heavy queries at the same time."""
HEAVY = (
    "{ } >> { status = error } | select(resource.service.name, span.http.route, name)",
    '{ name =~ ".*a.*" && duration > 1ms } | by(resource.service.name) | count() > 1',
    "{ } | avg(duration) > 1ms | select(kind, status)",
)


def payload(number: int) -> bytes:
    """A push of one trace."""
    now = time.time_ns()
    spans = [
        Span(
            trace_id=(number + 1).to_bytes(16),
            span_id=(index + 1).to_bytes(8),
            name=f"operation {index}",
            start_time_unix_nano=now + index,
            end_time_unix_nano=now + index + 1000,
        )
        for index in range(SPANS_PER_PUSH)
    ]
    return TracesData(resource_spans=[ResourceSpans(scope_spans=[ScopeSpans(spans=spans)])]).SerializeToString()


def push_evenly(port: int, seconds: float) -> list[float]:
    """Milliseconds from the time a push was due to its acknowledgement, so that a late one delays no measurement of the next."""
    channel = grpc.insecure_channel(f"127.0.0.1:{port}")
    export: grpc.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(EXPORT)
    begin = time.monotonic()
    waited = []
    for number in range(int(seconds * PUSHES_PER_SECOND)):
        due = begin + number / PUSHES_PER_SECOND
        body = payload(number)
        time.sleep(max(due - time.monotonic(), 0))
        export(body, timeout=60)
        waited.append((time.monotonic() - due) * 1000)
    channel.close()
    return waited


@contextmanager
def asking(port: int, clients: int) -> Iterator[list[float]]:
    """Clients that ask heavy queries; what is yielded fills with the seconds that each took."""
    took: list[float] = []
    done = threading.Event()

    def ask(client: int) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=120)
        number = client
        while not done.is_set():
            begin = time.monotonic()
            connection.request("GET", f"/api/search?limit=1000&spss=20&q={urllib.parse.quote(HEAVY[number % len(HEAVY)])}")
            response = connection.getresponse()
            body = response.read()
            assert response.status == 200, body
            took.append(time.monotonic() - begin)
            number += 1

    threads = [threading.Thread(target=ask, args=(client,)) for client in range(clients)]
    for thread in threads:
        thread.start()
    try:
        yield took
    finally:
        done.set()
        for thread in threads:
            thread.join()


def main() -> None:
    spans = int(sys.argv[1]) if len(sys.argv) > 1 else 400_000
    seconds = float(sys.argv[2]) if len(sys.argv) > 2 else 10.0
    with tempfile.TemporaryDirectory() as directory:
        server, ports = start(directory)
        load = [sys.executable, "-m", "spanlake", "load", "--endpoint", f"http://127.0.0.1:{ports['grpc']}", "--spans", str(spans)]
        subprocess.run([*load, "--seed", "1"], check=True, capture_output=True)
        push_evenly(ports["grpc"], 1)
        for clients in ASKING:
            with asking(ports["http"], clients) as took:
                waited = push_evenly(ports["grpc"], seconds)
            p50, p99, longest = np.percentile(waited, (50, 99, 100))
            queries = f"{len(took)} queries over {spans:,} spans, {np.mean(took):.2f} s each" if took else "no queries"
            print(f"{clients} asking   p50 {p50:7.1f} ms   p99 {p99:7.1f} ms   longest {longest:7.1f} ms   ({queries})", flush=True)
        server.terminate()
        server.wait(60)


if __name__ == "__main__":
    main()

"""kill -9 at random moments under load: every acknowledged span is readable exactly once, then and after every further restart.

KILL_SEEDS=100 pytest tests/e2e/test_kill.py      # for as long as you like

Senders behave as exporters do: what was not acknowledged is sent again. Some payloads come in two halves, so that their traces
arrive in pieces, and some come twice although they were acknowledged.
"""

from __future__ import annotations

import http.client
import os
import random
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from opentelemetry.proto.trace.v1.trace_pb2 import ResourceSpans, ScopeSpans, TracesData
from server_process import Server

from spanlake.app.load.send.address import Address
from spanlake.app.load.traces import TraceTemplates
from spanlake.app.load.verify import VerifyPlan, verify_traces

BUSY = {
    "ingest.cut_spans": 2000,
    "ingest.cut_interval_seconds": 0.3,
    "ingest.trace_idle_seconds": 0.2,
    "blocks.row_group_spans": 256,
    "compaction.interval_seconds": 0.2,
    "compaction.blocks_min": 2,
    "compaction.cpu_share": 1,
    "compaction.delete_grace_seconds": 5,
    "query.catalog_refresh_seconds": 0.5,
}
SENDERS = 3
SAMPLE = 400


def halves(payload: bytes) -> list[bytes]:
    """Two payloads with the spans of one, every second span of each ScopeSpans in the second."""
    whole = TracesData.FromString(payload)
    parts = []
    for part in range(2):
        data = TracesData()
        for resource in whole.resource_spans:
            scopes = [ScopeSpans(scope=one.scope, schema_url=one.schema_url, spans=one.spans[part::2]) for one in resource.scope_spans]
            data.resource_spans.append(ResourceSpans(resource=resource.resource, schema_url=resource.schema_url, scope_spans=scopes))
        parts.append(data.SerializeToString())
    return parts


@dataclass
class Work:
    """Requests still to be acknowledged, of payload numbers that are given out in order."""

    templates: TraceTemplates
    chance: random.Random
    lock: threading.Lock = field(default_factory=threading.Lock)
    waiting: list[tuple[int, bytes]] = field(default_factory=list)
    missing: Counter[int] = field(default_factory=Counter)  # requests of a payload without an acknowledgement
    started: int = 0

    def take(self) -> tuple[int, bytes]:
        with self.lock:
            if not self.waiting:
                number, self.started = self.started, self.started + 1
                payload = self.templates.payload(number, time.time_ns())
                parts = halves(payload) if self.chance.random() < 0.4 else [payload]
                parts += [payload] if self.chance.random() < 0.2 else []
                self.missing[number] = len(parts)
                self.waiting += [(number, part) for part in parts]
                self.chance.shuffle(self.waiting)
            return self.waiting.pop()

    def done(self, number: int) -> None:
        with self.lock:
            self.missing[number] -= 1

    def give_back(self, number: int, part: bytes) -> None:
        with self.lock:
            self.waiting.append((number, part))

    def acknowledged(self) -> list[int]:
        return [number for number in range(self.started) if not self.missing[number]]


def send(work: Work, port: int, stop: threading.Event) -> None:
    """Push until told to stop, or until the server is gone."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    while not stop.is_set():
        number, part = work.take()
        try:
            connection.request("POST", "/v1/traces", part, {"Content-Type": "application/x-protobuf"})
            response = connection.getresponse()
            response.read()
        except (OSError, http.client.HTTPException):
            work.give_back(number, part)
            connection.close()
            return
        if response.status == 200:
            work.done(number)
        else:
            assert response.status in {429, 503}
            work.give_back(number, part)
            stop.wait(0.05)


def load(work: Work, server: Server, seconds: float) -> None:
    """Push for that long from several threads, then kill the server while they go on."""
    stop = threading.Event()
    threads = [threading.Thread(target=send, args=(work, server.ports["otlp_http"], stop)) for _ in range(SENDERS)]
    for thread in threads:
        thread.start()
    time.sleep(seconds)
    server.kill()
    stop.set()
    for thread in threads:
        thread.join()


def settle(work: Work, server: Server) -> None:
    """Send again what was not acknowledged, as exporters do."""
    while work.waiting:
        number, part = work.take()
        assert server.push(part).status == 200
        work.done(number)


def check(work: Work, server: Server, *, sample: int | None = SAMPLE) -> None:
    plan = VerifyPlan(Address(secure=False, host="127.0.0.1", port=server.ports["http"]), sample=sample, seed=work.started)
    verification = verify_traces(work.templates, work.acknowledged(), plan, lambda _progress: None)
    assert server.is_running()
    assert verification.passed, [str(finding) for finding in verification.findings]


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(int(os.environ.get("KILL_SEEDS", "1"))))
def test_acknowledged_spans_are_there_once_when_the_server_is_killed_under_load(tmp_path: Path, seed: int) -> None:
    chance = random.Random(seed)
    work = Work(TraceTemplates(seed, spans_per_payload=60), chance)
    with Server(tmp_path, BUSY) as server:
        for _ in range(3):
            load(work, server, chance.uniform(0.1, 1.5))
            server.start()
            check(work, server)
            settle(work, server)
        check(work, server, sample=None)
        assert server.stop() == 0
        server.start()
        check(work, server)
        assert server.metric("spanlake_live_spans") == 0

"""A server's life: starting, being ready, stopping, full disks, full memory, tenants."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Mapping
from pathlib import Path

import pytest
from opentelemetry.proto.trace.v1.trace_pb2 import TracesData
from server_process import Answer, Server, serving, wait_for

from node import NOW_NS, numbers, request, span, spans_in
from spanlake.app.load.traces import TraceTemplates

pytestmark = pytest.mark.slow

TRACE = (0xABCDEF).to_bytes(16)


def found(server: Server, trace: bytes = TRACE, headers: Mapping[str, str] | None = None) -> list[int]:
    answer = server.trace(trace, headers)
    assert answer.status in {200, 404}, answer
    return sorted(numbers(spans_in(TracesData.FromString(answer.body))))


def test_a_stop_flushes_and_a_restart_serves_everything(tmp_path: Path) -> None:
    with serving(tmp_path) as server:
        assert server.push(request(*(span(0xABCDEF, number) for number in range(1, 51)))).status == 200
        assert found(server) == list(range(1, 51))
        assert server.metric("spanlake_live_spans") == 50
        assert server.stop() == 0
        server.start()
        assert (server.metric("spanlake_live_spans"), server.metric("spanlake_wal_replayed_spans_total")) == (0, 0)
        assert found(server) == list(range(1, 51))
        assert "Traceback" not in server.log()


def test_pushes_in_flight_are_answered_and_kept_when_the_server_is_stopped(tmp_path: Path) -> None:
    templates = TraceTemplates(2, spans_per_payload=200)
    answers: dict[int, Answer] = {}

    def push(number: int, server: Server) -> None:
        try:
            answers[number] = server.push(templates.payload(number, NOW_NS))
        except OSError:
            return

    with serving(tmp_path) as server:
        threads = [threading.Thread(target=push, args=(number, server)) for number in range(40)]
        for thread in threads:
            thread.start()
        assert server.stop() == 0
        for thread in threads:
            thread.join()
        server.start()
        taken = [number for number, answer in answers.items() if answer.status == 200]
        assert {answer.status for answer in answers.values()} <= {200, 503}
        for number in taken:
            for trace, spans in templates.expected(number).items():
                assert found(server, trace) == sorted(int.from_bytes(one) for one in spans)


def test_the_server_says_that_it_compiles_until_it_is_ready(tmp_path: Path) -> None:
    server = Server(tmp_path, environment={"SPANLAKE_KERNEL_CACHE": str(tmp_path / "kernels")})
    try:
        server.start(wait=False)
        ready = server.get("/ready")
        assert (ready.status, b"compiling kernels" in ready.body or b"starting" in ready.body) == (503, True)
        assert server.push(request(span(1, 1))).status == 503
        assert server.push_grpc(request(span(1, 1))).status == "UNAVAILABLE"
        assert server.trace(TRACE).status == 503
        assert server.get("/metrics").status == 200
    finally:
        server.kill()


def test_tenants_are_apart_when_multitenancy_is_on(tmp_path: Path) -> None:
    with serving(tmp_path, server__multitenancy="true") as server:
        tenants = {name: {"X-Scope-OrgID": name} for name in ("a", "b")}
        for number, headers in enumerate(tenants.values(), 1):
            assert server.push(request(span(0xABCDEF, number)), headers).status == 200
        assert server.push(request(span(0xABCDEF, 9))).status == 401
        for _ in range(2):
            assert [found(server, headers=headers) for headers in tenants.values()] == [[1], [2]]
            assert found(server, headers={"X-Scope-OrgID": "c"}) == []
            assert server.trace(TRACE).status == 401
            assert server.stop() == 0
            server.start()
        assert sorted(path.name for path in (tmp_path / "data/tables").iterdir()) == ["a", "b"]


def test_nothing_acknowledged_is_lost_when_the_disk_is_full(tmp_path: Path) -> None:
    """No file can grow beyond 200 kB: neither the log's segments nor blocks."""
    if shutil.which("prlimit") is None:
        pytest.skip("needs prlimit")
    templates = TraceTemplates(4, spans_per_payload=100)
    with Server(tmp_path, {"ingest.cut_interval_seconds": 0.5}, prefix=["prlimit", "--fsize=200000"]) as server:
        answers = {number: server.push(templates.payload(number, NOW_NS)) for number in range(30)}
        taken = [number for number, answer in answers.items() if answer.status == 200]
        refused = [number for number, answer in answers.items() if answer.status == 503]
        assert len(taken) + len(refused) == 30
        assert refused
        assert any(b"cannot be written" in answers[number].body for number in refused)
        check_all(server, templates, taken)
        server.kill()
        server.prefix = ()
        server.start()
        check_all(server, templates, taken)
        for number in refused:
            assert server.push(templates.payload(number, NOW_NS)).status == 200
        assert server.stop() == 0
        server.start()
        check_all(server, templates, list(range(30)))


def check_all(server: Server, templates: TraceTemplates, payloads: list[int]) -> None:
    for number in payloads:
        for trace, spans in templates.expected(number).items():
            assert found(server, trace) == sorted(int.from_bytes(one) for one in spans)


def test_pushes_get_429_when_memory_is_full_and_succeed_when_the_store_is_back(tmp_path: Path) -> None:
    templates = TraceTemplates(6, spans_per_payload=500)
    data = tmp_path / "data"
    settings = {"ingest.live_bytes_max": 1 << 20, "ingest.cut_interval_seconds": 0.2, "store.attempts_max": 1}
    with Server(tmp_path, settings) as server:
        (data / "tables").write_text("in the way of every table")
        taken, number, answer = [], 0, server.push(templates.payload(0, NOW_NS))
        while answer.status == 200:
            taken.append(number)
            assert number < 100
            number += 1
            answer = server.push(templates.payload(number, NOW_NS))
        assert answer.status == 429
        assert int(answer.headers["retry-after"]) > 0
        assert server.push_grpc(templates.payload(number, NOW_NS)).status == "RESOURCE_EXHAUSTED"
        check_all(server, templates, taken)
        (data / "tables").unlink()
        wait_for(lambda: server.push(templates.payload(number, NOW_NS)).status == 200, "memory to be free again")
        check_all(server, templates, [*taken, number])
        wait_for(lambda: server.metric("spanlake_live_spans") < 500, "the flush")
        check_all(server, templates, [*taken, number])


def test_a_second_server_on_the_same_data_is_refused(tmp_path: Path) -> None:
    with serving(tmp_path), pytest.raises(AssertionError, match="is in use by another spanlake"):
        Server(tmp_path / "second", data=str(tmp_path / "data")).start()

"""A whole server with several tenants over real sockets: isolation by every protocol, federated reads, limits that change while it runs."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import grpc
import pytest
from google.rpc.error_details_pb2 import RetryInfo  # type: ignore[import-untyped]
from google.rpc.status_pb2 import Status  # type: ignore[import-untyped]
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse
from serving import FREE_PORTS, WAIT_SECONDS, Reply, Served, eventually, listening, read_status, recording_queries, send
from tempo_proto import tempo_message

from node import request, span
from spanlake.app.assemble import System, build_system
from spanlake.app.cli.main import main
from spanlake.model.settings import AccessSettings, CompactionSettings, OverrideSettings, QuerySettings, Settings
from spanlake.model.tenancy.limits import SameLimits, TenantLimits
from spanlake.server.listeners import Core, Listeners, Ports
from spanlake.server.otlp_grpc import EXPORT_METHOD

NOW_NS = time.time_ns() - 60 * 10**9


@dataclass
class Shared:
    """A server with several tenants; `limits` is the file with their limits."""

    system: System
    ports: Ports
    limits: Path

    def push(self, payload: bytes, tenant: str, **headers: str) -> Reply:
        sent = {"content-type": "application/x-protobuf", "x-scope-orgid": tenant, **headers}
        return send(self.ports.otlp_http, "POST", "/v1/traces", payload, sent)

    def get(self, path: str, tenant: str, **parameters: Any) -> Reply:
        target = f"{path}?{urlencode(parameters)}" if parameters else path
        return send(self.ports.http, "GET", target, None, {"x-scope-orgid": tenant})

    def found(self, path: str, tenant: str, **parameters: Any) -> Any:
        """What a query answers, as JSON."""
        reply = self.get(path, tenant, **parameters)
        assert reply.status == 200, reply
        return json.loads(reply.body)

    def set_limits(self, **limits: dict[str, Any]) -> None:
        """Write the file, which may be JSON, and wait until the server has read it."""
        self.limits.write_text(json.dumps({"overrides": limits}))
        wanted = {name: {limit: float(value) for limit, value in own.items()} for name, own in limits.items()}
        eventually(lambda: all(dict(self.system.limits.in_force(name)).items() >= own.items() for name, own in wanted.items()))


@contextmanager
def shared_server(directory: Path, **settings: Any) -> Iterator[Shared]:
    limits = directory / "overrides.yaml"
    limits.write_text("overrides: {}\n")
    whole = Settings(
        data=str(directory / "data"),
        server=replace(FREE_PORTS, multitenancy=True),
        compaction=CompactionSettings(enabled=False),
        overrides=OverrideSettings(file=str(limits), reload_seconds=0.05),
        **settings,
    )
    system = build_system(whole, "")
    try:
        with listening(Listeners(system.core, whole.server, whole.query)) as ports:
            system.start()
            system.wait_until_ready()
            assert system.readiness() == ""
            yield Shared(system, ports, limits)
    finally:
        system.stop(flush=False)


def spans_of(tenant: str, *numbers: int, trace: int = 1) -> bytes:
    """A push of spans that name their tenant."""
    made = [
        span(trace, number, start_time_unix_nano=NOW_NS, end_time_unix_nano=NOW_NS + 10**6, attributes={"owner": tenant})
        for number in numbers
    ]
    return request(*made, service=tenant)


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shared]:
    """Tenants a and b have spans of one trace, stored and live."""
    with shared_server(tmp_path_factory.mktemp("shared")) as server:
        for first in (1, 3):
            assert server.push(spans_of("a", first), "a").status == 200
            assert server.push(spans_of("b", first + 1), "b").status == 200
            if first == 1:
                server.system.pipeline.cut(everything=True)
        yield server


RANGE = {"start": NOW_NS // 10**9 - 600, "end": NOW_NS // 10**9 + 600}


@pytest.mark.parametrize(("tenants", "owners"), [("a", ["a"]), ("b", ["b"]), ("b|a", ["a", "b"]), ("a|c", ["a"]), ("c", [])])
def test_every_query_answers_for_its_tenants_alone(shared: Shared, tenants: str, owners: list[str]) -> None:
    trace = shared.found("/api/v2/traces/1", tenants)["trace"]
    services = {
        attribute["value"]["stringValue"] for resource in trace.get("resourceSpans", []) for attribute in resource["resource"]["attributes"]
    }
    assert sorted(services) == owners
    found = shared.found("/api/search", tenants, q="{ } | select(span.owner)")["traces"]
    assert sorted(trace["rootServiceName"] for trace in found) == owners
    values = shared.found("/api/v2/search/tag/span.owner/values", tenants)["tagValues"]
    assert sorted(value["value"] for value in values) == owners
    names = shared.found("/api/v2/search/tags", tenants, scope="span")["scopes"]
    assert [scope["tags"] for scope in names if scope["name"] == "span"] == ([["owner"]] if owners else [])
    series = shared.found("/api/metrics/query", tenants, q="{ } | count_over_time() by (span.owner)", **RANGE).get("series", [])
    assert sorted((one["labels"][0]["value"]["stringValue"], one["value"]) for one in series) == [(owner, 2) for owner in owners]


@pytest.mark.parametrize(("tenants", "traces"), [("a", 1), ("a|b", 2), ("c", 0)])
def test_streams_answer_for_their_tenants_alone(shared: Shared, tenants: str, traces: int) -> None:
    asked = tempo_message("SearchRequest")(Query="{ }", Limit=20).SerializeToString()
    with grpc.insecure_channel(f"127.0.0.1:{shared.ports.http}") as channel:
        search: Any = channel.unary_stream("/tempopb.StreamingQuerier/Search")
        messages = list(search(asked, metadata=[("x-scope-orgid", tenants)], timeout=20))
    answers = [tempo_message("SearchResponse").FromString(message) for message in messages]
    assert sum(len(answer.traces) for answer in answers) == traces


@pytest.mark.parametrize("tenants", ["", "|", "a|", "a||b", "../a", "a/b", "a|..", "|".join(f"t{number}" for number in range(33))])
def test_bad_names_are_refused_by_every_query(shared: Shared, tenants: str) -> None:
    for path in ("/api/v2/traces/1", "/api/traces/1", "/api/search", "/api/v2/search/tags", "/api/metrics/query_range", "/api/overrides"):
        assert shared.get(path, tenants).status == 401, path


def test_pushes_name_one_tenant(shared: Shared) -> None:
    assert shared.push(spans_of("a", 9), "a|b").status == 401


# Limits


def test_rate_limit_of_one_tenant_is_429_with_a_pause_and_others_go_on(tmp_path: Path) -> None:
    payload = spans_of("x", 1)
    with shared_server(tmp_path) as server:
        server.set_limits(a={"ingest_bytes_per_second": 1, "ingest_burst_bytes": 1024})
        assert len(payload) <= 1024 < 16 * len(payload)
        replies = [server.push(payload, "a") for _ in range(16)]
        refused = next(reply for reply in replies if reply.status != 200)
        code, message, pause = read_status(refused.body)
        assert (refused.status, code, refused.headers["retry-after"]) == (429, 8, str(pause))
        assert message.startswith("RATE_LIMITED: ingestion rate limit (1 bytes/s, burst: 1024 bytes)")
        assert all(server.push(payload, "b").status == 200 for _ in range(16))

        with grpc.insecure_channel(f"127.0.0.1:{server.ports.otlp_grpc}") as channel:
            export: Any = channel.unary_unary(EXPORT_METHOD)
            with pytest.raises(grpc.RpcError) as refusal:
                export(payload, metadata=[("x-scope-orgid", "a")], timeout=20)
            error: Any = refusal.value
            assert error.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
            assert error.details().startswith("RATE_LIMITED: ")
            status = Status.FromString(dict(error.trailing_metadata())["grpc-status-details-bin"])
            retry = RetryInfo()
            assert status.details[0].Unpack(retry)
            assert retry.retry_delay.seconds >= 1

            large = request(*(span(1, number) for number in range(1, 40)))
            with pytest.raises(grpc.RpcError) as refusal:
                export(large, metadata=[("x-scope-orgid", "a")], timeout=20)
            error = refusal.value
            assert (error.code(), error.details()[:24]) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "RATE_LIMITED: batch size")
            assert "grpc-status-details-bin" not in dict(error.trailing_metadata())  # sending it again would not help
        assert server.push(large, "a").status == 413

        metrics = send(server.ports.http, "GET", "/metrics", None, {}).body.decode()
        assert 'spanlake_spans_refused_total{reason="ingestion rate",tenant="a"}' in metrics
        assert 'spanlake_spans_refused_total{reason="push above the burst",tenant="a"} 78.0' in metrics

        server.set_limits(a={"ingest_bytes_per_second": 0})
        assert server.push(large, "a").status == 200


def test_spans_beyond_the_limit_of_their_trace_are_a_partial_success(tmp_path: Path) -> None:
    with shared_server(tmp_path) as server:
        server.set_limits(a={"trace_spans_max": 2, "attribute_bytes_max": 5})
        reply = server.push(spans_of("a rather long name", 1, 2, 3), "a")
        partial = ExportTraceServiceResponse.FromString(reply.body).partial_success
        assert (reply.status, partial.rejected_spans) == (200, 1)
        assert partial.error_message == "1 spans refused: the trace has as many spans as trace_spans_max allows"
        values = server.found("/api/v2/search/tag/span.owner/values", "a")["tagValues"]
        assert [value["value"] for value in values] == ["a rat"]
        metrics = send(server.ports.http, "GET", "/metrics", None, {}).body.decode()
        assert 'spanlake_attributes_truncated_total{tenant="a"} ' in metrics


def test_query_ranges_are_limits_of_the_tenant(shared: Shared) -> None:
    shared.set_limits(a={"query_range_seconds_max": 60, "metrics_range_seconds_max": 30})
    refused = shared.get("/api/search", "a", start=1000, end=1100)
    assert (refused.status, refused.body) == (400, b"range specified by start and end exceeds 0h1m0s. received start=1000 end=1100")
    assert shared.get("/api/search", "a|b", start=1000, end=1100).status == 400
    assert shared.get("/api/search", "b", start=1000, end=1100).status == 200
    refused = shared.get("/api/metrics/query_range", "a", q="{ } | rate()", start=1000, end=1100)
    assert (refused.status, b"exceeds the maximum allowed duration of 30s" in refused.body) == (400, True)
    assert shared.get("/api/metrics/query_range", "b", q="{ } | rate()", start=1000, end=1100).status == 200


def test_queries_of_a_tenant_at_once_are_a_limit_of_the_tenant() -> None:
    served = Served()
    served.reader.gate.clear()
    one_each = SameLimits(TenantLimits(query_concurrency_max=1))
    core = Core(served.receiver, served.reader, served.health, served.registry, recording_queries(served.queries), limits=one_each)
    server = replace(FREE_PORTS, multitenancy=True, query_threads=4)
    with listening(Listeners(core, server, QuerySettings())) as served.ports, ThreadPoolExecutor(3) as clients:
        try:
            asked = [clients.submit(served.get, "/api/traces/1", X_Scope_OrgID="a") for _ in range(2)]
            assert served.reader.entered.acquire(timeout=WAIT_SECONDS)
            eventually(lambda: served.metric("spanlake_query_queue_length") == 1)
            other = clients.submit(served.get, "/api/traces/1", X_Scope_OrgID="b")
            assert served.reader.entered.acquire(timeout=WAIT_SECONDS)  # b does not wait for a
            assert not served.reader.entered.acquire(blocking=False)
        finally:
            served.reader.gate.set()
        assert [one.result(WAIT_SECONDS).status for one in (*asked, other)] == [404] * 3


def test_a_server_reads_who_may_do_what_and_shows_no_secret(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "credentials.yaml"
    path.write_text("credentials: [{token: very-secret-token, tenants: '*', roles: [read, write]}]\n")
    with shared_server(tmp_path, access=AccessSettings(file=str(path))) as server:
        assert server.push(spans_of("a", 1), "a").status == 401
        bearer = "Bearer very-secret-token"
        assert server.push(spans_of("a", 1), "a", authorization=bearer).status == 200
        assert server.get("/api/v2/traces/1", "a").status == 401
        command = ["trace", "1", "--url", f"http://127.0.0.1:{server.ports.http}", "--tenant", "a"]
        assert main(command) == 1
        monkeypatch.setenv("SPANLAKE_TOKEN", "very-secret-token")
        assert main(command) == 0
        for page in ("/status/config", "/status", "/metrics"):
            reply = send(server.ports.http, "GET", page, None, {"authorization": bearer})
            assert (reply.status, b"very-secret-token" in reply.body) == (200, False)

"""The query port on real sockets: wire contract sections 1.0 to 1.3."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from serving import WAIT_SECONDS, Served, eventually, serving

from spanlake.model.errors import CorruptData, NoTenant, Overloaded, StoreError, TooLarge, Unavailable
from spanlake.model.settings import QuerySettings
from spanlake.model.trace import TimeRange, TraceAnswer

TEXT, JSON, PROTOBUF = "text/plain; charset=utf-8", "application/json", "application/protobuf"
TRACE = b"\x0a\x11\x0a\x00\x12\x0d\x0a\x00\x12\x09\x2a\x05GET /\x7a\x00"
RESOURCE_SPANS = [{"resource": {}, "scopeSpans": [{"scope": {}, "spans": [{"name": "GET /", "status": {}}]}]}]
FOUND = TraceAnswer(TRACE, 1, inspected_bytes=300)
PARTIAL = TraceAnswer(TRACE, 1, complete=False, message="Trace exceeds maximum size of 5 bytes, a partial trace is returned")
ABSENT = TraceAnswer(b"", 0)


@pytest.fixture(scope="module")
def server() -> Iterator[Served]:
    with serving() as served:
        yield served


@pytest.fixture
def served(server: Served) -> Served:
    server.reader.outcome = FOUND
    server.reader.asked.clear()
    server.health.reason = ""
    return server


STATUS_PAGES = [
    ("/api/echo", TEXT, b"echo\n"),
    ("/ready", TEXT, b"ready\n"),
    ("/status/config", TEXT, b"data: ./data\n"),
]


@pytest.mark.parametrize(("path", "content_type", "body"), STATUS_PAGES)
def test_status_page_answers_when_asked(served: Served, path: str, content_type: str, body: bytes) -> None:
    reply = served.get(path)
    assert (reply.status, reply.headers["content-type"], reply.body) == (200, content_type, body)
    assert served.get(path, "HEAD").status == 200


STATUS_TEXTS = [
    ("/status/version", "spanlake 0.1.0, revision abc, with the API of Tempo 3.1.0\n"),
    ("/status/services", "ready\n"),
    ("/status/usage-stats", "usage-stats is not enabled: spanlake reports to nobody\n"),
]


@pytest.mark.parametrize(("path", "text"), STATUS_TEXTS)
def test_status_is_made_of_pages(served: Served, path: str, text: str) -> None:
    reply = served.get(path)
    assert (reply.status, reply.headers["content-type"], reply.body.decode()) == (200, TEXT, text)
    whole = served.get("/status")
    assert (whole.status, whole.headers["content-type"]) == (200, TEXT)
    assert path.endswith("usage-stats") or text in whole.body.decode()


def test_status_names_every_endpoint(served: Served) -> None:
    endpoints = served.get("/status/endpoints").body.decode().splitlines()
    assert {"/api/search", "/api/metrics/query_range", "/api/v2/search/tag/{tag:path}/values", "/status", "/ready"} <= set(endpoints)
    served.health.reason = "compiling kernels"
    assert served.get("/status/services").body == b"not ready: compiling kernels\n"


@pytest.mark.parametrize("prefix", ["/tempo", "tempo/", "/tempo/"])
def test_paths_answer_below_the_prefix_too(prefix: str) -> None:
    with serving(http_api_prefix=prefix) as served:
        for path in ("/tempo/api/echo", "/api/echo", "/tempo/ready", "/tempo/api/v2/traces/1"):
            assert served.get(path).status == 200
        for path in ("/tempo", "/tempoapi/echo", "/tempo/", "/tempo/tempo/api/echo", "/other/api/echo"):
            assert (served.get(path).status, served.get(path).body) == (404, b"404 page not found")
        assert served.reader.asked == [("single-tenant", (0, 1), None)]


def test_ready_is_503_with_the_reason_when_warming_up(served: Served) -> None:
    served.health.reason = "compiling kernels"
    reply = served.get("/ready")
    assert (reply.status, reply.headers["content-type"], reply.body) == (503, TEXT, b"compiling kernels\n")
    assert served.get("/api/echo").status == 200


def test_build_info_has_string_fields_and_a_semantic_version_when_asked(served: Served) -> None:
    reply = served.get("/api/status/buildinfo")
    info = json.loads(reply.body)
    assert (reply.status, reply.headers["content-type"]) == (200, JSON)
    assert list(info) == ["version", "revision", "branch", "buildUser", "buildDate", "goVersion"]
    assert all(isinstance(value, str) for value in info.values())
    assert [int(part) for part in info["version"].split(".")] >= [2, 7, 0]


def test_metrics_are_in_the_format_that_is_accepted_when_asked(served: Served) -> None:
    reply = served.get("/metrics")
    assert reply.headers["content-type"].startswith("text/plain")
    assert b"# TYPE spanlake_push_requests_total counter" in reply.body
    reply = served.get("/metrics", accept="application/openmetrics-text; version=1.0.0")
    assert reply.headers["content-type"].startswith("application/openmetrics-text")
    assert reply.body.endswith(b"# EOF\n")


V1_JSON = json.dumps({"batches": RESOURCE_SPANS}, separators=(",", ":")).encode()
V2_JSON = json.dumps({"trace": {"resourceSpans": RESOURCE_SPANS}, "metrics": {"inspectedBytes": "300"}}, separators=(",", ":")).encode()
V2_PARTIAL_JSON = json.dumps(
    {"trace": {"resourceSpans": RESOURCE_SPANS}, "metrics": {}, "status": "PARTIAL", "message": PARTIAL.message}, separators=(",", ":")
).encode()
NEGOTIATION = [
    # version, Accept, content type, answer's bodies when found, absent, partial
    ("", None, JSON, V1_JSON),
    ("", "*/*", JSON, V1_JSON),
    ("", "application/json", JSON, V1_JSON),
    ("", "application/vnd.grafana.llm", JSON, V1_JSON),
    ("", "text/html, application/protobuf;q=0.5, application/json", PROTOBUF, TRACE),
    ("v2/", None, JSON, V2_JSON),
    ("v2/", "application/protobuf", PROTOBUF, b"\x0a\x13" + TRACE + b"\x12\x03\x08\xac\x02"),
]


@pytest.mark.parametrize(("version", "accept", "content_type", "body"), NEGOTIATION)
def test_trace_is_in_the_accepted_encoding_when_found(
    served: Served, version: str, accept: str | None, content_type: str, body: bytes
) -> None:
    reply = served.get(f"/api/{version}traces/1", **({} if accept is None else {"accept": accept}))
    assert (reply.status, reply.headers["content-type"], reply.body) == (200, content_type, body)


def test_trace_is_404_and_empty_in_v1_when_it_is_absent(served: Served) -> None:
    served.reader.outcome = ABSENT
    for accept in (JSON, PROTOBUF):
        reply = served.get("/api/traces/1", accept=accept)
        assert (reply.status, reply.body, "content-type" in reply.headers) == (404, b"", False)


def test_trace_is_200_and_an_empty_trace_in_v2_when_it_is_absent(served: Served) -> None:
    served.reader.outcome = ABSENT
    reply = served.get("/api/v2/traces/1", accept=PROTOBUF)
    assert (reply.status, reply.headers["content-type"], reply.body) == (200, PROTOBUF, b"\x0a\x00")
    reply = served.get("/api/v2/traces/1")
    assert (reply.status, reply.headers["content-type"], reply.body) == (200, JSON, b'{"trace":{},"metrics":{}}')


def test_trace_is_422_in_v1_and_partial_in_v2_when_it_is_incomplete(served: Served) -> None:
    served.reader.outcome = PARTIAL
    reply = served.get("/api/traces/1", accept=PROTOBUF)
    assert (reply.status, reply.headers["content-type"], reply.body.decode()) == (422, TEXT, PARTIAL.message)
    reply = served.get("/api/v2/traces/1")
    assert (reply.status, reply.body) == (200, V2_PARTIAL_JSON)
    reply = served.get("/api/v2/traces/1", accept=PROTOBUF)
    assert (reply.status, reply.body) == (200, b"\x0a\x13" + TRACE + b"\x18\x01\x22\x42" + PARTIAL.message.encode())


ASKED = [
    ("1", (0, 1), None),
    ("0af7651916cd43dd8448eb211c80319c", (0x0AF7651916CD43DD, 0x8448EB211C80319C), None),
    ("AF7651916CD43DD8448EB211C80319C", (0x0AF7651916CD43DD, 0x8448EB211C80319C), None),
    ("abc?start=1700000000&end=1700000060", (0, 0xABC), TimeRange(1_700_000_000_000_000_000, 1_700_000_060_000_000_000)),
    ("abc?start=&end=&tag=x&tag=y", (0, 0xABC), None),
]


@pytest.mark.parametrize("version", ["", "v2/"])
@pytest.mark.parametrize(("question", "trace_id", "time_range"), ASKED)
def test_reader_is_asked_for_the_id_and_range_when_they_are_valid(
    served: Served, version: str, question: str, trace_id: tuple[int, int], time_range: TimeRange | None
) -> None:
    assert served.get(f"/api/{version}traces/{question}").status == 200
    assert served.reader.asked == [("single-tenant", trace_id, time_range)]


BAD_QUESTIONS = [
    ("12xz", "trace IDs can only contain hex characters: invalid character 'x' at position 3"),
    ("12%C3%A9", "trace IDs can only contain hex characters: invalid character 'é' at position 3"),
    ("0" * 33, "trace IDs can't be larger than 128 bits"),
    ("1?start=20&end=10", "http parameter start must be before end. received start=20 end=10"),
    ("1?start=20&end=20", "http parameter start must be before end. received start=20 end=20"),
    ("1?start=x&end=20", "invalid start: 'x' is neither unix seconds or nanoseconds nor an RFC 3339 time"),
]


@pytest.mark.parametrize("version", ["", "v2/"])
@pytest.mark.parametrize(("question", "message"), BAD_QUESTIONS)
def test_trace_is_400_with_a_plain_text_when_the_question_is_bad(served: Served, version: str, question: str, message: str) -> None:
    reply = served.get(f"/api/{version}traces/{question}", accept=PROTOBUF)
    assert (reply.status, reply.headers["content-type"], reply.body.decode()) == (400, TEXT, message)
    assert served.reader.asked == []


READER_ERRORS: list[tuple[Exception, int, str]] = [
    (NoTenant("no org id"), 401, "no org id"),
    (TooLarge("query of 200 kB"), 413, "query of 200 kB"),
    (Overloaded("busy", retry_after_seconds=3), 429, "busy"),
    (Unavailable("stopping"), 503, "stopping"),
    (StoreError("bucket is away", transient=True), 503, "bucket is away"),
    (CorruptData("checksum"), 500, "internal error, described in the log of the server"),
    (ZeroDivisionError("secret"), 500, "internal error, described in the log of the server"),
]


@pytest.mark.parametrize(("error", "http_status", "message"), READER_ERRORS)
def test_trace_has_the_status_of_its_error_in_plain_text_when_reading_fails(
    served: Served, error: Exception, http_status: int, message: str
) -> None:
    served.reader.outcome = error
    reply = served.get("/api/v2/traces/1", accept=PROTOBUF)
    assert (reply.status, reply.headers["content-type"], reply.body.decode()) == (http_status, TEXT, message)
    assert reply.headers.get("retry-after") == ("3" if http_status == 429 else None)


COMPRESSION = [
    # Accept-Encoding, bytes of the answer, compressed
    ("gzip", 1024, True),
    ("gzip", 1023, False),
    ("br, GZIP;q=0.5", 2000, True),
    ("*", 2000, True),
    ("gzip;q=0", 2000, False),
    ("identity", 2000, False),
    ("", 2000, False),
]


@pytest.mark.parametrize(("accept_encoding", "size", "compressed"), COMPRESSION)
def test_trace_is_gzipped_when_it_is_large_and_that_is_accepted(served: Served, accept_encoding: str, size: int, compressed: bool) -> None:
    served.reader.outcome = TraceAnswer(bytes(size), 1)
    reply = served.get("/api/traces/1", accept=PROTOBUF, accept_encoding=accept_encoding)
    assert reply.headers.get("content-encoding") == ("gzip" if compressed else None)
    assert reply.headers["content-length"] == str(len(reply.body))
    assert (gzip.decompress(reply.body) if compressed else reply.body) == bytes(size)


@pytest.mark.parametrize("path", ["/", "/api/traces/", "/api/v2/traces/", "/api/traces/1/2", "/api/echo/", "/api/unknown"])
def test_path_is_404_in_text_when_it_is_not_ours(served: Served, path: str) -> None:
    reply = served.get(path)
    assert (reply.status, reply.headers["content-type"], reply.body) == (404, TEXT, b"404 page not found")


@pytest.mark.parametrize("path", ["/api/traces/1", "/api/v2/traces/1", "/ready"])
def test_method_is_405_when_it_is_not_get(served: Served, path: str) -> None:
    assert served.get(path, "POST").status == 405


def test_tenant_comes_from_the_header_when_multitenancy_is_on() -> None:
    with serving(multitenancy=True) as served:
        reply = served.get("/api/traces/1")
        assert (reply.status, reply.headers["content-type"], reply.body) == (401, TEXT, b"no org id")
        assert served.get("/api/v2/traces/1", x_scope_orgid="team-a").status == 200
        assert served.reader.asked == [("team-a", (0, 1), None)]
        assert served.get("/api/echo").status == 200


def test_query_is_429_when_the_queue_is_full_and_status_pages_answer_still() -> None:
    with serving(query_threads=1, query_queue_max=0) as served, ThreadPoolExecutor(1) as pool:
        served.reader.gate.clear()
        first = pool.submit(served.get, "/api/v2/traces/1")
        assert served.reader.entered.acquire(timeout=WAIT_SECONDS)
        second = served.get("/api/v2/traces/1")
        assert (second.status, second.headers["retry-after"]) == (429, "1")
        assert second.body == b"job queue full: 1 queries run and 0 wait (server.query_queue_max); ask again later"
        assert [served.get(path).status for path in ("/ready", "/metrics", "/api/echo")] == [200, 200, 200]
        served.reader.gate.set()
        assert first.result(WAIT_SECONDS).status == 200


def test_query_is_504_when_it_takes_too_long_and_holds_its_thread_until_it_ends() -> None:
    with serving(query=QuerySettings(timeout_seconds=0.1), query_threads=1, query_queue_max=0) as served:
        served.reader.gate.clear()
        reply = served.get("/api/v2/traces/1")
        assert (reply.status, reply.body) == (504, b"the query took longer than 0.1 seconds")
        assert served.get("/api/v2/traces/1").status == 429
        served.reader.gate.set()
        eventually(lambda: served.metric("spanlake_work_tasks", pool="query") == 0)
        assert served.get("/api/v2/traces/1").status == 200

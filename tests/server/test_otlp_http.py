"""OTLP over HTTP on real sockets: every status, header and body of the wire contract, section 7.2."""

from __future__ import annotations

import gzip
import json
import socket
import zlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
import zstandard
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest, ExportTraceServiceResponse
from serving import WAIT_SECONDS, Reply, Served, eventually, read_status, read_to_end, serving

from spanlake.model.errors import CorruptData, InvalidInput, NoTenant, Overloaded, StoreError, TooLarge, Unavailable
from spanlake.model.ingest import Accepted

PROTOBUF, JSON = "application/x-protobuf", "application/json"
PAYLOAD = b"\x0a\x02\x12\x00" * 100  # the receiver of these tests does not look into it
JSON_BODY = b'{"resourceSpans":[{"scopeSpans":[{"spans":[{"name":"a"}]}]}]}'


def raw_deflate(body: bytes) -> bytes:
    stream = zlib.compressobj(wbits=-15)
    return stream.compress(body) + stream.flush()


def streamed_zstd(body: bytes) -> bytes:
    """A frame that does not tell the size of its content."""
    stream = zstandard.ZstdCompressor().compressobj()
    return stream.compress(body) + stream.flush()


@pytest.fixture(scope="module")
def server() -> Iterator[Served]:
    with serving(request_bytes_max=10_000, json_bytes_max=5_000) as served:
        yield served


@pytest.fixture
def served(server: Served) -> Served:
    server.receiver.outcome = Accepted(1)
    server.receiver.pushed.clear()
    return server


@pytest.mark.parametrize(
    ("encoding", "compress"),
    [
        (None, bytes),
        ("", bytes),
        ("identity", bytes),
        ("gzip", gzip.compress),
        ("GZIP", gzip.compress),
        ("gzip", lambda body: gzip.compress(body[:7]) + gzip.compress(body[7:])),
        ("deflate", zlib.compress),
        ("deflate", raw_deflate),
        ("zlib", zlib.compress),
        ("zstd", zstandard.compress),
        ("zstd", streamed_zstd),
        ("zstd", lambda body: zstandard.compress(body[:7]) + streamed_zstd(body[7:])),
    ],
)
@pytest.mark.parametrize("content_type", [PROTOBUF, JSON, "Application/JSON; charset=utf-8"])
def test_push_succeeds_in_the_request_encoding_when_compressed_in_any_way(
    served: Served, encoding: str | None, compress: Callable[[bytes], bytes], content_type: str
) -> None:
    body = PAYLOAD if content_type == PROTOBUF else JSON_BODY
    headers = {} if encoding is None else {"content_encoding": encoding}
    reply = served.push(compress(body), content_type=content_type, **headers)
    media_type, answer = (PROTOBUF, b"\x0a\x00") if content_type == PROTOBUF else (JSON, b'{"partialSuccess":{}}')
    assert (reply.status, reply.headers["content-type"], reply.body) == (200, media_type, answer)
    ((tenant, payload),) = served.receiver.pushed
    assert tenant == "single-tenant"
    assert payload == (PAYLOAD if content_type == PROTOBUF else b"\x0a\x07\x12\x05\x12\x03\x2a\x01a")


def test_push_succeeds_when_the_body_is_chunked(served: Served) -> None:
    assert served.push(iter([PAYLOAD[:10], PAYLOAD[10:]]), content_type=PROTOBUF).status == 200
    assert served.receiver.pushed == [("single-tenant", PAYLOAD)]


@pytest.mark.parametrize(("body", "content_type", "answer"), [(b"", PROTOBUF, b"\x0a\x00"), (b"{}", JSON, b'{"partialSuccess":{}}')])
def test_push_succeeds_without_asking_the_receiver_when_it_has_no_spans(
    served: Served, body: bytes, content_type: str, answer: bytes
) -> None:
    reply = served.push(body, content_type=content_type)
    assert (reply.status, reply.body, served.receiver.pushed) == (200, answer, [])


@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "DELETE", "OPTIONS", "PATCH"])
def test_push_is_405_in_text_when_the_method_is_not_post(served: Served, method: str) -> None:
    reply = served.push(None, method, content_type=JSON)
    assert (reply.status, reply.headers["content-type"], reply.headers["allow"]) == (405, "text/plain; charset=utf-8", "POST")
    assert reply.body == (b"" if method == "HEAD" else b"405 method not allowed, supported: [POST]")


@pytest.mark.parametrize("content_type", [None, "", "text/plain", "application/protobuf", "application/x-protobuffer", "json"])
def test_push_is_415_in_text_when_the_content_type_is_not_ours(served: Served, content_type: str | None) -> None:
    reply = served.push(PAYLOAD, **({} if content_type is None else {"content_type": content_type}))
    assert (reply.status, reply.headers["content-type"]) == (415, "text/plain; charset=utf-8")
    assert reply.body == b"415 unsupported media type, supported: [application/json, application/x-protobuf]"


@pytest.mark.parametrize("path", ["/", "/v1/traces/", "/v1/metrics", "/v1/logs", "/v1/traces/x"])
def test_push_is_404_in_text_when_the_path_is_not_ours(served: Served, path: str) -> None:
    assert served.push(PAYLOAD, path=path, content_type=PROTOBUF).status == 404


def status_of(reply: Reply) -> tuple[int, str, int | None]:
    """(code, message, seconds of RetryInfo) of a google.rpc.Status in the reply's own encoding."""
    if reply.headers["content-type"] == JSON:
        content = json.loads(reply.body)
        delays = [int(detail["retryDelay"].removesuffix("s")) for detail in content.get("details", [])]
        return content["code"], content["message"], delays[0] if delays else None
    assert reply.headers["content-type"] == PROTOBUF
    return read_status(reply.body)


BodyFault = tuple[bytes | list[bytes], str, int, int, str]
BODY_FAULTS: list[BodyFault] = [
    # body (a list: in chunks), content encoding, HTTP status, gRPC code, message
    (PAYLOAD, "br", 400, 3, "unsupported content encoding 'br', supported: identity, gzip, deflate, zlib, zstd"),
    (PAYLOAD, "gzip, gzip", 400, 3, "unsupported content encoding 'gzip, gzip'"),
    (PAYLOAD, "gzip", 400, 3, "the body is not gzip: "),
    (PAYLOAD, "zstd", 400, 3, "the body is not zstd: "),
    (PAYLOAD, "deflate", 400, 3, "the body is not deflate: "),
    (b"", "gzip", 400, 3, "the body is not gzip: it is cut"),
    (gzip.compress(PAYLOAD)[:-1], "gzip", 400, 3, "the body is not gzip: it is cut"),
    (zstandard.compress(PAYLOAD)[:-1], "zstd", 400, 3, "the body is not zstd: it is cut"),
    (zlib.compress(PAYLOAD) + b"x", "zlib", 400, 3, "the body is not zlib: something follows its end"),
    (b"x" * 10_001, "", 413, 8, "the body has 10001 bytes, at most 10000 are accepted"),
    ([b"x" * 6000, b"x" * 6000], "", 413, 8, "the body is larger than 10000 bytes"),
    (gzip.compress(bytes(10_001)), "gzip", 413, 8, "the body is larger than"),
    (gzip.compress(bytes(9_000_000)), "gzip", 413, 8, "the body is larger than"),
    (streamed_zstd(bytes(50_000_000)), "zstd", 413, 8, "the body is larger than"),
]
IN_JSON_ONLY: list[BodyFault] = [
    (b"", "", 400, 3, "malformed JSON: "),
    (b"[]", "", 400, 3, "the request: expected an object, not an array"),
    (b'{"resourceSpans":[1]}', "", 400, 3, "resourceSpans[0]: expected an object, not 1"),
    (b" " * 5001, "", 413, 8, "the JSON body has 5001 bytes, at most 5000 are accepted; protobuf may be larger"),
    (gzip.compress(b" " * 5001), "gzip", 413, 8, "the body is larger than 5000 bytes after decompression"),
]


@pytest.mark.parametrize(
    ("content_type", "case"),
    [*((kind, case) for case in BODY_FAULTS for kind in (PROTOBUF, JSON)), *((JSON, case) for case in IN_JSON_ONLY)],
)
def test_push_is_refused_in_the_request_encoding_when_the_body_is_bad(served: Served, content_type: str, case: BodyFault) -> None:
    body, encoding, http_status, code, message = case
    headers = {"content_encoding": encoding} if encoding else {}
    reply = served.push(iter(body) if isinstance(body, list) else body, content_type=content_type, **headers)
    assert (reply.status, "retry-after" in reply.headers) == (http_status, False)
    assert status_of(reply)[0] == code
    assert status_of(reply)[1].startswith(message)
    assert served.receiver.pushed == []
    assert served.metric("spanlake_push_body_bytes") == 0


RECEIVER_ERRORS = [
    # error, HTTP status, (gRPC code, message, seconds to wait)
    (InvalidInput("bad field"), 400, (3, "bad field", None)),
    (NoTenant("no org id"), 401, (16, "no org id", None)),
    (TooLarge("too many spans"), 413, (8, "too many spans", None)),
    (Overloaded("live memory is full", retry_after_seconds=7), 429, (8, "live memory is full", 7)),
    (Unavailable("warming up"), 503, (14, "warming up", None)),
    (StoreError("disk full", transient=False), 503, (14, "disk full", None)),
    (CorruptData("checksum"), 503, (14, "internal error, described in the log of the server", None)),
    (ZeroDivisionError("secret"), 503, (14, "internal error, described in the log of the server", None)),
    (InvalidInput("x" * 5000), 400, (3, "x" * 999 + "…", None)),
]


@pytest.mark.parametrize("content_type", [PROTOBUF, JSON])
@pytest.mark.parametrize(("error", "http_status", "status"), RECEIVER_ERRORS)
def test_push_is_refused_with_the_status_of_its_error_when_the_receiver_refuses(
    served: Served, content_type: str, error: Exception, http_status: int, status: tuple[int, str, int | None]
) -> None:
    served.receiver.outcome = error
    reply = served.push(PAYLOAD if content_type == PROTOBUF else JSON_BODY, content_type=content_type)
    assert (reply.status, status_of(reply)) == (http_status, status)
    assert reply.headers.get("retry-after") == (None if status[2] is None else str(status[2]))


def test_push_reports_rejected_spans_when_only_some_are_kept(served: Served) -> None:
    served.receiver.outcome = Accepted(1, rejected=2, reason="span ids must be 64 bit")
    reply = served.push(PAYLOAD, content_type=PROTOBUF)
    partial = ExportTraceServiceResponse.FromString(reply.body).partial_success
    assert (reply.status, partial.rejected_spans, partial.error_message) == (200, 2, "span ids must be 64 bit")

    spans = b'{"resourceSpans":[{"scopeSpans":[{"spans":[{"name":"a"},{"name":1}]}]}]}'
    reply = served.push(spans, content_type=JSON)
    place = "resourceSpans[0].scopeSpans[0].spans[1].name: expected a string, not 1"
    expected = {"rejectedSpans": "3", "errorMessage": f"{place}; span ids must be 64 bit"}
    assert (reply.status, json.loads(reply.body)) == (200, {"partialSuccess": expected})


def test_push_ignores_authorization_and_tenant_headers_when_multitenancy_is_off(served: Served) -> None:
    reply = served.push(PAYLOAD, content_type=PROTOBUF, authorization="Basic Og==", x_scope_orgid="../..")
    assert (reply.status, served.receiver.pushed) == (200, [("single-tenant", PAYLOAD)])


TENANT_CHARACTERS = "use only a-z A-Z 0-9 ! - _ . * ' ( ), and neither '.' nor '..'"
TENANT_CASES = [
    # values of X-Scope-OrgID, HTTP status, tenant or message
    (["team-a"], 200, "team-a"),
    (["team-a", "team-a"], 200, "team-a"),
    (["", "team-a"], 200, "team-a"),
    ([], 401, "no org id"),
    ([""], 401, "no org id"),
    (["a", "b"], 401, "X-Scope-OrgID names 2 tenants, expected one"),
    (["a|b"], 401, f"tenant name 'a|b' is refused: {TENANT_CHARACTERS}"),
    ([".."], 401, f"tenant name '..' is refused: {TENANT_CHARACTERS}"),
]


@pytest.fixture(scope="module")
def multitenant() -> Iterator[Served]:
    with serving(multitenancy=True) as served:
        yield served


@pytest.mark.parametrize(("values", "http_status", "expected"), TENANT_CASES)
def test_push_goes_to_the_named_tenant_when_multitenancy_is_on(
    multitenant: Served, values: list[str], http_status: int, expected: str
) -> None:
    multitenant.receiver.pushed.clear()
    head = "".join(f"X-Scope-OrgID: {value}\r\n" for value in values)
    request = f"POST /v1/traces HTTP/1.0\r\nContent-Type: {PROTOBUF}\r\nContent-Length: {len(PAYLOAD)}\r\n{head}\r\n"
    with socket.create_connection(("127.0.0.1", multitenant.ports.otlp_http), WAIT_SECONDS) as connection:
        connection.sendall(request.encode() + PAYLOAD)
        answer = read_to_end(connection)
    assert answer.startswith(f"HTTP/1.1 {http_status} ".encode())
    if http_status == 200:
        assert multitenant.receiver.pushed == [(expected, PAYLOAD)]
    else:
        assert read_status(answer.partition(b"\r\n\r\n")[2]) == (16, expected, None)


def test_push_of_nothing_succeeds_when_no_tenant_is_named(multitenant: Served) -> None:
    assert multitenant.push(b"", content_type=PROTOBUF).status == 200
    assert multitenant.push(b"{}", content_type=JSON).status == 200


def test_push_is_429_with_retry_after_when_the_queue_is_full() -> None:
    with serving(receive_threads=1, receive_queue_max=0) as served, ThreadPoolExecutor(1) as pool:
        served.receiver.gate.clear()
        first = pool.submit(served.push, PAYLOAD, content_type=PROTOBUF)
        assert served.receiver.entered.acquire(timeout=WAIT_SECONDS)
        second = served.push(JSON_BODY, content_type=JSON)
        assert (second.status, second.headers["retry-after"]) == (429, "1")
        assert status_of(second) == (8, "job queue full: 1 requests are running or waiting (otlp-http)", 1)
        served.receiver.gate.set()
        assert first.result(WAIT_SECONDS).status == 200
        assert served.push(PAYLOAD, content_type=PROTOBUF).status == 200


def test_push_is_429_when_bodies_in_flight_fill_the_memory_for_them() -> None:
    with serving(receive_bytes_max=1500) as served, ThreadPoolExecutor(1) as pool:
        served.receiver.gate.clear()
        first = pool.submit(served.push, b"x" * 1000, content_type=PROTOBUF)
        assert served.receiver.entered.acquire(timeout=WAIT_SECONDS)
        as_it_is = served.push(b"x" * 1000, content_type=PROTOBUF)
        after_decompression = served.push(gzip.compress(b"x" * 1000), content_type=PROTOBUF, content_encoding="gzip")
        for reply in (as_it_is, after_decompression):
            assert (reply.status, reply.headers["retry-after"]) == (429, "1")
            assert status_of(reply) == (8, "bodies of 1500 bytes in all are in flight, as many as are accepted", 1)
        served.receiver.gate.set()
        assert first.result(WAIT_SECONDS).status == 200
        assert served.push(b"x" * 1000, content_type=PROTOBUF).status == 200


def test_push_is_503_when_the_body_does_not_arrive_in_time() -> None:
    head = f"POST /v1/traces HTTP/1.0\r\nContent-Type: {PROTOBUF}\r\nContent-Length: 100\r\n\r\nabc".encode()
    with serving(body_seconds=0.05) as served:
        with socket.create_connection(("127.0.0.1", served.ports.otlp_http), WAIT_SECONDS) as connection:
            connection.sendall(head)
            answer = read_to_end(connection)
        assert answer.startswith(b"HTTP/1.1 503 ")
        assert b"the body did not arrive within 0.05 seconds, 3 bytes did" in answer
        assert served.push(PAYLOAD, content_type=PROTOBUF).status == 200


def test_body_is_not_asked_for_when_its_announced_size_is_refused(served: Served) -> None:
    head = f"POST /v1/traces HTTP/1.1\r\nContent-Type: {PROTOBUF}\r\nContent-Length: 10001\r\nExpect: 100-continue\r\nHost: x\r\n\r\n"
    with socket.create_connection(("127.0.0.1", served.ports.otlp_http), WAIT_SECONDS) as connection:
        connection.sendall(head.encode())
        assert connection.recv(17) == b"HTTP/1.1 413 Requ"


def test_memory_is_given_back_when_a_client_goes_away_in_its_body(served: Served) -> None:
    head = f"POST /v1/traces HTTP/1.1\r\nContent-Type: {PROTOBUF}\r\nContent-Length: 9000\r\nHost: x\r\n\r\n"
    for _ in range(20):
        with socket.create_connection(("127.0.0.1", served.ports.otlp_http), WAIT_SECONDS) as connection:
            connection.sendall(head.encode() + b"x" * 8000)
    assert served.push(PAYLOAD, content_type=PROTOBUF).status == 200
    eventually(lambda: served.metric("spanlake_http_connections", listener="otlp_http") == 0)
    assert served.metric("spanlake_push_body_bytes") == 0
    assert len(served.receiver.pushed) == 1


def test_large_payload_arrives_whole_when_it_is_as_large_as_the_limit() -> None:
    payload = ExportTraceServiceRequest()
    payload.resource_spans.add().schema_url = "x" * 1000
    body = payload.SerializeToString() * (64 * 1024)
    with serving() as served:
        assert len(body) <= 64 << 20
        assert served.push(body, content_type=PROTOBUF).status == 200
        assert served.push(zstandard.compress(body), content_type=PROTOBUF, content_encoding="zstd").status == 200
        assert served.push(gzip.compress(body, 1), content_type=PROTOBUF, content_encoding="gzip").status == 200
        assert [pushed == body for _, pushed in served.receiver.pushed] == [True, True, True]


def test_pushes_are_counted_by_outcome_when_some_are_refused() -> None:
    with serving() as served:
        served.push(PAYLOAD, content_type=PROTOBUF)
        served.push(gzip.compress(PAYLOAD), content_type=PROTOBUF, content_encoding="gzip")
        served.receiver.outcome = Overloaded("full")
        served.push(PAYLOAD, content_type=PROTOBUF)
        requests = {
            code: served.metric("spanlake_push_requests_total", protocol="otlp_http", code=code) for code in ("ok", "resource_exhausted")
        }
        assert requests == {"ok": 2, "resource_exhausted": 1}
        assert served.metric("spanlake_push_bytes_total", protocol="otlp_http") == 2 * len(PAYLOAD)

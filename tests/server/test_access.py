"""Credentials over real sockets: who may query, push and change limits, for which tenants; and nothing of it while access is open."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import grpc
import pytest
from serving import FREE_PORTS, Served, listening, read_status, recording_queries

from spanlake.model.settings import QuerySettings
from spanlake.model.trace import TraceAnswer
from spanlake.server.access.credentials import Credential, Role, secret_digest
from spanlake.server.listeners import Core, Listeners
from spanlake.server.otlp_grpc import EXPORT_METHOD

R, W, A = Role.READ, Role.WRITE, Role.ADMIN


def credential(secret: str, roles: set[Role], tenants: set[str] | None, *, user: str = "") -> Credential:
    return Credential(secret_digest(secret, user=user), None if tenants is None else frozenset(tenants), frozenset(roles))


CREDENTIALS = (
    credential("reader-of-a", {R}, {"a"}),
    credential("writer-of-a", {W}, {"a"}),
    credential("reader-of-a-and-b", {R}, {"a", "b"}),
    credential("everything", {R, W, A}, None),
    credential("secret: with colon", {R}, {"a"}, user="grafana"),
)
PAYLOAD = b"\n\x00"


def basic(user: str, password: str) -> str:
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()


@contextmanager
def restricted(*credentials: Credential, multitenancy: bool = True) -> Iterator[Served]:
    """A server with these credentials."""
    served = Served()
    served.reader.outcome = TraceAnswer(b"\n\x00", 1)
    queries = recording_queries(served.queries)
    core = Core(served.receiver, served.reader, served.health, served.registry, queries, credentials=credentials or None)
    with listening(Listeners(core, replace(FREE_PORTS, multitenancy=multitenancy), QuerySettings())) as served.ports:
        yield served


@pytest.fixture(scope="module")
def guarded() -> Iterator[Served]:
    with restricted(*CREDENTIALS) as served:
        yield served


def sent(authorization: str | None, tenant: str | None) -> dict[str, str]:
    return {name: value for name, value in (("Authorization", authorization), ("X_Scope_OrgID", tenant)) if value is not None}


QUERIES = [
    # Authorization, X-Scope-OrgID, status, tenants that were asked or the text of the refusal
    (None, "a", 401, "credentials are missing"),
    ("", "a", 401, "credentials are missing"),
    ("Bearer wrong", "a", 401, "the credentials are not known"),
    ("Bearer", "a", 401, "the credentials are not known"),
    ("Digest x", "a", 401, "neither Bearer nor Basic"),
    ("Basic !", "a", 401, "not user:password in base64"),
    (basic("grafana", "wrong"), "a", 401, "the credentials are not known"),
    (basic("other", "secret: with colon"), "a", 401, "the credentials are not known"),
    ("Bearer secret: with colon", "a", 401, "the credentials are not known"),
    ("Bearer writer-of-a", "a", 403, "these credentials do not have the role read"),
    ("Bearer reader-of-a", "b", 403, "these credentials are not for tenant 'b'"),
    ("Bearer reader-of-a", "a|b", 403, "these credentials are not for tenant 'b'"),
    ("Bearer reader-of-a", "../a", 401, "tenant name '../a' is refused"),
    ("Bearer reader-of-a-and-b", None, 401, "no org id"),
    ("Bearer everything", None, 401, "no org id"),
    ("Bearer reader-of-a", "a", 200, "a"),
    ("bearer  reader-of-a ", "a", 200, "a"),
    ("Bearer reader-of-a", None, 200, "a"),
    ("Bearer reader-of-a", "", 200, "a"),
    ("Bearer reader-of-a-and-b", "b|a", 200, "a|b"),
    ("Bearer everything", "x|y", 200, "x|y"),
    (basic("grafana", "secret: with colon"), None, 200, "a"),
    (basic("b", "reader-of-a-and-b"), None, 200, "b"),
    (basic("c", "reader-of-a-and-b"), None, 403, "not for tenant 'c'"),
    (basic("c", "reader-of-a-and-b"), "a", 200, "a"),
    (basic("", "reader-of-a"), None, 200, "a"),
]


@pytest.mark.parametrize(("authorization", "tenant", "status", "expected"), QUERIES)
def test_query_needs_credentials_for_its_tenants(
    guarded: Served, authorization: str | None, tenant: str | None, status: int, expected: str
) -> None:
    guarded.reader.asked.clear()
    reply = guarded.get("/api/v2/traces/1", **sent(authorization, tenant))
    assert reply.status == status
    if status == 200:
        assert [asked[0] for asked in guarded.reader.asked] == [expected]
    else:
        assert expected in reply.body.decode()
        assert guarded.reader.asked == []
        assert ("www-authenticate" in reply.headers) == (status == 401)


@pytest.mark.parametrize(
    "path",
    [
        "/api/search",
        "/api/traces/1",
        "/api/v2/search/tags",
        "/api/search/tag/a/values",
        "/api/metrics/query_range",
        "/api/explain",
        "/nothing",
    ],
)
def test_every_path_is_closed_to_strangers(guarded: Served, path: str) -> None:
    assert guarded.get(path).status == 401
    assert guarded.get(path, X_Scope_OrgID="a").status == 401


@pytest.mark.parametrize("path", ["/ready", "/api/echo", "/api/status/buildinfo"])
def test_probes_are_open(guarded: Served, path: str) -> None:
    assert guarded.get(path).status == 200


@pytest.mark.parametrize("path", ["/metrics", "/status/config", "/status"])
def test_what_is_about_all_tenants_needs_credentials_for_all(guarded: Served, path: str) -> None:
    assert guarded.get(path).status == 401
    assert guarded.get(path, Authorization="Bearer reader-of-a-and-b").status == 403
    assert guarded.get(path, Authorization="Bearer everything").status == 200


PUSHES: list[tuple[str | None, str | None, int, str]] = [
    (None, "a", 401, "credentials are missing"),
    ("Bearer reader-of-a", "a", 403, "these credentials do not have the role write"),
    ("Bearer writer-of-a", "b", 403, "these credentials are not for tenant 'b'"),
    ("Bearer everything", "a|b", 401, "tenant name 'a|b' is refused"),
    ("Bearer everything", None, 401, "no org id"),
    ("Bearer writer-of-a", None, 200, "a"),
    (basic("a", "writer-of-a"), None, 200, "a"),
    ("Bearer everything", "b", 200, "b"),
]
GRPC_STATUS = {401: grpc.StatusCode.UNAUTHENTICATED, 403: grpc.StatusCode.PERMISSION_DENIED}


@pytest.mark.parametrize(("authorization", "tenant", "status", "expected"), PUSHES)
def test_push_over_http_needs_credentials(
    guarded: Served, authorization: str | None, tenant: str | None, status: int, expected: str
) -> None:
    guarded.receiver.pushed.clear()
    reply = guarded.push(PAYLOAD, Content_Type="application/x-protobuf", **sent(authorization, tenant))
    assert reply.status == status
    if status == 200:
        assert guarded.receiver.pushed == [(expected, PAYLOAD)]
    else:
        assert expected in read_status(reply.body)[1]
        assert guarded.receiver.pushed == []


@pytest.mark.parametrize(("authorization", "tenant", "status", "expected"), PUSHES)
def test_push_over_grpc_needs_credentials(
    guarded: Served, authorization: str | None, tenant: str | None, status: int, expected: str
) -> None:
    guarded.receiver.pushed.clear()
    metadata = [(name.replace("_", "-").lower(), value) for name, value in sent(authorization, tenant).items()]
    with grpc.insecure_channel(f"127.0.0.1:{guarded.ports.otlp_grpc}") as channel:
        export: Any = channel.unary_unary(EXPORT_METHOD)
        if status == 200:
            export(PAYLOAD, metadata=metadata, timeout=20)
            assert guarded.receiver.pushed == [(expected, PAYLOAD)]
            return
        with pytest.raises(grpc.RpcError) as refusal:
            export(PAYLOAD, metadata=metadata, timeout=20)
    error: Any = refusal.value
    assert (error.code(), expected in error.details()) == (GRPC_STATUS[status], True)
    assert guarded.receiver.pushed == []


def test_strangers_are_refused_even_with_an_empty_push(guarded: Served) -> None:
    assert guarded.push(b"", Content_Type="application/x-protobuf").status == 401
    assert guarded.push(b"", Content_Type="application/x-protobuf", Authorization="Bearer everything").status == 200


@pytest.mark.parametrize("port", ["http", "grpc"])
@pytest.mark.parametrize(
    ("authorization", "code"),
    [
        (None, grpc.StatusCode.UNAUTHENTICATED),
        ("Bearer writer-of-a", grpc.StatusCode.PERMISSION_DENIED),
        ("Bearer reader-of-a", grpc.StatusCode.INVALID_ARGUMENT),  # let in, and then the request is found bad
    ],
)
def test_query_over_grpc_needs_credentials(guarded: Served, port: str, authorization: str | None, code: grpc.StatusCode) -> None:
    metadata = [("x-scope-orgid", "a"), *([("authorization", authorization)] if authorization else [])]
    with grpc.insecure_channel(f"127.0.0.1:{getattr(guarded.ports, port)}") as channel:
        search: Any = channel.unary_stream("/tempopb.StreamingQuerier/Search")
        with pytest.raises(grpc.RpcError) as refusal:
            list(search(b"\xff", metadata=metadata, timeout=20))
    error: Any = refusal.value
    assert error.code() == code, error.details()


def test_refusals_are_counted_by_reason() -> None:
    with restricted(*CREDENTIALS) as served:
        served.get("/api/search")
        served.get("/api/search", Authorization="Bearer wrong")
        served.get("/api/search", Authorization="Bearer writer-of-a")
        served.get("/api/search", Authorization="Bearer reader-of-a", X_Scope_OrgID="b")
        served.get("/api/search", Authorization="nonsense")
        reasons = ("missing", "unknown", "role", "tenant", "malformed")
        assert [served.metric("spanlake_access_refusals_total", reason=reason) for reason in reasons] == [1] * 5


def test_authorization_is_ignored_while_access_is_open() -> None:
    with restricted(multitenancy=False) as served:
        for authorization in ("Bearer whatever", "nonsense", basic("a", "b")):
            assert served.get("/api/v2/traces/1", Authorization=authorization).status == 200
            assert served.push(PAYLOAD, Content_Type="application/x-protobuf", Authorization=authorization).status == 200
        assert served.get("/metrics").status == 200


def test_credentials_hold_without_multitenancy_too() -> None:
    everybody, other = credential("one", {R}, {"single-tenant"}), credential("two", {R}, {"other"})
    with restricted(everybody, other, multitenancy=False) as served:
        assert served.get("/api/v2/traces/1").status == 401
        assert served.get("/api/v2/traces/1", Authorization="Bearer one", X_Scope_OrgID="anything").status == 200
        assert served.get("/api/v2/traces/1", Authorization=basic("anything", "one")).status == 200
        assert served.get("/api/v2/traces/1", Authorization="Bearer two").status == 403
        assert [tenant for tenant, *_ in served.reader.asked] == ["single-tenant"] * 2

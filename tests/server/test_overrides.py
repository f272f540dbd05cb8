"""`/api/overrides` over real sockets, with a store in a directory: versions, conflicts, merges, and limits that hold at once."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from serving import FREE_PORTS, Reply, Served, listening, recording_queries, send

from spanlake.app.tenancy.limits_in_force import LimitsInForce
from spanlake.app.tenancy.stored_limits import SUPERSEDED_NS, StoredLimits
from spanlake.model.errors import PreconditionFailed, StoreError
from spanlake.model.settings import OverrideSettings, QuerySettings, Settings
from spanlake.model.tenancy.limits import TenantLimits
from spanlake.objectstore.intercepted import Before, Call, InterceptedStore
from spanlake.objectstore.opening import open_store
from spanlake.objectstore.store import ObjectStore
from spanlake.server.access.credentials import Credential, Role, secret_digest
from spanlake.server.listeners import Core, Listeners

pytestmark = pytest.mark.slow


def limits_in(store: ObjectStore, *, api: bool = True) -> LimitsInForce:
    return LimitsInForce(Settings(overrides=OverrideSettings(api=api)), StoredLimits(store))


@contextmanager
def serving_limits(limits: LimitsInForce, credentials: tuple[Credential, ...] | None = None) -> Iterator[Served]:
    served = Served()
    queries = recording_queries(served.queries)
    core = Core(
        served.receiver, served.reader, served.health, served.registry, queries, credentials=credentials, limits=limits, overrides=limits
    )
    with listening(Listeners(core, replace(FREE_PORTS, multitenancy=True), QuerySettings())) as served.ports:
        yield served


def call(served: Served, method: str, body: Any = None, tenant: str = "acme", path: str = "/api/overrides", **headers: str) -> Reply:
    encoded = None if body is None else body if isinstance(body, bytes) else json.dumps(body).encode()
    return send(served.ports.http, method, path, encoded, {"X-Scope-OrgID": tenant, **headers})


def test_limits_are_created_read_changed_and_removed_by_their_version(tmp_path: Path) -> None:
    limits = limits_in(open_store(str(tmp_path)))
    with serving_limits(limits) as served:
        assert call(served, "GET").status == 404
        created = call(served, "POST", {"ingest_bytes_per_second": "10MB", "trace_spans_max": 7}, If_Match="0")
        assert (created.status, created.headers["etag"]) == (200, '"1"')
        assert limits.of("acme").ingest_bytes_per_second == 10_000_000
        assert limits.of("other") == TenantLimits()
        read = call(served, "GET")
        assert (read.status, read.headers["etag"], read.headers["content-type"]) == (200, '"1"', "application/json")
        assert json.loads(read.body) == {"ingest_bytes_per_second": "10MB", "trace_spans_max": 7}
        assert call(served, "GET", tenant="other").status == 404

        replaced = call(served, "POST", {"trace_spans_max": 8}, If_Match='"1"')
        assert replaced.headers["etag"] == '"2"'
        assert limits.of("acme") == TenantLimits(trace_spans_max=8)

        patched = call(served, "PATCH", {"retention_seconds": "7d", "trace_spans_max": None})
        assert (json.loads(patched.body), patched.headers["etag"]) == ({"retention_seconds": "7d"}, '"3"')
        merged = json.loads(call(served, "GET", path="/api/overrides?scope=merged").body)
        assert (merged["retention_seconds"], merged["trace_spans_max"]) == (7 * 86400, 0)

        assert call(served, "DELETE", If_Match="*").status == 200
        assert call(served, "GET").status == 404
        assert limits.of("acme") == TenantLimits()
        assert call(served, "DELETE", If_Match="*").status == 404
        assert call(served, "POST", {"trace_spans_max": 9}, If_Match="0").headers["etag"] == '"5"'


def test_changes_that_do_not_know_the_last_version_are_refused(tmp_path: Path) -> None:
    with serving_limits(limits_in(open_store(str(tmp_path)))) as served:
        missing = call(served, "POST", {})
        assert (missing.status, b"If-Match is missing" in missing.body) == (428, True)
        assert call(served, "POST", {}, If_Match="1").status == 412
        assert call(served, "POST", {}, If_Match="*").status == 412
        assert call(served, "POST", {}, If_Match="0").status == 200
        stale = call(served, "POST", {}, If_Match="0")
        assert (stale.status, stale.body) == (412, b"the overrides of tenant 'acme' have ETag 1, not 0: get them and try again")
        assert call(served, "PATCH", {}, If_Match="7").status == 412
        assert call(served, "DELETE").status == 428
        assert call(served, "DELETE", If_Match="0").status == 412
        assert call(served, "POST", {}, If_Match='W/"1"').status == 200


@pytest.mark.parametrize(
    ("body", "status", "message"),
    [
        (b"{", 400, "the body is not JSON"),
        ([], 400, "the body must be a JSON object"),
        ({"speed": 1}, 400, "speed is not a limit; limits are ingest_bytes_per_second"),
        ({"trace_spans_maxx": 1}, 400, "did you mean trace_spans_max?"),
        ({"trace_spans_max": "many"}, 400, "trace_spans_max is 'many'; expected a whole number"),
        ({"trace_spans_max": -1}, 400, "out of range"),
        ({"trace_spans_max": True}, 400, "trace_spans_max must be a number"),
        ({"trace_spans_max": None}, 400, "trace_spans_max must be a number"),
        (b" " * 70_000, 413, "at most 65536 are accepted"),
    ],
)
def test_bad_limits_are_refused_with_the_reason(tmp_path: Path, body: Any, status: int, message: str) -> None:
    with serving_limits(limits_in(open_store(str(tmp_path)))) as served:
        reply = call(served, "POST", body, If_Match="0")
        assert (reply.status, message in reply.body.decode()) == (status, True), reply.body
        assert call(served, "GET").status == 404


@pytest.mark.parametrize("tenant", ["", "..", "a/b", "a|b"])
def test_bad_tenants_are_refused(tmp_path: Path, tenant: str) -> None:
    with serving_limits(limits_in(open_store(str(tmp_path)))) as served:
        assert call(served, "POST", {}, tenant=tenant, If_Match="0").status == 401


def test_limits_can_only_be_read_unless_the_setting_allows_more(tmp_path: Path) -> None:
    with serving_limits(limits_in(open_store(str(tmp_path)), api=False)) as served:
        for method in ("POST", "PATCH", "DELETE"):
            reply = call(served, method, {}, If_Match="0")
            assert (reply.status, b"overrides.api" in reply.body) == (403, True)
        assert call(served, "GET", path="/api/overrides?scope=merged").status == 200


def test_changes_need_the_role_admin(tmp_path: Path) -> None:
    reader = Credential(secret_digest("reader"), frozenset({"acme"}), frozenset({Role.READ, Role.WRITE}))
    admin = Credential(secret_digest("admin"), frozenset({"acme"}), frozenset({Role.ADMIN}))
    with serving_limits(limits_in(open_store(str(tmp_path))), (reader, admin)) as served:
        assert call(served, "POST", {}, If_Match="0").status == 401
        assert call(served, "POST", {}, If_Match="0", Authorization="Bearer reader").status == 403
        assert call(served, "POST", {}, tenant="other", If_Match="0", Authorization="Bearer admin").status == 403
        assert call(served, "POST", {}, If_Match="0", Authorization="Bearer admin").status == 200
        assert call(served, "GET", Authorization="Bearer reader").status == 200


def test_another_process_takes_over_what_is_stored(tmp_path: Path) -> None:
    one, other = limits_in(open_store(str(tmp_path))), limits_in(open_store(str(tmp_path)))
    one.put("acme", {"trace_spans_max": 7}, after=0)
    one.put("Acme", {"trace_spans_max": 9}, after=0)
    other.reload()
    assert (other.of("acme").trace_spans_max, other.of("Acme").trace_spans_max) == (7, 9)
    other.put("acme", None, after=1)
    one.reload()
    assert one.of("acme") == TenantLimits()
    with pytest.raises(PreconditionFailed, match="were changed meanwhile"):
        one.put("acme", {}, after=1)


def test_of_many_changes_at_once_each_takes_effect_or_is_refused(tmp_path: Path) -> None:
    limits = limits_in(open_store(str(tmp_path)))
    limits.put("acme", {}, after=0)
    outcomes: list[bool] = []

    def change(number: int) -> None:
        try:
            limits.put("acme", {"trace_spans_max": number}, after=1)
            outcomes.append(True)
        except PreconditionFailed:
            outcomes.append(False)

    threads = [threading.Thread(target=change, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(outcomes) == [False] * 7 + [True]


def test_a_store_that_fails_leaves_the_limits_as_they_are(tmp_path: Path) -> None:
    failing = False

    def fail(_call: Call) -> None:
        if failing:
            raise StoreError("the store is down", transient=True)

    limits = limits_in(InterceptedStore(open_store(str(tmp_path)), Before(fail)))
    limits.put("acme", {"trace_spans_max": 7}, after=0)
    failing = True
    limits.reload()
    assert limits.of("acme").trace_spans_max == 7
    assert limits.failures["store"] == 1


def test_damaged_objects_keep_nothing_else_from_being_read(tmp_path: Path) -> None:
    store = open_store(str(tmp_path))
    limits_in(store).put("good", {"trace_spans_max": 7}, after=0)
    for number, content in enumerate((b"{", b"[]", b'{"limits": {"speed": 1}}', b'{"limits": 5}')):
        store.put(f"overrides/bad{number}/{1:020d}.json", content)
    store.put("overrides/good/note.txt", b"not ours")
    fresh = limits_in(store)
    fresh.reload()
    assert fresh.of("good").trace_spans_max == 7
    assert fresh.of("bad0") == TenantLimits()
    assert fresh.failures["store"] == 1


def test_versions_are_deleted_a_day_after_they_were_replaced(tmp_path: Path) -> None:
    store = open_store(str(tmp_path))
    now_ns = 0
    stored = StoredLimits(store, clock_ns=lambda: now_ns)
    for after in range(3):
        stored.write("acme", {}, after=after)
    assert len(list(store.list("overrides"))) == 3
    now_ns = max(info.modified_ns for info in store.list("overrides")) + SUPERSEDED_NS + 1
    stored.write("acme", {"trace_spans_max": 1}, after=3)
    assert [info.key for info in store.list("overrides")] == [f"overrides/acme/{4:020d}.json"]
    assert stored.read("acme").limits == {"trace_spans_max": 1}

"""The wrappers that other tests rely on: what they count, break and delay."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from spanlake.model.errors import KeyMissing, StoreError
from spanlake.objectstore.faulty import Fault, scripted, seeded
from spanlake.objectstore.intercepted import Before, Call, Counts, InterceptedStore
from spanlake.objectstore.opening import open_store


def test_counts_tell_requests_and_bytes_per_operation(tmp_path: Path) -> None:
    counts = Counts()
    store = InterceptedStore(open_store(str(tmp_path)), counts)
    (store.scratch / "block").write_bytes(b"123456")
    store.put("a", b"123")
    store.put_file("b", store.scratch / "block")
    store.get("a")
    store.get_ranges("b", [(0, 2), (4, 2)])
    store.head("a")
    list(store.list(""))
    with pytest.raises(KeyMissing):
        store.get("c")
    assert (counts.requests("get"), counts.requests("get", "head"), counts.requests()) == (2, 3, 7)
    assert (counts.bytes_read("get"), counts.bytes_read()) == (3, 7)
    assert (counts.bytes_put("put"), counts.bytes_put("put_file"), counts.bytes_put()) == (3, 6, 9)
    counts.reset()
    assert (counts.requests(), counts.bytes_read(), counts.bytes_put()) == (0, 0, 0)


def test_remote_store_hides_its_files(tmp_path: Path) -> None:
    inner = open_store(str(tmp_path))
    assert InterceptedStore(inner, Counts()).local_path("a") == tmp_path / "a"
    assert InterceptedStore(inner, Counts(), remote=True).local_path("a") is None


@pytest.mark.parametrize("fault", Fault)
def test_fault_has_its_effect_or_none(fault: Fault) -> None:
    inner = open_store("memory://")
    faults = scripted(put=[None, fault])
    store = InterceptedStore(inner, faults)
    store.put("a", b"old")
    with pytest.raises(StoreError, match=fault.value) as caught:
        store.put("a", b"new")
    assert caught.value.transient == (fault in {Fault.THROTTLED, Fault.TIMEOUT_BEFORE, Fault.TIMEOUT_AFTER})
    assert inner.get("a") == (b"new" if fault.name.endswith("AFTER") else b"old")
    assert faults.raised == [(Call("put", ("a",), 3), fault)]
    store.put("a", b"newer")
    assert inner.get("a") == b"newer"


def test_full_disk_still_reads_and_deletes() -> None:
    store = InterceptedStore(open_store("memory://"), seeded(1, rate=1, kinds=[Fault.DISK_FULL]))
    with pytest.raises(StoreError, match="no space left"):
        store.put("a", b"")
    assert list(store.list("")) == []
    store.delete(["a"])


def test_seeded_faults_repeat_for_the_same_seed() -> None:
    def outcomes(seed: int) -> list[bool]:
        store = InterceptedStore(open_store("memory://"), seeded(seed, rate=0.5))
        return [fails(store, key) for key in "abcdefghijklmnop"]

    assert outcomes(1) == outcomes(1) != outcomes(2)
    assert 0 < sum(outcomes(1)) < 16


def fails(store: InterceptedStore, key: str) -> bool:
    try:
        store.put(key, b"")
    except StoreError:
        return True
    return False


def test_before_can_hold_a_request_back() -> None:
    reached, gate = threading.Event(), threading.Event()

    def stop_gets(call: Call) -> None:
        if call.operation == "get":
            reached.set()
            assert gate.wait(30)

    store = InterceptedStore(open_store("memory://"), Before(stop_gets))
    with ThreadPoolExecutor(1) as pool:
        store.put("a", b"old")
        reading = pool.submit(store.get, "a")
        assert reached.wait(30)
        store.put("a", b"new")
        gate.set()
        assert reading.result() == b"new"

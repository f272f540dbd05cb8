"""What RetryingStore repeats, how long it waits, and what it believes after a lost answer."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spanlake.model.errors import KeyExists, KeyMissing, StoreError
from spanlake.model.settings import StoreSettings
from spanlake.objectstore.faulty import Fault, Faults, scripted, seeded
from spanlake.objectstore.intercepted import Before, Call, Counts, InterceptedStore
from spanlake.objectstore.opening import open_store
from spanlake.objectstore.retrying import RetryingStore
from spanlake.objectstore.store import ObjectStore


def nothing(_seconds: float) -> None:
    """A sleep that does not."""


def retrying(inner: ObjectStore, faults: Faults, attempts_max: int = 3) -> RetryingStore:
    return RetryingStore(InterceptedStore(inner, faults), StoreSettings(attempts_max=attempts_max), sleep=nothing)


@pytest.mark.parametrize("fault", [Fault.THROTTLED, Fault.TIMEOUT_BEFORE, Fault.TIMEOUT_AFTER])
@pytest.mark.parametrize("operation", ["get", "get_range", "get_ranges", "head", "put", "put_if_absent", "put_file", "delete", "list"])
def test_operation_succeeds_when_faults_are_fewer_than_attempts(operation: str, fault: Fault, tmp_path: Path) -> None:
    inner = open_store(str(tmp_path))
    inner.put("old", b"content")
    faults = scripted(**{operation: [fault, fault]})
    store = retrying(inner, faults)
    match operation:
        case "get":
            assert store.get("old") == b"content"
        case "get_range":
            assert store.get_range("old", 1, 2) == b"on"
        case "get_ranges":
            assert store.get_ranges("old", [(1, 2)]) == [b"on"]
        case "head":
            assert store.head("old").size_bytes == 7
        case "list":
            assert {info.key for info in store.list("")} == {"old"}
        case "delete":
            store.delete(["old"])
            assert list(inner.list("")) == []
        case _:
            run(store, operation, "new", b"new content")
            assert inner.get("new") == b"new content"
    assert faults.raised


@pytest.mark.parametrize(
    ("outcomes", "requests", "transient"),
    [
        ([Fault.THROTTLED] * 9, 3, True),
        ([Fault.FAILED_BEFORE], 1, False),
        ([Fault.DISK_FULL], 1, False),
        ([Fault.TIMEOUT_BEFORE, Fault.FAILED_AFTER], 2, False),
        ([Fault.THROTTLED, Fault.TIMEOUT_AFTER, Fault.FAILED_BEFORE], 3, False),
    ],
)
def test_error_reaches_the_caller_when_permanent_or_out_of_attempts(outcomes: list[Fault], requests: int, *, transient: bool) -> None:
    faults = scripted(put=outcomes)
    with pytest.raises(StoreError, match=r"put of key failed") as caught:
        retrying(open_store("memory://"), faults).put("key", b"x")
    assert caught.value.transient is transient
    assert len(faults.raised) == requests
    assert ("attempt 3 of 3" in str(caught.value)) is transient


def test_missing_and_existing_keys_are_answers_not_errors() -> None:
    counts = Counts()
    store = RetryingStore(InterceptedStore(open_store("memory://"), counts), StoreSettings(), sleep=nothing)
    store.put_if_absent("a", b"1")
    with pytest.raises(KeyMissing):
        store.get("b")
    with pytest.raises(KeyExists):
        store.put_if_absent("a", b"1")
    assert counts.requests("get") == 1
    assert counts.requests("put_if_absent") == 2


@pytest.mark.parametrize("attempts_max", [1, 2, 7, 100])
def test_pauses_double_up_to_the_bound_with_jitter(attempts_max: int) -> None:
    pauses: list[float] = []
    jitters = iter([0.0, 1.0] * attempts_max)
    settings = StoreSettings(attempts_max=attempts_max, backoff_first_seconds=0.5, backoff_max_seconds=3.0)
    faulty = InterceptedStore(open_store("memory://"), scripted(get=[Fault.THROTTLED] * attempts_max))
    store = RetryingStore(faulty, settings, sleep=pauses.append, jitter=lambda: next(jitters))
    with pytest.raises(StoreError):
        store.get("a")
    assert pauses == [0.25, 1.0, 1.0, 3.0, 1.5, 3.0, *[1.5, 3.0] * 50][: attempts_max - 1]


def test_put_if_absent_loses_when_a_rival_wrote_before_the_second_attempt() -> None:
    inner = open_store("memory://")
    faults = scripted(put_if_absent=[Fault.TIMEOUT_BEFORE])
    store = RetryingStore(
        InterceptedStore(inner, faults), StoreSettings(attempts_max=3), sleep=lambda _seconds: inner.put("a", b"the rival's")
    )
    with pytest.raises(KeyExists):
        store.put_if_absent("a", b"mine")
    assert inner.get("a") == b"the rival's"


def test_put_if_absent_does_not_claim_an_object_that_vanished_meanwhile() -> None:
    inner = open_store("memory://")
    faults = scripted(put_if_absent=[Fault.TIMEOUT_AFTER])

    def remove_before_get(call: Call) -> None:
        if call.operation == "get":
            inner.delete(call.keys)

    vanishing = InterceptedStore(InterceptedStore(inner, faults), Before(remove_before_get))
    with pytest.raises(KeyExists):
        RetryingStore(vanishing, StoreSettings(), sleep=nothing).put_if_absent("a", b"mine")


def test_put_file_fails_when_file_and_object_are_both_gone(tmp_path: Path) -> None:
    inner = open_store(str(tmp_path))
    (tmp_path / "block").write_bytes(b"x")
    faulty = InterceptedStore(inner, scripted(put_file=[Fault.TIMEOUT_AFTER]))
    store = RetryingStore(faulty, StoreSettings(), sleep=lambda _seconds: inner.delete(["a"]))
    with pytest.raises(StoreError, match="put_file of object 'a' failed: No such file"):
        store.put_file("a", tmp_path / "block")


def test_put_if_absent_settles_a_lost_answer_when_looking_fails_too() -> None:
    faults = scripted(put_if_absent=[Fault.TIMEOUT_AFTER], get=[Fault.THROTTLED, Fault.TIMEOUT_AFTER])
    store = retrying(open_store("memory://"), faults, attempts_max=4)
    store.put_if_absent("a", b"mine")
    assert len(faults.raised) == 3


@given(
    seed=st.integers(0, 1 << 30),
    steps=st.lists(
        st.tuples(
            st.sampled_from(["put", "put_if_absent", "delete", "put_file"]), st.sampled_from(["a", "b", "c/d"]), st.binary(max_size=3)
        ),
        max_size=20,
    ),
)
def test_store_holds_what_was_acknowledged_when_anything_may_fail(seed: int, steps: list[tuple[str, str, bytes]]) -> None:
    """After an acknowledgement the key holds that; after a failure it holds what it held or what was asked for, and nothing else."""
    inner = open_store("memory://")
    store = retrying(inner, seeded(seed, rate=0.5), attempts_max=3)
    possible: dict[str, set[bytes | None]] = {key: {None} for key in ("a", "b", "c/d")}
    for operation, key, data in steps:
        wanted = None if operation == "delete" else data
        try:
            run(store, operation, key, data)
            possible[key] = {wanted}
        except KeyExists:
            possible[key] -= {None}
        except StoreError:
            possible[key] |= {wanted}
        assert content(inner, key) in possible[key]


def run(store: ObjectStore, operation: str, key: str, data: bytes) -> None:
    match operation:
        case "put":
            store.put(key, data)
        case "put_if_absent":
            store.put_if_absent(key, data)
        case "put_file":
            (store.scratch / "block").write_bytes(data)
            store.put_file(key, store.scratch / "block")
        case _:
            store.delete([key])


def content(store: ObjectStore, key: str) -> bytes | None:
    try:
        return store.get(key)
    except KeyMissing:
        return None

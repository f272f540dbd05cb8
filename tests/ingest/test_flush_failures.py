"""Stores and disks that fail under a flush: nothing is lost, nothing is there twice, and other tenants do not wait."""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import TypeVar

import pytest

from node import Node, carrying, numbers, once, span
from spanlake.blocks.wal import FileCalls
from spanlake.model.errors import StoreError, Unavailable
from spanlake.objectstore.faulty import Fault, scripted, seeded
from spanlake.objectstore.intercepted import Before, Call, InterceptedStore
from spanlake.objectstore.store import ObjectStore

T = TypeVar("T")


class Broken:
    """A policy: requests that touch keys with `part` in them fail while it is set."""

    def __init__(self, part: str) -> None:
        self.part: str | None = part

    def around(self, call: Call, proceed: Callable[[], T]) -> T:
        if self.part is not None and any(self.part in key for key in call.keys):
            raise StoreError(f"{call.operation} of {call.keys} fails", transient=True)
        return proceed()


def faulty(**steps: Sequence[Fault | None]) -> Callable[[ObjectStore], ObjectStore]:
    return lambda store: InterceptedStore(store, scripted(**steps))


class LostCommit:
    """A policy: when armed, the next commit takes place, but then the table cannot be reached until `heal`."""

    def __init__(self, table: Path) -> None:
        self.armed = False
        self._log, self._away = table / "_delta_log", table.parent / "away"

    def around(self, call: Call, proceed: Callable[[], T]) -> T:
        result = proceed()
        if call.operation == "put_if_absent" and self.armed:
            self.armed = False
            self._log.rename(self._away)
            raise StoreError("the connection is gone", transient=True)
        return result

    def heal(self) -> None:
        self._away.rename(self._log)


def test_other_tenants_are_flushed_when_one_cannot_be(tmp_path: Path) -> None:
    broken = Broken("tables/b/")
    with Node(tmp_path, wrap=lambda store: InterceptedStore(store, broken)) as node:
        for number in range(1, 4):
            node.push(span(1, number), tenant="a")
            node.push(span(2, number), tenant="b")
            assert not node.cut()
            assert node.stored("a") == once(*((1, known) for known in range(1, number + 1)))
            assert node.live("b") == once(*((2, known) for known in range(1, number + 1)))
    with Node(tmp_path) as node:  # as if killed: the log must have kept what the broken tenant needs
        assert node.live("b") == once((2, 1), (2, 2), (2, 3))
        assert node.live("a") == once()


def test_a_failed_flush_is_repeated_when_its_pause_is_over(tmp_path: Path) -> None:
    broken = Broken("tables/b/")
    with Node(tmp_path, wrap=lambda store: InterceptedStore(store, broken)) as node:
        node.push(span(2, 1), tenant="b")
        node.cut(everything=False)
        node.push(span(2, 2), tenant="b")
        broken.part = None
        node.cut(everything=False)
        assert node.live("b") == once((2, 1), (2, 2)), "the pause is not over"
        node.clock.advance(1)
        assert node.cut(everything=False)
        assert (node.live("b"), node.stored("b")) == (once(), once((2, 1), (2, 2)))
    with Node(tmp_path) as node:
        assert node.copies("b") == once((2, 1), (2, 2))


@pytest.mark.parametrize("fault", [*Fault])
def test_a_flush_succeeds_when_one_request_fails(tmp_path: Path, fault: Fault) -> None:
    for operation in ("put", "put_file", "put_if_absent"):
        with Node(tmp_path / operation, wrap=faulty(**{operation: [fault]})) as node:
            node.push(span(1, 1))
            while not node.cut():
                assert node.copies() == once((1, 1))
            assert (node.live(), node.stored()) == (once(), once((1, 1)))
            assert not list(node.store.scratch.iterdir())


@pytest.mark.parametrize("first_commit", [False, True])
@pytest.mark.parametrize("idle_seconds", [0, 5])
@pytest.mark.parametrize("finder", ["the next cut", "a refresh", "a compaction", "a restart"])
def test_spans_are_seen_once_when_nobody_knows_whether_a_commit_took_place(
    tmp_path: Path, first_commit: bool, idle_seconds: float, finder: str
) -> None:
    lost = LostCommit(tmp_path / "data/tables/single-tenant")
    with Node(tmp_path, ingest=carrying(idle_seconds), wrap=lambda store: InterceptedStore(store, lost)) as node:
        expected = once()
        if not first_commit:
            node.push(span(3, 1))
            node.cut()
            expected += once((3, 1))
        node.push(*(span(1, number) for number in range(1, 9)))
        node.clock.advance(6)
        node.push(span(2, 1))
        expected += once((2, 1), *((1, number) for number in range(1, 9)))
        lost.armed = True
        assert not node.cut(everything=False)
        lost.heal()
        assert node.tenants.usage.sealed_spans, "the flush must not know yet that it was committed"
        if finder == "a refresh":
            node.tenants.refresh("single-tenant")
            assert not node.tenants.usage.sealed_spans
        elif finder == "a compaction":
            node.maintain()
        assert node.copies() == expected
        node.push(span(2, 2))
        expected += once((2, 2))
        if finder != "a restart":
            node.clock.advance(1)
            assert node.cut(everything=False)
        assert node.copies() == expected
    node.clock.advance(1)
    with Node(tmp_path, clock=node.clock) as node:
        assert node.copies() == expected
        node.cut()
        assert node.copies() == expected
        assert numbers(node.trace(2)) == [1, 2]


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(8))
def test_nothing_is_lost_or_doubled_when_the_store_fails_at_random(tmp_path: Path, seed: int) -> None:
    expected = once()
    for life in range(4):
        with Node(tmp_path, ingest=carrying(5), wrap=partial(InterceptedStore, policy=seeded(100 * seed + life, rate=0.3))) as node:
            for number in range(1, 6):
                rows = [(100 * life + number, other) for other in range(1, 9)] + [(9, 100 * life + number)]
                node.push(*(span(trace, other) for trace, other in rows[:-1]))
                node.clock.advance(6)
                node.push(span(*rows[-1]))
                expected += once(*rows)
                node.cut(everything=False)
                with suppress(StoreError):
                    node.maintain()
                with suppress(StoreError):
                    assert node.copies() == expected
    with Node(tmp_path) as node:
        node.cut()
        assert (node.live(), node.stored()) == (once(), expected)


def test_active_traces_are_cut_when_the_log_has_no_room_to_carry_them(tmp_path: Path) -> None:
    full = False

    def write(descriptor: int, buffers: Sequence[bytes | memoryview], offset: int) -> int:
        if full:
            raise OSError(errno.ENOSPC, "No space left on device")
        return os.pwritev(descriptor, buffers, offset)

    with Node(tmp_path, ingest=carrying(5), calls=FileCalls(write=write)) as node:
        node.push(*(span(1, number) for number in range(1, 9)))
        node.clock.advance(6)
        node.push(span(2, 1))
        full = True
        with pytest.raises(Unavailable):
            node.push(span(2, 2))
        assert node.cut(everything=False)
        assert node.live() == once()
        full = False
        node.push(span(2, 3))
        expected = once((2, 1), (2, 3), *((1, number) for number in range(1, 9)))
        assert node.copies() == expected
    with Node(tmp_path) as node:
        assert node.copies() == expected


def test_spans_wait_in_the_log_when_the_last_flush_fails(tmp_path: Path) -> None:
    broken = Broken("tables/")
    node = Node(tmp_path, wrap=lambda store: InterceptedStore(store, broken))
    node.pipeline.start()
    node.push(span(1, 1))
    node.pipeline.stop(flush=True)
    with Node(tmp_path) as node:
        assert (node.live(), node.stored()) == (once((1, 1)), once())


def test_a_stop_flushes_everything(tmp_path: Path) -> None:
    node = Node(tmp_path, ingest=carrying(5))
    node.pipeline.start()
    node.push(span(1, 1), span(2, 1))
    node.pipeline.stop(flush=True)
    with Node(tmp_path) as node:
        assert (node.live(), node.stored()) == (once(), once((1, 1), (2, 1)))


@pytest.mark.parametrize("commits", [1, 2, 3])
def test_a_flush_fits_the_table_when_others_keep_adding_columns_of_other_types(tmp_path: Path, commits: int) -> None:
    def race(call: Call) -> None:
        nonlocal commits
        if call.operation == "put_if_absent" and commits:
            commits -= 1
            with Node(tmp_path, log=f"other-wal-{commits}") as other:
                other.push(*(span(5, number, attributes={f"key{commits}": "text"}) for number in range(1, 4)))
                other.cut()

    with Node(tmp_path, wrap=lambda store: InterceptedStore(store, Before(race))) as node:
        node.push(*(span(1, number, attributes={f"key{key}": number for key in range(3)}) for number in range(1, 4)))
        assert node.cut()
        assert node.copies() == once(*((1, number) for number in range(1, 4))) + once(
            *[(5, number) for number in range(1, 4)] * (len(node.table().blocks) - 1)
        )
        assert {key.key: key.value.int_value for key in node.trace(1)[1].attributes} == {"key0": 2, "key1": 2, "key2": 2}


def test_a_replay_waits_for_the_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("spanlake.ingest.replay.PAUSE_SECONDS", 0.01)
    with Node(tmp_path) as node:
        node.push(span(1, 1))
        node.cut()
        node.push(span(1, 2))
    entry = tmp_path / "data/tables/single-tenant/_delta_log/00000000000000000000.json"
    whole = entry.read_bytes()
    entry.write_bytes(b"not JSON")
    node = Node(tmp_path)
    starting = threading.Thread(target=node.pipeline.start)
    starting.start()
    with pytest.raises(Unavailable, match="being replayed"):
        node.push(span(1, 3))
    starting.join(0.1)
    assert starting.is_alive()
    entry.write_bytes(whole)
    starting.join()
    assert node.copies() == once((1, 1), (1, 2))
    node.pipeline.stop(flush=True)


def test_a_stop_ends_the_wait_of_a_replay_and_loses_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with Node(tmp_path) as node:
        node.push(span(1, 1))
        node.cut()
        node.push(span(1, 2))
    entry = tmp_path / "data/tables/single-tenant/_delta_log/00000000000000000000.json"
    whole = entry.read_bytes()
    entry.write_bytes(b"not JSON")
    node = Node(tmp_path)
    failures: list[Exception] = []

    def start() -> None:
        try:
            node.pipeline.start()
        except Unavailable as failure:
            failures.append(failure)

    starting = threading.Thread(target=start)
    starting.start()
    node.pipeline._stopping.set()
    starting.join()
    node.pipeline.stop(flush=True)
    assert "stopped while the write-ahead log was replayed" in str(failures[0])
    entry.write_bytes(whole)
    with Node(tmp_path) as node:
        assert node.copies() == once((1, 1), (1, 2))

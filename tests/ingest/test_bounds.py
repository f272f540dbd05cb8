"""Memory and tenants are bounded: what does not fit is refused with a pause, and accepted again when there is room."""

from __future__ import annotations

import threading
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from node import MANY, Ids, Node, numbers, once, request, span
from spanlake.app.load.traces import TraceTemplates
from spanlake.model.errors import InvalidInput, NoTenant, Overloaded, StoreError, Unavailable
from spanlake.objectstore.intercepted import Before, Call, InterceptedStore
from spanlake.wire.otlp.decode import decode_otlp

MIB = 1 << 20


@pytest.mark.slow
def test_pushes_are_refused_when_memory_is_full_and_taken_again_after_a_flush(tmp_path: Path) -> None:
    failing = True

    def fail(call: Call) -> None:
        if failing and call.operation == "put_file":
            raise StoreError("the store is down", transient=True)

    tight = replace(MANY, live_bytes_max=MIB)
    with Node(tmp_path, ingest=tight, wrap=lambda store: InterceptedStore(store, Before(fail))) as node:
        accepted: Counter[Ids] = Counter()

        def fill() -> None:
            for trace in range(1, 200):
                node.push(*(span(trace, number) for number in range(1, 200)))
                accepted.update((trace, number) for number in range(1, 200))
                node.cut()

        with pytest.raises(Overloaded, match=r"live_bytes_max=1048576: flushing is behind") as refusal:
            fill()
        assert refusal.value.retry_after_seconds > 0
        assert MIB < node.tenants.usage.bytes < 1.2 * MIB
        assert node.copies() == accepted
        failing = False
        assert node.cut()
        assert node.push(span(1, 1000)) == 1
        assert node.copies() == accepted + once((1, 1000))


@pytest.mark.slow
def test_live_spans_take_less_than_400_bytes(tmp_path: Path) -> None:
    templates = TraceTemplates(3, spans_per_payload=500)
    with Node(tmp_path) as node:
        for number in range(40):
            node.pipeline.accept("t", templates.payload(number, 10**18))
        usage = node.tenants.usage
        assert usage.bytes / usage.spans < 400


def test_new_tenants_are_refused_when_there_are_too_many_with_live_spans(tmp_path: Path) -> None:
    with Node(tmp_path, ingest=replace(MANY, tenants_max=3)) as node:
        for tenant in ("a", "b", "c"):
            node.push(span(1, 1), tenant=tenant)
        with pytest.raises(Overloaded, match=r"ingest\.tenants_max: tenant 'd' must wait"):
            node.push(span(1, 1), tenant="d")
        node.push(span(1, 2), tenant="a")
        node.cut()
        node.cut()  # tenants without live spans are forgotten at the next one
        assert node.push(span(1, 1), tenant="d") == 1
        for tenant, count in (("a", 2), ("b", 1), ("c", 1), ("d", 1)):
            assert len(node.trace(1, tenant=tenant)) == count
            assert sum(node.copies(tenant).values()) == count


def test_a_restart_takes_back_more_tenants_than_are_allowed(tmp_path: Path) -> None:
    with Node(tmp_path) as node:
        for tenant in ("a", "b", "c"):
            node.push(span(1, 1), tenant=tenant)
    with Node(tmp_path, ingest=replace(MANY, tenants_max=1)) as node:
        assert [node.live(tenant) for tenant in ("a", "b", "c")] == [once((1, 1))] * 3


def test_tenants_do_not_see_each_other(tmp_path: Path) -> None:
    with Node(tmp_path) as node:
        for tenant, number in (("a", 1), ("A", 2), ("a.b", 3)):
            node.push(span(7, number), tenant=tenant)
        for _ in range(2):
            assert [numbers(node.trace(7, tenant=tenant)) for tenant in ("a", "A", "a.b", "b")] == [[1], [2], [3], []]
            node.cut()


@pytest.mark.parametrize(
    ("tenant", "payload", "error"),
    [
        ("../up", request(span(1, 1)), NoTenant),
        ("", request(span(1, 1)), NoTenant),
        ("t", b"\x0a\x05hello", InvalidInput),
        ("t", b"\xff" * 20, InvalidInput),
    ],
)
def test_bad_pushes_leave_nothing_behind(tmp_path: Path, tenant: str, payload: bytes, error: type[Exception]) -> None:
    with Node(tmp_path) as node:
        with pytest.raises(error):
            node.pipeline.accept(tenant, payload)
        assert node.wal.counters.appended_records == 0
        assert node.tenants.usage.spans == 0


def test_good_spans_are_kept_when_others_in_the_payload_are_bad(tmp_path: Path) -> None:
    with Node(tmp_path) as node:
        accepted = node.pipeline.accept("t", request(span(1, 1), Span(trace_id=b"short", span_id=b"12345678"), span(0, 2), span(1, 3)))
        assert (accepted.spans, accepted.rejected) == (2, 2)
        assert "trace_id" in accepted.reason
        assert numbers(node.trace(1, tenant="t")) == [1, 3]
        assert sum(node.pipeline.counters.refused.values()) == 2
    with Node(tmp_path) as node:
        assert node.copies("t") == once((1, 1), (1, 3))


@pytest.mark.parametrize("payload", [b"", request(), b"\x0a\x00"])
def test_payloads_without_spans_are_accepted_and_not_logged(tmp_path: Path, payload: bytes) -> None:
    with Node(tmp_path) as node:
        assert node.pipeline.accept("t", payload).spans == 0
        assert node.wal.counters.appended_records == 0
        assert node.tenants.live() == []


def test_nothing_is_accepted_or_read_before_the_replay_and_nothing_accepted_after_the_stop(tmp_path: Path) -> None:
    with Node(tmp_path) as node:
        node.push(span(1, 1))
    node = Node(tmp_path)
    for action in (lambda: node.push(span(1, 2)), lambda: node.answer(1)):
        with pytest.raises(Unavailable, match="replayed"):
            action()
    node.pipeline.replay()
    assert numbers(node.trace(1)) == [1]
    node.pipeline.stop(flush=True)
    with pytest.raises(Unavailable, match="stopping"):
        node.push(span(1, 2))


def test_a_stop_before_the_replay_is_over_drops_nothing(tmp_path: Path) -> None:
    with Node(tmp_path) as node:
        node.push(span(1, 1))
    Node(tmp_path).pipeline.stop(flush=True)
    with Node(tmp_path) as node:
        assert node.copies() == once((1, 1))


@pytest.mark.slow
def test_pushes_of_one_span_take_little_more_memory_than_one_push_of_many(tmp_path: Path) -> None:
    with Node(tmp_path) as node:
        for number in range(1, 3000):
            node.push(span(1, number))
        generation = node.tenants.open("single-tenant")._current
        assert len(generation._arrivals) == 1
        assert generation.rows().seconds.tolist() == [node.clock.now] * 2999


def test_the_log_is_readable_when_it_is_cut_at_any_byte(tmp_path: Path) -> None:
    with Node(tmp_path) as node:
        ends = [node.wal.size_bytes]
        for number in range(1, 6):
            node.push(span(number, 1), span(number, 2))
            ends.append(node.wal.size_bytes)
    (segment,) = (tmp_path / "wal").glob("segment-*")
    whole = segment.read_bytes()
    for length in np.linspace(len(whole), 0, 60).astype(int).tolist():
        segment.write_bytes(whole[:length])
        for later in (tmp_path / "wal").glob("segment-*"):
            if later != segment:
                later.unlink()
        with Node(tmp_path) as node:
            readable = sum(end <= length for end in ends[1:])
            assert node.copies() == once(*((number, which) for number in range(1, readable + 1) for which in (1, 2)))
            assert node.pipeline.counters.replay_damage == 0


def test_other_records_are_replayed_when_some_are_damaged(tmp_path: Path) -> None:
    with Node(tmp_path) as node:
        for number in range(1, 4):
            node.push(span(number, 1), span(number, 2))
    (segment,) = (tmp_path / "wal").glob("segment-*")
    data = bytearray(segment.read_bytes())
    data[data.index(request(span(2, 1), span(2, 2))) + 5] ^= 0xFF
    segment.write_bytes(data)
    with Node(tmp_path) as node:
        assert node.copies() == once((1, 1), (1, 2), (3, 1), (3, 2))
        assert node.pipeline.counters.replay_damage == 1


def test_values_that_were_accepted_are_replayed_when_the_limit_has_been_lowered(tmp_path: Path) -> None:
    deep = span(1, 1)
    value = deep.attributes.add(key="deep").value
    for _ in range(20):
        value = value.array_value.values.add()
    assert len(decode_otlp(request(deep), depth_max=10).batch) == 0
    with Node(tmp_path) as node:
        assert node.push(deep) == 1
    with Node(tmp_path, ingest=replace(MANY, value_depth_max=10)) as node:
        assert node.copies() == once((1, 1))
        assert node.push(deep) == 0


@pytest.mark.slow
def test_every_span_is_seen_once_at_any_moment_while_everything_goes_on_at_once(tmp_path: Path) -> None:
    """Pushes, cuts that carry, compactions, refreshes and another process, with readers that look all the time."""
    stop = threading.Event()
    problems: list[object] = []
    pushed: list[int] = [0, 0]
    churn = replace(MANY, trace_idle_seconds=0.02, trace_age_seconds=0.1)

    def guarded(action: object) -> None:
        try:
            while not stop.is_set() and not problems:
                action()  # type: ignore[operator]
        except BaseException as error:  # noqa: BLE001 - the test looks at it
            problems.append(error)

    with Node(tmp_path, ingest=churn) as node, Node(tmp_path, log="other") as other:

        def push(side: int) -> None:
            pushed[side] += 1
            number = pushed[side]
            node.push(span(5, 10_000 * side + number), span(100 + number, 1 + side))
            node.clock.advance(0.01)

        def look() -> None:
            before = list(pushed)
            copies = node.copies()
            doubled = [ids for ids, count in copies.items() if count > 1]
            missing = [(5, 10_000 * side + n) for side in (0, 1) for n in range(1, before[side]) if (5, 10_000 * side + n) not in copies]
            found = Counter(numbers(node.trace(5)))
            missing += [(5, n) for side in (0, 1) for n in range(10_000 * side + 1, 10_000 * side + before[side]) if not found[n]]
            if doubled or missing or max(found.values(), default=1) > 1:
                problems.append((doubled, missing))

        actions = [
            lambda: push(0),
            lambda: push(1),
            lambda: node.cut(everything=False),
            node.maintain,
            other.maintain,
            lambda: node.tenants.refresh("single-tenant"),
            look,
        ]
        threads = [threading.Thread(target=guarded, args=(action,)) for action in actions]
        for thread in threads:
            thread.start()
        threads[0].join(4)
        stop.set()
        for thread in threads:
            thread.join()
        assert problems == []
        assert min(pushed) > 10
        assert node.maintenance.counters.failures == other.maintenance.counters.failures == 0
        node.cut()
        assert sum(node.copies().values()) == 2 * sum(pushed)

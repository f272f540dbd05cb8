"""Trace by id over live spans and blocks: every span once, in one order, bounded in size, Zipkin's halves apart."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from opentelemetry.proto.trace.v1.trace_pb2 import Span, TracesData

from node import NOW_NS, Node, described, numbers, request, span, spans_in
from spanlake.model.settings import QuerySettings
from spanlake.model.trace import TimeRange, TraceAnswer
from spanlake.objectstore.intercepted import Counts, InterceptedStore
from spanlake.query.trace import bounded_answer, combine, fresh_ids
from spanlake.wire.otlp.decode import decode_otlp

SERVER, CLIENT, INTERNAL = Span.SPAN_KIND_SERVER, Span.SPAN_KIND_CLIENT, Span.SPAN_KIND_INTERNAL
TRACE = 0x0102030405060708090A0B0C0D0E0F10


def decoded(answer: TraceAnswer) -> TracesData:
    return TracesData.FromString(answer.encoded)


@pytest.mark.parametrize("places", ["live", "one block", "a block each", "blocks and live", "merged"])
def test_a_trace_is_whole_wherever_its_spans_are(tmp_path: Path, places: str) -> None:
    sent = [span(TRACE, number, parent=number // 2) for number in range(1, 10)]
    with Node(tmp_path) as node:
        for number, one in enumerate(sent, 1):
            node.push(one, span(5, number))
            if places in {"a block each", "merged"} or (places == "blocks and live" and number % 4 == 0):
                node.cut()
        if places == "one block":
            node.cut()
        if places == "merged":
            node.maintain()
        answer = node.answer(TRACE)
        assert (answer.spans, answer.complete) == (9, True)
        expected = [request(one) for one in sent]
        assert described(decoded(answer)) == sum((described(TracesData.FromString(one)) for one in expected), start=described(TracesData()))
        assert len(decoded(answer).resource_spans) == 9, "pushes stay apart"
        assert node.answer(TRACE + 1) == TraceAnswer(b"", 0, inspected_bytes=node.answer(TRACE + 1).inspected_bytes)


def test_ids_that_agree_in_half_of_their_bits_are_different_traces(tmp_path: Path) -> None:
    low_same, high_same = TRACE ^ (1 << 100), TRACE ^ 1
    with Node(tmp_path) as node:
        for _ in range(2):
            for number, trace in enumerate((TRACE, low_same, high_same, TRACE ^ (1 << 40)), 1):
                node.push(span(trace, number))
            for number, trace in enumerate((TRACE, low_same, high_same, TRACE ^ (1 << 40)), 1):
                assert numbers(node.trace(trace)) == [number]
            node.cut()


def test_blocks_without_the_trace_are_not_read(tmp_path: Path) -> None:
    counts = Counts()
    with Node(tmp_path, wrap=lambda store: InterceptedStore(store, counts, remote=True)) as node:
        for trace in range(1, 31):
            node.push(*(span(1000 * trace + other, 1) for other in range(50)))
            node.cut()
        assert numbers(node.trace(1001)) == [1]
        counts.reset()
        assert numbers(node.trace(15_007)) == [1]
        assert 0 < counts.requests("get_ranges", "get_range") <= 3
        counts.reset()
        assert node.trace(999) == []
        assert counts.requests() <= 1  # a filter may err


@pytest.mark.parametrize(
    ("start_seconds", "end_seconds", "expected"),
    [(None, None, [1, 2]), (-10, 10, [1]), (90, 200, [2]), (-10, 200, [1, 2]), (20, 50, []), (-100, -50, [])],
)
def test_a_time_range_bounds_the_blocks(tmp_path: Path, start_seconds: int | None, end_seconds: int | None, expected: list[int]) -> None:
    with Node(tmp_path) as node:
        for number, seconds in ((1, 0), (2, 100)):
            start_ns = NOW_NS + seconds * 10**9
            node.push(span(TRACE, number, start_time_unix_nano=start_ns, end_time_unix_nano=start_ns + 10**9))
            node.cut()
        bounds = None
        if start_seconds is not None and end_seconds is not None:
            bounds = TimeRange(NOW_NS + start_seconds * 10**9, NOW_NS + end_seconds * 10**9)
        answer = node.answer(TRACE, time_range=bounds)
        assert sorted(numbers(spans_in(decoded(answer)))) == expected


def test_a_trace_that_is_too_large_is_cut_to_the_limit(tmp_path: Path) -> None:
    with Node(tmp_path) as node:
        node.push(*(span(TRACE, number) for number in range(1, 200)))
        whole = node.answer(TRACE)
        for bytes_max in (len(whole.encoded) - 1, len(whole.encoded) // 2, 500, 1):
            node.finder = replace(node.finder, settings=QuerySettings(trace_bytes_max=bytes_max))
            answer = node.answer(TRACE)
            assert not answer.complete
            assert answer.message == f"Trace exceeds maximum size of {bytes_max} bytes, a partial trace is returned"
            assert len(answer.encoded) <= bytes_max
            assert numbers(spans_in(decoded(answer))) == list(range(1, answer.spans + 1))
            assert answer.spans > 0.8 * 199 * bytes_max / len(whole.encoded) - 10
        node.finder = replace(node.finder, settings=QuerySettings(trace_bytes_max=len(whole.encoded)))
        assert node.answer(TRACE) == whole


def combined(*spans: Span) -> dict[tuple[str, int], tuple[bytes, bytes]]:
    """(name, kind) → (id, parent id) after combining."""
    batch = combine([decode_otlp(request(*spans)).batch])
    answer = bounded_answer(batch, bytes_max=1 << 20, inspected_bytes=0)
    return {(one.name, one.kind): (one.span_id, one.parent_span_id) for one in spans_in(decoded(answer))}


def test_a_server_span_gets_an_id_of_its_own_when_it_shares_that_of_its_client() -> None:
    found = combined(
        span(1, 1, name="root", kind=SERVER),
        span(1, 2, parent=1, name="call", kind=CLIENT),
        span(1, 2, parent=1, name="call", kind=SERVER),
        span(1, 3, parent=2, name="child", kind=INTERNAL),
        span(1, 4, parent=3, name="grandchild", kind=INTERNAL),
    )
    client, server = found["call", CLIENT], found["call", SERVER]
    assert client == ((2).to_bytes(8), (1).to_bytes(8))
    assert server[1] == client[0]
    assert server[0] not in {one for one, _ in (*found.values(),) if one != server[0]} | {bytes(8)}
    assert found["child", INTERNAL] == ((3).to_bytes(8), server[0])
    assert found["grandchild", INTERNAL] == ((4).to_bytes(8), (3).to_bytes(8))
    assert found["root", SERVER] == ((1).to_bytes(8), b"")


def test_a_chain_of_shared_ids_stays_a_chain() -> None:
    found = combined(
        *(span(1, number, parent=number - 1, name=f"hop {number}", kind=kind) for number in (1, 2, 3) for kind in (CLIENT, SERVER))
    )
    assert found["hop 1", CLIENT][1] == b""
    for number in (1, 2, 3):
        assert found[f"hop {number}", SERVER][1] == found[f"hop {number}", CLIENT][0] == number.to_bytes(8)
    for number in (2, 3):
        assert found[f"hop {number}", CLIENT][1] == found[f"hop {number - 1}", SERVER][0]
    assert len({own for own, _ in found.values()}) == 6


@pytest.mark.parametrize("kinds", [(SERVER, INTERNAL), (CLIENT, INTERNAL), (SERVER, Span.SPAN_KIND_CONSUMER)])
def test_other_spans_keep_a_shared_id(kinds: tuple[int, int]) -> None:
    found = combined(*(span(1, 2, parent=1, name="same", kind=kind) for kind in kinds))
    assert set(found.values()) == {((2).to_bytes(8), (1).to_bytes(8))}


def test_new_ids_are_the_same_in_every_answer(tmp_path: Path) -> None:
    with Node(tmp_path) as node:
        node.push(span(TRACE, 2, kind=CLIENT), span(TRACE, 2, kind=SERVER), span(TRACE, 3, parent=2))
        live = described(decoded(node.answer(TRACE)))
        node.cut()
        assert described(decoded(node.answer(TRACE))) == live


def test_fresh_ids_are_new_and_never_zero() -> None:
    ids = np.array([1, 2, 0xFFFFFFFFFFFFFFFF], np.uint64)
    first = fresh_ids(ids, ids)
    taken = np.concatenate([ids, first])
    second = fresh_ids(ids, taken)
    assert not np.isin(second, taken).any()
    zero = np.array([0xA5A5A5A5A5A5A5A5], np.uint64) * np.uint64(pow(0x9E3779B97F4A7C15, -1, 1 << 64))
    assert fresh_ids(zero, ids)[0] != 0


SAME: dict[str, Callable[[int], Span]] = {
    "all in all": lambda _: span(TRACE, 7),
    "id and kind": lambda copy: span(TRACE, 7, name=f"copy {copy}", attributes={"copy": copy}),
}


@pytest.mark.parametrize("alike", SAME)
@pytest.mark.parametrize("cuts", [0, 1, 2])
def test_the_first_of_several_copies_is_the_one_that_counts(tmp_path: Path, alike: str, cuts: int) -> None:
    with Node(tmp_path) as node:
        for copy in range(3):
            node.push(SAME[alike](copy))
            if copy < cuts:
                node.cut()
        (found,) = node.trace(TRACE)
        assert found.name == SAME[alike](0).name
        assert node.answer(TRACE).spans == 1

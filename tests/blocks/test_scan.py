"""The same spans as live spans, in one block, in several, and compacted give the same scan batches; predicates lose no trace."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any, get_args

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from naive_otlp import payload_of_spans
from random_traces import EVENT_KEYS, LINK_KEYS, RESOURCE_KEYS, SCOPE_KEYS, SPAN_KEYS, random_spans
from scan_contents import Contents, differences, read_all, request_of

from node import TENANT, Clock, Node
from spanlake.blocks.scan.live_runs import LiveRuns
from spanlake.blocks.scan.tenant import ScanCaches
from spanlake.model.scan import Comparison, Field, FieldScope, Predicate, ScanRequest, ScanStatistics
from spanlake.model.settings import BlockSettings, CompactionSettings

KEYS: dict[FieldScope, tuple[str, ...]] = {
    "span": SPAN_KEYS,
    "resource": RESOURCE_KEYS,
    "instrumentation": SCOPE_KEYS,
    "event": EVENT_KEYS,
    "link": LINK_KEYS,
}
ATTRIBUTES = tuple(Field(scope, key) for scope, keys in KEYS.items() for key in keys)
EVERYTHING = request_of(ATTRIBUTES)
KEEP = CompactionSettings(blocks_min=2, retention_seconds=0)
SMALL_GROUPS = BlockSettings(row_group_spans=64)
NO_COLUMNS = BlockSettings(row_group_spans=64, columns_max=0)


def caches_of(node: Node) -> ScanCaches:
    return ScanCaches(node.store, node.footers, bytes_max=1 << 24)


def all_live(node: Node, pushes: list[bytes]) -> None:
    for payload in pushes:
        node.pipeline.accept(TENANT, payload)


def one_block(node: Node, pushes: list[bytes]) -> None:
    all_live(node, pushes)
    node.cut()


def block_per_push(node: Node, pushes: list[bytes]) -> None:
    for payload in pushes:
        node.pipeline.accept(TENANT, payload)
        node.clock.advance(1)
        node.cut()


def blocks_and_live(node: Node, pushes: list[bytes]) -> None:
    block_per_push(node, pushes[: len(pushes) // 2])
    all_live(node, pushes[len(pushes) // 2 :])


def compacted(node: Node, pushes: list[bytes]) -> None:
    block_per_push(node, pushes)
    node.maintain()


Storage = Callable[[Node, list[bytes]], None]
STORAGES: tuple[Storage, ...] = (one_block, block_per_push, blocks_and_live, compacted)


def pushes_of(seed: int, count: int) -> list[bytes]:
    """Payloads of random traces; their ids come from a small pool, so most traces are in several pushes."""
    chance = Random(seed)
    return [payload_of_spans(spans) for _ in range(count) if (spans := random_spans(chance))]


def orderly_pushes_of(seed: int, count: int) -> list[bytes]:
    """The same without shared ids and cycles, whose tree depends on an order of arrival that blocks do not keep."""
    chance = Random(seed)
    numbers = iter(range(1, 1 << 20))
    arrived: dict[int, list[int]] = {}
    pushes = []
    for _ in range(count):
        spans = []
        for span in random_spans(chance):
            earlier = arrived.setdefault(span.trace_id, [])
            parent = chance.choice((0, 1 << 40, *earlier, *earlier, *earlier))
            spans.append(replace(span, span_id=next(numbers), parent_id=parent))
            earlier.append(spans[-1].span_id)
        pushes.append(payload_of_spans(spans))
    return pushes


def read_live(tmp_path: Path, pushes: list[bytes], request: ScanRequest = EVERYTHING) -> Contents:
    with Node(tmp_path / "live") as node:
        all_live(node, pushes)
        return read_all(caches_of(node), node.view(), request)


def read_stored(node: Node, store: Storage, pushes: list[bytes]) -> Contents:
    store(node, pushes)
    return read_all(caches_of(node), node.view(), EVERYTHING)


@pytest.mark.parametrize("store", STORAGES)
@pytest.mark.parametrize("blocks", [SMALL_GROUPS, NO_COLUMNS], ids=["columns", "overflow"])
@pytest.mark.parametrize("seed", range(2))
def test_a_scan_gives_the_same_wherever_spans_are(tmp_path: Path, store: Storage, blocks: BlockSettings, seed: int) -> None:
    pushes = orderly_pushes_of(seed, 6)
    expected = read_live(tmp_path, pushes)
    with Node(tmp_path / "other", blocks=blocks, compaction=KEEP) as node:
        actual = read_stored(node, store, pushes)
    found = differences(expected, actual)
    assert not found


@pytest.mark.slow
@pytest.mark.parametrize("rows_min", [1, 20])
@pytest.mark.parametrize("seed", range(3))
def test_live_spans_are_the_same_when_they_were_looked_at_after_every_push(tmp_path: Path, rows_min: int, seed: int) -> None:
    """Each look arranges what is new, and joins it with what was arranged before only now and then."""
    pushes = pushes_of(seed, 14)
    with Node(tmp_path / "node") as node:
        caches = ScanCaches(node.store, node.footers, bytes_max=1 << 24, live_rows_min=rows_min)
        earlier = node.view()
        for number, payload in enumerate(pushes):
            if number == 9:
                node.cut()
            node.pipeline.accept(TENANT, payload)
            view = node.view()
            looks = [view, earlier, view] if number != 9 else [view]
            for look in looks:
                found = differences(read_all(caches_of(node), look, EVERYTHING), read_all(caches, look, EVERYTHING))
                assert not found, (number, found)
            earlier = view
    assert len(pushes) > 9


def test_live_spans_are_let_go_when_nobody_asks_and_found_again(tmp_path: Path) -> None:
    with Node(tmp_path) as node:
        all_live(node, pushes_of(1, 3))
        caches, view = caches_of(node), node.view()
        first = caches.live_places(view)
        caches.forget_live(idle_seconds=60)
        assert caches.live_places(view) == first
        caches.forget_live(idle_seconds=0)
        again = caches.live_places(view)
        assert again != first
        assert [place.times for place in again] == [place.times for place in first]


def test_live_spans_are_idle_when_nobody_has_asked_for_so_long(tmp_path: Path) -> None:
    clock = Clock()
    runs = LiveRuns(clock=clock)
    with Node(tmp_path) as node:
        clock.advance(10)
        runs.places(node.view())
        clock.advance(5)
        assert not runs.is_idle(6)
        assert runs.is_idle(5)


@pytest.mark.parametrize("blocks", [SMALL_GROUPS, NO_COLUMNS], ids=["columns", "overflow"])
@pytest.mark.parametrize("seed", range(3))
def test_ill_shaped_traces_read_the_same_live_and_flushed(tmp_path: Path, blocks: BlockSettings, seed: int) -> None:
    pushes = pushes_of(seed, 6)
    expected = read_live(tmp_path, pushes)
    with Node(tmp_path / "flushed", blocks=blocks, compaction=KEEP) as node:
        found = differences(expected, read_stored(node, one_block, pushes))
    assert not found


def predicates(chance: Random) -> Iterator[Predicate]:
    """Conditions on what random traces have."""
    pools = ("", "a", "b", "ab", "200", 0, 1, 2, 200, 0.5, 2.5, (1 << 53) + 1, True, False)
    while True:
        field = chance.choice((*ATTRIBUTES, Field("intrinsic", "name"), Field("intrinsic", "kind"), Field("intrinsic", "duration_ns")))
        comparison = chance.choice(list(Comparison))
        if comparison is Comparison.EXISTS:
            yield Predicate(field, comparison)
        elif comparison is Comparison.MATCH:
            yield Predicate(field, comparison, chance.choice(("a.*", "", "[", "G.*|b")))
        else:
            yield Predicate(field, comparison, chance.choice(pools))


def holds(predicate: Predicate, value: object) -> bool:
    """Whether a value as in `scan_contents` satisfies a predicate, by the rules of TraceQL; a missing service name reads as empty."""
    if isinstance(value, list):
        found = [holds(predicate, element) for element in value]
        return any(found) if predicate.comparison is not Comparison.NOT_EQUAL else bool(found)
    if predicate.field == Field("resource", "service.name") and value is None:
        value = ("text", "")
    if value is None:
        return False
    if predicate.comparison is Comparison.EXISTS:
        return True
    if not isinstance(value, tuple):
        return False  # opaque
    kind, plain = value
    operand: Any = predicate.operand
    if isinstance(operand, str) != (kind == "text") or isinstance(operand, bool) != (kind == "bool") or plain == "nan":
        return False
    if predicate.comparison is Comparison.MATCH:
        return operand != "[" and re.fullmatch(str(operand), plain, re.DOTALL) is not None
    compare: dict[Comparison, Callable[[], bool]] = {
        Comparison.EQUAL: lambda: plain == operand,
        Comparison.NOT_EQUAL: lambda: plain != operand,
        Comparison.LESS: lambda: plain < operand,
        Comparison.LESS_EQUAL: lambda: plain <= operand,
        Comparison.GREATER: lambda: plain > operand,
        Comparison.GREATER_EQUAL: lambda: plain >= operand,
    }
    return compare[predicate.comparison]()


def matters(any_of: tuple[frozenset[Predicate], ...], rows: list[dict[Field, object]]) -> bool:
    return any(all(any(holds(predicate, row[predicate.field]) for row in rows) for predicate in conjunction) for conjunction in any_of)


@pytest.mark.slow
@settings(max_examples=10, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 1 << 30), storage=st.sampled_from(STORAGES), blocks=st.sampled_from((SMALL_GROUPS, NO_COLUMNS)))
def test_predicates_lose_no_trace_that_matters(
    tmp_path_factory: pytest.TempPathFactory, seed: int, storage: Storage, blocks: BlockSettings
) -> None:
    chance = Random(seed)
    with Node(tmp_path_factory.mktemp("node"), blocks=blocks, compaction=KEEP) as node:
        storage(node, pushes_of(seed, 4))
        caches, view = caches_of(node), node.view()
        everything = read_all(caches, view, EVERYTHING)
        source = predicates(chance)
        for _ in range(12):
            any_of = tuple(frozenset(next(source) for _ in range(chance.randint(1, 2))) for _ in range(chance.randint(1, 2)))
            found = read_all(caches, view, ScanRequest(EVERYTHING.fields, any_of))
            wanted = {trace: rows for trace, rows in everything.items() if matters(any_of, rows)}
            assert wanted.keys() <= found.keys(), any_of
            wrong = differences({trace: everything[trace] for trace in found}, found)
            assert not wrong


def test_only_the_traces_asked_for_are_read(tmp_path: Path) -> None:
    with Node(tmp_path, blocks=SMALL_GROUPS) as node:
        blocks_and_live(node, pushes_of(7, 6))
        caches = caches_of(node)
        everything = read_all(caches, node.view(), EVERYTHING)
        wanted = dict(list(everything.items())[:2])
        ids = frozenset(divmod(trace, 1 << 64) for trace in wanted)
        found = read_all(caches, node.view(), ScanRequest(EVERYTHING.fields, traces=ids))
    assert not differences(wanted, found)


def test_split_traces_are_counted(tmp_path: Path) -> None:
    with Node(tmp_path) as node:
        for payload in pushes_of(3, 2):
            node.pipeline.accept(TENANT, payload)
            node.pipeline.accept(TENANT, payload)
            node.cut()
        statistics = ScanStatistics()
        found = read_all(caches_of(node), node.view(), EVERYTHING, statistics)
    assert 0 < statistics.split_traces <= len(found) == statistics.traces


def test_every_scope_has_fields_here() -> None:
    assert {*KEYS, "intrinsic"} == set(get_args(FieldScope))

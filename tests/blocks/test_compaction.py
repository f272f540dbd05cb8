"""Compaction: which blocks are merged, what a merge makes of traces, and merges that meet other processes."""

from __future__ import annotations

import threading
from collections import Counter
from contextlib import suppress
from datetime import date
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from opentelemetry.proto.trace.v1.trace_pb2 import TracesData

from node import NOW_NS, TENANT, LimitsByTenant, Node, described, ids_in, numbers, once, span
from spanlake.app.load.traces import TraceTemplates
from spanlake.blocks.catalog import Block, TableSnapshot, block_key
from spanlake.blocks.compaction import expired_blocks, plan_compactions
from spanlake.model.errors import StoreError
from spanlake.model.settings import BlockSettings, CompactionSettings
from spanlake.model.tenancy.limits import TenantLimits
from spanlake.objectstore.intercepted import Before, Call, InterceptedStore

MIB = 1 << 20
DAY, NEXT_DAY = date(2026, 9, 21), date(2026, 9, 22)


def block(name: str, mebibytes: float, *, day: date | None = DAY, rows: int = 1000, end_ns: int = 0, created_ms: int = 0) -> Block:
    return Block(f"day=x/{name}.parquet", round(mebibytes * MIB), rows, day, 0, 0, 0, end_ns, created_ms)


def planned(*blocks: Block, **settings: Any) -> list[str]:
    """The groups that are worth merging, as the names of their blocks."""
    table = TableSnapshot("t", 0, blocks)
    groups = plan_compactions(table, CompactionSettings(blocks_min=3), BlockSettings(row_group_spans=1000, **settings))
    return [" ".join(one.path[6:].partition(".")[0] for one in group) for group in groups]


@pytest.mark.parametrize(
    ("blocks", "expected"),
    [
        ([], []),
        ([block("a", 5), block("b", 5)], []),
        ([block("b", 5), block("a", 6), block("c", 7)], ["a b c"]),
        ([block("a", 5), block("b", 5), block("c", 5, day=NEXT_DAY)], []),
        ([block(name, 5, day=None) for name in "abc"], ["a b c"]),
        ([block("a", 2), block("b", 5), block("c", 9), block("d", 30), block("e", 31), block("f", 100)], ["c d e"]),
        ([block(name, 0.001 * 4**number) for number, name in enumerate("abcde")], ["a b c d e"]),
        ([block(name, 400) for name in "abcd"], []),
        ([block(name, 300) for name in "abcdef"], ["a b c", "d e f"]),
        ([block(f"{number:02}", 5) for number in range(19)], ["00 01 02 03 04 05 06 07", "08 09 10 11 12 13 14 15", "16 17 18"]),
        ([block(f"{number:02}", 0.1, rows=250) for number in range(20)], [" ".join(f"{number:02}" for number in range(20))]),
    ],
)
def test_blocks_of_one_day_and_similar_size_are_merged_when_there_are_enough(blocks: list[Block], expected: list[str]) -> None:
    assert planned(*blocks, block_bytes_max=1024 * MIB) == expected


def test_blocks_stay_apart_when_together_they_were_too_large() -> None:
    assert planned(*(block(name, 5) for name in "abcd"), block_bytes_max=16 * MIB) == ["a b c"]


@pytest.mark.parametrize(
    ("end_seconds", "created_seconds", "retention", "expired"),
    [
        (900, 900, 100, False),
        (899, 999, 100, True),
        (5000, 899, 100, True),
        (5000, 901, 100, False),
        (0, 0, 0, False),
    ],
)
def test_blocks_expire_when_their_spans_have_ended_or_were_stored_before_the_retention(
    end_seconds: int, created_seconds: int, retention: float, expired: bool
) -> None:
    one = block("a", 1, end_ns=end_seconds * 10**9, created_ms=created_seconds * 1000)
    assert expired_blocks(TableSnapshot("t", 0, (one,)), now_ns=1000 * 10**9, retention_seconds=retention) == ([one] if expired else [])


def test_tenants_keep_their_spans_as_long_as_their_retention(tmp_path: Path) -> None:
    retention = {"short": 100, "long": 1000, "for-ever": 0}
    with Node(tmp_path, limits=LimitsByTenant({tenant: TenantLimits(retention_seconds=own) for tenant, own in retention.items()})) as node:
        for tenant in ("short", "long", "for-ever"):
            node.push(span(1, 1), tenant=tenant)
        node.cut()
        node.clock.advance(90)
        start_ns = node.clock.now_ns()
        node.push(span(1, 2, start_time_unix_nano=start_ns, end_time_unix_nano=start_ns), tenant="short")
        node.cut()
        node.clock.advance(20)
        node.maintain()
        assert [numbers(node.trace(1, tenant=tenant)) for tenant in ("short", "long", "for-ever")] == [[2], [1], [1]]
        node.clock.advance(1000)
        node.maintain()
        assert [numbers(node.trace(1, tenant=tenant)) for tenant in ("short", "long", "for-ever")] == [[], [], [1]]
        assert node.maintenance.counters.expired_blocks == 3


def rows(node: Node, *columns: str) -> list[dict[str, Any]]:
    """These columns of all blocks, in the order of the rows."""
    paths = [node.store.local_path(block_key(TENANT, one.path)) for one in node.table().blocks]
    return [row for path in paths for row in pq.read_table(path, columns=list(columns)).to_pylist()]


def test_fragments_of_a_trace_become_one_tree_when_merged(tmp_path: Path) -> None:
    with Node(tmp_path) as node:
        for one in (span(1, 3, parent=2), span(1, 2, parent=1), span(1, 1), span(1, 4, parent=1), span(1, 5, parent=77)):
            node.push(one, service=f"service-{one.span_id[-1]}")
            node.cut()
        before = node.trace(1)
        assert [row["nested_parent"] for row in rows(node, "nested_parent")].count(0) == 4
        node.maintain()
        assert len(node.table().blocks) == 1
        columns = ("nested_left", "nested_right", "nested_parent", "child_count", "root_name", "root_service")
        found = {int.from_bytes(row.pop("span_id")): tuple(row.values()) for row in rows(node, "span_id", *columns, "trace_duration_ns")}
        root = ("operation 1", "service-1", 10**6 + 4)
        assert found == {
            1: (1, 8, -1, 2, *root),
            2: (2, 5, 1, 1, *root),
            3: (3, 4, 2, 0, *root),
            4: (6, 7, 1, 0, *root),
            5: (9, 10, 0, 0, *root),
        }
        assert sorted(numbers(node.trace(1))) == sorted(numbers(before)) == [1, 2, 3, 4, 5]


def test_siblings_keep_the_order_of_arrival_when_merged_again_and_again(tmp_path: Path) -> None:
    order = [7, 3, 9, 1, 8, 2, 6, 4, 5]
    with Node(tmp_path) as node:
        for number in order:
            node.push(span(1, number, parent=99))
            node.cut()
            node.maintain()
        assert numbers(node.trace(1)) == order
        assert [int.from_bytes(row["span_id"]) for row in rows(node, "span_id")] == order


def test_duplicates_count_once_before_a_merge_and_are_gone_after(tmp_path: Path) -> None:
    with Node(tmp_path) as node:
        for _ in range(3):
            node.push(span(1, 1), span(1, 2, parent=1))
            node.push(span(1, 1, kind=2))  # another span, by its kind
            node.cut()
            assert sorted(numbers(node.trace(1))) in ([1, 1, 2], sorted(numbers(node.trace(1))))
            assert len(node.trace(1)) == 3
        assert node.copies() == Counter({(1, 1): 6, (1, 2): 3})
        node.maintain()
        assert node.copies() == Counter({(1, 1): 2, (1, 2): 1})
        assert len(node.trace(1)) == 3


@pytest.mark.slow
def test_nothing_changes_in_any_trace_when_realistic_blocks_are_merged(tmp_path: Path) -> None:
    templates = TraceTemplates(5, spans_per_payload=300)
    with Node(tmp_path, compaction=CompactionSettings(blocks_min=4)) as node:
        for number in range(8):
            node.pipeline.accept(TENANT, templates.payload(number, NOW_NS))
            node.cut()
        traces = {trace: number for number in range(8) for trace in templates.trace_ids_in(number)}
        before = {trace: node.answer(int.from_bytes(trace)) for trace in traces}
        expected = Counter(ids for number in range(8) for ids in ids_in(templates.payload(number, NOW_NS)))
        node.maintain()
        assert len(node.table().blocks) == 1
        assert node.copies() == expected
        for trace, answer in before.items():
            after = node.answer(int.from_bytes(trace))
            assert described(TracesData.FromString(after.encoded)) == described(TracesData.FromString(answer.encoded))


def test_traces_larger_than_a_row_group_are_merged_whole(tmp_path: Path) -> None:
    with Node(tmp_path) as node:
        for part in range(4):
            node.push(*(span(7, 1000 * part + number, parent=1) for number in range(1, 300)))
            node.push(*(span(trace, part + 1) for trace in (*range(1, 7), *range(8, 60))))
            node.cut()
        expected = node.copies()
        node.maintain()
        assert (len(node.table().blocks), node.copies()) == (1, expected)
        assert len(node.trace(7)) == 4 * 299
        assert numbers(node.trace(30)) == [1, 2, 3, 4]


def test_values_stay_as_they_are_when_blocks_with_columns_of_other_types_are_merged(tmp_path: Path) -> None:
    values: list[Any] = [7, "seven", 7.5, True, b"\x07", "", 0, -0.0]
    with Node(tmp_path) as node:
        for number, value in enumerate(values, 1):
            node.push(span(1, number, attributes={"mixed": value, f"own{number}": value}))
            node.cut()
        before = [one.SerializeToString(deterministic=True) for one in node.trace(1)]
        node.maintain()
        assert len(node.table().blocks) == 1
        assert [one.SerializeToString(deterministic=True) for one in node.trace(1)] == before


def test_replaced_files_stay_for_the_grace(tmp_path: Path) -> None:
    with Node(tmp_path) as node:
        for number in (1, 2):
            node.push(span(1, number))
            node.cut()
        view = node.view()
        node.maintain()
        files = [node.store.local_path(block_key(TENANT, one.path)) for one in view.table.blocks]
        assert node._stored(view) == once((1, 1), (1, 2)), "a reader still has the old version"
        node.clock.advance(node.compaction.delete_grace_seconds - 1)
        node.maintain()
        assert all(path is not None and path.exists() for path in files)
        node.clock.advance(2)
        node.maintain()
        assert not any(path is not None and path.exists() for path in files)
        assert node.copies() == once((1, 1), (1, 2))


@pytest.mark.parametrize("remote", [False, True])
def test_a_lookup_takes_a_newer_version_when_its_blocks_are_gone(tmp_path: Path, remote: bool) -> None:
    no_grace = CompactionSettings(blocks_min=2, delete_grace_seconds=0)
    wrap = (lambda store: InterceptedStore(store, Before(lambda _call: None), remote=True)) if remote else (lambda store: store)
    with Node(tmp_path, wrap=wrap) as reader, Node(tmp_path, log="other", compaction=no_grace) as other:
        for number in (1, 2):
            other.push(span(1, number))
            other.cut()
        assert numbers(reader.trace(1)) == [1, 2]
        other.maintain()
        other.clock.advance(1)
        other.maintain()
        assert len(other.table().blocks) == 1
        reader.footers = type(reader.footers)(reader.store, bytes_max=1 << 20)
        assert len(reader.table().blocks) == 2
        assert numbers(reader.trace(1)) == [1, 2]
        assert len(reader.table().blocks) == 1


@pytest.mark.parametrize("remote", [False, True])
def test_a_merge_is_given_up_when_another_process_has_deleted_its_blocks(tmp_path: Path, remote: bool) -> None:
    gone: list[str] = []

    def delete(call: Call) -> None:
        if not gone and call.operation in {"put_file", "get_range", "get_ranges"} and armed:
            gone.append(call.operation)
            with Node(tmp_path, log="other", compaction=CompactionSettings(blocks_min=2, delete_grace_seconds=0)) as other:
                other.maintain()
                other.clock.advance(1)
                other.maintain()

    armed = False
    with Node(tmp_path, wrap=lambda store: InterceptedStore(store, Before(delete), remote=remote)) as node:
        for number in (1, 2, 3):
            node.push(span(1, number))
            node.cut()
        armed = True
        node.maintain()
        assert gone
        assert (node.maintenance.counters.lost_races, node.maintenance.counters.failures) == (1, 0)
        assert node.copies() == once((1, 1), (1, 2), (1, 3))
        assert len(list(node.store.list("tables"))) == len([key for key in node.store.list("tables") if "_delta_log" in key.key]) + 1


def compact_from_both_sides(first: Node, second: Node, rounds: int) -> Counter[tuple[int, int]]:
    """Two processes push, flush and compact at once; what must be there afterwards."""
    expected: Counter[tuple[int, int]] = Counter()
    errors: list[BaseException] = []

    def work(node: Node, side: int) -> None:
        try:
            for number in range(1, rounds + 1):
                node.push(*(span(trace, 1000 * side + number) for trace in range(1, 20)))
                node.cut()
                node.maintain()
        except BaseException as error:  # noqa: BLE001 - the test looks at it
            errors.append(error)

    threads = [threading.Thread(target=work, args=(node, side)) for side, node in ((1, first), (2, second))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    for side in (1, 2):
        expected += once(*((trace, 1000 * side + number) for number in range(1, rounds + 1) for trace in range(1, 20)))
    return expected


def check_race(first: Node, second: Node, expected: Counter[tuple[int, int]]) -> None:
    failures = [node.maintenance.counters.failures for node in (first, second)]
    assert failures == [0, 0]
    for node in (first, second):
        node.tenants.refresh(TENANT)
        assert node.copies() == expected
        assert sorted(numbers(node.trace(3))) == sorted(number for trace, number in expected if trace == 3)
        node.maintain()
        assert node.copies() == expected


@pytest.mark.slow
def test_two_compactors_lose_nothing_when_they_race_on_a_directory(tmp_path: Path) -> None:
    with Node(tmp_path, log="one") as first, Node(tmp_path, log="two") as second:
        check_race(first, second, compact_from_both_sides(first, second, 12))


@pytest.mark.slow
def test_two_compactors_lose_nothing_when_they_race_on_s3(tmp_path: Path, s3_url: str) -> None:
    with Node(tmp_path, s3_url, log="one") as first, Node(tmp_path, s3_url, log="two") as second:
        check_race(first, second, compact_from_both_sides(first, second, 6))


@pytest.mark.parametrize("operation", ["put_file", "put_if_absent", "list"])
def test_a_merge_is_tried_again_when_the_store_fails(tmp_path: Path, operation: str) -> None:
    failing = False

    def fail(call: Call) -> None:
        if failing and call.operation == operation:
            raise StoreError("not now", transient=True)

    with Node(tmp_path, wrap=lambda store: InterceptedStore(store, Before(fail))) as node:
        for number in (1, 2):
            node.push(span(1, number))
            node.cut()
        failing = True
        with suppress(StoreError):
            node.maintain()
        assert node.copies() == once((1, 1), (1, 2))
        assert not list(node.store.scratch.iterdir())
        failing = False
        node.maintain()
        assert (len(node.table().blocks), node.copies()) == (1, once((1, 1), (1, 2)))


@pytest.mark.parametrize("damage", ["corrupt", "lost"])
def test_other_blocks_and_tables_are_merged_when_one_file_is_damaged(tmp_path: Path, damage: str) -> None:
    with Node(tmp_path, blocks=BlockSettings(row_group_spans=64, block_bytes_max=MIB)) as node:
        for tenant in ("a", "b"):
            for number in range(1, 13):
                node.push(*(span(1, 1000 * number + other) for other in range(64)), tenant=tenant)
                node.cut()
        damaged = node.store.local_path(block_key("a", node.table("a").blocks[2].path))
        assert damaged is not None
        whole = damaged.read_bytes()
        damaged.unlink()
        if damage == "corrupt":
            damaged.write_bytes(whole[: len(whole) // 2] + bytes(len(whole) - len(whole) // 2))
        before = len(node.table("a").blocks)
        node.maintain()
        assert len(node.table("b").blocks) < before
        assert len(node.table("a").blocks) < before
        assert any(block_key("a", one.path) in str(damaged) for one in node.table("a").blocks)
        assert node.maintenance.counters.failures == 1
        node.maintain()
        assert node.maintenance.counters.failures == 1, "not tried again yet"
        damaged.write_bytes(whole)
        node.clock.advance(3601)
        node.maintain()
        assert node.copies("a") == once(*((1, 1000 * number + other) for number in range(1, 13) for other in range(64)))
        assert not any(block_key("a", one.path) in str(damaged) for one in node.table("a").blocks)

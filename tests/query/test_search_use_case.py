"""Searching, filtering a trace, and tags over a real node: what is read, when it stops, what bounds it."""

from __future__ import annotations

import tracemalloc
from collections.abc import Iterator
from itertools import accumulate
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from node import NOW_NS, TENANT, Node, ids_in, span
from spanlake.blocks.scan.tenant import ScanCaches
from spanlake.model.errors import InvalidInput, QueryCancelled, QueryTimeout, TooLarge
from spanlake.model.metrics import RangeQuery
from spanlake.model.queries import (
    Inspected,
    Progress,
    SearchAnswer,
    SearchProgress,
    SearchQuery,
    TagNamesQuery,
    TagValue,
    TagValuesQuery,
)
from spanlake.model.settings import QuerySettings
from spanlake.model.stop import Stop
from spanlake.model.trace import ALL_GENERATIONS, TimeRange, TraceFilter
from spanlake.query.executors.inline import InlineExecutor
from spanlake.query.executors.threads import ThreadExecutor
from spanlake.query.metrics import Meter
from spanlake.query.search import Searcher
from spanlake.query.sources import TenantSources
from spanlake.query.tags import FirstValues, TagReader
from spanlake.query.tasks import Executor
from spanlake.query.trace_filter import FILTERED, FilteringFinder

SECOND = 10**9


def sources_of(node: Node, executor: Executor | None = None) -> TenantSources:
    caches = ScanCaches(node.store, node.footers, bytes_max=1 << 24)
    return TenantSources(caches, node.view, node.tenants.refresh, executor or InlineExecutor())


def search(node: Node, text: str, *, limit: int = 20, executor: Executor | None = None) -> SearchAnswer:
    searcher = Searcher(sources_of(node, executor), QuerySettings())
    return searcher.search(TENANT, SearchQuery(text, limit=limit), Stop())


def trace_ids(answer: SearchAnswer) -> list[int]:
    return [trace.trace_id for trace in answer.traces]


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    """Ten blocks of two traces, each block later than the one before; trace 100 lies in the first and the last; trace 30 is live."""
    with Node(tmp_path_factory.mktemp("node")) as node:
        for number in range(10):
            begin = NOW_NS - (1000 - 10 * number) * SECOND
            times: dict[str, Any] = {"start_time_unix_nano": begin, "end_time_unix_nano": begin + SECOND}
            node.push(span(2 * number + 1, 1, attributes={"rare": f"only {number}"}, **times), span(2 * number + 2, 2, **times))
            if number in (0, 9):
                node.push(span(100, 100 + number, parent=0 if number == 0 else 100, **times))
            node.clock.advance(1)
            node.cut()
        node.push(span(30, 1, start_time_unix_nano=NOW_NS, end_time_unix_nano=NOW_NS + 5))
        yield node


def test_search_reads_only_the_newest_places_when_the_limit_is_reached(node: Node) -> None:
    answer = search(node, "{ }", limit=1)
    assert (trace_ids(answer), answer.inspected.blocks_skipped, answer.inspected.blocks) == ([30], 10, 10)
    answer = search(node, "{ }", limit=3)
    assert (trace_ids(answer), answer.inspected.blocks_skipped) == ([30, 19, 20], 9)


def test_search_orders_by_start_then_id_and_finds_everything_when_the_limit_allows(node: Node) -> None:
    newest_first = [30, *(trace for number in range(9, 0, -1) for trace in (2 * number + 1, 2 * number + 2)), 1, 2, 100]
    assert trace_ids(search(node, "{ }", limit=50)) == newest_first


@pytest.mark.parametrize("limit", [1, 3, 4, 50])
@pytest.mark.parametrize("text", ["{ }", "{ span.rare != nil }", "{ span:id = `0000000000000064` } >> { }", '{ span.rare = "no such" }'])
def test_search_tells_of_settled_traces_once_in_the_order_of_the_answer(node: Node, text: str, limit: int) -> None:
    for due in (lambda: True, iter([False, True, False] * 100).__next__):
        told: list[SearchAnswer] = []
        query = SearchQuery(text, limit=limit)
        answer = Searcher(sources_of(node), QuerySettings()).search(TENANT, query, Stop(), SearchProgress(due, told.append))
        early = [trace for part in told for trace in part.traces]
        assert answer.traces[: len(early)] == tuple(early)
        assert answer.traces == search(node, text, limit=limit).traces
        assert all(part.inspected.jobs <= part.inspected.jobs_total for part in told)
        assert not told or told[-1].inspected.traces <= answer.inspected.traces


def test_search_tells_of_new_traces_before_it_has_read_old_ones(node: Node) -> None:
    told: list[SearchAnswer] = []
    progress = SearchProgress(lambda: True, told.append)
    Searcher(sources_of(node), QuerySettings()).search(TENANT, SearchQuery("{ }", limit=50), Stop(), progress)
    first = next(part for part in told if part.traces)
    assert trace_ids(first) == [30]
    assert first.inspected.traces < told[-1].inspected.traces
    assert first.inspected.jobs < first.inspected.jobs_total


@pytest.mark.parametrize("text", ["{ } | rate()", "{ } | compare({ .rare != nil })"])
def test_metrics_over_time_say_how_far_they_are(node: Node, text: str) -> None:
    told: list[Inspected] = []
    query = RangeQuery(text, TimeRange(NOW_NS - 1000 * SECOND, NOW_NS), 100 * SECOND)
    meter = Meter(sources_of(node), QuerySettings())
    answer = meter.query_range(TENANT, query, Stop(), Progress(lambda: True, told.append))
    assert [one.labels for one in answer.series] == [one.labels for one in meter.query_range(TENANT, query, Stop()).series]
    assert len(told) == answer.inspected.jobs
    assert all(seen.jobs <= seen.jobs_total for seen in told)
    assert told[0].jobs < told[0].jobs_total


def test_search_bounds_its_answer_when_parts_of_it_were_told_before(node: Node) -> None:
    searcher = Searcher(sources_of(node), QuerySettings(answer_spans_max=5))
    with pytest.raises(TooLarge):
        searcher.search(TENANT, SearchQuery("{ }", limit=50), Stop(), SearchProgress(lambda: True, lambda _: None))


def test_search_skips_blocks_without_the_value(node: Node) -> None:
    answer = search(node, '{ span.rare = "only 4" }')
    assert (trace_ids(answer), answer.inspected.blocks_skipped, answer.inspected.split_traces) == ([9], 9, 0)


def test_search_sees_whole_traces_that_lie_in_several_places(node: Node) -> None:
    answer = search(node, "{ span:id = `0000000000000064` } >> { }")
    assert trace_ids(answer) == [100]
    assert answer.inspected.split_traces == 1
    assert [one.spans for one in answer.traces[0].services] == [2]


@pytest.mark.parametrize("text", ["{ }", "{ span.number = 1 } | count() > 0", "{ } | by(span.text)", "{ false }", "{ } >> { }"])
def test_threads_do_not_matter(node: Node, text: str) -> None:
    executor = ThreadExecutor(3)
    assert search(node, text, executor=executor).traces == search(node, text).traces
    executor.close()


def test_search_is_given_up_when_it_is_cancelled_or_late(node: Node) -> None:
    searcher = Searcher(sources_of(node), QuerySettings())
    cancelled = Stop()
    cancelled.cancel()
    with pytest.raises(QueryCancelled):
        searcher.search(TENANT, SearchQuery("{ }"), cancelled)
    times = iter((0.0, 5.0, 11.0))
    with pytest.raises(QueryTimeout, match="longer than 10 seconds"):
        searcher.search(TENANT, SearchQuery("{ }"), Stop(10, clock=lambda: next(times)))


@pytest.mark.parametrize(
    ("bounds", "text"),
    [
        (QuerySettings(answer_spans_max=5), r"more than 5 spans \(query.answer_spans_max\): ask for a lower limit"),
        (QuerySettings(answer_bytes_max=4096), r"more than 4096 bytes \(query.answer_bytes_max\): ask for a lower limit"),
    ],
)
def test_search_fails_when_the_answer_would_be_too_large(node: Node, bounds: QuerySettings, text: str) -> None:
    with pytest.raises(TooLarge, match=text):
        Searcher(sources_of(node), bounds).search(TENANT, SearchQuery("{ }"), Stop())


def test_a_metrics_query_is_searched_for_its_spans_but_arithmetic_is_refused_with_where_to_send_it(node: Node) -> None:
    assert [trace.trace_id for trace in search(node, "{ } | rate() by (name)").traces] == [
        trace.trace_id for trace in search(node, "{ }").traces
    ]
    with pytest.raises(InvalidInput, match="/api/metrics/query_range"):
        search(node, "({ } | rate()) / ({ } | rate())")


def test_explanation_says_what_was_read(node: Node) -> None:
    text = Searcher(sources_of(node), QuerySettings()).explain(TENANT, SearchQuery('{ span.rare = "only 4" }'), Stop())
    assert "span.rare" in text
    assert "found 1 traces (limit 20)\nblocks: 1 read of 10" in text


def test_tag_names_and_values_cover_every_place(node: Node) -> None:
    tags = TagReader(sources_of(node), QuerySettings())
    names = dict(tags.names(TENANT, TagNamesQuery(), Stop()).scopes)
    assert (names["span"], names["resource"]) == (("number", "rare", "text"), ("service.name",))
    assert len(names["intrinsic"]) == 25
    only = dict(tags.names(TENANT, TagNamesQuery("span", filter='{ span.rare = "only 4" }'), Stop()).scopes)
    assert only == {"span": ("rare",)}
    values = tags.values(TENANT, TagValuesQuery("span.rare"), Stop()).values
    assert values == tuple(TagValue("string", f"only {number}") for number in range(10))
    assert tags.values(TENANT, TagValuesQuery("span.rare", limit=2), Stop()).values == values[:2]
    assert tags.values(TENANT, TagValuesQuery(".rare", "{ span.rare =~ `.*[45]` && "), Stop()).values == values[4:6]
    assert tags.values_v1(TENANT, TagValuesQuery("status.code"), Stop()).values[0] == TagValue("string", "error")
    with pytest.raises(InvalidInput, match="please provide a valid tagName"):
        tags.values(TENANT, TagValuesQuery("span."), Stop())
    with pytest.raises(InvalidInput, match="invalid scope: x"):
        tags.names(TENANT, TagNamesQuery("x"), Stop())


def test_tag_values_are_cut_when_they_are_too_large(node: Node) -> None:
    tags = TagReader(sources_of(node), QuerySettings(tag_values_bytes_max=1024))
    assert len(tags.values(TENANT, TagValuesQuery("span.rare"), Stop()).values) == 10
    few = TagReader(sources_of(node), QuerySettings(tag_values_bytes_max=30))
    assert len(few.values(TENANT, TagValuesQuery("span.rare"), Stop()).values) == 2


FILTERS = [
    (TraceFilter("{ name = `y` }"), {4, 5}),
    (TraceFilter("{ name = `y` }", keep_hierarchy=True), {1, 2, 3, 4, 5}),
    (TraceFilter("{ name = `y` }", keep_hierarchy=True, ancestor_depth=1), {3, 4, 5}),
    (TraceFilter("{ name = `y` }", keep_hierarchy=True, ancestor_depth=0), {4, 5}),
    (TraceFilter("{ span:id = `0000000000000002` }", match_depth=1), {2, 3}),
    (TraceFilter("{ span:id = `0000000000000002` }", match_depth=2), {2, 3, 4, 5}),
    (TraceFilter("{ span:id = `0000000000000002` }", match_depth=ALL_GENERATIONS), {2, 3, 4, 5, 7}),
    (TraceFilter("{ name = `none` }", keep_hierarchy=True), set()),
]


@pytest.mark.parametrize(("wanted", "numbers"), FILTERS)
def test_trace_filter_keeps_what_was_asked_for(tmp_path: Path, wanted: TraceFilter, numbers: set[int]) -> None:
    with Node(tmp_path) as node:
        node.push(span(1, 1, name="x"), span(1, 2, parent=1, name="x"), span(1, 3, parent=2, name="x"))
        node.cut()
        node.push(span(1, 4, parent=3, name="y"), span(1, 5, parent=3, name="y"), span(1, 6, parent=1), span(1, 7, parent=4))
        found = FilteringFinder(node.finder).find_filtered(TENANT, (0, 1), None, wanted, Stop())
        assert {number for _, number in ids_in(found.encoded)} == numbers if found.spans else not numbers
        assert (found.spans, found.complete, found.message) == (len(numbers), False, FILTERED)


@pytest.mark.parametrize("text", ["{ } | count() > 1", "{ } >> { }", "{ rootName = `a` }", "{ nestedSetLeft = 1 }", "{ } | rate()"])
def test_trace_filter_is_refused_when_it_is_no_filter_of_spans(node: Node, text: str) -> None:
    with pytest.raises(InvalidInput, match="invalid TraceQL filter"):
        FilteringFinder(node.finder).find_filtered(TENANT, (0, 1), None, TraceFilter(text), Stop())


@given(
    parts=st.lists(st.lists(st.builds(TagValue, st.sampled_from(["int", "string"]), st.text("abé", max_size=9)), max_size=30), max_size=6),
    limit=st.integers(0, 12),
    bytes_max=st.integers(1, 120),
)
def test_first_values_are_those_of_all_however_few_are_held(parts: list[list[TagValue]], limit: int, bytes_max: int) -> None:
    first = FirstValues(limit, bytes_max)
    for part in parts:
        first.add(part)
    everything = sorted({value for part in parts for value in part})[: limit or None]
    sizes = list(accumulate(len(value.value.encode()) + len(value.type) for value in everything))
    assert first.first() == [value for value, size in zip(everything, sizes, strict=True) if size < bytes_max]
    assert first.first() == first.first()


def test_first_values_hold_little_of_many() -> None:
    first = FirstValues(0, 1024)
    tracemalloc.start()
    try:
        for begin in range(0, 400_000, 1000):
            first.add(TagValue("string", f"user {number:08}" + "x" * 100) for number in range(begin, begin + 1000))
        assert tracemalloc.get_traced_memory()[1] < 2 << 20
    finally:
        tracemalloc.stop()
    assert [value.value[:13] for value in first.first()][:2] == ["user 00000000", "user 00000001"]

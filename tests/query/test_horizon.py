"""How far from the window of a query the spans of its traces are looked for."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from node import NOW_NS, TENANT, Node, request, span
from spanlake.blocks.scan.tenant import ScanCaches
from spanlake.model.queries import SearchQuery
from spanlake.model.settings import QuerySettings
from spanlake.model.stop import Stop
from spanlake.model.trace import TimeRange
from spanlake.query.executors.inline import InlineExecutor
from spanlake.query.search import Searcher
from spanlake.query.sources import TenantSources

HOUR_NS = 3600 * 10**9
WINDOW = TimeRange(NOW_NS - 60 * 10**9, NOW_NS + 60 * 10**9)


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    """A trace with spans now, three hours ago and three days ago, each in a block of its own."""
    with Node(Path(tmp_path_factory.mktemp("node"))) as node:
        for number, hours in ((1, 72), (2, 3), (3, 0)):
            begin = NOW_NS - hours * HOUR_NS
            late = span(1, number, start_time_unix_nano=begin, end_time_unix_nano=begin + 1000)
            node.pipeline.accept(TENANT, request(late))
            node.cut()
        yield node


@pytest.mark.parametrize(
    ("horizon_hours", "window", "spans", "blocks"),
    [(24, WINDOW, 2, 2), (1, WINDOW, 1, 1), (0, WINDOW, 3, 3), (24, None, 3, 3), (1, None, 3, 3)],
)
def test_spans_are_found_within_the_horizon_of_the_window(
    node: Node, horizon_hours: int, window: TimeRange | None, spans: int, blocks: int
) -> None:
    caches = ScanCaches(node.store, node.footers, bytes_max=1 << 24)
    sources = TenantSources(caches, node.view, node.tenants.refresh, InlineExecutor(), 3600.0 * horizon_hours)
    answer = Searcher(sources, QuerySettings()).search(TENANT, SearchQuery("{ }", window), Stop())
    assert [sum(found.spans for found in trace.services) for trace in answer.traces] == [spans]
    assert len(sources.units(node.view(), window)) == blocks

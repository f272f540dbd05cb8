"""Tenants in queries: each sees its own spans and nothing else, whatever the names, and several at once see theirs together."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from engine_answers import sources_of
from opentelemetry.proto.trace.v1.trace_pb2 import TracesData

from node import NOW_NS, Node, numbers, request, span, spans_in
from spanlake.blocks.catalog.tenants import table_prefix, tenant_directory, tenant_of_directory
from spanlake.model.errors import InvalidInput, NoTenant, TooLarge
from spanlake.model.metrics import InstantQuery, RangeQuery
from spanlake.model.queries import SearchAnswer, SearchQuery, TagNamesQuery, TagValuesQuery
from spanlake.model.settings import QuerySettings
from spanlake.model.stop import Stop
from spanlake.model.tenancy.limits import SameLimits, TenantLimits
from spanlake.model.tenancy.names import federation, members
from spanlake.model.trace import TimeRange, TraceFilter
from spanlake.query.federated import FederatedFinder, FederatedSearcher, FederatedSources
from spanlake.query.metrics import Meter
from spanlake.query.search import Searcher
from spanlake.query.tags import TagReader
from spanlake.query.trace_filter import FilteringFinder

pytestmark = pytest.mark.slow

NAMES = (
    "a",
    "A",
    "a.",
    ".a",
    "...",
    "a-b",
    "a_b",
    "a(b)",
    "a*",
    "a!",
    "a'b",
    "_delta_log",
    "tables",
    "tenants",
    "single-tenant",
    "x" * 150,
)
"""Names that storage, a shell or a glob could take for something else, or for each other."""

HOUR_NS = 3600 * 10**9
WINDOW = TimeRange(NOW_NS - HOUR_NS, NOW_NS + HOUR_NS)
SETTINGS = QuerySettings()


class Queries:
    """Every query that a node answers, of one tenant or several."""

    def __init__(self, node: Node, settings: QuerySettings = SETTINGS) -> None:
        single = sources_of(node)
        sources = FederatedSources(single)
        self.searcher = FederatedSearcher(Searcher(single, settings))
        self.tags = TagReader(sources, settings)
        self.meter = Meter(sources, settings)
        self.finder = FederatedFinder(node.finder)

    def search(self, tenant: str, text: str = "{ }", limit: int = 20) -> SearchAnswer:
        return self.searcher.search(tenant, SearchQuery(text, limit=limit), Stop())

    def owners(self, tenant: str) -> list[str]:
        """The values of an attribute that says whose span it is, by every way there is."""
        found = self.search(tenant, "{ span.owner != nil } | select(span.owner)", limit=1000)
        shown = {
            str(value.value) for trace in found.traces for spans in trace.spansets for one in spans.spans for _, value in one.attributes
        }
        listed = {value.value for value in self.tags.values(tenant, TagValuesQuery("span.owner"), Stop()).values}
        metered = self.meter.query_instant(tenant, InstantQuery("{ } | count_over_time() by (span.owner)", WINDOW), Stop())
        counted = {str(value.value) for series in metered.series for _, value in series.labels}
        assert shown == listed == counted, (shown, listed, counted)
        return sorted(listed)

    def spans_of(self, tenant: str, trace: int) -> list[int]:
        return sorted(numbers(spans_in(TracesData.FromString(self.finder.find(tenant, (0, trace), None).encoded))))


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    """Each tenant has a trace 1 with a span of its own number, stored and live, and the trace that bears its number."""
    with Node(tmp_path_factory.mktemp("node")) as made:
        for number, tenant in enumerate(NAMES, 1):
            made.push(span(1, number, attributes={"owner": tenant}), tenant=tenant, service=f"service of {tenant}")
            made.push(span(100 + number, 1, attributes={"owner": tenant, f"only {number}": 1}), tenant=tenant)
        made.cut()
        for number, tenant in enumerate(NAMES, 1):
            made.push(span(1, 1000 + number, attributes={"owner": tenant}), tenant=tenant)
        yield made


def test_each_tenant_sees_its_own_spans_and_nothing_else(node: Node) -> None:
    queries = Queries(node)
    for turn in range(2):  # the second time from caches
        for number, tenant in enumerate(NAMES, 1):
            assert queries.spans_of(tenant, 1) == [number, 1000 + number], turn
            assert queries.owners(tenant) == [tenant]
            keys = dict(queries.tags.names(tenant, TagNamesQuery("span"), Stop()).scopes)["span"]
            assert keys == (f"only {number}", "owner")
            assert len(queries.search(tenant).traces) == 2
            other = 100 + number % len(NAMES) + 1
            assert queries.spans_of(tenant, other) == []
            assert queries.search(tenant, f'{{ trace:id = "{other:x}" }}').traces == ()


def test_tenants_nobody_has_heard_of_have_nothing(node: Node) -> None:
    queries = Queries(node)
    for tenant in ("b", "a-", "aa", "X" * 150):
        assert queries.spans_of(tenant, 1) == []
        assert queries.owners(tenant) == []


def test_files_of_a_tenant_are_in_a_directory_of_its_own_and_hold_its_spans_alone(node: Node) -> None:
    directories = {tenant: tenant_directory(tenant) for tenant in NAMES}
    assert len(set(directories.values())) == len(NAMES)
    assert {tenant_of_directory(directory): directory for directory in directories.values()} == directories
    for tenant in NAMES:
        keys = [info.key for info in node.store.list(table_prefix(tenant)) if info.key.endswith(".parquet")]
        assert keys
        for key in keys:
            table = pq.ParquetFile(pa.BufferReader(node.store.get(key))).read()
            assert set(table["span.owner"].to_pylist()) == {tenant}


@pytest.mark.parametrize("name", ["..", ".", "", "a/b", "../a", "a|b", "a\\b", "a\0", "a\n", "%2e%2e", "a b", "é", "x" * 151])
def test_names_that_could_lead_elsewhere_reach_neither_log_nor_store(node: Node, name: str) -> None:
    before = sorted(info.key for info in node.store.list(""))
    queries = Queries(node)
    for ask in (
        lambda: node.pipeline.accept(name, request(span(1, 1))),
        lambda: queries.search(name) if "|" not in name else node.view(name),
        lambda: queries.spans_of(name, 1) if "|" not in name else table_prefix(name),
    ):
        with pytest.raises(NoTenant):
            ask()
    assert sorted(info.key for info in node.store.list("")) == before


# Several at once


def test_federation_is_the_names_in_order_once() -> None:
    assert federation(["b", "a", "b"]) == "a|b"
    assert members("a|b") == ("a", "b")
    assert members(federation(["a"])) == ("a",)


def test_several_tenants_see_the_spans_of_all_of_them(node: Node) -> None:
    queries = Queries(node)
    both = federation(["a", "A"])
    assert queries.owners(both) == ["A", "a"]
    assert queries.spans_of(both, 1) == [1, 2, 1001, 1002]
    assert queries.spans_of(both, 101) == [1]
    keys = dict(queries.tags.names(both, TagNamesQuery("span"), Stop()).scopes)["span"]
    assert keys == ("only 1", "only 2", "owner")
    everybody = federation(NAMES)
    assert queries.owners(everybody) == sorted(NAMES)
    assert len(queries.spans_of(everybody, 1)) == 2 * len(NAMES)


def test_a_search_of_several_tenants_finds_the_newest_traces_of_all(node: Node) -> None:
    queries = Queries(node)
    everybody = federation(NAMES)
    found = queries.search(everybody, limit=1000)
    assert len(found.traces) == 2 * len(NAMES)  # trace 1 once per tenant
    assert [trace.start_ns for trace in found.traces] == sorted((trace.start_ns for trace in found.traces), reverse=True)
    assert queries.search(everybody, limit=5).traces == found.traces[:5]
    alone = [queries.search(tenant, limit=1000) for tenant in NAMES]
    assert sum(len(answer.traces) for answer in alone) == len(found.traces)
    assert found.inspected.blocks == sum(answer.inspected.blocks for answer in alone) == len(NAMES)
    explained = queries.searcher.explain(federation(["a", "A"]), SearchQuery("{ }"), Stop())
    assert "tenant a:\n" in explained
    assert "tenant A:\n" in explained
    assert "tenant" not in queries.searcher.explain("a", SearchQuery("{ }"), Stop())


def test_relations_between_spans_do_not_cross_tenants(tmp_path: Path) -> None:
    """A trace that passes through two tenants has its root in one and a child in the other."""
    with Node(tmp_path) as node:
        node.push(span(1, 1, name="root"), tenant="a")
        node.push(span(1, 2, parent=1, name="child"), span(1, 3, parent=2, name="leaf"), tenant="b")
        queries = Queries(node)
        for place in ("live", "stored"):
            assert len(queries.search("a|b", '{ name = "child" } > { name = "leaf" }').traces) == 1, place
            assert len(queries.search("a|b", '{ name = "root" } > { name = "child" }').traces) == 0
            assert len(queries.search("a|b").traces) == 2
            assert queries.spans_of("a|b", 1) == [1, 2, 3]
            wanted = TraceFilter('{ name = "leaf" }', keep_hierarchy=True)
            filtered = FilteringFinder(queries.finder).find_filtered("a|b", (0, 1), None, wanted, Stop())
            assert filtered.spans == 3
            node.cut()


def test_metrics_of_several_tenants_are_those_of_all_their_spans(node: Node) -> None:
    queries = Queries(node)

    def counts(tenant: str, by: str = "") -> dict[object, float]:
        query = RangeQuery(f"{{ }} | count_over_time(){by}", WINDOW, 60 * 10**9)
        answer = queries.meter.query_range(tenant, query, Stop())
        return {tuple(value.value for _, value in series.labels): float(series.values.sum()) for series in answer.series}

    assert sum(counts("a").values()) == 3
    assert sum(counts(federation(NAMES)).values()) == 3 * len(NAMES)
    assert counts("A|a", " by (span.owner)") == {("A",): 3.0, ("a",): 3.0}
    quantile = queries.meter.query_instant("A|a", InstantQuery("{ } | max_over_time(duration)", WINDOW), Stop())
    assert [series.values.tolist() for series in quantile.series] == [[0.001]]


def test_bounds_hold_for_all_tenants_together(node: Node) -> None:
    tight = Queries(node, replace(SETTINGS, answer_spans_max=3))
    assert len(tight.search("a").traces) == 2
    with pytest.raises(TooLarge, match=r"more than 3 spans"):
        tight.search("A|a")


def test_metrics_range_is_a_limit_of_the_tenant(node: Node) -> None:
    meter = Meter(sources_of(node), SETTINGS, SameLimits(TenantLimits(metrics_range_seconds_max=60)))
    with pytest.raises(InvalidInput, match="exceeds the maximum allowed duration of 1m"):
        meter.query_instant("a", InstantQuery("{ } | rate()", WINDOW), Stop())

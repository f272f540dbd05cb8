"""Every case of the public corpus, through a real pipeline, wherever its spans are stored."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from answers import differences
from meter_answers import ANY_RANGE
from naive_series import Labels
from pushed_corpus import ASKED, BASE_NS, CASES, STEP_NS, expected_series, payloads
from series_answers import EXACT, SKETCHED, series_differences
from tempo_json import read_query_instant, read_query_range, read_search, read_tag_names, read_tag_values

from node import TENANT, Node
from spanlake.blocks.scan.tenant import ScanCaches
from spanlake.model.errors import InvalidInput, QueryError
from spanlake.model.metrics import InstantQuery, RangeQuery
from spanlake.model.queries import SearchQuery, TagNamesQuery, TagValuesQuery
from spanlake.model.settings import BlockSettings, QuerySettings
from spanlake.model.stop import Stop
from spanlake.model.trace import TimeRange
from spanlake.query.executors.threads import ThreadExecutor
from spanlake.query.metrics import Meter
from spanlake.query.search import Searcher
from spanlake.query.sources import TenantSources
from spanlake.query.tags import TagReader
from spanlake.wire.metrics_json import encode_query_instant, encode_query_range
from spanlake.wire.search_json import encode_search, encode_tag_names_v2, encode_tag_values_v2

WINDOW = TimeRange(ASKED.start_ns, ASKED.end_ns + 1)


def live(node: Node) -> None:
    for payload in payloads():
        node.pipeline.accept(TENANT, payload)


def flushed(node: Node) -> None:
    live(node)
    node.cut()


def block_per_push(node: Node) -> None:
    for payload in payloads():
        node.pipeline.accept(TENANT, payload)
        node.clock.advance(1)
        node.cut()


def blocks_and_live(node: Node) -> None:
    for number, payload in enumerate(payloads()):
        node.pipeline.accept(TENANT, payload)
        if number < len(payloads()) - 2 and number % 3 == 0:
            node.clock.advance(1)
            node.cut()


def compacted(node: Node) -> None:
    block_per_push(node)
    node.maintain()


STORAGES: tuple[Callable[[Node], None], ...] = (live, flushed, block_per_push, blocks_and_live, compacted)


class Asked:
    """What answers the queries of one node."""

    def __init__(self, node: Node, sources: TenantSources) -> None:
        self.node = node
        self.searcher = Searcher(sources, QuerySettings())
        self.tags = TagReader(sources, QuerySettings())
        self.meter = Meter(sources, ANY_RANGE)

    def search(self, text: str) -> dict[str, Any]:
        answer = self.searcher.search(TENANT, SearchQuery(text, WINDOW, limit=5000, spss=100), Stop(60))
        return read_search(encode_search(answer), BASE_NS)

    def names(self, scope: str) -> dict[str, list[str]]:
        return read_tag_names(encode_tag_names_v2(self.tags.names(TENANT, TagNamesQuery(scope or None, window=WINDOW), Stop(60))))

    def values(self, text: str) -> list[list[str]]:
        tag, _, wanted = text.partition(" | ")
        answer = self.tags.values(TENANT, TagValuesQuery(tag, wanted, WINDOW), Stop(60))
        return read_tag_values(encode_tag_values_v2(answer))

    def metrics(self, case: dict[str, Any]) -> dict[Labels, dict[int, float]]:
        if case["kind"] == "range":
            answer = self.meter.query_range(TENANT, RangeQuery(case["q"], ASKED, STEP_NS), Stop(60))
            return read_query_range(encode_query_range(answer))[0]
        answer = self.meter.query_instant(TENANT, InstantQuery(case["q"], ASKED), Stop(60))
        return {labels: {ASKED.end_ns: number} for labels, number in read_query_instant(encode_query_instant(answer)).items()}


# The fast checks ask live spans.
FORMS = [pytest.param(store, marks=[] if store is STORAGES[0] else pytest.mark.slow, id=store.__name__) for store in STORAGES]


@pytest.fixture(scope="module", params=FORMS)
def asked(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Asked]:
    with Node(tmp_path_factory.mktemp("node"), blocks=BlockSettings(row_group_spans=256)) as node:
        request.param(node)
        executor = ThreadExecutor(2)
        caches = ScanCaches(node.store, node.footers, bytes_max=1 << 24)
        yield Asked(node, TenantSources(caches, node.view, node.tenants.refresh, executor))
        executor.close()


def cases(*kinds: str) -> list[Any]:
    return [pytest.param(case, id=f"{case['kind']} {case['q']}") for case in CASES if case["kind"] in kinds]


@pytest.mark.parametrize("case", cases("search"))
def test_search_gives_the_answer_of_the_corpus(asked: Asked, case: dict[str, Any]) -> None:
    if case["status"] == 200:
        found = differences(case["answer"], asked.search(case["q"]))
        assert not found
    else:
        with pytest.raises((QueryError, InvalidInput)):
            asked.search(case["q"])


@pytest.mark.parametrize("case", cases("tags"))
def test_tag_names_are_those_of_the_corpus(asked: Asked, case: dict[str, Any]) -> None:
    assert asked.names(case["q"]) == case["answer"]


@pytest.mark.parametrize("case", cases("values"))
def test_tag_values_are_those_of_the_corpus(asked: Asked, case: dict[str, Any]) -> None:
    assert asked.values(case["q"]) == sorted(case["answer"])


@pytest.mark.parametrize("case", cases("range", "instant"))
def test_metrics_are_those_of_the_corpus(asked: Asked, case: dict[str, Any]) -> None:
    if case["status"] != 200:
        with pytest.raises((QueryError, InvalidInput)):
            asked.metrics(case)
        return
    tolerance = SKETCHED if "quantile" in case["q"] else EXACT
    assert not series_differences(expected_series(case), asked.metrics(case), tolerance=tolerance, in_order=False)

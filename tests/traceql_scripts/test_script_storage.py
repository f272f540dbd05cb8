"""Every behaviour script against the engine, wherever its spans are: live, replayed, in a block, compacted, and split over places.

Every set of spans is a tenant of one process, so that a state of storage is made once for all scripts.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import groupby

import pytest
from engine_answers import NodeSearches
from meter_answers import NodeMeter
from naive import Answer
from naive_otlp import payload_of_spans
from naive_spans import Span
from script_language import Section
from script_running import all_sections, failures
from series_answers import SeriesAnswer

from node import Node
from spanlake.model.settings import BlockSettings, CompactionSettings

PARTS = 3
KEEP = CompactionSettings(blocks_min=2, retention_seconds=0)
COLUMNS = BlockSettings(row_group_spans=64)
OVERFLOW_ONLY = BlockSettings(row_group_spans=64, columns_max=0)


def tenant_of(section: Section) -> str:
    """Sections with the same data share a tenant."""
    return f"section-{next(number for number, one in enumerate(all_sections()) if one.pushes == section.pushes)}"


def accept(node: Node, section: Section, spans: list[Span]) -> None:
    if spans:
        accepted = node.pipeline.accept(tenant_of(section), payload_of_spans(spans))
        assert accepted.spans == len(spans)


def loaded_sections() -> list[Section]:
    """One section of every tenant."""
    return list({tenant_of(section): section for section in reversed(all_sections())}.values())


def push_all(node: Node) -> None:
    for section in loaded_sections():
        for push in section.pushes:
            accept(node, section, push)


def part_of(spans: list[Span], part: int) -> list[Span]:
    """Some spans of every trace: runs of its spans in order of arrival, so that the parts arrive in the order of the whole."""
    by_trace = sorted(spans, key=lambda span: span.trace_id)
    chosen = []
    for _, group in groupby(by_trace, key=lambda span: span.trace_id):
        whole = list(group)
        chosen += whole[len(whole) * part // PARTS : len(whole) * (part + 1) // PARTS]
    return chosen


def push_part(node: Node, part: int) -> None:
    for section in loaded_sections():
        accept(node, section, part_of([span for push in section.pushes for span in push], part))


def in_one_block(node: Node) -> None:
    push_all(node)
    node.cut()


def split(node: Node) -> None:
    """In two blocks and live."""
    for part in range(PARTS):
        push_part(node, part)
        if part < PARTS - 1:
            node.clock.advance(1)
            node.cut()


def in_blocks(node: Node) -> None:
    """In three blocks, none of which has a whole trace of several spans."""
    for part in range(PARTS):
        push_part(node, part)
        node.clock.advance(1)
        node.cut()


def compacted(node: Node) -> None:
    in_blocks(node)
    before = block_count(node)
    node.maintain()
    assert block_count(node) < before


def block_count(node: Node) -> int:
    return sum(len(node.table(tenant_of(section)).blocks) for section in loaded_sections())


STATES: dict[str, tuple[Callable[[Node], None], BlockSettings]] = {
    "live": (push_all, COLUMNS),
    "flushed": (in_one_block, COLUMNS),
    "split": (split, COLUMNS),
    "split over blocks": (in_blocks, COLUMNS),
    "replayed": (push_all, COLUMNS),
    "without attribute columns": (in_one_block, OVERFLOW_ONLY),
    "compacted": (compacted, COLUMNS),
}
FAST = ("live",)
PARAMETERS = [pytest.param(state, marks=() if state in FAST else pytest.mark.slow) for state in STATES]


@pytest.fixture(scope="module", params=PARAMETERS)
def asked(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[NodeSearches, NodeMeter]]:
    store, blocks = STATES[request.param]
    root = tmp_path_factory.mktemp("scripts")
    with Node(root, blocks=blocks, compaction=KEEP) as node:
        store(node)
        if request.param != "replayed":
            yield NodeSearches(node), NodeMeter(node)
    if request.param == "replayed":
        with Node(root, blocks=blocks, compaction=KEEP) as node:
            assert node.live(tenant_of(all_sections()[0]))
            yield NodeSearches(node), NodeMeter(node)


@dataclass(frozen=True, slots=True)
class TenantAnswers:
    """The answers for one section."""

    searches: NodeSearches
    meter: NodeMeter
    tenant: str

    def search(self, query: str, overlaps_ns: tuple[int, int] | None, limit: int) -> Answer:
        return self.searches.search(self.tenant, query, overlaps_ns, limit)

    def metrics(self, query: str, window_ns: tuple[int, int], step_ns: int, exemplars_max: int) -> SeriesAnswer:
        return self.meter.ask(self.tenant, query, window_ns, step_ns, exemplars_max=exemplars_max)

    def tag_values(self, tag: str, filter_text: str) -> list[list[str]]:
        return self.searches.tag_values(self.tenant, tag, filter_text)


@pytest.mark.parametrize("section", all_sections(), ids=[section.name for section in all_sections()])
def test_script_holds_wherever_its_spans_are(section: Section, asked: tuple[NodeSearches, NodeMeter]) -> None:
    found = failures(section, TenantAnswers(*asked, tenant_of(section)))
    assert not found, "\n".join(found)

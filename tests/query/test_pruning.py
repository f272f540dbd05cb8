"""Summaries in place of similar spans: which spans are merged, what the summaries say, and that the tree stays one."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.proto.common.v1.common_pb2 import AnyValue
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status, TracesData

from node import NOW_NS, TENANT, Node, request, span, spans_in
from spanlake.blocks.scan.memory import arranged
from spanlake.model.errors import InvalidInput
from spanlake.model.stop import Stop
from spanlake.model.trace import Pruning, TraceFilter
from spanlake.query.pruning import Pruned, prune
from spanlake.query.pruning.summaries import BOUNDS_SECONDS, PREFIX
from spanlake.query.trace_filter import FilteringFinder
from spanlake.server.parameters.search import GROUP_BY_DEFAULT, parse_trace_filter
from spanlake.wire.otlp.decode import decode_otlp
from spanlake.wire.otlp.encode import encode_otlp

OK, ERROR = Status(code=Status.STATUS_CODE_OK), Status(code=Status.STATUS_CODE_ERROR)
MS = 1_000_000


@dataclass
class Tree:
    """Spans given as an indented outline: one a line, `name key=value … N ms`; `!` marks an error, `xN` repeats the line with all below."""

    spans: list[Span]

    @classmethod
    def of(cls, outline: str) -> Tree:
        tree = cls([])
        lines = [line for line in outline.splitlines() if line.strip()]
        tree._add([(len(line) - len(line.lstrip()), line.split()) for line in lines], 0)
        return tree

    def _add(self, lines: list[tuple[int, list[str]]], parent: int) -> None:
        at = 0
        while at < len(lines):
            depth, words = lines[at]
            end = next((later for later in range(at + 1, len(lines)) if lines[later][0] <= depth), len(lines))
            for _ in range(next((int(word[1:]) for word in words if word[0] == "x" and word[1:].isdigit()), 1)):
                number = len(self.spans) + 1
                attributes: dict[str, Any] = dict(word.split("=") for word in words if "=" in word)
                duration = next((int(word[:-2]) for word in words if word.endswith("ms")), 1) * MS
                end_ns = NOW_NS + number + duration
                status = ERROR if "!" in words else OK
                self.spans.append(
                    span(1, number, parent=parent, name=words[0], attributes=attributes, end_time_unix_nano=end_ns, status=status)
                )
                self._add(lines[at + 1 : end], number)
            at = end

    def pruned(self, *, least: int = 2, depth: int = 1, group_by: str = "*") -> Pruned:
        return prune(whole([request(*self.spans)]), Pruning(tuple(group_by.split()), least, depth))


def whole(payloads: Iterable[bytes]) -> Any:
    spans = arranged([decode_otlp(payload).batch for payload in payloads])
    return spans.only_rows(np.ones(len(spans.batch), np.bool_))


def spans_of(pruned: Pruned) -> list[Span]:
    return spans_in(TracesData.FromString(encode_otlp(pruned.batch)))


def values_of(one: Span) -> dict[str, AnyValue]:
    return {pair.key: pair.value for pair in one.attributes}


def count_of(one: Span) -> int:
    return values_of(one).get(PREFIX + "span_count", AnyValue(int_value=1)).int_value


def outline(spans: list[Span], parent: bytes = b"", depth: int = 0) -> list[str]:
    """The tree, one span a line: depth, name and, of a summary, how many it stands for."""
    lines = []
    for one in spans:
        if one.parent_span_id == parent:
            count, mark = count_of(one), " !" if one.status == ERROR else ""
            lines.append(f"{'  ' * depth}{one.name}{mark}{f' *{count}' if count > 1 else ''}")
            lines += outline(spans, one.span_id, depth + 1)
    return lines


CASES: list[tuple[str, str, dict[str, Any], str]] = [
    (
        "similar leaves, errors apart",
        "root\n SELECT op=select x3\n SELECT op=select ! x2\n INSERT op=insert",
        {},
        "root\n  SELECT *3\n  SELECT ! *2\n  INSERT",
    ),
    ("too few", "root\n SELECT x4", {"least": 5}, "root\n  SELECT\n  SELECT\n  SELECT\n  SELECT"),
    ("just enough", "root\n SELECT x5", {"least": 5}, "root\n  SELECT *5"),
    ("attributes differ", "root\n GET k=a\n GET k=b", {}, "root\n  GET\n  GET"),
    ("attributes that nobody asked for differ", "root\n GET k=a\n GET k=b", {"group_by": "http.*"}, "root\n  GET *2"),
    ("an attribute is missing", "root\n GET k=a\n GET", {"group_by": "k"}, "root\n  GET\n  GET"),
    ("roots are not merged", "root x3", {}, "root\nroot\nroot"),
    (
        "parents with them, those with other children not",
        "root\n handler x3\n  SELECT\n handler ! x2\n  SELECT !\n handler\n  INSERT\n worker\n  SELECT",
        {},
        "root\n  handler *3\n    SELECT *3\n  handler ! *2\n    SELECT ! *2\n  handler\n    INSERT\n  worker\n    SELECT",
    ),
    ("no parents at depth 0", "root\n handler x3\n  SELECT x2", {"depth": 0}, "root" + "\n  handler\n    SELECT *2" * 3),
    ("grandparents", "root\n a x2\n  b x2\n   c x2", {"depth": 2}, "root\n  a *2\n    b *4\n      c *8"),
    ("grandparents not at depth 1", "root\n a x2\n  b x2\n   c x2", {}, "root" + "\n  a\n    b *2\n      c *4" * 2),
    ("any depth", "root\n a x2\n  b x2\n   c x2\n    d x2", {"depth": -1}, "root\n  a *2\n    b *4\n      c *8\n        d *16"),
    (
        "parents of different parents stay apart, and so do their children",
        "root\n left\n  handler x2\n   SELECT x2\n right\n  handler\n   SELECT x2",
        {},
        "root\n  left\n    handler *2\n      SELECT *4\n  right\n    handler\n      SELECT *2",
    ),
    (
        "a parent is not merged when a child is left over",
        "root\n handler\n  SELECT x3\n  INSERT\n handler\n  SELECT x3",
        {"least": 3},
        "root\n  handler\n    SELECT *3\n    INSERT\n  handler\n    SELECT *3",
    ),
    (
        "what would be enough under one name is too few under one parent",
        "root\n left\n  SELECT x2\n right\n  SELECT x2",
        {"least": 3},
        "root\n  left\n    SELECT\n    SELECT\n  right\n    SELECT\n    SELECT",
    ),
]


@pytest.mark.parametrize(("given_tree", "how", "expected"), [case[1:] for case in CASES], ids=[case[0] for case in CASES])
def test_similar_spans_are_merged(given_tree: str, how: dict[str, Any], expected: str) -> None:
    assert sorted(outline(spans_of(Tree.of(given_tree).pruned(**how)))) == sorted(expected.split("\n"))
    assert outline(spans_of(Tree.of(given_tree).pruned(**how)))[0] == expected.split("\n", maxsplit=1)[0]


def test_summary_is_the_longest_span_with_what_is_known_of_all() -> None:
    tree = Tree.of("root\n GET 10ms\n GET 400ms n=2\n GET 30ms\n GET 12000ms kept=yes")
    (summary,) = (one for one in spans_of(tree.pruned(group_by="")) if one.name == "GET")
    values = values_of(summary)
    assert values["kept"].string_value == "yes"
    assert summary.parent_span_id == (1).to_bytes(8)
    assert summary.span_id not in {one.span_id for one in tree.spans}
    assert (summary.start_time_unix_nano, summary.end_time_unix_nano) == (NOW_NS + 2, NOW_NS + 5 + 12_000 * MS)
    assert values["aggregation.is_summary"].bool_value
    numbers = {name: values[f"aggregation.duration_{name}_ns"].int_value // MS for name in ("min", "max", "avg", "total")}
    assert (count_of(summary), numbers) == (4, {"min": 10, "max": 12000, "avg": 3110, "total": 12440})
    bounds = [one.double_value for one in values["aggregation.histogram_bucket_bounds_s"].array_value.values]
    assert tuple(bounds) == BOUNDS_SECONDS
    counts = [one.int_value for one in values["aggregation.histogram_bucket_counts"].array_value.values]
    assert counts == [0, 1, 1, 2, 2, 2, 3, 3, 3, 3, 3, 4]


def test_spans_of_different_services_are_not_merged_and_pushes_of_one_are() -> None:
    root, *rest = Tree.of("root\n GET x4").spans
    payloads = [request(root), request(rest[0], service="a"), request(rest[1], service="a"), request(*rest[2:], service="b")]
    pruned = prune(whole(payloads), Pruning((), 2, 1))
    assert sorted(count_of(one) for one in spans_of(pruned)) == [1, 2, 2]
    assert (pruned.summaries, pruned.summarized) == (2, 4)


def test_spans_of_one_absent_parent_are_merged_and_those_of_another_are_not() -> None:
    sent = [span(1, number, parent=100 + number % 2, name="GET", attributes={}) for number in range(1, 9)]
    assert [(count_of(one), one.parent_span_id[-1]) for one in spans_of(prune(whole([request(*sent)]), Pruning((), 2, 1)))] == [
        (4, 101),
        (4, 100),
    ]


def test_a_trace_with_summaries_is_left_as_it_is() -> None:
    pruned = Tree.of("root\n GET x3\n PUT x1").pruned()
    again = prune(whole([encode_otlp(pruned.batch)]), Pruning((), 2, 1))
    assert again.before
    assert len(spans_of(again)) == 3


def test_an_empty_trace_stays_empty() -> None:
    batch = whole([request(span(1, 1))])
    assert len(prune(batch.take(np.arange(0)), Pruning(("*",), 2, -1)).batch) == 0


SPANS = st.lists(
    st.tuples(st.integers(0, 14), st.sampled_from("ab"), st.sampled_from([OK, ERROR]), st.sampled_from("xy"), st.integers(-5, 10**10)),
    min_size=1,
    max_size=14,
)


@given(rows=SPANS, least=st.integers(2, 4), depth=st.integers(-1, 3))
def test_pruning_keeps_the_tree_and_counts_every_span(rows: list[tuple[int, str, Status, str, int]], least: int, depth: int) -> None:
    """Parents are any other span, also absent ones, the span itself and cycles."""
    sent = [
        span(1, number, parent=parent, name=name, status=status, attributes={"k": value}, end_time_unix_nano=NOW_NS + number + duration)
        for number, (parent, name, status, value, duration) in enumerate(rows, 1)
    ]
    pruned = prune(whole([request(*sent)]), Pruning(("k",), least, depth))
    found = spans_of(pruned)
    before, after = {one.span_id: one for one in sent}, {one.span_id: one for one in found}
    assert len(after) == len(found), "ids stay unique"
    assert sum(count_of(one) for one in found) == len(sent)
    assert len(sent) - len(found) == pruned.summarized - pruned.summaries
    for one in found:
        if one.span_id in before:
            assert one == before[one.span_id], "other spans are untouched"
        else:
            assert count_of(one) >= 2
        assert one.parent_span_id in after or one.parent_span_id not in before, "no span loses its parent"


def test_the_use_case_says_what_it_left_out(tmp_path: Path) -> None:
    with Node(tmp_path) as node:
        node.push(*Tree.of("root\n GET x6\n PUT").spans)
        finder = FilteringFinder(node.finder)
        how = Pruning((), 5, 1)
        answers = [
            finder.find_filtered(TENANT, (0, 1), None, wanted, Stop())
            for wanted in (
                TraceFilter("", pruning=how),
                TraceFilter("{ name != `PUT` }", keep_hierarchy=True, pruning=how),
                TraceFilter("", pruning=Pruning((), 7, 1)),
            )
        ]
    pruned = "Trace pruned: 6 similar spans are shown as 1 summaries; ask with span_pruning=false to see every span"
    filtered = "Trace filtered, only a subset of spans matching the filter is returned"
    assert [(answer.spans, answer.complete, answer.message) for answer in answers] == [
        (3, False, pruned),
        (2, False, f"{filtered}; {pruned}"),
        (8, True, ""),
    ]


DEFAULT = TraceFilter("", pruning=Pruning(GROUP_BY_DEFAULT, 5, 1))
PARAMETERS: list[tuple[dict[str, str], TraceFilter | str | None]] = [
    ({}, None),
    ({"span_pruning": "false", "span_pruning_min_spans": "x"}, None),
    ({"span_pruning": "true"}, DEFAULT),
    ({"span_pruning": "1", "span_pruning_group_by": "", "span_pruning_min_spans": "", "span_pruning_max_parent_depth": ""}, DEFAULT),
    (
        {
            "span_pruning": "true",
            "span_pruning_group_by": "db.*, k ,",
            "span_pruning_min_spans": "2",
            "span_pruning_max_parent_depth": "-1",
        },
        TraceFilter("", pruning=Pruning(("db.*", "k"), 2, -1)),
    ),
    ({"span_pruning": "true", "q": "{ }"}, TraceFilter("{ }", pruning=DEFAULT.pruning)),
    ({"span_pruning": "maybe"}, "invalid span_pruning: 'maybe' is neither true nor false"),
    ({"span_pruning": "true", "span_pruning_min_spans": "1"}, "invalid span_pruning_min_spans: must be 2 or greater, received 1"),
    ({"span_pruning": "true", "span_pruning_max_parent_depth": "-2"}, "must be -1 or greater, received -2"),
    ({"span_pruning": "true", "span_pruning_group_by": "a," * 51}, "more than 50 patterns"),
]


@pytest.mark.parametrize(("parameters", "expected"), PARAMETERS, ids=[str(row[0])[:60] for row in PARAMETERS])
def test_parameters_say_how_a_trace_is_pruned(parameters: dict[str, str], expected: TraceFilter | str | None) -> None:
    if isinstance(expected, str):
        with pytest.raises(InvalidInput, match=expected):
            parse_trace_filter(parameters)
    else:
        assert parse_trace_filter(parameters) == expected

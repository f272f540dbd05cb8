"""A trace as a tree of plain values: what a comparison looks at, and nothing else."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import orjson

from spanlake.wire.trace_json import encode_trace_v1

Likeness: TypeAlias = tuple[str, str, str]
"""Service, name, kind."""


@dataclass(slots=True, eq=False)
class Node:
    """A span. From `children` on, what is known when the tree is built: the span above, the place among its siblings, how many are above,
    the place in the trace when read from the top down."""

    span_id: str
    parent_id: str
    service: str
    name: str
    kind: str
    status: str
    start_ns: int
    duration_ns: int
    attributes: dict[str, Any]
    events: list[str]
    children: list[Node] = field(default_factory=list)
    parent: Node | None = None
    index: int = 0
    depth: int = 0
    order: int = -1

    @property
    def likeness(self) -> Likeness:
        return self.service, self.name, self.kind

    @property
    def path(self) -> list[int]:
        """Places among siblings, from the top down. As long as the span is deep: not for every span of a trace."""
        steps = []
        node: Node | None = self
        while node is not None:
            steps.append(node.index)
            node = node.parent
        return steps[::-1]


@dataclass(frozen=True, slots=True)
class Tree:
    """A trace: spans without a known parent on top, siblings by start; `nodes` from the top down."""

    tops: list[Node]
    nodes: list[Node]


def tree_of(encoded: bytes) -> Tree:
    """The tree of an OTLP TracesData message. Of a span id that is there twice, the first span has the children."""
    nodes = list(_nodes(orjson.loads(encode_trace_v1(encoded))["batches"]))
    by_id: dict[str, Node] = {}
    for node in nodes:
        by_id.setdefault(node.span_id, node)
    children: dict[str, list[Node]] = defaultdict(list)
    for node in sorted(nodes, key=lambda node: (node.start_ns, node.name, node.span_id)):
        children[node.parent_id if node.parent_id in by_id and by_id[node.parent_id] is not node else ""].append(node)
    tops = children.pop("", [])
    placed = _grow(tops, by_id, children, placed=0)
    # What is left hangs on itself: the first of each such ring is put on top.
    for node in nodes:
        if node.order < 0:
            siblings = children[node.parent_id]
            if node in siblings:
                siblings.remove(node)
            node.index = len(tops)
            tops.append(node)
            placed = _grow([node], by_id, children, placed=placed)
    return Tree(tops, sorted(nodes, key=lambda node: node.order))


def _grow(tops: list[Node], by_id: dict[str, Node], children: dict[str, list[Node]], *, placed: int) -> int:
    """Put these and all below them into the tree, from the top down; so many are there before, and then."""
    if len(tops) > 1:
        for index, top in enumerate(tops):
            top.index = index
    waiting = tops[::-1]
    while waiting:
        node = waiting.pop()
        node.order = placed
        placed += 1
        if by_id[node.span_id] is node:
            node.children = children.pop(node.span_id, [])
        for index, child in enumerate(node.children):
            child.parent, child.index, child.depth = node, index, node.depth + 1
        waiting += reversed(node.children)
    return placed


def _nodes(batches: list[dict[str, Any]]) -> Iterator[Node]:
    for batch in batches:
        service = str(_attributes(batch.get("resource", {})).get("service.name", ""))
        for scope in batch.get("scopeSpans", []):
            for span in scope.get("spans", []):
                start_ns, end_ns = int(span.get("startTimeUnixNano", 0)), int(span.get("endTimeUnixNano", 0))
                yield Node(
                    span_id=span.get("spanId", ""),
                    parent_id=span.get("parentSpanId", ""),
                    service=service,
                    name=span.get("name", ""),
                    kind=str(span.get("kind", "SPAN_KIND_UNSPECIFIED")).removeprefix("SPAN_KIND_").lower(),
                    status=str(span.get("status", {}).get("code", "STATUS_CODE_UNSET")).removeprefix("STATUS_CODE_").lower(),
                    start_ns=start_ns,
                    duration_ns=end_ns - start_ns,
                    attributes=_attributes(span),
                    events=sorted(event.get("name", "") for event in span.get("events", [])),
                )


def _attributes(owner: dict[str, Any]) -> dict[str, Any]:
    return {pair["key"]: plain(pair.get("value", {})) for pair in owner.get("attributes", []) if "key" in pair}


def plain(value: dict[str, Any]) -> Any:
    """An AnyValue in JSON as the value it holds; None for an empty one."""
    match next(iter(value.items()), ("", None)):
        case "intValue", number:
            return int(number)
        case "arrayValue", array:
            return [plain(one) for one in array.get("values", [])]
        case "kvlistValue", pairs:
            return {pair["key"]: plain(pair.get("value", {})) for pair in pairs.get("values", [])}
        case _, other:
            return other

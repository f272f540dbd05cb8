"""Spans and traces of the naive evaluator: plain Python objects, and structure by following parents.

Written from the documentation alone (TraceQL reference and decisions), never from engine or storage code, so that both can be wrong only
independently. Speed does not matter here; being obviously right does.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

RawValue = str | bool | int | float | bytes | None | list["RawValue"] | dict[str, "RawValue"]
"""An attribute value as OTLP can carry it; None is a value that was sent without content."""

CLIENT, SERVER, CONSUMER = 3, 2, 5


@dataclass(frozen=True, slots=True, eq=False)
class Resource:
    attributes: Mapping[str, RawValue] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, eq=False)
class Scope:
    name: str = ""
    version: str = ""
    attributes: Mapping[str, RawValue] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, eq=False)
class Event:
    time_ns: int
    name: str = ""
    attributes: Mapping[str, RawValue] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, eq=False)
class Link:
    trace_id: int
    span_id: int
    attributes: Mapping[str, RawValue] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, eq=False)
class Span:
    """One span. Spans are equal only to themselves."""

    trace_id: int
    span_id: int
    start_ns: int
    duration_ns: int
    parent_id: int = 0
    name: str = ""
    kind: int = 0
    status: int = 0
    status_message: str = ""
    attributes: Mapping[str, RawValue] = field(default_factory=dict)
    events: Sequence[Event] = ()
    links: Sequence[Link] = ()
    resource: Resource = field(default_factory=Resource)
    scope: Scope = field(default_factory=Scope)
    trace_state: str = ""

    @property
    def service(self) -> str:
        """`service.name` as answers show it: empty where it is absent or no string."""
        name = self.resource.attributes.get("service.name")
        return name if isinstance(name, str) else ""


@dataclass(frozen=True, slots=True)
class NestedSet:
    left: int
    right: int
    parent: int


@dataclass(frozen=True, slots=True, eq=False)
class Trace:
    """All spans of one trace, each once, in the order of their nested sets."""

    id: int
    spans: tuple[Span, ...]
    parents: Mapping[Span, Span | None]
    children: Mapping[Span, Sequence[Span]]
    numbers: Mapping[Span, NestedSet]
    root: Span | None
    start_ns: int
    end_ns: int

    def ancestors(self, span: Span) -> Iterator[Span]:
        """The parent, its parent and so on."""
        parent = self.parents[span]
        while parent is not None:
            yield parent
            parent = self.parents[parent]

    def are_siblings(self, one: Span, other: Span) -> bool:
        """Whether two different spans share their parent, are both true roots, or name the same parent that is absent (B9)."""
        if one is other or self.parents[one] is not self.parents[other]:
            return False
        if self.parents[one] is not None:
            return True
        is_absent = all(span.span_id != one.parent_id for span in self.spans)
        return one.parent_id == other.parent_id and (one.parent_id == 0 or is_absent)


def traces_of(spans: Iterable[Span]) -> list[Trace]:
    """Spans in order of arrival as traces; a span that arrives twice counts once (B23)."""
    by_trace: dict[int, dict[tuple[int, int], Span]] = {}
    for span in spans:
        by_trace.setdefault(span.trace_id, {}).setdefault((span.span_id, min(span.kind, CONSUMER + 1)), span)
    return [_trace(list(arrived.values())) for arrived in by_trace.values()]


def _trace(arrived: list[Span]) -> Trace:
    parents = {span: _parent(span, arrived) for span in arrived}
    cut = _cut_cycles(arrived, parents)
    roots = [span for span in arrived if span.parent_id == 0]
    orphans = [span for span in arrived if parents[span] is None and span.parent_id != 0 and span not in cut]
    children: dict[Span, list[Span]] = {span: [] for span in arrived}
    for span in arrived:
        parent = parents[span]
        if parent is not None:
            children[parent].append(span)
    numbers: dict[Span, NestedSet] = {}
    following = 1
    for top in (*roots, *orphans, *cut):
        following = _number(top, -1 if top.parent_id == 0 else 0, following, children, numbers)
    return Trace(
        id=arrived[0].trace_id,
        spans=tuple(sorted(arrived, key=lambda span: numbers[span].left)),
        parents=parents,
        children=children,
        numbers=numbers,
        root=min(roots, key=lambda span: span.start_ns, default=None),
        start_ns=min(span.start_ns for span in arrived),
        end_ns=max(max(span.start_ns, span.start_ns + span.duration_ns) for span in arrived),
    )


def _parent(child: Span, arrived: list[Span]) -> Span | None:
    """The span with the id; where several have it, a server span takes the client half and others the server half, else the first."""
    if child.parent_id == 0:
        return None
    candidates = [span for span in arrived if span.span_id == child.parent_id and span is not child]
    half = CLIENT if child.kind == SERVER else SERVER
    halves = [span for span in candidates if span.kind == half]
    return next(iter(halves or candidates), None)


def _cut_cycles(arrived: list[Span], parents: dict[Span, Span | None]) -> list[Span]:
    """Make the earliest span of every cycle a top; returns these spans."""
    cut: list[Span] = []
    for start in arrived:
        path: list[Span] = []
        node: Span | None = start
        while node is not None and node not in path:
            path.append(node)
            node = parents[node]
        if node is not None:
            earliest = min(path[path.index(node) :], key=arrived.index)
            parents[earliest] = None
            cut.append(earliest)
    return cut


def _number(span: Span, parent: int, left: int, children: dict[Span, list[Span]], numbers: dict[Span, NestedSet]) -> int:
    """Number a tree depth first from `left` on; returns the next free number."""
    following = left + 1
    for child in children[span]:
        following = _number(child, left, following, children, numbers)
    numbers[span] = NestedSet(left, following, parent)
    return following + 1

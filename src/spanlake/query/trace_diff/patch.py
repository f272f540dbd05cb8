"""Every change from one trace to another: spans added, removed and modified.

Spans are matched from the top down: children of matched parents with the same service, name and kind, the first with the first. What is
below a span without a match has none either.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from dataclasses import dataclass
from typing import Any, TypeAlias

from spanlake.model.errors import TooLarge
from spanlake.query.trace_diff.tree import Likeness, Node, Tree

Json: TypeAlias = dict[str, Any]
DURATION_RELATIVE, DURATION_LEAST_NS = 0.2, 1_000_000
"""Durations count as changed when they differ by more than both: by a fifth of the longer one, and by a millisecond."""

PATH_STEPS_MAX = 2_000_000
"""Of all changed spans together."""

NAMES_MANY = 20
"""So many different names of spans of one service that differ in digits only are suspected to hold ids."""

_VARYING = re.compile(r"[0-9a-f]*\d[0-9a-f]*", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Modified:
    """A matched pair with what differs; `changes` are in their final form."""

    base: Node
    compare: Node
    changes: list[Json]


@dataclass(frozen=True, slots=True)
class Changes:
    """All of a comparison."""

    matched: list[tuple[Node, Node]]
    modified: list[Modified]
    added: list[Node]
    removed: list[Node]
    warnings: list[Json]

    def count(self, target_type: str, name: str = "") -> int:
        """Changes of one type of target; of fields those with this name, or all but events."""
        targets = [change["target"] for one in self.modified for change in one.changes if change["target"]["type"] == target_type]
        if target_type != "field":
            return len(targets)
        return sum((target["name"] == "events") == (name == "events") for target in targets)

    def stats(self) -> Json:
        return {
            "matchedSpans": len(self.matched),
            "modifiedSpans": len(self.modified),
            "addedSpans": len(self.added),
            "removedSpans": len(self.removed),
            "fieldChanges": self.count("field"),
            "attributeChanges": self.count("attribute"),
            "eventChanges": self.count("field", "events"),
        }


def compare_trees(base: Tree, compare: Tree) -> Changes:
    """Match the spans of two traces and compare those that match. In the order of the base, added ones in that of the other trace."""
    matched, ambiguous = _match(base, compare)
    known = {id(node) for pair in matched for node in pair}
    modified = [Modified(before, after, changes) for before, after in matched if (changes := changes_of(before, after))]
    return Changes(
        matched,
        modified,
        added=[node for node in compare.nodes if id(node) not in known],
        removed=[node for node in base.nodes if id(node) not in known],
        warnings=[*_warnings("base", base), *_warnings("compare", compare), *_ambiguous(ambiguous)],
    )


def _match(base: Tree, compare: Tree) -> tuple[list[tuple[Node, Node]], Counter[Likeness]]:
    """(matched pairs by path, likenesses of which siblings differ in number)."""
    matched: list[tuple[Node, Node]] = []
    ambiguous: Counter[Likeness] = Counter()
    waiting = [(base.tops, compare.tops)]
    while waiting:
        before, after = waiting.pop()
        left, right = _by_likeness(before), _by_likeness(after)
        for likeness in left.keys() & right.keys():
            ones, others = left[likeness], right[likeness]
            if len(ones) != len(others):
                ambiguous[likeness] += 1
            for pair in zip(ones, others, strict=False):
                matched.append(pair)
                waiting.append((pair[0].children, pair[1].children))
    matched.sort(key=lambda pair: pair[0].order)
    return matched, ambiguous


def _by_likeness(siblings: list[Node]) -> dict[Likeness, list[Node]]:
    found: dict[Likeness, list[Node]] = defaultdict(list)
    for node in siblings:
        found[node.likeness].append(node)
    return found


def changes_of(before: Node, after: Node) -> list[Json]:
    """What differs between two spans: duration, status, names of events, attributes."""
    changes = []
    if durations_differ(before.duration_ns, after.duration_ns):
        changes.append(_change("modify", _field("duration_nanos"), before.duration_ns, after.duration_ns))
    if before.status != after.status:
        changes.append(_change("modify", _field("status"), before.status, after.status))
    if before.events != after.events:
        changes.append(_change("modify", _field("events"), before.events, after.events))
    for key in sorted(before.attributes.keys() | after.attributes.keys()):
        target = {"type": "attribute", "scope": "span", "key": key}
        if key not in after.attributes:
            changes.append(_change("remove", target, before.attributes[key], None))
        elif key not in before.attributes:
            changes.append(_change("add", target, None, after.attributes[key]))
        elif not same_value(before.attributes[key], after.attributes[key]):
            changes.append(_change("modify", target, before.attributes[key], after.attributes[key]))
    return changes


def durations_differ(before_ns: int, after_ns: int) -> bool:
    return abs(after_ns - before_ns) > max(DURATION_LEAST_NS, DURATION_RELATIVE * max(abs(before_ns), abs(after_ns)))


def same_value(before: Any, after: Any) -> bool:
    """Equal and of the same type: 1, 1.0 and true are three values."""
    return type(before) is type(after) and before == after


def _field(name: str) -> Json:
    return {"type": "field", "name": name}


def _change(op: str, target: Json, before: Any, after: Any) -> Json:
    return {"op": op, "target": target, "before": before, "after": after}


def patch_of(changes: Changes) -> Json:
    """The lists of `trace-patch-v0`. TooLarge if its paths were longer than anybody could read, as those of a very deep trace are."""
    steps = sum(node.depth + 1 for node in (*(one.base for one in changes.modified), *changes.added, *changes.removed))
    if steps > PATH_STEPS_MAX:
        raise TooLarge(f"the paths of the changed spans have {steps} steps, at most {PATH_STEPS_MAX} are listed: ask for a summary")
    return {
        "modified": [{"span": _reference(one.base), "changes": one.changes} for one in changes.modified],
        "added": [
            {"target": {"type": "span", "parentPath": node.path[:-1], "index": node.index}, "span": _snapshot(node)}
            for node in changes.added
        ],
        "removed": [{"target": {"type": "span", "path": node.path}, "span": _snapshot(node)} for node in changes.removed],
        "warnings": changes.warnings,
    }


def _reference(node: Node) -> Json:
    return {"path": node.path, "service": node.service, "name": node.name, "kind": node.kind}


def _snapshot(node: Node) -> Json:
    return {**_reference(node), "duration_nanos": node.duration_ns, "status": node.status}


def _warnings(side: str, tree: Tree) -> list[Json]:
    """What makes a comparison with this trace doubtful."""
    found = []
    if repeated := len(tree.nodes) - len({node.span_id for node in tree.nodes}):
        found.append(warning("duplicate_span_id", f"{repeated} spans of the {side} trace have the id of another one"))
    if negative := sum(node.duration_ns < 0 for node in tree.nodes):
        found.append(warning("invalid_duration", f"{negative} spans of the {side} trace end before they start"))
    names: dict[tuple[str, str], set[str]] = defaultdict(set)
    for node in tree.nodes:
        names[node.service, _VARYING.sub("#", node.name)].add(node.name)
    for (service, pattern), varying in sorted(names.items()):
        if len(varying) >= NAMES_MANY:
            text = (
                f"{len(varying)} names of spans of {service} in the {side} trace look like {pattern}: with ids in names, spans do not match"
            )
            found.append(warning("high_cardinality_span_name", text))
    return found


def _ambiguous(ambiguous: Counter[Likeness]) -> list[Json]:
    if not ambiguous:
        return []
    (service, name, _), _ = min(ambiguous.items(), key=lambda item: (-item[1], item[0]))
    text = (
        f"siblings that look alike differ in number in {ambiguous.total()} places (such as {name} of {service}): they are matched by start"
    )
    return [warning("ambiguous_span_match", text)]


def warning(code: str, message: str) -> Json:
    return {"code": code, "message": message}

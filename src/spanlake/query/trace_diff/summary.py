"""What the changes between two traces come to: for the whole trace, and by service."""

from __future__ import annotations

from collections import Counter, defaultdict

from spanlake.query.trace_diff.patch import Changes, Json
from spanlake.query.trace_diff.tree import Likeness, Node, Tree

DRIFT_RELATIVE, DRIFT_LEAST_NS = 0.05, 1_000_000
"""Sums of durations count as changed when they differ by more than a twentieth of the first one, and by more than a millisecond."""


def summary_of(base: Tree, compare: Tree, changes: Changes) -> Json:
    """The body of `trace-summary-v0-native`, without version, ids and warnings."""
    before, after = totals(base), totals(compare)
    structure = structure_overlap(base, compare)
    services = _services(base, compare, changes)
    return {
        "signals": {
            "duration": drift(before["durationNanos"], after["durationNanos"]),
            "spanDurationSum": drift(before["spanDurationSumNanos"], after["spanDurationSumNanos"]),
            "errors": direction(before["errorSpanCount"], after["errorSpanCount"]),
            "spans": direction(before["spanCount"], after["spanCount"]),
            "structure": "unchanged" if structure == 1 else "changed",
        },
        "trust": {
            "matchedSpanRatio": round(2 * len(changes.matched) / (len(base.nodes) + len(compare.nodes)), 4),
            "structureOverlap": round(structure, 4),
        },
        "stats": changes.stats(),
        "changedServices": [service["serviceName"] for service in services],
        "services": services,
    }


def totals(tree: Tree) -> Json:
    """Figures of one trace. The duration is that from the first start to the last end."""
    starts = [node.start_ns for node in tree.nodes]
    ends = [max(node.start_ns + node.duration_ns, node.start_ns) for node in tree.nodes]
    return {
        "spanCount": len(tree.nodes),
        "errorSpanCount": sum(node.status == "error" for node in tree.nodes),
        "serviceCount": len({node.service for node in tree.nodes}),
        "durationNanos": max(ends) - min(starts),
        "spanDurationSumNanos": sum(node.duration_ns for node in tree.nodes),
        "rootService": tree.tops[0].service,
        "rootName": tree.tops[0].name,
    }


def structure_overlap(base: Tree, compare: Tree) -> float:
    """The share of spans, of both traces, that have a counterpart with the same parents and grandparents, by service, name and kind."""
    numbers: dict[tuple[int, Likeness], int] = {}
    left, right = _shapes(base, numbers), _shapes(compare, numbers)
    return 2 * (left & right).total() / (left.total() + right.total())


def _shapes(tree: Tree, numbers: dict[tuple[int, Likeness], int]) -> Counter[int]:
    """How often each chain of likenesses from the top occurs, by its number; new ones get one."""
    found: Counter[int] = Counter()
    waiting = [(top, -1) for top in tree.tops]
    while waiting:
        node, above = waiting.pop()
        shape = numbers.setdefault((above, node.likeness), len(numbers))
        found[shape] += 1
        waiting += [(child, shape) for child in node.children]
    return found


def _services(base: Tree, compare: Tree, changes: Changes) -> list[Json]:
    """Services in which anything changed, by name."""
    before, after = _by_service(base.nodes), _by_service(compare.nodes)
    added, removed = _by_service(changes.added), _by_service(changes.removed)
    modified = defaultdict(list)
    for one in changes.modified:
        modified[one.base.service].append(one)
    found = []
    for name in sorted(before.keys() | after.keys()):
        sums = [sum(node.duration_ns for node in nodes) for nodes in (before[name], after[name])]
        states = [(one.base.status == "error", one.compare.status == "error") for one in modified[name]]
        if added[name] or removed[name] or modified[name] or drift(*sums) != "unchanged":
            found.append(
                {
                    "serviceName": name,
                    "baseSpanCount": len(before[name]),
                    "compareSpanCount": len(after[name]),
                    "spanDurationSumDeltaNanos": sums[1] - sums[0],
                    "addedSpans": len(added[name]),
                    "removedSpans": len(removed[name]),
                    "modifiedSpans": len(modified[name]),
                    "newErrorSpans": states.count((False, True)) + sum(node.status == "error" for node in added[name]),
                    "resolvedErrorSpans": states.count((True, False)) + sum(node.status == "error" for node in removed[name]),
                    "attributeChangedSpans": sum(
                        any(change["target"]["type"] == "attribute" for change in one.changes) for one in modified[name]
                    ),
                }
            )
    return found


def _by_service(nodes: list[Node]) -> defaultdict[str, list[Node]]:
    found: defaultdict[str, list[Node]] = defaultdict(list)
    for node in nodes:
        found[node.service].append(node)
    return found


def drift(before_ns: int, after_ns: int) -> str:
    """Which way a duration went, if by enough."""
    if abs(after_ns - before_ns) <= max(DRIFT_LEAST_NS, DRIFT_RELATIVE * abs(before_ns)):
        return "unchanged"
    return direction(before_ns, after_ns)


def direction(before: int, after: int) -> str:
    return "unchanged" if before == after else "increased" if after > before else "decreased"

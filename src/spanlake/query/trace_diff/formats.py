"""The three answers to what differs between two traces."""

from __future__ import annotations

import orjson

from spanlake.model.errors import TooLarge
from spanlake.query.trace_diff.patch import Changes, Json, compare_trees, patch_of
from spanlake.query.trace_diff.summary import summary_of, totals
from spanlake.query.trace_diff.tree import Tree, tree_of

PATCH, NATIVE, COMPOSED = "trace-patch-v0", "trace-summary-v0-native", "trace-summary-v0-composed"
FORMATS = (PATCH, NATIVE, COMPOSED)
ATTACHED_BYTES_MAX = 64 * 1024
"""A patch up to this size goes with a composed summary; a larger one is left out whole."""


def diff_traces(base: tuple[str, bytes], compare: tuple[str, bytes], answer_format: str) -> bytes:
    """The difference between two traces, each given as its id in hex and its encoding (OTLP TracesData, at least one span), as JSON."""
    before, after = tree_of(base[1]), tree_of(compare[1])
    changes = compare_trees(before, after)
    ids = base[0], compare[0]
    match answer_format:
        case "trace-patch-v0":
            body = _patch(ids, before, after, changes)
        case "trace-summary-v0-native":
            body = _native(ids, before, after, changes)
        case _:
            body = _composed(ids, before, after, changes)
    return orjson.dumps(body)


def _patch(ids: tuple[str, str], base: Tree, compare: Tree, changes: Changes) -> Json:
    stats = {"spanCountA": len(base.nodes), "spanCountB": len(compare.nodes), **changes.stats(), "truncated": False}
    sides = {
        name: {"traceId": one, "spanCount": len(tree.nodes)}
        for name, one, tree in zip(("base", "compare"), ids, (base, compare), strict=True)
    }
    return {"version": PATCH, **sides, "stats": stats, **patch_of(changes)}


def _native(ids: tuple[str, str], base: Tree, compare: Tree, changes: Changes) -> Json:
    sides = {name: {"traceId": one, **totals(tree)} for name, one, tree in zip(("base", "compare"), ids, (base, compare), strict=True)}
    return {"version": NATIVE, **sides, **summary_of(base, compare, changes), "warnings": changes.warnings}


def _composed(ids: tuple[str, str], base: Tree, compare: Tree, changes: Changes) -> Json:
    body: Json = {"version": COMPOSED, "summary": _native(ids, base, compare, changes)}
    try:
        patch = orjson.dumps(_patch(ids, base, compare, changes))
    except TooLarge as refusal:
        return {**body, "patchOmitted": {"bytesMax": ATTACHED_BYTES_MAX, "reason": str(refusal)}}
    if len(patch) <= ATTACHED_BYTES_MAX:
        return {**body, "patch": orjson.Fragment(patch)}
    reason = f"the patch has {len(patch)} bytes, more than {ATTACHED_BYTES_MAX}: ask for format {PATCH}"
    return {**body, "patchOmitted": {"bytes": len(patch), "bytesMax": ATTACHED_BYTES_MAX, "reason": reason}}

"""A trace with summary spans in place of groups of similar spans.

A summary is the longest span of its group, with an id of its own, from the first start to the last end of the group, and attributes
`aggregation.*` that tell how many spans it stands for and how long they took.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from spanlake.blocks.build.arrays import ranges
from spanlake.blocks.scan.memory import find_code
from spanlake.model.spans import ARRAY, ATTR, BOOL, INT, Records, SpanBatch, Strings
from spanlake.model.trace import Pruning
from spanlake.query.pruning.groups import Rows, merged_into, parents_by_id
from spanlake.query.trace import fresh_ids
from spanlake.wire.fields import encode_bytes, encode_varint

PREFIX = "aggregation."
SUMMARY_KEY = PREFIX + "is_summary"
BOUNDS_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
"""Upper bounds of the histogram of durations."""

_INT64_MAX = (1 << 63) - 1
_ARRAY_FIELD, _VALUES_FIELD, _INT_FIELD, _DOUBLE_FIELD = b"\x2a", b"\x0a", b"\x18", b"\x21"


@dataclass(frozen=True, slots=True)
class Pruned:
    """A trace as it is shown: `summaries` stand for `summarized` spans. `before`: it had summaries when it was stored, and is unchanged."""

    batch: SpanBatch
    summaries: int = 0
    summarized: int = 0
    before: bool = False


def prune(batch: SpanBatch, how: Pruning) -> Pruned:
    """Put summaries in place of groups of similar spans of one trace. Strings of the batch are a pool; the order of rows is kept."""
    if _has_summaries(batch):
        return Pruned(batch, before=True)
    into = merged_into(batch, how)
    chosen = np.unique(into[into >= 0])
    if not len(chosen):
        return Pruned(batch)
    members = np.flatnonzero(into >= 0)
    order = members[np.argsort(into[members], kind="stable")]
    firsts = np.searchsorted(into[order], chosen)
    spans = _summary_spans(batch, into, order, firsts)
    strings, attrs = _with_statistics(batch, spans, chosen, np.split(batch.spans["duration_ns"][order], firsts[1:]))
    kept = (into < 0) | (into == np.arange(len(into)))
    return Pruned(replace(batch, strings=strings, spans=spans[kept], attrs=attrs), len(chosen), len(members))


def _has_summaries(batch: SpanBatch) -> bool:
    key = find_code(batch.strings, SUMMARY_KEY)
    if key < 0:
        return False
    attrs = batch.attrs[ranges(batch.spans["attr_first"], batch.spans["attr_count"])]
    return bool(np.any((attrs["key"] == key) & (attrs["type"] == BOOL) & (attrs["value"] != 0)))


def _summary_spans(batch: SpanBatch, into: Rows, order: Rows, firsts: Rows) -> Records:
    """All spans, with those that stand for groups in their new form; `order`: members by group, which begin at `firsts`."""
    spans = batch.spans.copy()
    chosen = into[order][firsts]
    starts, ends = batch.spans["start_ns"][order], batch.spans["start_ns"][order] + np.maximum(batch.spans["duration_ns"][order], 0)
    spans["start_ns"][chosen] = np.minimum.reduceat(starts, firsts)
    spans["duration_ns"][chosen] = np.maximum.reduceat(ends, firsts) - np.minimum.reduceat(starts, firsts)
    ids = batch.spans["span_id"]
    spans["span_id"][chosen] = fresh_ids(ids[chosen] + np.arange(len(chosen), dtype=np.uint64), ids)
    # A parent that is merged has no children but merged ones.
    above = parents_by_id(batch)[chosen]
    merged = (above >= 0) & (into[np.maximum(above, 0)] >= 0)
    spans["parent_id"][chosen[merged]] = spans["span_id"][into[above[merged]]]
    return spans


def _with_statistics(batch: SpanBatch, spans: Records, chosen: Rows, durations: list[NDArray[np.int64]]) -> tuple[Strings, Records]:
    """Strings and attributes of the batch with those of the summaries behind them; `spans` refers to these then."""
    texts = [(PREFIX + name).encode() for name in _STATISTICS]
    first_key = len(batch.strings)
    parts, at = [batch.attrs], len(batch.attrs)
    # A loop over groups, not spans.
    for row, ones in zip(chosen.tolist(), durations, strict=True):
        first, count = int(spans["attr_first"][row]), int(spans["attr_count"][row])
        own = []
        for place, (kind, value) in enumerate(statistics(ones)):
            if isinstance(value, bytes):
                texts.append(value)
                value = first_key + len(texts) - 1
            own.append((value, first_key + place, kind))
        parts += [batch.attrs[first : first + count], np.array(own, ATTR)]
        spans["attr_first"][row], spans["attr_count"][row] = at, count + len(own)
        at += count + len(own)
    return _extended(batch.strings, texts), np.concatenate(parts)


_STATISTICS = (
    "is_summary",
    "span_count",
    "duration_min_ns",
    "duration_max_ns",
    "duration_avg_ns",
    "duration_total_ns",
    "histogram_bucket_bounds_s",
    "histogram_bucket_counts",
)


def statistics(durations: NDArray[np.int64]) -> list[tuple[int, int | bytes]]:
    """(type, value) of the attributes named in `_STATISTICS`. The counts are cumulative; the last one is that of all."""
    total = min(sum(durations.tolist()), _INT64_MAX)
    bounds_ns = [round(bound * 1e9) for bound in BOUNDS_SECONDS]
    counts = [*(int(np.count_nonzero(durations <= bound)) for bound in bounds_ns), len(durations)]
    return [
        (BOOL, 1),
        (INT, len(durations)),
        (INT, int(durations.min())),
        (INT, int(durations.max())),
        (INT, total // len(durations)),
        (INT, total),
        (ARRAY, _array([_DOUBLE_FIELD + struct.pack("<d", bound) for bound in BOUNDS_SECONDS])),
        (ARRAY, _array([_INT_FIELD + encode_varint(count) for count in counts])),
    ]


def _array(values: list[bytes]) -> bytes:
    """An AnyValue that holds an array of AnyValues."""
    return encode_bytes(_ARRAY_FIELD, b"".join(encode_bytes(_VALUES_FIELD, value) for value in values))


def _extended(strings: Strings, texts: list[bytes]) -> Strings:
    """A string table with more texts behind its own."""
    lengths = np.array([len(text) for text in texts], np.int32)
    offsets = len(strings.data) + np.cumsum(lengths, dtype=np.int64) - lengths
    data = np.concatenate([strings.data, np.frombuffer(b"".join(texts), np.uint8)])
    return Strings(data, np.concatenate([strings.offset, offsets]), np.concatenate([strings.length, lengths]))

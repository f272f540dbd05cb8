"""Exemplars: a few of the spans that a series counts, spread over time.

The range is divided into slots of whole points. Of every (series, slot) one span can be shown, the first of the trace with the least hash
of its id; which (series, slot) are shown, when not all can be, goes by a fixed order in which the slots of every series come as far apart
as possible. So what is chosen of all spans is chosen of the chosen ones of any split of them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, replace
from itertools import repeat
from typing import NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from spanlake.engine.frame import Frame
from spanlake.engine.metrics.cells import slots_of
from spanlake.engine.metrics.functions.histogram import buckets_of
from spanlake.engine.metrics.functions.spans import Spans, numbers_of
from spanlake.engine.metrics.grid import Grid
from spanlake.engine.metrics.labels import label_order, label_values
from spanlake.engine.tries import span_values
from spanlake.engine.values.ids import hexadecimal
from spanlake.engine.values.parts import Rows, offsets_of, ragged, take
from spanlake.engine.values.texts import compacted
from spanlake.model.results import Attributes, ResultType, TypedValue
from spanlake.model.scan import Lists, Texts, Values
from spanlake.traceql.plan.metrics.nodes import LabelField

TRACE_ID = "trace:id"
_SLOT_BITS = 7
_SLOTS = 1 << _SLOT_BITS
_PLACES_MAX = np.iinfo(np.int16).max
_TRACE_ID_BYTES = 16
_SHARES = (1 / 64, 1 / 8, 1.0)
"""Of the traces: spans of a (series, slot) with many are mostly among the first."""
_REVERSED = np.array([int(f"{number:0{_SLOT_BITS}b}"[::-1], 2) for number in range(_SLOTS)])


@dataclass(frozen=True, slots=True, eq=False)
class Shown:
    """What spans show, as columns: labels are only made for the few spans of an answer."""

    trace_high: NDArray[np.uint64]
    trace_low: NDArray[np.uint64]
    fields: tuple[tuple[str, Values], ...]

    def labels(self, places: Rows) -> list[Attributes]:
        """Of some of the spans: the id of the trace, and every field that has a value."""
        numbers = np.stack([self.trace_high[places], self.trace_low[places]], axis=1).astype(">u8")
        ids: pa.Array = hexadecimal(numbers, _TRACE_ID_BYTES)
        columns = [(key, label_values(take(values, places))) for key, values in self.fields]
        return [
            ((TRACE_ID, TypedValue(ResultType.STRING, text)), *((key, one) for key, column in columns if (one := column[i]) is not None))
            for i, text in enumerate(ids.to_pylist())
        ]


class Candidate(NamedTuple):
    """A span. `rank`: of its (series, slot) among those that may be shown, different for each; `hash`: of its trace.

    `value`: the number in the field of the function, `bucket` that of a histogram; None and 0 for functions without a field.
    `place`: of the span in `shown`.
    """

    series: Attributes
    rank: tuple[int, int]
    hash: int
    point: int
    time_ns: int
    value: float | None
    bucket: int
    shown: Shown
    place: int


@dataclass(frozen=True, slots=True)
class Counted:
    """The spans of one leaf in one batch: their rows (None: all), what the function sees of them, and the series of each local group.

    Groups without spans are of series -1. `in_buckets`: the function is a histogram.
    """

    rows: Rows | None
    spans: Spans
    series_of_group: Rows
    grid: Grid
    in_buckets: bool


def best_of(candidates: Iterable[Candidate], limit: int) -> tuple[Candidate, ...]:
    """The candidates that may be shown, in their order."""
    best: dict[tuple[int, int], Candidate] = {}
    for one in candidates:
        known = best.setdefault(one.rank, one)
        if one.hash < known.hash:
            best[one.rank] = one
    return tuple(sorted(best.values(), key=lambda one: one.rank)[:limit])


def candidates(
    frame: Frame, counted: Counted, *, series: tuple[Attributes, ...], loaded: tuple[LabelField, ...], limit: int
) -> tuple[Candidate, ...]:
    """Of one batch."""
    places = _places(counted, series, limit)
    if not len(places.wanted):
        return ()
    positions, hashes = _first_spans(frame, counted, places)
    rows = positions if counted.rows is None else counted.rows[positions]
    values, buckets = _numbers(counted.spans, positions)
    columns = (
        [series[number] for number in (places.wanted // _SLOTS).tolist()],
        map(tuple, places.ranks.tolist()),
        hashes.tolist(),
        (counted.spans.keys[positions] % counted.grid.points).tolist(),
        frame.integers("start_ns")[rows].tolist(),
        values,
        buckets,
        repeat(_shown(frame, rows, loaded), len(rows)),
        range(len(rows)),
    )
    return tuple(map(Candidate._make, zip(*columns, strict=True)))


@dataclass(frozen=True, slots=True)
class _Places:
    """`wanted`: the (series, slot) that may be shown as series * _SLOTS + slot, ascending; `ranks`: the two parts of their ranks.

    `of_key`: per number the place of a (series, slot) among the wanted ones, -1 where it is not; `key_of_span`: which number a span has.
    """

    wanted: Rows
    ranks: NDArray[np.int64]
    of_key: NDArray[np.int16]
    key_of_span: Rows


def _places(counted: Counted, series: tuple[Attributes, ...], limit: int) -> _Places:
    """Of all (series, slot) with a span that can be shown, the first `limit` by rank: what is behind them now is so in the whole too."""
    points = counted.grid.points
    slots = slots_of(counted.spans.keys, counted.spans.bound)
    key_of_span = slots.of_row
    if counted.spans.values is not None:
        key_of_span = np.where(_shows(counted), key_of_span, slots.count)
    used = np.zeros(slots.count + 1, np.bool_)
    used[key_of_span] = True
    group, point = np.divmod(np.arange(slots.count) if slots.keys is None else slots.keys, points)
    slot_of_point = np.arange(points) * _SLOTS // max(points, _SLOTS)
    pairs = counted.series_of_group[group] * _SLOTS + slot_of_point[point]
    wanted, ranks = _first_by_rank(np.unique(pairs[used[:-1]]), series, min(limit, _PLACES_MAX))
    place = np.searchsorted(wanted, pairs)
    is_wanted = np.append(wanted, -1)[place] == pairs
    # Of few bytes, because every span looks here.
    return _Places(wanted, ranks, np.append(np.where(is_wanted, place, -1), -1).astype(np.int16), key_of_span)


def _first_by_rank(pairs: Rows, series: tuple[Attributes, ...], limit: int) -> tuple[Rows, NDArray[np.int64]]:
    number, slot = np.divmod(pairs, _SLOTS)
    hash_of = np.zeros(len(series), np.int64)
    for one in np.unique(number).tolist():
        hash_of[one] = int.from_bytes(hashlib.blake2b(repr(label_order(series[one])).encode(), digest_size=7).digest())
    first = _REVERSED[(slot + hash_of[number]) % _SLOTS]
    order = np.lexsort((hash_of[number], first))[:limit]
    order.sort()
    return pairs[order], np.stack([first[order], hash_of[number[order]]], axis=1)


def _first_spans(frame: Frame, counted: Counted, places: _Places) -> tuple[Rows, NDArray[np.uint64]]:
    """Per wanted (series, slot) the place of its span among those counted, and the hash of its trace.

    Looks at the spans of few traces first: their hashes are less than all others.
    """
    hash_of_trace = _hashes(frame.batch.trace_high, frame.batch.trace_low)
    best = np.full(len(places.wanted), -1)
    hashes = np.zeros(len(places.wanted), np.uint64)
    of_key = places.of_key
    for share in _SHARES:
        position = _spans_of(frame, counted, np.flatnonzero(hash_of_trace <= np.uint64(share * (2**64 - 2**11))), share)
        place = of_key.take(places.key_of_span if position is None else places.key_of_span[position])
        keep = np.flatnonzero(place >= 0)
        position, place = keep if position is None else position[keep], place[keep]
        own = hash_of_trace[_trace_of(frame, position if counted.rows is None else counted.rows[position])]
        order = np.lexsort((position, own))
        some, first = np.unique(place[order], return_index=True)
        best[some], hashes[some] = position[order[first]], own[order[first]]
        missing = best < 0
        if not missing.any():
            break
        of_key = np.where((of_key >= 0) & missing[of_key], of_key, np.int16(-1))
    return best, hashes


def _spans_of(frame: Frame, counted: Counted, traces: Rows, share: float) -> Rows | None:
    """The spans of some traces by their place among those counted; None for all."""
    if share == 1.0:
        return None
    begin = frame.batch.trace_first[traces]
    lengths = frame.batch.trace_first[traces + 1] - begin
    rows = ragged(begin, lengths, offsets_of(lengths))
    if counted.rows is None:
        return rows
    position = np.minimum(np.searchsorted(counted.rows, rows), len(counted.rows) - 1)
    found: Rows = position[counted.rows[position] == rows]
    return found


def _trace_of(frame: Frame, rows: Rows) -> Rows:
    return np.searchsorted(frame.batch.trace_first, rows, "right") - 1


def _hashes(high: NDArray[np.uint64], low: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Ids, which may be counters, spread evenly (the finalizer of splitmix64)."""
    mixed = high * np.uint64(0x9E3779B97F4A7C15) ^ low
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return mixed ^ (mixed >> np.uint64(31))


def _shows(counted: Counted) -> NDArray[np.bool_]:
    """Which spans have a number other than zero, because clients pass over exemplars of zero; in a histogram, which are in a bucket."""
    result = np.zeros(len(counted.spans.keys), np.bool_)
    for some in numbers_of(replace(counted.spans, keys=np.arange(len(counted.spans.keys)))):
        result[some.keys] = some.numbers > 0 if counted.in_buckets else some.numbers != 0
    return result


def _numbers(spans: Spans, positions: Rows) -> tuple[list[float | None], list[int]]:
    """The numbers of spans in their unit, and their buckets in a histogram."""
    values: list[float | None] = [None] * len(positions)
    buckets = [0] * len(positions)
    if spans.values is not None:
        for some in numbers_of(Spans(np.arange(len(positions)), len(positions), take(spans.values, positions))):
            for key, value, bucket in zip(some.keys.tolist(), some.in_units().tolist(), buckets_of(some).tolist(), strict=True):
                values[key], buckets[key] = value, bucket
    return values, buckets


def _shown(frame: Frame, rows: Rows, loaded: tuple[LabelField, ...]) -> Shown:
    traces = _trace_of(frame, rows)
    fields = tuple((label.key, _with_own_texts(span_values(frame, label.operand, rows))) for label in loaded)
    return Shown(frame.batch.trace_high[traces], frame.batch.trace_low[traces], fields)


def _with_own_texts(values: Values) -> Values:
    """With dictionaries of no more than these spans need: those of the batch would stay in memory as long."""
    return Values(
        values.rows, tuple(compacted(part) if isinstance(part, Texts) else part for part in values.parts if not isinstance(part, Lists))
    )

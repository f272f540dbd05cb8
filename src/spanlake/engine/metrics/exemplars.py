"""Exemplars: a few of the spans that a series counts, spread over time.

The range is divided into slots of whole points. Of every (series, slot) one span can be shown, the first of the trace with the least hash
of its id; which (series, slot) are shown, when not all can be, goes by a fixed order in which the slots of every series come as far apart
as possible. So what is chosen of all spans is chosen of the chosen ones of any split of them.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable
from dataclasses import dataclass

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
from spanlake.model.results import Attributes, ResultType, TypedValue
from spanlake.traceql.plan.metrics.nodes import LabelField

TRACE_ID = "trace:id"
_SLOT_BITS = 7
_SLOTS = 1 << _SLOT_BITS
_TRACE_ID_BYTES = 16
_SHARES = (1 / 64, 1 / 8, 1.0)
"""Of the traces: spans of a (series, slot) with many are mostly among the first."""
_REVERSED = np.array([int(f"{number:0{_SLOT_BITS}b}"[::-1], 2) for number in range(_SLOTS)])


@dataclass(frozen=True, slots=True)
class Candidate:
    """A span. `rank`: of its (series, slot) among those that may be shown; `hash`: of its trace.

    `value`: the number in the field of the function, `bucket` that of a histogram; None and 0 for functions without a field.
    """

    series: Attributes
    rank: tuple[int, int]
    hash: int
    point: int
    time_ns: int
    value: float | None
    bucket: int
    labels: Attributes


@dataclass(frozen=True, slots=True)
class Counted:
    """The spans of one leaf in one batch: their rows (None: all), what the function sees of them, and the series of each local group.

    `cells`: the distinct series * points + point that have spans.
    """

    rows: Rows | None
    spans: Spans
    series_of_group: Rows
    cells: Rows
    grid: Grid


def best_of(candidates: Iterable[Candidate], limit: int) -> tuple[Candidate, ...]:
    """The candidates that may be shown, in their order."""
    best: dict[tuple[Attributes, tuple[int, int]], Candidate] = {}
    for one in candidates:
        known = best.get((one.series, one.rank))
        if known is None or (one.hash, one.labels[0][1].value) < (known.hash, known.labels[0][1].value):
            best[one.series, one.rank] = one
    return tuple(sorted(best.values(), key=lambda one: (one.rank, label_order(one.series)))[:limit])


def candidates(
    frame: Frame, counted: Counted, *, series: tuple[Attributes, ...], loaded: tuple[LabelField, ...], limit: int
) -> tuple[Candidate, ...]:
    """Of one batch."""
    grid = counted.grid
    slot_of_point = np.arange(grid.points) * _SLOTS // max(grid.points, _SLOTS)
    wanted, ranks = _wanted(counted.cells, grid.points, slot_of_point, series, limit)
    of_span, places = _places(counted, slot_of_point, wanted)
    positions, hashes = _first_spans(frame, counted, of_span, places, count=len(wanted))
    found = np.flatnonzero(positions >= 0)
    if not len(found):
        return ()
    rows = positions[found] if counted.rows is None else counted.rows[positions[found]]
    labels = _labels(frame, rows, loaded)
    values, buckets = _numbers(counted.spans, positions[found])
    start_ns = frame.integers("start_ns")[rows].tolist()
    points = (counted.spans.keys[positions[found]] % grid.points).tolist()
    return tuple(
        Candidate(
            series[int(wanted[place]) // _SLOTS],
            (int(ranks[place, 0]), int(ranks[place, 1])),
            int(hashes[place]),
            points[i],
            start_ns[i],
            values[i],
            buckets[i],
            labels[i],
        )
        for i, place in enumerate(found.tolist())
    )


def _places(counted: Counted, slot_of_point: Rows, wanted: Rows) -> tuple[Rows, Rows]:
    """Per span a number, and per number the place of its (series, slot) among the wanted ones, -1 if it is not there."""
    keys, bound = counted.spans.keys, counted.spans.bound
    slots = slots_of(keys, bound)
    group, point = np.divmod(np.arange(bound) if slots.keys is None else slots.keys, counted.grid.points)
    pairs = counted.series_of_group[group] * _SLOTS + slot_of_point[point]
    place = np.minimum(np.searchsorted(wanted, pairs), len(wanted) - 1)
    return slots.of_row, np.where(wanted[place] == pairs, place, -1)


def _wanted(cells: Rows, points: int, slot_of_point: Rows, series: tuple[Attributes, ...], limit: int) -> tuple[Rows, NDArray[np.int64]]:
    """The (series, slot) that may be shown as series * _SLOTS + slot, ascending, with the two parts of their ranks."""
    number, point = np.divmod(cells, points)
    pairs = np.unique(number * _SLOTS + slot_of_point[point])
    number, slot = np.divmod(pairs, _SLOTS)
    present = np.unique(number)
    hash_of = np.zeros(len(series), np.int64)
    hash_of[present] = [zlib.crc32(repr(label_order(series[one])).encode()) for one in present.tolist()]
    first = _REVERSED[(slot + hash_of[number]) % _SLOTS]
    order = np.lexsort((hash_of[number], first))[:limit]
    order.sort()
    return pairs[order], np.stack([first[order], hash_of[number[order]]], axis=1)


def _first_spans(frame: Frame, counted: Counted, of_span: Rows, places: Rows, *, count: int) -> tuple[Rows, NDArray[np.uint64]]:
    """Per wanted (series, slot), of which there are `count`: the place of its span among those counted, -1 if none has a number to show;
    and the hash of its trace. `of_span`, `places`: as of `_places`.

    Looks at the spans of few traces first: their hashes are less than all others.
    """
    hash_of_trace = _hashes(frame.batch.trace_high, frame.batch.trace_low)
    best = np.full(count, -1)
    hashes = np.zeros(count, np.uint64)
    wanted = places
    for share in _SHARES:
        position = _spans_of(frame, counted, np.flatnonzero(hash_of_trace <= np.uint64(share * (2**64 - 2**11))), share)
        place = wanted[of_span] if position is None else wanted[of_span[position]]
        keep = np.flatnonzero(place >= 0)
        position, place = keep if position is None else position[keep], place[keep]
        if counted.spans.values is not None and len(position):
            shows = _shows(counted.spans, position)
            position, place = position[shows], place[shows]
        own = hash_of_trace[_trace_of(frame, position if counted.rows is None else counted.rows[position])]
        order = np.lexsort((position, own))
        some, first = np.unique(place[order], return_index=True)
        best[some], hashes[some] = position[order[first]], own[order[first]]
        if (best >= 0).all():
            break
        wanted = np.where(best[places] < 0, places, -1)
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


def _some(spans: Spans, positions: Rows) -> Spans:
    """A few of the spans, numbered by their place."""
    assert spans.values is not None
    return Spans(np.arange(len(positions)), len(positions), take(spans.values, positions))


def _shows(spans: Spans, positions: Rows) -> NDArray[np.bool_]:
    """Which spans have a number other than zero: clients pass over exemplars of zero."""
    result = np.zeros(len(positions), np.bool_)
    for some in numbers_of(_some(spans, positions)):
        result[some.keys] = some.numbers != 0
    return result


def _numbers(spans: Spans, positions: Rows) -> tuple[list[float | None], list[int]]:
    """The numbers of spans in their unit, and their buckets in a histogram."""
    values: list[float | None] = [None] * len(positions)
    buckets = [0] * len(positions)
    if spans.values is not None:
        for some in numbers_of(_some(spans, positions)):
            for key, value, bucket in zip(some.keys.tolist(), some.in_units().tolist(), buckets_of(some).tolist(), strict=True):
                values[key], buckets[key] = value, bucket
    return values, buckets


def _labels(frame: Frame, rows: Rows, loaded: tuple[LabelField, ...]) -> list[Attributes]:
    traces = _trace_of(frame, rows)
    numbers = np.stack([frame.batch.trace_high[traces], frame.batch.trace_low[traces]], axis=1).astype(">u8")
    ids: pa.Array = hexadecimal(numbers, _TRACE_ID_BYTES)
    columns = [(label.key, label_values(span_values(frame, label.operand, rows))) for label in loaded]
    return [
        ((TRACE_ID, TypedValue(ResultType.STRING, text)), *((key, one) for key, column in columns if (one := column[place]) is not None))
        for place, text in enumerate(ids.to_pylist())
    ]

"""The live spans of a tenant, arranged bit by bit as they arrive.

Arranging costs about a microsecond a span, so doing it for all live spans whenever some have arrived would be most of a query's work.
Instead they are kept as runs, each arranged by itself, oldest first and each at least twice as long as the next: what is new becomes
a run, and runs that are too similar in length are arranged together. A trace that lies in two runs is gathered like any other trace that
lies in two places.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from spanlake.blocks.live import LiveView
from spanlake.blocks.scan.memory import arranged
from spanlake.blocks.scan.places import LivePlace
from spanlake.model.spans import SpanBatch

RUN_ROWS_MIN = 4096
"""Runs shorter than this are always joined: each run costs every query something."""


@dataclass(frozen=True, slots=True)
class _Run:
    """Rows [begin, end) of the view, counted over its batches."""

    begin: int
    end: int
    place: LivePlace


class LiveRuns:
    """Thread-safe; one per tenant. Keeps the last view, so that its rows stay where they are and can be known again."""

    def __init__(self, *, rows_min: int = RUN_ROWS_MIN, clock: Callable[[], float] = time.monotonic) -> None:
        self._rows_min = rows_min
        self._clock = clock
        self._used = clock()
        self._lock = threading.Lock()
        self._batches: list[SpanBatch] = []
        self._runs: list[_Run] = []

    def places(self, view: LiveView) -> tuple[LivePlace, ...]:
        """All live spans of a view, oldest first."""
        batches = [live.batch for live in view.rows]
        with self._lock:
            self._used = self._clock()
            if _rows(batches) < _rows(self._batches) and _continues(batches, self._batches):
                # A view that was taken before the one that is known.
                return _places(self._grown([run for run in self._runs if run.end <= _rows(batches)], batches))
            runs = self._runs if _continues(self._batches, batches) else []
            self._batches, self._runs = batches, self._grown(runs, batches)
            return _places(self._runs)

    def is_idle(self, idle_seconds: float) -> bool:
        """Whether nobody has asked for so long. Who has it then lets go of it: spans that are in blocks by now would stay in memory."""
        return self._clock() - self._used >= idle_seconds

    def _grown(self, runs: list[_Run], batches: Sequence[SpanBatch]) -> list[_Run]:
        """The runs with those rows of the batches that they lack."""
        kept = list(runs)
        begin, end = (kept[-1].end if kept else 0), _rows(batches)
        if begin == end:
            return kept
        while kept and (end - begin < self._rows_min or kept[-1].end - kept[-1].begin < 2 * (end - begin)):
            begin = kept.pop().begin
        return [*kept, _Run(begin, end, LivePlace(arranged(_between(batches, begin, end))))]


def _places(runs: Sequence[_Run]) -> tuple[LivePlace, ...]:
    return tuple(run.place for run in runs)


def _rows(batches: Sequence[SpanBatch]) -> int:
    return sum(map(len, batches))


def _continues(known: Sequence[SpanBatch], batches: Sequence[SpanBatch]) -> bool:
    """Whether the batches are the known ones, the last of which may have become longer, and perhaps more."""
    if len(known) > len(batches):
        return False
    for number, (old, new) in enumerate(zip(known, batches, strict=False)):
        longer = len(new) > len(old) and number == len(known) - 1
        if old.spans.ctypes.data != new.spans.ctypes.data or (len(old) != len(new) and not longer):
            return False
    return True


def _between(batches: Sequence[SpanBatch], begin: int, end: int) -> list[SpanBatch]:
    """Rows [begin, end) of the batches."""
    parts: list[SpanBatch] = []
    first = 0
    for batch in batches:
        last = first + len(batch)
        if first < end and last > begin:
            parts.append(replace(batch, spans=batch.spans[max(begin - first, 0) : min(end, last) - first]))
        first = last
    return parts

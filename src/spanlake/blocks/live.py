"""Recent spans of one tenant: acknowledged, readable, and not yet in a block of the table.

Spans collect in a `Generation`. A cut seals it (`seal`), a flush writes it to the table, and `publish` swaps generation and table version
in one step, so that a reader's `view` has every span exactly once: in a block of its table version, or live beside it. Spans of
traces that are still active are not flushed but carried into the next generation.

This module does no I/O and knows neither log nor Parquet. Each tenant has one lock; it is held for appends and swaps, never while a
block is built.
"""

from __future__ import annotations

import secrets
import threading
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from spanlake.blocks.catalog import TableSnapshot
from spanlake.blocks.memory.append import BatchBuffer, concatenate, merge
from spanlake.blocks.memory.arrange import sort_by_trace
from spanlake.blocks.memory.trim import trim
from spanlake.model.spans import SpanBatch


@dataclass(frozen=True, slots=True)
class Arrivals:
    """When and where rows arrived, parallel to the rows of a batch."""

    seconds: NDArray[np.float64]  # monotonic
    segments: NDArray[np.int64]  # of the write-ahead log

    def take(self, rows: NDArray[np.bool_]) -> Arrivals:
        return Arrivals(self.seconds[rows], self.segments[rows])


@dataclass(frozen=True, slots=True)
class Carried:
    """Rows that go over a cut, with their arrivals."""

    batch: SpanBatch
    arrivals: Arrivals


@dataclass(frozen=True, slots=True)
class SealedRows:
    """All rows of sealed generations under one string pool, oldest first."""

    batch: SpanBatch
    arrivals: Arrivals


@dataclass(frozen=True, slots=True)
class LiveView:
    """A consistent view of a tenant: the table's version and the live batches that it lacks, oldest first."""

    table: TableSnapshot
    batches: tuple[SpanBatch, ...]


class Generation:
    """The spans between two cuts."""

    def __init__(self) -> None:
        self.carried: Carried | None = None
        self.carried_since = 0.0  # monotonic seconds
        self.buffer = BatchBuffer()
        self._pushes: list[tuple[int, float, int]] = []  # (rows, monotonic seconds, segment) of each append

    @property
    def spans(self) -> int:
        return self.buffer.spans + (len(self.carried.batch) if self.carried else 0)

    @property
    def memory_bytes(self) -> int:
        return self.buffer.memory_bytes + (_batch_bytes(self.carried.batch) if self.carried else 0)

    @property
    def oldest_seconds(self) -> float | None:
        """When its first rows arrived or were carried into it; None without any."""
        since = [self._pushes[0][1]] if self._pushes else []
        return min([*since, self.carried_since] if self.carried else since, default=None)

    def append(self, batch: SpanBatch, *, seconds: float, segment: int) -> None:
        if self._pushes and self._pushes[-1][1:] == (seconds, segment):
            self._pushes[-1] = (self._pushes[-1][0] + len(batch), seconds, segment)
        else:
            self._pushes.append((len(batch), seconds, segment))
        self.buffer.append(batch)

    def batches(self) -> list[SpanBatch]:
        return [*([self.carried.batch] if self.carried else []), *self.buffer.chunks()]

    def arrivals(self) -> Arrivals:
        """Of all rows, in the order of `batches`."""
        rows = np.array([push[0] for push in self._pushes], np.int64)
        seconds = np.repeat(np.array([push[1] for push in self._pushes], np.float64), rows)
        segments = np.repeat(np.array([push[2] for push in self._pushes], np.int64), rows)
        if self.carried:
            seconds = np.concatenate([self.carried.arrivals.seconds, seconds])
            segments = np.concatenate([self.carried.arrivals.segments, segments])
        return Arrivals(seconds, segments)


def _batch_bytes(batch: SpanBatch) -> int:
    tables = (batch.spans, batch.scopes, batch.resources, batch.events, batch.links, batch.attrs)
    return sum(table.nbytes for table in tables) + len(batch.strings.data) + 12 * len(batch.strings)


class TenantSpans:
    """The live spans of one tenant and the table version that they complement."""

    def __init__(self, tenant: str, table: TableSnapshot) -> None:
        self.tenant = tenant
        self._lock = threading.Lock()
        self._table = table
        self._current = Generation()
        self._sealed: tuple[Generation, ...] = ()

    def append(self, batch: SpanBatch, *, seconds: float, segment: int) -> None:
        """Make a logged batch readable."""
        with self._lock:
            self._current.append(batch, seconds=seconds, segment=segment)

    def view(self) -> LiveView:
        """What a query works on."""
        with self._lock:
            batches = [batch for generation in (*self._sealed, self._current) for batch in generation.batches()]
            return LiveView(self._table, tuple(batch for batch in batches if len(batch)))

    @property
    def spans(self) -> int:
        """Live spans, sealed ones included."""
        with self._lock:
            return sum(generation.spans for generation in (*self._sealed, self._current))

    @property
    def memory_bytes(self) -> int:
        with self._lock:
            return sum(generation.memory_bytes for generation in (*self._sealed, self._current))

    @property
    def oldest_seconds(self) -> float | None:
        """Since when there are rows that no cut has sealed yet; None if there are none."""
        with self._lock:
            return self._current.oldest_seconds

    def seal(self) -> None:
        """End the current generation. Pushes that arrive from now on belong to the next."""
        with self._lock:
            if self._current.spans:
                self._sealed = (*self._sealed, self._current)
                self._current = Generation()

    def sealed_rows(self) -> SealedRows | None:
        """The rows of all sealed generations for a flush; None without any. Sealed generations do not change."""
        with self._lock:
            sealed = self._sealed
        if not sealed:
            return None
        batches = [batch for generation in sealed for batch in generation.batches()]
        arrivals = [generation.arrivals() for generation in sealed]
        one_pool = len(sealed) == 1 and sealed[0].carried is None
        batch = concatenate(batches) if one_pool else merge(batches)
        seconds = np.concatenate([part.seconds for part in arrivals])
        return SealedRows(batch, Arrivals(seconds, np.concatenate([part.segments for part in arrivals])))

    def publish(self, table: TableSnapshot, carried: Carried | None, *, seconds: float) -> None:
        """The sealed generations are in this table version, but for the carried rows, which go in front of the current generation."""
        with self._lock:
            self._sealed = ()
            self._table = table
            if carried is not None:
                assert self._current.carried is None
                self._current.carried, self._current.carried_since = carried, seconds

    def publish_table(self, table: TableSnapshot) -> None:
        """Another version of the table with the same flushes of this process."""
        with self._lock:
            self._table = table


def active_traces(rows: SealedRows, *, now: float, idle_seconds: float, age_seconds: float, share_max: float) -> NDArray[np.bool_]:
    """Which rows belong to traces to be carried: a span younger than `idle_seconds`, none older than `age_seconds`.

    No more than `share_max` of the rows: were it more, the whole table is active and nothing is gained by carrying it about.
    """
    order, begins = sort_by_trace(rows.batch.spans, multiplier=secrets.randbits(62) | 1)
    seconds = rows.arrivals.seconds[order]
    newest, oldest = (part.reduceat(seconds, begins[:-1]) for part in (np.maximum, np.minimum))
    active = (newest > now - idle_seconds) & (oldest > now - age_seconds)
    chosen = np.empty(len(order), np.bool_)
    chosen[order] = np.repeat(active, np.diff(begins))
    return chosen if chosen.sum() <= share_max * len(chosen) else np.zeros(len(chosen), np.bool_)


def carry(rows: SealedRows, chosen: NDArray[np.bool_]) -> Carried | None:
    """The chosen rows with nothing of the others left in memory; None if none are chosen."""
    if not chosen.any():
        return None
    return Carried(merge([trim(rows.batch.take(chosen))]), rows.arrivals.take(chosen))

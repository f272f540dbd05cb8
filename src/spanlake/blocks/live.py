"""Recent spans of one tenant: acknowledged, readable, and not yet in a block of the table.

Spans collect in a `Generation`. A cut seals it (`seal`), a flush writes it to the table, and `publish` swaps generation and table version
in one step, so that a reader's `view` has every span exactly once: in a block of its table version, or live beside it. Spans of
traces that are still active are not flushed but carried into the next generation.

A tenant has at most one sealed generation. While its flush fails, later spans collect in the next one, however long that takes: a
flush is repeated with the same rows under the same number, so that a commit whose answer was lost cannot take place twice.

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
from spanlake.blocks.memory.append import BatchBuffer, concatenate, merge, tables_of
from spanlake.blocks.memory.arrange import sort_by_trace
from spanlake.blocks.memory.trim import trim
from spanlake.model.spans import SpanBatch

ARRIVAL_SECONDS = 0.1  # pushes this close to each other count as one arrival, so that what is noted of them stays small
_MARK_MASK = 0xFFFFFFFF


@dataclass(frozen=True, slots=True)
class TimedRows:
    """Rows and when each arrived (monotonic seconds)."""

    batch: SpanBatch
    seconds: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.batch)


@dataclass(frozen=True, slots=True)
class LiveRows:
    """Rows with the low 32 bits of their trace ids side by side, because looking through the rows themselves takes 25 times as long."""

    batch: SpanBatch
    marks: NDArray[np.uint32]

    def of_trace(self, high: int, low: int) -> NDArray[np.int64]:
        """The rows of one trace."""
        rows = np.flatnonzero(self.marks == np.uint32(low & _MARK_MASK))
        spans = self.batch.spans[rows]
        own: NDArray[np.int64] = rows[(spans["trace_lo"] == low) & (spans["trace_hi"] == high)]
        return own


@dataclass(frozen=True, slots=True)
class LiveView:
    """A consistent view of a tenant: the table's version and the live rows that it lacks, oldest first."""

    table: TableSnapshot
    rows: tuple[LiveRows, ...]


@dataclass(frozen=True, slots=True)
class Usage:
    """How many spans are live and what memory they take, and how much of that is sealed."""

    spans: int = 0
    bytes: int = 0
    sealed_spans: int = 0
    sealed_bytes: int = 0

    def __add__(self, other: Usage) -> Usage:
        spans, sealed_spans = self.spans + other.spans, self.sealed_spans + other.sealed_spans
        return Usage(spans, self.bytes + other.bytes, sealed_spans, self.sealed_bytes + other.sealed_bytes)

    def __sub__(self, other: Usage) -> Usage:
        return self + Usage(-other.spans, -other.bytes, -other.sealed_spans, -other.sealed_bytes)


class Generation:
    """The spans between two cuts: those carried from the one before, then what was pushed. Guarded by the tenant's lock until sealed."""

    def __init__(self, *, expected_spans: int = 0) -> None:
        self._carried: LiveRows | None = None
        self._carried_seconds: NDArray[np.float64] = np.empty(0)
        self._carried_since = 0.0
        self._buffer = BatchBuffer(expected_spans=expected_spans)
        self._marks: NDArray[np.uint32] = np.empty(1024, np.uint32)
        self._arrivals: list[tuple[int, float]] = []  # (rows, monotonic seconds)
        self._bytes = 0  # of records, not of the buffer's strings; added up here because pushes ask for it
        self.first_segment: int | None = None  # of the log, among those that hold its spans

    @property
    def spans(self) -> int:
        return self._buffer.spans + (len(self._carried.batch) if self._carried else 0)

    @property
    def memory_bytes(self) -> int:
        return self._bytes + self._buffer.pool.memory_bytes

    @property
    def oldest_seconds(self) -> float | None:
        """When its first rows arrived or were carried into it; None without any."""
        since = [self._arrivals[0][1]] if self._arrivals else []
        return min([*since, self._carried_since] if self._carried else since, default=None)

    def append(self, batch: SpanBatch, *, seconds: float, segment: int) -> None:
        if self._arrivals and seconds - self._arrivals[-1][1] < ARRIVAL_SECONDS:
            rows, seconds = self._arrivals[-1]
            self._arrivals[-1] = (rows + len(batch), seconds)
        else:
            self._arrivals.append((len(batch), seconds))
        begin, end = self._buffer.spans, self._buffer.spans + len(batch)
        if end > len(self._marks):
            marks = np.empty(max(end, 2 * len(self._marks)), np.uint32)
            marks[:begin] = self._marks[:begin]
            self._marks = marks  # readers keep the old one
        self._marks[begin:end] = _marks_of(batch)
        self._buffer.append(batch)
        self._bytes += _record_bytes(batch) + 4 * len(batch)
        self._note_segment(segment)

    def carry(self, rows: TimedRows, *, since: float, segment: int) -> None:
        """Take rows of the generation before in front of all others. `segment` is the first that holds their record."""
        assert self._carried is None
        self._carried, self._carried_seconds, self._carried_since = LiveRows(rows.batch, _marks_of(rows.batch)), rows.seconds, since
        self._bytes += _record_bytes(rows.batch) + 12 * len(rows) + len(rows.batch.strings.data) + 12 * len(rows.batch.strings)
        self._note_segment(segment)

    def _note_segment(self, segment: int) -> None:
        self.first_segment = segment if self.first_segment is None else min(segment, self.first_segment)

    def parts(self) -> list[LiveRows]:
        """All rows, oldest first."""
        parts = [self._carried] if self._carried else []
        begin = 0
        for chunk in self._buffer.chunks():
            parts.append(LiveRows(chunk, self._marks[begin : begin + len(chunk)]))
            begin += len(chunk)
        return parts

    def rows(self) -> TimedRows:
        """All rows under one string pool, in the order of `parts`. There is at least one."""
        if self._carried and not self._arrivals:
            return TimedRows(self._carried.batch, self._carried_seconds)
        batches = [part.batch for part in self.parts()]
        counts = np.array([count for count, _ in self._arrivals], np.int64)
        pushed = np.repeat(np.array([seconds for _, seconds in self._arrivals], np.float64), counts)
        return TimedRows(merge(batches) if self._carried else concatenate(batches), np.concatenate([self._carried_seconds, pushed]))


def _marks_of(batch: SpanBatch) -> NDArray[np.uint32]:
    marks: NDArray[np.uint32] = batch.spans["trace_lo"].astype(np.uint32)
    return marks


def _record_bytes(batch: SpanBatch) -> int:
    return sum(table.nbytes for table in tables_of(batch))


@dataclass(frozen=True, slots=True)
class Carry:
    """What a flush leaves out: `chosen` says which rows of the sealed generation, `rows` holds them (None: nothing is left out)."""

    chosen: NDArray[np.bool_]
    rows: TimedRows | None
    segment: int  # the first of the log that holds them again


class Sealed:
    """A sealed generation and how far its flush is; written by whoever flushes.

    `through` is the last segment of the log that holds any of its spans. `carry` is None until it is decided, and then never changes.
    `attempted` says that a commit was asked for, which may have taken place without an answer.
    """

    def __init__(self, generation: Generation, through: int) -> None:
        self.generation = generation
        self.through = through
        self.carry: Carry | None = None
        self.attempted = False


class TenantSpans:
    """The live spans of one tenant and the table version that they complement."""

    def __init__(self, tenant: str, table: TableSnapshot) -> None:
        self.tenant = tenant
        self._lock = threading.Lock()
        self._table = table
        self._current = Generation()
        self._sealed: Sealed | None = None

    def append(self, batch: SpanBatch, *, seconds: float, segment: int) -> None:
        """Make a logged batch readable."""
        with self._lock:
            self._current.append(batch, seconds=seconds, segment=segment)

    def view(self) -> LiveView:
        """What a query works on."""
        with self._lock:
            parts = [part for generation in self._generations() for part in generation.parts()]
            return LiveView(self._table, tuple(part for part in parts if len(part.batch)))

    @property
    def usage(self) -> Usage:
        with self._lock:
            sealed = self._sealed.generation if self._sealed else None
            own = Usage(self._current.spans, self._current.memory_bytes)
            return own if sealed is None else own + Usage(sealed.spans, sealed.memory_bytes, sealed.spans, sealed.memory_bytes)

    @property
    def is_empty(self) -> bool:
        with self._lock:
            return self._sealed is None and not self._current.spans

    @property
    def oldest_seconds(self) -> float | None:
        """Since when there are rows that a cut could seal; None if there are none, or if a sealed generation is in the way."""
        with self._lock:
            return None if self._sealed else self._current.oldest_seconds

    @property
    def needed_segment(self) -> int | None:
        """The first segment of the log that still holds any of the spans; None without spans."""
        with self._lock:
            return min((first for part in self._generations() if (first := part.first_segment) is not None), default=None)

    @property
    def sealed(self) -> Sealed | None:
        return self._sealed

    def seal(self, through: int) -> None:
        """End the current generation, unless it is empty or the one before is not flushed yet. Later pushes belong to the next."""
        with self._lock:
            if self._current.spans and self._sealed is None:
                self._sealed = Sealed(self._current, through)
                self._current = Generation(expected_spans=self._current.spans * 5 // 4)

    def gather_sealed(self, sealed: Sealed) -> TimedRows:
        """The rows of the sealed generation as one batch, which takes the place of its chunks. Only whoever flushes may call it."""
        rows, segment = sealed.generation.rows(), sealed.generation.first_segment
        assert segment is not None
        gathered = Generation()
        gathered.carry(rows, since=0.0, segment=segment)
        with self._lock:
            sealed.generation = gathered
        return rows

    def publish(self, table: TableSnapshot, *, seconds: float) -> None:
        """The sealed generation is in this table version, but for the rows that it carries, which go before the current generation."""
        with self._lock:
            assert self._sealed is not None
            assert self._sealed.carry is not None
            carry = self._sealed.carry
            if carry.rows is not None:
                self._current.carry(carry.rows, since=seconds, segment=carry.segment)
            self._sealed = None
            self._table = table

    def publish_table(self, table: TableSnapshot) -> None:
        """Another version of the table with the same flushes of this process."""
        with self._lock:
            self._table = table

    def _generations(self) -> list[Generation]:
        return [self._sealed.generation, self._current] if self._sealed else [self._current]


def active_traces(rows: TimedRows, *, now: float, idle_seconds: float, age_seconds: float, share_max: float) -> NDArray[np.bool_]:
    """Which rows belong to traces to be carried: a span younger than `idle_seconds`, none older than `age_seconds`.

    No more than `share_max` of the rows: were it more, the whole table is active and nothing is gained by carrying it about.
    """
    order, begins = sort_by_trace(rows.batch.spans, multiplier=secrets.randbits(62) | 1)
    seconds = rows.seconds[order]
    newest, oldest = (part.reduceat(seconds, begins[:-1]) for part in (np.maximum, np.minimum))
    active = (newest > now - idle_seconds) & (oldest > now - age_seconds)
    chosen = np.empty(len(order), np.bool_)
    chosen[order] = np.repeat(active, np.diff(begins))
    return chosen if chosen.sum() <= share_max * len(chosen) else np.zeros(len(chosen), np.bool_)


def select(rows: TimedRows, chosen: NDArray[np.bool_]) -> TimedRows:
    """The chosen rows, with nothing of the others left in memory."""
    return TimedRows(merge([trim(rows.batch.take(chosen))]), rows.seconds[chosen])

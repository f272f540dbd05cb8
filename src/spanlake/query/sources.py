"""What the queries of this package read from: a tenant's view as units, retried when a view has become too old to read."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, fields, replace
from typing import TypeVar

from spanlake.blocks.live import LiveView
from spanlake.blocks.scan.tenant import LIVE, ScanCaches, Unit, units_of
from spanlake.model.queries import Inspected, Progress
from spanlake.model.scan import ScanBatch, ScanRequest, ScanStatistics
from spanlake.model.stop import Stop
from spanlake.model.trace import TimeRange
from spanlake.query.fresh_views import from_fresh_view
from spanlake.query.tasks import Executor

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class TenantSources:
    """`view` gives a tenant's live spans and table; `refresh` looks for newer blocks.

    `horizon_seconds`: how far from the window of a question fragments of its traces are looked for. To find them anywhere, the trace ids of
    the whole table must be known; 0 does that.
    """

    caches: ScanCaches
    view: Callable[[str], LiveView]
    refresh: Callable[[str], object]
    executor: Executor
    horizon_seconds: float = 0

    def ask(self, tenant: str, question: Callable[[View], T], window: TimeRange | None = None) -> T:
        """Answer a question from one consistent view of the tenant: of all of it, or of what is near a window of time."""

        def attempt() -> T:
            live = self.view(tenant)
            return question(View(live, self.units(live, window), self.executor))

        return from_fresh_view(attempt, lambda: self.refresh(tenant))

    def units(self, live: LiveView, window: TimeRange | None) -> list[Unit]:
        """The units that a question about a window can concern: those within the horizon of it, 0 for all."""
        horizon_ns = round(self.horizon_seconds * 1e9)
        near = TimeRange(window.start_ns - horizon_ns, window.end_ns + horizon_ns) if window is not None and horizon_ns else None
        return units_of(self.caches, live, near)


@dataclass(frozen=True, slots=True)
class View:
    """The units of one view, newest first, and what reads them."""

    live: LiveView
    units: list[Unit]
    executor: Executor

    def map(self, unit: Unit, request: ScanRequest, evaluate: Callable[[ScanBatch], T], work: Work) -> Iterator[T]:
        """What `evaluate` makes of each batch of a unit; batches may be evaluated on other threads."""

        def task(piece: Callable[[ScanStatistics], ScanBatch | None]) -> Callable[[], tuple[T | None, ScanStatistics]]:
            def run() -> tuple[T | None, ScanStatistics]:
                work.stop.check()
                statistics = ScanStatistics()
                batch = piece(statistics)
                work.stop.check()
                return (None if batch is None else evaluate(batch)), statistics

            return run

        work.stop.check()
        work.units += 1
        pieces = unit.pieces(request, work.statistics)
        work.jobs_total += len(pieces)
        if pieces:
            work.units_read.add(unit.name)
        for result, statistics in self.executor.run(task(piece) for piece in pieces):
            add_statistics(work.statistics, statistics)
            work.jobs += 1
            if work.progress is not None and work.progress.is_due():
                work.progress.tell(self.inspected_so_far(work))
            if result is not None:
                yield result

    def inspected(self, work: Work) -> Inspected:
        """The figures of an answer."""
        seen = work.statistics
        return Inspected(
            traces=seen.traces,
            spans=seen.rows,
            bytes=seen.bytes,
            blocks=len(self.live.table.blocks),
            blocks_skipped=len(self.live.table.blocks) - len(work.units_read - {LIVE}),
            block_bytes=sum(block.size_bytes for block in self.live.table.blocks),
            row_groups=seen.row_groups,
            row_groups_skipped=seen.row_groups_skipped,
            split_traces=seen.split_traces,
            jobs=work.jobs,
            jobs_total=work.jobs_total,
        )

    def inspected_so_far(self, work: Work) -> Inspected:
        """The figures of a query that goes on, as if the units that it has not come to took as many jobs as the others."""
        seen = self.inspected(work)
        left = max(len(self.units) - work.units, 0)
        return replace(seen, jobs_total=seen.jobs_total + left * max(seen.jobs_total // max(work.units, 1), 1))


@dataclass(slots=True)
class Work:
    """One query at work: when it must stop, who watches it, and what it has read so far. For one thread."""

    stop: Stop
    statistics: ScanStatistics
    progress: Progress | None = None
    units: int = 0
    jobs: int = 0
    jobs_total: int = 0
    units_read: set[str] = field(default_factory=set)


def start_work(stop: Stop, progress: Progress | None = None) -> Work:
    return Work(stop, ScanStatistics(), progress)


@contextmanager
def second_look(work: Work) -> Iterator[Work]:
    """Work at what `work` has looked at already: its bytes and jobs add to that, its spans and row groups do not count again."""
    second = Work(work.stop, ScanStatistics(), units_read=work.units_read)
    try:
        yield second
    finally:
        work.statistics.bytes += second.statistics.bytes
        work.jobs += second.jobs
        work.jobs_total += second.jobs_total


def add_statistics(total: ScanStatistics, part: ScanStatistics) -> None:
    """Add one to the other."""
    for one in fields(ScanStatistics):
        if one.name != "notes":
            setattr(total, one.name, getattr(total, one.name) + getattr(part, one.name))
    for note, count in part.notes.items():
        total.notes[note] = total.notes.get(note, 0) + count

"""Progress while a run goes on: a live bar on a terminal, else a plain line every few seconds. Always on standard error."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Protocol, assert_never

from rich.console import Console, Group
from rich.live import Live
from rich.progress import BarColumn, Progress, SpinnerColumn, TaskProgressColumn, TextColumn
from rich.text import Text

from spanlake.app.load.report import MEGABYTE
from spanlake.app.load.schedule import Goal, NoGoal, SpanGoal, TimeGoal
from spanlake.app.load.tally import Figures

LINE_SECONDS = 5.0
RATE_WINDOW_SECONDS = 2.0


class Display(Protocol):
    """Shows how far something is."""

    def show(self, share: float | None, text: str) -> None:
        """`share` from 0 to 1, None when there is no end to measure it by."""
        ...


class _Bar:
    """A line with the bar and a line with the text below it."""

    def __init__(self, live: Live, title: str) -> None:
        columns = (SpinnerColumn(), TextColumn("{task.description}", markup=False), BarColumn(), TaskProgressColumn())
        self._live = live
        self._progress = Progress(*columns, console=live.console)
        self._task = self._progress.add_task(title, total=None)

    def show(self, share: float | None, text: str) -> None:
        self._progress.update(self._task, total=None if share is None else 1.0, completed=share or 0.0)
        self._live.update(Group(self._progress, Text(f"  {text}", no_wrap=True, overflow="ellipsis")))


class _Lines:
    def __init__(self, console: Console, title: str, clock: Callable[[], float]) -> None:
        self._console = console
        self._title = title
        self._clock = clock
        self._next_seconds = clock() + LINE_SECONDS

    def show(self, share: float | None, text: str) -> None:
        now_seconds = self._clock()
        if now_seconds >= self._next_seconds:
            self._next_seconds = now_seconds + LINE_SECONDS
            done = "" if share is None else f"{share:.0%} "
            self._console.print(f"{self._title}: {done}{text}", markup=False, highlight=False, soft_wrap=True)


@contextmanager
def open_display(title: str, console: Console, clock: Callable[[], float] = time.monotonic) -> Iterator[Display]:
    """A bar when the console is a terminal, lines when it is not."""
    if not console.is_terminal:
        console.print(title, markup=False, highlight=False, soft_wrap=True)
        yield _Lines(console, title, clock)
        return
    with Live(console=console, transient=True) as live:
        yield _Bar(live, title)


def share_done(goal: Goal, figures: Figures) -> float | None:
    """How much of the goal is reached, from 0 to 1; None without one."""
    match goal:
        case SpanGoal(spans):
            return min(1.0, (figures.spans_acknowledged + figures.spans_rejected + figures.spans_failed) / spans)
        case TimeGoal(seconds):
            return min(1.0, figures.seconds / seconds)
        case NoGoal():
            return None
        case _:
            assert_never(goal)


class RateWindow:
    """Turns figures into the text of a display; rates are those of the last seconds, not of the whole run."""

    def __init__(self) -> None:
        self._seen: deque[Figures] = deque()

    def text(self, figures: Figures) -> str:
        self._seen.append(figures)
        while len(self._seen) > 2 and figures.seconds - self._seen[1].seconds >= RATE_WINDOW_SECONDS:
            self._seen.popleft()
        before = self._seen[0]
        elapsed_seconds = figures.seconds - before.seconds
        # Before there are two moments to compare, the run so far is the window.
        since = elapsed_seconds or figures.seconds or 1.0
        spans = figures.spans_acknowledged - (before.spans_acknowledged if elapsed_seconds else 0)
        payload_bytes = figures.payload_bytes - (before.payload_bytes if elapsed_seconds else 0)
        return (
            f"{spans / since:,.0f} spans/s · {payload_bytes / since / MEGABYTE:,.1f} MB/s"
            f" · p50 {figures.p50_seconds * 1000:,.1f} ms · p99 {figures.p99_seconds * 1000:,.1f} ms"
            f" · {figures.failures_total:,} errors · {figures.retries_total:,} retries · {figures.spans_acknowledged:,} spans"
        )

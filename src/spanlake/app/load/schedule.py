"""Which payload is sent next and when: the goal of a run, its rate, and the queue of payload numbers that the connections share."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from threading import Lock
from typing import NamedTuple, TypeAlias, assert_never

BEHIND_SECONDS_MAX = 1.0
"""A sender that fell further behind its rate than this does not catch up on the rest: no flood after a stall."""


@dataclass(frozen=True, slots=True)
class SpanGoal:
    """Send this many spans, rounded up to whole payloads."""

    spans: int


@dataclass(frozen=True, slots=True)
class TimeGoal:
    """Send for so long."""

    seconds: float


@dataclass(frozen=True, slots=True)
class NoGoal:
    """Send until someone interrupts."""


Goal: TypeAlias = SpanGoal | TimeGoal | NoGoal


class Ticket(NamedTuple):
    """A payload to send, not before the clock reads `due_seconds`."""

    number: int
    spans: int
    due_seconds: float


class Feed:
    """Hands out payload numbers 0, 1, 2 … to several threads until the goal is reached. The clock starts with the first ticket."""

    def __init__(self, spans_in: Callable[[int], int], goal: Goal, rate: float | None, clock: Callable[[], float]) -> None:
        """`rate` is in spans per second; None sends as fast as the receiver takes it."""
        self._spans_in = spans_in
        self._goal = goal
        self._rate = rate
        self._clock = clock
        self._lock = Lock()
        self._number = 0
        self._spans = 0
        self._began_seconds: float | None = None
        self._due_seconds = 0.0

    def take(self) -> Ticket | None:
        """The next payload, or None for ever once the goal is reached."""
        with self._lock:
            now_seconds = self._clock()
            if self._began_seconds is None:
                self._began_seconds = self._due_seconds = now_seconds
            due_seconds = now_seconds if self._rate is None else max(self._due_seconds, now_seconds - BEHIND_SECONDS_MAX)
            if self._reached(max(due_seconds, now_seconds) - self._began_seconds):
                return None
            ticket = Ticket(self._number, self._spans_in(self._number), due_seconds)
            self._number += 1
            self._spans += ticket.spans
            if self._rate is not None:
                self._due_seconds = due_seconds + ticket.spans / self._rate
            return ticket

    def _reached(self, elapsed_seconds: float) -> bool:
        match self._goal:
            case SpanGoal(spans):
                return self._spans >= spans
            case TimeGoal(seconds):
                return elapsed_seconds >= seconds
            case NoGoal():
                return False
            case _:
                assert_never(self._goal)

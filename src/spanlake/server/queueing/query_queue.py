"""The threads that answer queries, and the bounded line before them. HTTP and gRPC go through one `QueryQueue`.

Whose turn it is: `turns.py`. A query that is given up while it waits (`Stop.cancel`: its client went away, its time is over) leaves the
line at once; one that runs notices by itself (`Stop.check`).
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, InvalidStateError
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar, assert_never

from spanlake.model.errors import Overloaded, QueryCancelled, Unavailable
from spanlake.model.stop import Stop
from spanlake.server.queueing.turns import Full, TurnLimits, Turns

T = TypeVar("T")
RETRY_AFTER_SECONDS = 1


class QueueReport(Protocol):
    """What is told about the queue, from any thread."""

    def started(self, waited_seconds: float) -> None:
        """A query starts after waiting so long."""
        ...

    def refused(self, full: Full) -> None:
        """A query was refused for this bound."""
        ...


@dataclass(frozen=True, slots=True, eq=False)
class Query:
    """One query in the queue."""

    work: Callable[[], Any]
    stop: Stop
    entered: float
    answer: Future[Any] = field(default_factory=Future)


class QueryQueue:
    """Owns at most `limits.running_max` threads, which it starts as they are needed and ends after `close`. Thread-safe."""

    def __init__(self, limits: TurnLimits, report: QueueReport, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._limits = limits
        self._turns: Turns[Query] = Turns(limits)
        self._report = report
        self._clock = clock
        self._changed = threading.Condition()
        self._threads = 0
        self._idle = 0
        self._closed = False

    def count_waiting(self) -> int:
        """Queries that wait for a thread."""
        return self._turns.waiting

    def count_running(self) -> int:
        """Queries that a thread works on."""
        return self._turns.running

    def submit(self, tenant: str, work: Callable[[], T], stop: Stop) -> Future[T]:
        """Have `work` done when its turn comes; Overloaded if too many wait, Unavailable after `close`.

        The future has the result or the error of `work`. `work` is not begun once `stop` says so: then the future has what `stop` raises.
        """
        query = Query(work, stop, self._clock())
        with self._changed:
            if self._closed:
                raise Unavailable("the server is stopping: ask again")
            full = self._turns.full(tenant)
            if full is None:
                self._turns.enter(tenant, query)
                self._wake()
        if full is not None:
            self._report.refused(full)
            raise self._overloaded(tenant, full)
        stop.on_cancel(lambda: self._abandon(tenant, query))
        return query.answer

    async def run(self, tenant: str, work: Callable[[], T], stop: Stop) -> T:
        """The result of `work`, as `submit`."""
        return await asyncio.wrap_future(self.submit(tenant, work, stop))

    def close(self) -> None:
        """Refuse what waits; what runs is left to finish by itself."""
        with self._changed:
            self._closed = True
            waiting = self._turns.leave_all()
            self._changed.notify_all()
        for query in waiting:
            settle(query.answer, Unavailable("the server is stopping: ask again"))

    def _overloaded(self, tenant: str, full: Full) -> Overloaded:
        limits = self._limits
        match full:
            case Full.ALL:
                text = f"{limits.running_max} queries run and {limits.waiting_max} wait (server.query_queue_max)"
            case Full.TENANT:
                text = f"{limits.running_max_of(tenant)} queries of tenant {tenant} run and {limits.waiting_per_tenant_max} wait"
                text += " (server.query_queue_per_tenant_max)"
            case _:
                assert_never(full)
        return Overloaded(f"job queue full: {text}; ask again later", retry_after_seconds=RETRY_AFTER_SECONDS)

    def _wake(self) -> None:
        """See to it that somebody looks at the line; with the lock."""
        if self._turns.waiting > self._idle and self._threads < self._limits.running_max:
            self._threads += 1
            threading.Thread(target=self._work, name=f"query-{self._threads}").start()
        else:
            self._changed.notify()

    def _work(self) -> None:
        """One thread: take the next query, until the queue is closed."""
        while (taken := self._take()) is not None:
            tenant, query = taken
            try:
                self._answer(query)
            finally:
                with self._changed:
                    self._turns.finish(tenant)  # what may start now, this thread takes
            del taken, query  # its answer may be large, and the next query may be long in coming

    def _take(self) -> tuple[str, Query] | None:
        with self._changed:
            while not self._closed:
                taken = self._turns.next()
                if taken is not None:
                    return taken
                self._idle += 1
                self._changed.wait()
                self._idle -= 1
        return None

    def _answer(self, query: Query) -> None:
        self._report.started(self._clock() - query.entered)
        try:
            query.stop.check()
            result = query.work()
        except BaseException as error:  # noqa: BLE001 whoever asked must learn of it
            settle(query.answer, error)
        else:
            settle(query.answer, result)

    def _abandon(self, tenant: str, query: Query) -> None:
        with self._changed:
            waited = self._turns.leave(tenant, query)
        if waited:
            settle(query.answer, QueryCancelled("the query was cancelled while it waited: nobody waits for its answer"))


def settle(answer: Future[Any], outcome: object) -> None:
    """Set the result or, if it is one, the exception, unless the future was cancelled."""
    try:
        if isinstance(outcome, BaseException):
            answer.set_exception(outcome)
        else:
            answer.set_result(outcome)
    except InvalidStateError:
        pass  # nobody waits for it any more

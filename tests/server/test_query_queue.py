"""Queries in line: whose turn it is, what is refused, and what becomes of queries that are given up."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

import pytest
from hypothesis import given
from hypothesis import strategies as st
from serving import WAIT_SECONDS, eventually

from spanlake.model.errors import Overloaded, QueryCancelled, QueryTimeout, Unavailable
from spanlake.model.settings import ServerSettings
from spanlake.model.stop import Stop
from spanlake.server.listeners import turn_limits
from spanlake.server.queueing.query_queue import QueryQueue
from spanlake.server.queueing.turns import Full, TurnLimits, Turns


def limits(running: int, waiting: int = 1000, *, each: int = 0, each_waiting: int = 1000) -> TurnLimits:
    return TurnLimits(running, waiting, lambda _tenant: each or running, each_waiting)


# --- Whose turn it is. A script: `a` a query of tenant a enters, `>` the next one starts, `!a` one of tenant a ends.

SCRIPTS = [
    ("aaabc>>>>>", limits(9), "a0 b0 c0 a1 a2"),
    ("aaa>>bb>>>", limits(9), "a0 a1 a2 b0 b1"),
    ("a>>", limits(9), "a0 -"),
    ("aab>>>", limits(2), "a0 b0 -"),
    ("aab>>>!a>", limits(2), "a0 b0 - a1"),
    ("aaab>>>", limits(9, each=1), "a0 b0 -"),
    ("aaab>>!a>!b>!a>", limits(9, each=1), "a0 b0 a1 - a2"),
    ("aabb>!a>!b>!a>", limits(1), "a0 b0 a1 b1"),
]


@pytest.mark.parametrize(("script", "bounds", "started"), SCRIPTS, ids=[row[0] for row in SCRIPTS])
def test_queries_start_in_turn(script: str, bounds: TurnLimits, started: str) -> None:
    turns: Turns[str] = Turns(bounds)
    entered: Counter[str] = Counter()
    shown: list[str] = []
    steps = iter(script)
    for step in steps:
        if step == ">":
            taken = turns.next()
            shown.append("-" if taken is None else taken[1])
        elif step == "!":
            turns.finish(next(steps))
        else:
            turns.enter(step, f"{step}{entered[step]}")
            entered[step] += 1
    assert " ".join(shown) == started


@pytest.mark.parametrize(
    ("script", "bounds", "full"),
    [
        ("", limits(1, 0), None),
        ("a", limits(1, 0), Full.ALL),
        ("a>", limits(1, 1), None),
        ("a>b", limits(1, 1), Full.ALL),
        ("aa", limits(2, 5, each_waiting=0), Full.TENANT),
        ("bb", limits(2, 5, each_waiting=0), None),
        ("aaa", limits(2, 5, each=1, each_waiting=2), Full.TENANT),
    ],
)
def test_full_names_the_bound_that_tenant_a_meets(script: str, bounds: TurnLimits, full: Full | None) -> None:
    turns: Turns[int] = Turns(bounds)
    for number, step in enumerate(script):
        if step == ">":
            turns.next()
        else:
            turns.enter(step, number)
    assert turns.full("a") is full


MOVES = st.lists(st.tuples(st.sampled_from(["enter", "next", "finish", "leave"]), st.sampled_from("abc")), max_size=60)


@given(moves=MOVES, running=st.integers(1, 4), each=st.integers(1, 4))
def test_turns_keep_their_bounds_and_lose_nothing_whatever_happens(moves: list[tuple[str, str]], running: int, each: int) -> None:
    bounds = limits(running, 6, each=each, each_waiting=3)
    turns: Turns[int] = Turns(bounds)
    waiting: dict[str, list[int]] = {tenant: [] for tenant in "abc"}
    active: Counter[str] = Counter()
    for number, (move, tenant) in enumerate(moves):
        if move == "enter" and turns.full(tenant) is None:
            turns.enter(tenant, number)
            waiting[tenant].append(number)
        elif move == "next":
            taken = turns.next()
            may = [one for one in "abc" if waiting[one] and active[one] < each]
            assert (taken is not None) == (bool(may) and active.total() < running)
            if taken is not None:
                assert waiting[taken[0]].pop(0) == taken[1]
                active[taken[0]] += 1
        elif move == "finish" and active[tenant]:
            turns.finish(tenant)
            active[tenant] -= 1
        elif move == "leave" and waiting[tenant]:
            assert turns.leave(tenant, waiting[tenant].pop())
        assert (turns.waiting, turns.running) == (sum(map(len, waiting.values())), active.total())
        assert not turns.leave(tenant, -1)
    assert sorted(turns.leave_all()) == sorted(number for numbers in waiting.values() for number in numbers)
    assert turns.waiting == 0


@given(busy=st.integers(1, 30), others=st.integers(1, 5))
def test_a_tenant_waits_for_one_query_of_each_other_tenant_however_many_they_have(busy: int, others: int) -> None:
    turns: Turns[str] = Turns(limits(1))
    for number in range(others):
        for _ in range(busy):
            turns.enter(f"other {number}", f"other {number} {_}")
    turns.enter("late", "late")
    order = []
    while (taken := turns.next()) is not None:
        order.append(taken[0])
        turns.finish(taken[0])
    assert order.index("late") == others
    assert len(order) == busy * others + 1


@pytest.mark.parametrize(
    ("settings", "own", "running", "waiting"),
    [
        (ServerSettings(), 0, 4, 400),
        (ServerSettings(multitenancy=True), 0, 3, 400),
        (ServerSettings(multitenancy=True), 2, 2, 400),
        (ServerSettings(multitenancy=True), 9, 3, 400),
        (ServerSettings(multitenancy=True, query_threads=1), 0, 1, 400),
        (ServerSettings(query_queue_max=10), 0, 4, 10),
    ],
)
def test_limits_of_a_tenant_follow_from_the_settings(settings: ServerSettings, own: int, running: int, waiting: int) -> None:
    bounds = turn_limits(settings, lambda _tenant: own)
    assert (bounds.running_max_of("a"), bounds.waiting_per_tenant_max) == (running, waiting)
    assert (bounds.running_max, bounds.waiting_max) == (settings.query_threads, settings.query_queue_max)


# --- The threads


class Told:
    """A report that remembers."""

    def __init__(self) -> None:
        self.waited: list[float] = []
        self.bounds: list[Full] = []

    def started(self, waited_seconds: float) -> None:
        self.waited.append(waited_seconds)

    def refused(self, full: Full) -> None:
        self.bounds.append(full)


@pytest.fixture
def told() -> Told:
    return Told()


@pytest.fixture
def gate() -> Iterator[threading.Event]:
    opened = threading.Event()
    yield opened
    opened.set()


def hold(gate: threading.Event) -> None:
    assert gate.wait(WAIT_SECONDS)


def test_queue_answers_and_reports_when_asked(told: Told) -> None:
    now = iter([5.0, 7.5])
    with closing(QueryQueue(limits(1), told, clock=lambda: next(now))) as queue:
        assert queue.submit("a", lambda: 3, Stop()).result(WAIT_SECONDS) == 3
    assert told.waited == [2.5]


def test_queue_hands_on_the_error_when_work_fails(told: Told) -> None:
    def fail() -> None:
        raise ValueError("no")

    with closing(QueryQueue(limits(1), told)) as queue:
        with pytest.raises(ValueError, match="no"):
            queue.submit("a", fail, Stop()).result(WAIT_SECONDS)
        assert queue.submit("a", lambda: 1, Stop()).result(WAIT_SECONDS) == 1


def test_queue_runs_as_many_at_once_as_it_may(told: Told) -> None:
    together = threading.Barrier(3)
    with closing(QueryQueue(limits(3), told)) as queue:
        for _ in range(3):
            answers = [queue.submit(tenant, lambda: together.wait(WAIT_SECONDS), Stop()) for tenant in "aab"]
            assert sorted(answer.result(WAIT_SECONDS) for answer in answers) == [0, 1, 2]


def test_queue_refuses_when_too_many_wait(told: Told, gate: threading.Event) -> None:
    with closing(QueryQueue(limits(1, 2, each_waiting=1), told)) as queue:
        kept = [queue.submit("a", lambda: hold(gate), Stop()) for _ in range(2)]
        with pytest.raises(Overloaded, match=r"job queue full: 1 queries of tenant a run and 1 wait \(server.query_queue_per_tenant_max\)"):
            queue.submit("a", lambda: None, Stop())
        kept.append(queue.submit("b", lambda: None, Stop()))
        with pytest.raises(Overloaded, match=r"job queue full: 1 queries run and 2 wait \(server.query_queue_max\)") as refused:
            queue.submit("c", lambda: None, Stop())
        assert refused.value.retry_after_seconds == 1
        gate.set()
        assert [answer.result(WAIT_SECONDS) for answer in kept] == [None] * 3
    assert told.bounds == [Full.TENANT, Full.ALL]


def test_a_waiting_query_leaves_the_line_when_it_is_cancelled(told: Told, gate: threading.Event) -> None:
    stop = Stop()
    with closing(QueryQueue(limits(1), told)) as queue:
        queue.submit("a", lambda: hold(gate), Stop())
        eventually(lambda: queue.count_running() == 1)
        waiting = queue.submit("a", lambda: pytest.fail("it was given up"), stop)
        assert queue.count_waiting() == 1
        stop.cancel()
        assert queue.count_waiting() == 0
        with pytest.raises(QueryCancelled):
            waiting.result(0)
        assert queue.count_running() == 1


def test_a_query_is_not_begun_when_it_was_cancelled_before_or_is_late(told: Told) -> None:
    cancelled = Stop()
    cancelled.cancel()
    now = iter([0.0, 9.0])
    late = Stop(5.0, clock=lambda: next(now))
    with closing(QueryQueue(limits(1), told)) as queue:
        for stop, error in ((cancelled, QueryCancelled), (late, QueryTimeout)):
            with pytest.raises(error):
                queue.submit("a", lambda: pytest.fail("nobody waits"), stop).result(WAIT_SECONDS)


def test_closing_refuses_what_waits_and_lets_finish_what_runs(told: Told, gate: threading.Event) -> None:
    queue = QueryQueue(limits(1), told)
    running = queue.submit("a", lambda: hold(gate), Stop())
    eventually(lambda: queue.count_running() == 1)
    waiting = queue.submit("a", lambda: None, Stop())
    queue.close()
    with pytest.raises(Unavailable):
        waiting.result(0)
    with pytest.raises(Unavailable):
        queue.submit("a", lambda: None, Stop())
    gate.set()
    assert running.result(WAIT_SECONDS) is None


def test_every_query_is_answered_once_when_many_ask_and_some_give_up(told: Told) -> None:
    done: Counter[int] = Counter()
    lock = threading.Lock()

    def work(number: int) -> int:
        with lock:
            done[number] += 1
        return number

    def ask(number: int) -> str:
        stop = Stop()
        answer = queue.submit(f"tenant {number % 5}", lambda: work(number), stop)
        if number % 3 == 0:
            stop.cancel()
        try:
            assert answer.result(WAIT_SECONDS) == number
        except QueryCancelled:
            return "cancelled"
        return "answered"

    with closing(QueryQueue(limits(3, each=2), told)) as queue, ThreadPoolExecutor(16) as callers:
        outcomes = list(callers.map(ask, range(600)))
        eventually(lambda: queue.count_running() == 0)
    assert [outcome for number, outcome in enumerate(outcomes) if number % 3] == ["answered"] * 400
    assert max(done.values()) == 1
    assert queue.count_waiting() == 0


# --- Stop


def test_stop_calls_what_was_registered_once_when_cancelled() -> None:
    stop, calls = Stop(), Counter[str]()
    stop.on_cancel(lambda: calls.update(["before"]))
    stop.cancel()
    stop.cancel()
    stop.on_cancel(lambda: calls.update(["after"]))
    assert calls == {"before": 1, "after": 1}


def test_stop_says_how_much_time_remains() -> None:
    now = iter([100.0, 102.0, 200.0])
    stop = Stop(5.0, clock=lambda: next(now))
    assert [stop.remaining_seconds(), stop.remaining_seconds(), Stop().remaining_seconds()] == [3.0, 0.0, None]

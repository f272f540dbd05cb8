"""A load run: connections that take payload numbers from one feed, build each payload, deliver it and record what became of it."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random
from threading import Event

from spanlake.app.load.schedule import Feed, Goal
from spanlake.app.load.send.address import Address
from spanlake.app.load.send.deliver import RetryPolicy, deliver
from spanlake.app.load.send.outcome import SendOptions, Transport
from spanlake.app.load.tally import Tally
from spanlake.app.load.traces import TraceTemplates
from spanlake.app.load.workers import run_workers

FAILURES_IN_A_ROW_MAX = 8
"""A run ends when so many payloads failed one after the other, retries included, with none acknowledged in between."""


@dataclass(frozen=True, slots=True)
class LoadPlan:
    """What to send, where and how. `rate` is in spans per second, None for as fast as possible."""

    address: Address
    protocol: str
    goal: Goal
    rate: float | None = None
    connections: int = 4
    send: SendOptions = field(default_factory=SendOptions)
    retry: RetryPolicy = field(default_factory=RetryPolicy)


@dataclass(frozen=True, slots=True)
class Sent:
    """How a run ended; the tally holds what it did."""

    tally: Tally
    interrupted: bool
    gave_up: bool


def connect(plan: LoadPlan) -> Transport:
    """A connection of its own to the plan's receiver."""
    if plan.protocol == "grpc":
        from spanlake.app.load.send.grpc_transport import GrpcTransport

        return GrpcTransport(plan.address, plan.send)
    from spanlake.app.load.send.http_transport import HttpTransport

    return HttpTransport(plan.address, plan.send)


def run_load(templates: TraceTemplates, plan: LoadPlan, watch: Callable[[Tally], None]) -> Sent:
    """Sends until the goal is reached, someone interrupts, or the receiver takes nothing any more. `watch` is called now and then.

    Payloads carry the time at which they are sent.
    """
    stop = Event()
    feed = Feed(templates.spans_in, plan.goal, plan.rate, time.monotonic)
    tally = Tally(time.monotonic)
    transports = [connect(plan) for _ in range(plan.connections)]
    idle = list(transports)

    def work() -> None:
        transport = idle.pop()
        random = Random()  # noqa: S311 (jitter)
        while not stop.is_set() and tally.failures_in_a_row < FAILURES_IN_A_ROW_MAX:
            ticket = feed.take()
            if ticket is None or _pause_until(ticket.due_seconds, stop):
                return
            payload = templates.payload(ticket.number, time.time_ns())
            tally.record(ticket, len(payload), deliver(transport, payload, plan.retry, stop.wait, random))

    def abort() -> None:
        for transport in transports:
            transport.abort()

    interrupted = run_workers(work, plan.connections, stop, watch=lambda: watch(tally), abort=abort)
    tally.end()
    for transport in transports:
        transport.close()
    return Sent(tally, interrupted, tally.failures_in_a_row >= FAILURES_IN_A_ROW_MAX)


def _pause_until(due_seconds: float, stop: Event) -> bool:
    """Whether the run was stopped meanwhile."""
    ahead_seconds = due_seconds - time.monotonic()
    return ahead_seconds > 0 and stop.wait(ahead_seconds)

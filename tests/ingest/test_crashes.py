"""A process that dies at any step: whatever it had acknowledged is there exactly once afterwards.

Steps are the requests to the store and the system calls of the log. A run dies at one of them, before or after it has taken effect, and
from then on nothing of it has any effect.
"""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import pytest
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from node import Ids, Node, carrying, span
from spanlake.blocks.wal import FileCalls
from spanlake.model.errors import StoreError
from spanlake.model.settings import IngestSettings
from spanlake.objectstore.intercepted import Before, Call, InterceptedStore

T = TypeVar("T")
TENANTS = ("a", "b")


class Died(BaseException):
    """The process is gone."""


@dataclass
class Life:
    """Counts steps and ends at `last`, `after` or before its effect. A policy for stores."""

    last: float = float("inf")
    after: bool = False
    born: bool = False  # opening the log is not a step: whoever dies in it leaves the lock behind, as it is the same process here
    steps: int = 0
    names: list[str] = field(default_factory=list)

    def around(self, call: Call, proceed: Callable[[], T]) -> T:
        return self.step(f"{call.operation} {call.keys[0] if call.keys else ''}", proceed)

    def step(self, name: str, proceed: Callable[[], T]) -> T:
        if not self.born:
            return proceed()
        self.steps += 1
        self.names.append(name)
        if self.steps > self.last or (self.steps == self.last and not self.after):
            raise Died
        result = proceed()
        if self.steps == self.last:
            raise Died
        return result

    def calls(self) -> FileCalls:
        """The system calls of a log."""
        real = FileCalls()

        def write(*arguments: Any) -> int:
            return self.step("log write", partial(real.write, *arguments))

        def sync(descriptor: int) -> None:
            self.step("log sync", partial(real.sync, descriptor))

        return FileCalls(write=write, sync=sync)


@dataclass
class Sent:
    """What was acknowledged, and what was not but may be there."""

    sure: dict[str, Counter[Ids]] = field(default_factory=lambda: {tenant: Counter() for tenant in TENANTS})
    unsure: dict[str, Counter[Ids]] = field(default_factory=lambda: {tenant: Counter() for tenant in TENANTS})

    def push(self, node: Node, tenant: str, *spans: Span) -> None:
        ids = Counter((int.from_bytes(one.trace_id), int.from_bytes(one.span_id)) for one in spans)
        self.unsure[tenant] += ids
        node.push(*spans, tenant=tenant)
        self.unsure[tenant] -= ids
        self.sure[tenant] += ids

    def check(self, node: Node) -> None:
        for tenant in TENANTS:
            copies = node.copies(tenant)
            assert copies - self.unsure[tenant] <= self.sure[tenant] <= copies, (tenant, copies, self.sure[tenant])
            assert max(copies.values(), default=1) == 1


def live_through(node: Node, sent: Sent) -> None:
    """Two cuts that carry a trace, with a restart's worth of pushes between them, a compaction, and a last cut."""
    sent.push(node, "a", *(span(1, number) for number in range(1, 6)))
    sent.push(node, "b", span(2, 1))
    node.clock.advance(6)
    sent.push(node, "a", span(3, 1))
    node.cut(everything=False)
    sent.push(node, "a", span(3, 2))
    sent.push(node, "a", *(span(4, number) for number in range(1, 6)))
    node.clock.advance(6)
    sent.push(node, "a", span(3, 3))
    node.cut(everything=False)
    node.maintain()
    sent.push(node, "a", span(1, 6))
    node.cut()


def run_until_death(
    root: Path, life: Life, sent: Sent, act: Callable[[Node, Sent], None], *, settings: IngestSettings | None = None
) -> None:
    wrap = lambda store: InterceptedStore(store, life)  # noqa: E731
    node = Node(root, ingest=settings or carrying(5), wrap=wrap, calls=life.calls())
    life.born = True
    try:
        with node:
            act(node, sent)
    except Died:
        pass


def check_afterlife(root: Path, sent: Sent) -> None:
    with Node(root) as node:
        sent.check(node)
        node.cut()
        sent.check(node)
        node.maintain()
        sent.check(node)
    with Node(root) as node:
        assert not any(node.live(tenant) for tenant in TENANTS)
        sent.check(node)


def test_steps_cover_what_a_process_does(tmp_path: Path) -> None:
    life, sent = Life(), Sent()
    run_until_death(tmp_path, life, sent, live_through)
    kinds = {name.partition(" ")[0] for name in life.names}
    assert {"log", "put_file", "put_if_absent", "list", "put"} <= kinds
    check_afterlife(tmp_path, sent)


def leave_long_log(root: Path) -> Sent:
    """A log of many segments, for two tenants, whose flushes all failed after they had logged what they would carry."""
    sent = Sent()
    with Node(root, ingest=carrying(5)) as node:
        sent.push(node, "a", *(span(1, number) for number in range(1, 10)))
        node.cut()
    for begin in range(10, 50, 10):
        with Node(root, ingest=carrying(5), wrap=lambda store: InterceptedStore(store, Before(refuse_commits))) as node:
            sent.push(node, "b", span(2, begin))
            sent.push(node, "a", *(span(begin, number) for number in range(1, 10)))
            node.clock.advance(6)
            sent.push(node, "a", span(3, begin))
            assert not node.cut(everything=False)
    return sent


def refuse_commits(call: Call) -> None:
    if call.operation == "put_if_absent":
        raise StoreError("no commit today", transient=True)


def test_carried_spans_count_once_when_their_flush_was_not_committed(tmp_path: Path) -> None:
    sent = leave_long_log(tmp_path)
    check_afterlife(tmp_path, sent)


@pytest.mark.slow
@pytest.mark.parametrize("after", [False, True])
def test_every_acknowledged_span_is_there_once_when_the_process_dies_in_a_replay_larger_than_memory(tmp_path: Path, after: bool) -> None:
    tiny = replace(carrying(5), cut_spans=1)
    leave_long_log(tmp_path / "log")
    life = Life()
    shutil.copytree(tmp_path / "log", tmp_path / "whole")
    run_until_death(tmp_path / "whole", life, Sent(), lambda _node, _sent: None, settings=tiny)
    assert life.steps > 10
    for last in range(1, life.steps + 1):
        root = tmp_path / f"{last}"
        sent = leave_long_log(root)
        run_until_death(root, Life(last, after), sent, lambda _node, _sent: None, settings=tiny)
        check_afterlife(root, sent)


@pytest.mark.slow
@pytest.mark.parametrize("after", [False, True])
def test_every_acknowledged_span_is_there_once_when_the_process_dies_at_any_step(tmp_path: Path, after: bool) -> None:
    life = Life()
    run_until_death(tmp_path / "whole", life, Sent(), live_through)
    for last in range(1, life.steps + 1):
        sent, root = Sent(), tmp_path / f"{last}"
        run_until_death(root, Life(last, after), sent, live_through)
        check_afterlife(root, sent)

"""The gate between pushes and cuts."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest

from spanlake.ingest.gate import Gate

WAIT_SECONDS = 20


def in_thread(action: Callable[[], None]) -> tuple[threading.Thread, threading.Event]:
    """The thread, and an event that is set when the action is over."""
    done = threading.Event()

    def run() -> None:
        action()
        done.set()

    thread = threading.Thread(target=run)
    thread.start()
    return thread, done


def pass_through(gate: Gate, order: list[str], name: str, *, exclusive: bool = False) -> Callable[[], None]:
    def action() -> None:
        with gate.exclusive() if exclusive else gate.shared():
            order.append(name)

    return action


def until_closed(gate: Gate) -> None:
    while not gate._closed:
        threading.Event().wait(0.001)


def test_pushes_pass_together() -> None:
    gate, barrier = Gate(), threading.Barrier(3)

    def push() -> None:
        with gate.shared():
            barrier.wait(WAIT_SECONDS)  # holds unless all three are inside

    threads = [in_thread(push)[0] for _ in range(3)]
    for thread in threads:
        thread.join()
    assert not barrier.broken


def test_a_cut_waits_for_pushes_inside_and_goes_before_later_ones() -> None:
    gate, order = Gate(), list[str]()
    with gate.shared():
        cut, is_cut = in_thread(pass_through(gate, order, "cut", exclusive=True))
        until_closed(gate)
        push, is_pushed = in_thread(pass_through(gate, order, "later push"))
        assert not is_cut.wait(0.05)
        assert not is_pushed.is_set()
        order.append("push")
    cut.join()
    push.join()
    assert order == ["push", "cut", "later push"]


def test_cuts_go_one_after_the_other() -> None:
    gate, order = Gate(), list[str]()
    with gate.exclusive():
        threads = [in_thread(pass_through(gate, order, "cut", exclusive=True))[0] for _ in range(3)]
        assert order == []
    for thread in threads:
        thread.join()
    assert order == ["cut"] * 3


@pytest.mark.parametrize("exclusive", [False, True])
def test_the_gate_is_open_again_when_whoever_was_inside_failed(exclusive: bool) -> None:
    gate, order = Gate(), list[str]()
    with pytest.raises(ZeroDivisionError), gate.exclusive() if exclusive else gate.shared():
        print(1 // 0)
    pass_through(gate, order, "push")()
    pass_through(gate, order, "cut", exclusive=True)()
    assert order == ["push", "cut"]

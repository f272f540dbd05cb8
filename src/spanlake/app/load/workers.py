"""Threads that do one thing until it is done, watched from the main thread, and ended by Ctrl-C in two steps."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from contextlib import contextmanager

WATCH_SECONDS = 0.2


def run_workers(
    work: Callable[[], None], count: int, stop: threading.Event, *, watch: Callable[[], None], abort: Callable[[], None]
) -> bool:
    """Runs `work` in `count` threads and calls `watch` now and then until all return; whether Ctrl-C ended it.

    The first Ctrl-C sets `stop`, which `work` obeys at its next step; the second calls `abort`, which ends what is in flight. An exception
    of one thread stops the others and is raised.
    """
    with _count_interrupts() as interrupts, ThreadPoolExecutor(count) as pool:
        futures = [pool.submit(work) for _ in range(count)]
        running = set(futures)
        while running:
            done, running = wait(running, WATCH_SECONDS, FIRST_EXCEPTION)
            if interrupts or any(future.exception() for future in done):
                stop.set()
            if len(interrupts) > 1:
                abort()
            watch()
    for future in futures:
        future.result()
    return bool(interrupts)


@contextmanager
def _count_interrupts() -> Iterator[list[int]]:
    """Collects SIGINT instead of raising KeyboardInterrupt, which may come between any two steps and leave threads running.

    Only the main thread may choose a signal's handler; in another one nothing is collected.
    """
    interrupts: list[int] = []
    if threading.current_thread() is not threading.main_thread():
        yield interrupts
        return
    before = signal.signal(signal.SIGINT, lambda number, _frame: interrupts.append(number))
    try:
        yield interrupts
    finally:
        signal.signal(signal.SIGINT, before)

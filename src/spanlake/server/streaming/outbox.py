"""What a call still has to send: a query thread puts messages in, the event loop takes them out as fast as the client reads.

Nothing holds the query thread up, so that it is free for the next query; what waits here is at most one answer, which is bounded as it is
over HTTP.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Outgoing:
    """A message; a passing one says how far the query is, and is not sent when a later one is there."""

    message: bytes
    passing: bool


class Outbox:
    """For one call. `put` and `close` are for any thread, `take` for the event loop that made it."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._changed = asyncio.Event()
        self._waiting: deque[Outgoing] = deque()
        self._closed = False

    def put(self, message: bytes, *, passing: bool = False) -> None:
        """Add a message."""
        self._soon(lambda: self._add(Outgoing(message, passing)))

    def close(self) -> None:
        """Nothing is added any more."""
        self._soon(self._close)

    async def take(self) -> bytes | None:
        """The next message as soon as there is one; None after the last."""
        while not self._waiting and not self._closed:
            self._changed.clear()
            await self._changed.wait()
        return self._waiting.popleft().message if self._waiting else None

    def _soon(self, change: Callable[[], None]) -> None:
        with contextlib.suppress(RuntimeError):  # the loop is closed: the server did not wait for this call
            self._loop.call_soon_threadsafe(change)

    def _close(self) -> None:
        self._closed = True
        self._changed.set()

    def _add(self, outgoing: Outgoing) -> None:
        if self._waiting and self._waiting[-1].passing:
            self._waiting.pop()
        self._waiting.append(outgoing)
        self._changed.set()

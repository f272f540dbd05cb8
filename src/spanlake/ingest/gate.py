"""A gate between many pushes and one cut: pushes pass together, a cut waits until none is inside and keeps new ones out."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager


class Gate:
    """Shared passage for pushes, exclusive passage for a cut. A waiting cut goes before pushes that come later."""

    def __init__(self) -> None:
        self._condition = threading.Condition()
        self._inside = 0
        self._closed = False

    @contextmanager
    def shared(self) -> Iterator[None]:
        with self._condition:
            while self._closed:
                self._condition.wait()
            self._inside += 1
        try:
            yield
        finally:
            with self._condition:
                self._inside -= 1
                if self._inside == 0:
                    self._condition.notify_all()

    @contextmanager
    def exclusive(self) -> Iterator[None]:
        with self._condition:
            while self._closed:
                self._condition.wait()
            self._closed = True
        try:
            with self._condition:
                while self._inside:
                    self._condition.wait()
            yield
        finally:
            with self._condition:
                self._closed = False
                self._condition.notify_all()

"""Answering from a view of the table that may have become too old to read."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from spanlake.model.errors import KeyMissing

T = TypeVar("T")
SNAPSHOT_TRIES = 3


def from_fresh_view(attempt: Callable[[], T], refresh: Callable[[], object]) -> T:
    """What `attempt`, which takes a view, returns; where a block of its view is gone, once more after a `refresh`."""
    for last in (False,) * (SNAPSHOT_TRIES - 1) + (True,):
        try:
            return attempt()
        except KeyMissing:
            # A block was compacted away longer ago than its grace: the view is that stale.
            if last:
                raise
            refresh()
    raise AssertionError

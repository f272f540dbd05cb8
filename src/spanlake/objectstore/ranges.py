"""Arithmetic on byte ranges (start, length): which requests cover them, and finding a range in what those brought."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass


def merge_ranges(ranges: Sequence[tuple[int, int]], gap_bytes: int = 0) -> list[tuple[int, int]]:
    """Ordered ranges more than `gap_bytes` apart that cover all of `ranges`; empty ones are dropped."""
    merged: list[tuple[int, int]] = []
    for start, length in sorted(ranges):
        if not length:
            continue
        if merged and start - sum(merged[-1]) <= gap_bytes:
            first, so_far = merged[-1]
            merged[-1] = (first, max(so_far, start + length - first))
        else:
            merged.append((start, length))
    return merged


@dataclass(frozen=True, slots=True)
class FetchedRanges:
    """Pieces of one object in memory: `parts[i]` begins at `starts[i]`; ordered and disjoint."""

    starts: tuple[int, ...] = ()
    parts: tuple[memoryview, ...] = ()

    def find(self, start: int, length: int) -> bytes | None:
        """A copy of the range, or None unless one part holds all of it."""
        index = bisect_right(self.starts, start) - 1
        if index < 0:
            return None
        offset = start - self.starts[index]
        part = self.parts[index]
        return bytes(part[offset : offset + length]) if offset + length <= len(part) else None

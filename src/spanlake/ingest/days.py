"""Which blocks the rows of a flush become: one per UTC day on which traces start, but not one for every day that a wild clock makes up."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date, timedelta

import numpy as np
from numpy.typing import NDArray

from spanlake.blocks.memory.arrange import Arrangement
from spanlake.model.spans import SpanBatch

EPOCH = date(1970, 1, 1)
DAY_NS = 86_400_000_000_000
DAY_BLOCKS_MAX = 4
DAY_SHARE_MIN = 0.02


def by_day(batch: SpanBatch, arrangement: Arrangement) -> Iterator[tuple[date | None, SpanBatch, Arrangement]]:
    """Split arranged rows by the UTC day on which their traces start.

    Days that are rare here, and all but the DAY_BLOCKS_MAX commonest, share one part without a day.
    """
    distinct, which, traces = np.unique(arrangement.trace_start_ns // DAY_NS, return_inverse=True, return_counts=True)
    commonest = np.argsort(-traces, kind="stable")[:DAY_BLOCKS_MAX]
    own = commonest[traces[commonest] >= DAY_SHARE_MIN * len(which)]
    for number in sorted(own):
        yield EPOCH + timedelta(days=int(distinct[number])), *take_traces(batch, arrangement, which == number)
    rest = ~np.isin(which, own)
    if rest.any():
        yield None, *take_traces(batch, arrangement, rest)


def take_traces(batch: SpanBatch, arrangement: Arrangement, chosen: NDArray[np.bool_]) -> tuple[SpanBatch, Arrangement]:
    """Some traces of arranged rows, still arranged. `chosen` says which traces, of which there is at least one."""
    if chosen.all():
        return batch, arrangement
    rows = np.repeat(chosen, np.diff(arrangement.trace_first))
    return batch.take(rows), arrangement.part(chosen, rows)

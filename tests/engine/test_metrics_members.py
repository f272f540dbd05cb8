"""Which spans metrics count: those of the search, by the short way and by the long one."""

from __future__ import annotations

from random import Random

import numpy as np
import pytest
from naive_spans import traces_of
from plain_batches import batch_of
from random_queries import random_query
from random_traces import BASE_NS, random_spans

from spanlake.engine.frame import Frame
from spanlake.engine.matching import matching_rows
from spanlake.engine.metrics import Grid
from spanlake.engine.metrics.members import counted_rows, members
from spanlake.traceql import check, parse
from spanlake.traceql.plan import needs, plan_search
from spanlake.traceql.plan.fields import START
from spanlake.traceql.plan.nodes import Filter

NS_PER_MS = 1_000_000
GRIDS = [Grid(BASE_NS, 100_000 * NS_PER_MS, 3), Grid(BASE_NS + 3 * NS_PER_MS, 2 * NS_PER_MS, 4), Grid(0, 1, 1)]


@pytest.mark.parametrize("seed", range(60))
def test_counted_spans_are_those_of_the_search_that_start_in_time(seed: int) -> None:
    chance = Random(seed)
    traces = traces_of(random_spans(chance, traces_max=6))
    query = parse(random_query(chance))
    check(query)
    plan = plan_search(query)
    batch = batch_of(traces, needs(plan).find | {START})
    for grid in GRIDS:
        frame = Frame(batch)
        found = counted_rows(frame, plan.stages, grid)
        start_ns = frame.integers("start_ns")
        inside = (start_ns > grid.after_ns) & (start_ns <= grid.last_ns)
        searched = matching_rows(plan, batch)
        expected = searched[inside[searched]].tolist()
        assert (list(range(frame.rows)) if found is None else found.tolist()) == expected
        assert members(Frame(batch), plan.stages, inside).tolist() == expected


def test_short_way_is_taken_for_one_filter() -> None:
    """So that the law above is one of both ways."""
    chance = Random(1)
    plans = [plan_search(parse(random_query(chance))) for _ in range(200)]
    single = [plan for plan in plans if len(plan.stages) == 1 and isinstance(plan.stages[0], Filter)]
    assert 20 < len(single) < 180


@pytest.mark.parametrize(("start_ns", "point"), [(100, None), (101, 0), (110, 0), (111, 1), (120, 1), (130, 2), (131, None)])
def test_a_point_counts_what_starts_after_the_one_before_and_up_to_itself(start_ns: int, point: int | None) -> None:
    grid = Grid(110, 10, 3)
    counted = grid.after_ns < start_ns <= grid.last_ns
    assert (int(grid.point_of(np.array([start_ns]))[0]) if counted else None) == point

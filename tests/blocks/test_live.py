"""Live spans of a tenant: generations, what is carried, what readers see while all of that changes."""

from __future__ import annotations

import numpy as np
import pytest

from node import request, row_ids, span
from spanlake.blocks.catalog import TableSnapshot
from spanlake.blocks.live import Carry, TenantSpans, TimedRows, active_traces, select
from spanlake.model.spans import SpanBatch
from spanlake.wire.otlp.decode import decode_otlp

EMPTY, FULL = TableSnapshot("t", -1), TableSnapshot("t", 0)


def batch(*ids: tuple[int, int]) -> SpanBatch:
    return decode_otlp(request(*(span(trace, number) for trace, number in ids))).batch


def seen(spans: TenantSpans) -> list[tuple[int, int]]:
    """(trace, span) of what a reader sees, in order."""
    return [ids for live in spans.view().rows for ids in row_ids(live.batch)]


def carry(spans: TenantSpans, chosen: list[bool] | None = None) -> None:
    """Decide what the sealed generation carries."""
    sealed = spans.sealed
    assert sealed is not None
    rows = spans.gather_sealed(sealed)
    which = np.array(chosen or [False] * len(rows))
    sealed.carry = Carry(which, select(rows, which) if which.any() else None, segment=9)


def test_rows_are_seen_in_order_of_arrival_through_seal_and_publish() -> None:
    spans = TenantSpans("t", EMPTY)
    assert (seen(spans), spans.is_empty, spans.needed_segment, spans.oldest_seconds) == ([], True, None, None)
    spans.append(batch((1, 1), (2, 1)), seconds=10.0, segment=3)
    spans.append(batch((1, 2)), seconds=11.0, segment=4)
    before = spans.view()
    spans.seal(through=4)
    spans.append(batch((3, 1)), seconds=12.0, segment=5)
    assert seen(spans) == [(1, 1), (2, 1), (1, 2), (3, 1)]
    assert spans.needed_segment == 3
    carry(spans, [False, True, False])
    assert seen(spans) == [(1, 1), (2, 1), (1, 2), (3, 1)]
    spans.publish(FULL, seconds=20.0)
    assert seen(spans) == [(2, 1), (3, 1)]
    assert (spans.view().table, spans.needed_segment, spans.oldest_seconds) == (FULL, 5, 12.0)
    assert [ids for live in before.rows for ids in row_ids(live.batch)] == [(1, 1), (2, 1), (1, 2)], "an old view stays as it was"
    assert before.table == EMPTY


def test_a_second_generation_is_not_sealed_before_the_first_is_published() -> None:
    spans = TenantSpans("t", EMPTY)
    spans.append(batch((1, 1)), seconds=1.0, segment=1)
    spans.seal(through=1)
    first = spans.sealed
    spans.append(batch((1, 2)), seconds=2.0, segment=2)
    spans.seal(through=2)
    assert spans.sealed is first
    assert spans.oldest_seconds is None, "no cut can seal it now"
    carry(spans)
    spans.publish(FULL, seconds=3.0)
    assert spans.oldest_seconds == 2.0
    spans.seal(through=3)
    assert spans.sealed is not None
    assert (spans.sealed.through, seen(spans)) == (3, [(1, 2)])


def test_nothing_is_sealed_when_there_is_nothing() -> None:
    spans = TenantSpans("t", EMPTY)
    spans.seal(through=1)
    assert spans.sealed is None


def test_usage_tells_what_is_sealed() -> None:
    spans = TenantSpans("t", EMPTY)
    spans.append(batch((1, 1), (1, 2)), seconds=1.0, segment=1)
    spans.seal(through=1)
    spans.append(batch((1, 3)), seconds=2.0, segment=2)
    usage = spans.usage
    assert (usage.spans, usage.sealed_spans) == (3, 2)
    assert 0 < usage.sealed_bytes < usage.bytes
    carry(spans, [True, False])
    spans.publish(FULL, seconds=2.0)
    assert (spans.usage.spans, spans.usage.sealed_spans) == (2, 0)


def test_a_trace_is_found_among_others_whose_ids_end_alike() -> None:
    spans = TenantSpans("t", EMPTY)
    trace = (7 << 64) | (3 << 32) | 5
    alike = [trace, trace ^ (1 << 33), trace ^ (1 << 64), 5]
    for number in range(1, 200):
        spans.append(batch(*((one, number) for one in alike)), seconds=float(number), segment=1)
    found = [ids for live in spans.view().rows for ids in row_ids(live.batch.take(live.of_trace(*divmod(trace, 1 << 64))))]
    assert found == [(trace, number) for number in range(1, 200)]


def timed(*rows: tuple[int, float]) -> TimedRows:
    """Rows of (trace, seconds)."""
    return TimedRows(batch(*((trace, number) for number, (trace, _) in enumerate(rows, 1))), np.array([seconds for _, seconds in rows]))


@pytest.mark.parametrize(
    ("rows", "chosen"),
    [
        ([(1, 90.0), (2, 98.0), (3, 10.0), (3, 20.0)], [2]),
        ([(1, 98.0), (1, 10.0), (2, 20.0), (3, 20.0), (4, 20.0), (5, 20.0), (6, 20.0)], [1]),
        ([(1, 98.0), (1, -1.0), (2, 20.0), (3, 20.0), (4, 20.0), (5, 20.0), (6, 20.0)], []),
        ([(1, 98.0), (2, 98.0), (3, 20.0)], []),
        ([(1, 95.0), (2, 20.0), (3, 20.0), (4, 20.0)], []),
    ],
)
def test_traces_are_active_when_a_span_is_young_and_none_is_old(rows: list[tuple[int, float]], chosen: list[int]) -> None:
    found = active_traces(timed(*rows), now=100.0, idle_seconds=5, age_seconds=100, share_max=0.4)
    assert sorted({trace for (trace, _), one in zip(rows, found, strict=True) if one}) == chosen


def test_selected_rows_keep_their_times_and_leave_the_rest_behind() -> None:
    rows = timed((1, 1.0), (2, 2.0), (1, 3.0))
    chosen = select(rows, np.array([True, False, True]))
    assert (row_ids(chosen.batch), chosen.seconds.tolist()) == ([(1, 1), (1, 3)], [1.0, 3.0])
    assert b"operation 2" not in bytes(chosen.batch.strings.data)
    assert b"operation 3" in bytes(chosen.batch.strings.data)

"""Pushes, cuts, carried traces and restarts: every span is there exactly once, at every moment."""

from __future__ import annotations

from pathlib import Path

import pytest

from node import Node, carrying, numbers, once, span

TRACE = 0xABCDEF


def test_spans_are_readable_when_they_are_accepted(tmp_path: Path) -> None:
    with Node(tmp_path) as node:
        assert node.push(span(TRACE, 1), span(TRACE, 2, parent=1)) == 2
        assert numbers(node.trace(TRACE)) == [1, 2]
        assert node.trace(TRACE + 1) == []


def test_spans_are_stored_once_when_cut(tmp_path: Path) -> None:
    with Node(tmp_path) as node:
        node.push(span(TRACE, 1))
        assert node.cut()
        assert (node.live(), node.stored()) == (once(), once((TRACE, 1)))
        assert numbers(node.trace(TRACE)) == [1]


def test_spans_are_there_once_when_restarted_before_and_after_a_cut(tmp_path: Path) -> None:
    for round_number in range(1, 4):
        with Node(tmp_path) as node:
            node.push(span(TRACE, round_number))
        with Node(tmp_path) as node:
            assert node.copies() == once(*((TRACE, number) for number in range(1, round_number + 1)))
            node.cut()
        with Node(tmp_path) as node:
            assert node.live() == once()
            assert node.copies() == once(*((TRACE, number) for number in range(1, round_number + 1)))


def test_active_traces_are_carried_over_a_cut(tmp_path: Path) -> None:
    with Node(tmp_path, ingest=carrying(5)) as node:
        node.push(*(span(1, number) for number in range(1, 9)))
        node.clock.advance(6)
        node.push(span(2, 1))
        node.cut(everything=False)
        assert (node.live(), len(node.stored())) == (once((2, 1)), 8)
        node.push(span(2, 2, parent=1))
        assert numbers(node.trace(2)) == [1, 2]


def test_no_trace_is_carried_when_most_are_active(tmp_path: Path) -> None:
    with Node(tmp_path, ingest=carrying(5)) as node:
        node.push(span(1, 1), span(2, 1))
        node.cut(everything=False)
        assert node.live() == once()


@pytest.mark.parametrize("restarts", [False, True])
def test_a_trace_is_whole_when_carried_over_many_cuts(tmp_path: Path, restarts: bool) -> None:
    node = Node(tmp_path, ingest=carrying(5))
    node.__enter__()
    expected = once()
    for number in range(1, 8):
        node.push(*(span(100 + number, other) for other in range(1, 30)))
        node.clock.advance(6)
        node.push(span(TRACE, number))
        expected += once((TRACE, number), *((100 + number, other) for other in range(1, 30)))
        node.cut(everything=False)
        assert node.live() == once(*((TRACE, known) for known in range(1, number + 1)))
        assert node.copies() == expected
        if restarts:
            node.__exit__(None, None, None)
            node = Node(tmp_path, ingest=carrying(5), clock=node.clock)
            node.__enter__()
            assert node.copies() == expected
    assert len(node.wal.segments()) <= 3
    node.clock.advance(6)
    node.cut(everything=False)
    assert (node.live(), node.copies()) == (once(), expected)
    assert numbers(node.trace(TRACE)) == list(range(1, 8))
    node.__exit__(None, None, None)

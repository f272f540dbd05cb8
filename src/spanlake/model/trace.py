"""Trace by id: the time range that narrows it and the answer. The answer's encoding is OTLP; how it is found is not known here."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class TimeRange:
    """`start_ns <= t < end_ns`, nanoseconds since the Unix epoch."""

    start_ns: int
    end_ns: int

    def __post_init__(self) -> None:
        assert self.start_ns < self.end_ns, (self.start_ns, self.end_ns)


@dataclass(frozen=True, slots=True)
class TraceAnswer:
    """One trace, or as much of it as could be read.

    `encoded` is an OTLP `TracesData` message (repeated `ResourceSpans`, field 1) in which every `ResourceSpans` has its `resource`,
    every `ScopeSpans` its `scope` and every `Span` its `status`, empty ones included. A trace that is not there has `spans == 0` and no
    bytes. When `complete` is false, `message` says what is missing and why.
    """

    encoded: bytes
    spans: int
    complete: bool = True
    message: str = ""
    inspected_bytes: int = 0


ALL_GENERATIONS = -1


@dataclass(frozen=True, slots=True)
class Pruning:
    """Put summaries in place of similar spans: at least `spans_min` of them, whose attributes that fit `group_by` (patterns such as
    `http.*`) agree; and of their ancestors up to `parent_depth` generations. ALL_GENERATIONS is as many as there may be."""

    group_by: tuple[str, ...]
    spans_min: int
    parent_depth: int


@dataclass(frozen=True, slots=True)
class TraceFilter:
    """How a trace is wanted. Which of its spans: those that a TraceQL filter finds (all without one), their descendants down to
    `match_depth` generations, and, with `keep_hierarchy`, the ancestors of all of these up to `ancestor_depth` generations.
    ALL_GENERATIONS is no bound."""

    text: str
    keep_hierarchy: bool = False
    match_depth: int = 0
    ancestor_depth: int = ALL_GENERATIONS
    pruning: Pruning | None = None

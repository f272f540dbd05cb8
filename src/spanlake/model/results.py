"""What a search answers: found traces with their spansets and the attributes that their spans show.

Plain values for whoever encodes them (JSON, a table, a data frame). Nothing here knows TraceQL, columns or any wire format.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TypeAlias


class ResultType(StrEnum):
    """The types of values in answers. Durations (`1m30s`), status, kind and ids are strings there."""

    STRING = "string"
    INT = "int"
    DOUBLE = "double"
    BOOL = "bool"
    ARRAY = "array"


@dataclass(frozen=True, slots=True)
class TypedValue:
    """A value of an answer: str, int, float, bool, or a tuple of TypedValues for an array."""

    type: ResultType
    value: str | int | float | bool | tuple[TypedValue, ...]


Attributes: TypeAlias = tuple[tuple[str, TypedValue], ...]
"""Keys with values; a key may stand twice (`.x` shows the value of the span and that of its resource)."""


@dataclass(frozen=True, slots=True)
class SpanFound:
    """One span of a spanset. `name` is None unless the query refers to it; keys of attributes have no scope."""

    span_id: int  # big-endian
    name: str | None
    start_ns: int
    duration_ns: int
    attributes: Attributes


@dataclass(frozen=True, slots=True)
class SpansetFound:
    """One spanset of a trace: `matched` spans, of which the first few in nested-set order are in `spans`.

    `attributes` are those of by() and of aggregates, in the order of the stages; a missing value of by() is the string `nil`.
    """

    attributes: Attributes
    matched: int
    spans: tuple[SpanFound, ...]


@dataclass(frozen=True, slots=True)
class ServiceStatistics:
    """The spans of a whole trace that are from one service, and how many of them have status error."""

    service: str
    spans: int
    errors: int


@dataclass(frozen=True, slots=True)
class TraceFound:
    """A trace with at least one spanset. Root service and name are empty where no root span is known."""

    trace_id: int  # big-endian, 128 bits
    root_service: str
    root_name: str
    start_ns: int
    duration_ns: int
    services: tuple[ServiceStatistics, ...]  # by first appearance
    spansets: tuple[SpansetFound, ...]


@dataclass(frozen=True, slots=True)
class SearchResult:
    """The newest traces first, by start; ties by id, ascending; never more than the limit of the search."""

    traces: tuple[TraceFound, ...]

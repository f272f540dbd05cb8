"""What a query asks of storage, and what storage gives back: whole traces as typed columns.

The engine has never heard of Parquet and blocks have never heard of TraceQL; they meet here. A query use case turns its plan into a
`ScanRequest`; each `SpanSource` (a block, live spans) answers with `ScanBatch`es. Rows are spans of whole traces, traces one after the
other, each in nested-set order (`nested_left` ascending), duplicates gone. A source may return more traces than the predicates
of a request allow, never fewer: the engine checks every condition again.

A column of values is dynamically typed, because attributes are: `Values` holds one part per type, and no row is in two parts.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Literal, Protocol, TypeAlias

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from spanlake.model.trace import TimeRange

FieldScope: TypeAlias = Literal["intrinsic", "span", "resource", "instrumentation", "event", "link"]


@dataclass(frozen=True, slots=True)
class Field:
    """Something that every span may have a value of.

    scope "intrinsic": `name` is a fixed column of the span table (`name`, `kind`, `status_code`, `start_ns`, `nested_left`, `root_name`,
    `scope_name`, `span_id`, …). Scopes "event" and "link": an attribute key of its events or links, or, after a colon, a field of
    them (`:name`, `:time_ns`, `:trace_id`, `:span_id`). Otherwise an attribute key of that scope.
    """

    scope: FieldScope
    name: str


class NumberType(StrEnum):
    """What a number means."""

    INT = "int"  # int64
    FLOAT = "float"  # float64
    BOOL = "bool"  # int64, 0 or 1
    DURATION = "duration"  # int64 nanoseconds
    STATUS = "status"  # int64, OTLP code
    KIND = "kind"  # int64, OTLP code


@dataclass(frozen=True, slots=True)
class Texts:
    """Strings as codes into a dictionary, which may hold entries that no row has, and a string more than once."""

    valid: NDArray[np.bool_]
    codes: NDArray[np.int32]  # undefined where not valid
    dictionary: pa.Array  # string


@dataclass(frozen=True, slots=True)
class Ids:
    """Trace or span ids as big-endian numbers; `high` is zero for span ids. `width` is 16 or 8 bytes."""

    valid: NDArray[np.bool_]
    high: NDArray[np.uint64]
    low: NDArray[np.uint64]
    width: int


@dataclass(frozen=True, slots=True)
class Numbers:
    """Numbers of one type."""

    type: NumberType
    valid: NDArray[np.bool_]
    values: NDArray[np.int64] | NDArray[np.float64]  # undefined where not valid


@dataclass(frozen=True, slots=True)
class Lists:
    """Homogeneous arrays. Row i has the elements [offsets[i], offsets[i + 1]); rows that are not valid have none."""

    valid: NDArray[np.bool_]
    offsets: NDArray[np.int64]  # rows + 1
    elements: Texts | Numbers  # every element valid


@dataclass(frozen=True, slots=True)
class Opaque:
    """Values that are present but that TraceQL cannot hold: bytes, maps, empty and mixed arrays."""

    valid: NDArray[np.bool_]


Part: TypeAlias = Texts | Ids | Numbers | Lists | Opaque


@dataclass(frozen=True, slots=True)
class Values:
    """One value per row, or none where no part is valid. The rows of the parts do not overlap."""

    rows: int
    parts: tuple[Part, ...] = ()


@dataclass(frozen=True, slots=True)
class Children:
    """The events, or the links, of all rows. Row i has the children [offsets[i], offsets[i + 1]), in the sender's order."""

    offsets: NDArray[np.int64]  # rows + 1
    values: Mapping[Field, Values]  # over children


@dataclass(frozen=True, slots=True)
class ScanBatch:
    """Whole traces. `values` has the requested fields of scopes intrinsic, span, resource and instrumentation; `children`, under "event"
    and "link", their requested fields. Both may read a column only when it is looked up. For one thread at a time.
    """

    trace_first: NDArray[np.int64]  # first row of each trace, and the number of rows: traces + 1
    trace_high: NDArray[np.uint64]  # per trace
    trace_low: NDArray[np.uint64]
    values: Mapping[Field, Values]
    children: Mapping[str, Children] = field(default_factory=dict)

    @property
    def events(self) -> Children | None:
        """None unless a field of scope "event" was requested."""
        return self.children.get("event")

    @property
    def links(self) -> Children | None:
        return self.children.get("link")

    @property
    def rows(self) -> int:
        return int(self.trace_first[-1])


class Comparison(StrEnum):
    """Conditions that a source may use to skip data."""

    EQUAL = "="
    NOT_EQUAL = "!="
    LESS = "<"
    LESS_EQUAL = "<="
    GREATER = ">"
    GREATER_EQUAL = ">="
    MATCH = "=~"  # RE2, anchored at both ends, dot matches newline
    EXISTS = "exists"


@dataclass(frozen=True, slots=True)
class Predicate:
    """A condition on one field of a span. Numbers compare as numbers whatever their type; `operand` is None for EXISTS."""

    field: Field
    comparison: Comparison
    operand: str | int | float | bool | None = None


@dataclass(frozen=True, slots=True)
class ScanRequest:
    """What to read.

    `any_of`: a disjunction of conjunctions; a trace that matters has, for at least one conjunction, a span (not
    necessarily the same for each predicate) that satisfies each of its predicates. Empty: every trace matters. `overlaps`: traces
    that matter have a span in that range. `traces`: only these (high, low) matter.
    """

    fields: frozenset[Field]
    any_of: tuple[frozenset[Predicate], ...] = ()
    overlaps: TimeRange | None = None
    traces: frozenset[tuple[int, int]] | None = None


@dataclass(slots=True)
class ScanStatistics:
    """What a scan read and skipped; the scan adds to it. For `explain` and for the metrics of an answer."""

    blocks: int = 0
    blocks_skipped: int = 0
    row_groups: int = 0
    row_groups_skipped: int = 0
    bytes: int = 0
    rows: int = 0
    traces: int = 0
    split_traces: int = 0
    notes: dict[str, int] = field(default_factory=dict)


class SpanSource(Protocol):
    """Something that holds spans: a block, or the live spans of a tenant. Thread-safe."""

    def scan(self, request: ScanRequest, statistics: ScanStatistics) -> Iterator[ScanBatch]:
        """The traces that matter, in batches of bounded size, in the order of their ids."""
        ...

"""A batch of whole traces as the engine looks at it: columns by plan source, the tree of each trace, and views of some of its spans.

A `Frame` lives as long as one evaluation and keeps what it computed. A `View` is a list of *tries*: spans, each perhaps together with one
of its events and one of its links. Columns of a view are parallel to its tries.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import assert_never

import numpy as np
from numpy.typing import NDArray

from spanlake.engine.values.parts import Rows, first_of, loaded, no_values, take, with_default, with_type
from spanlake.model.scan import Children, Field, Ids, Numbers, NumberType, ScanBatch, Values
from spanlake.traceql.plan.fields import EVENT_TIME, PARENT_ID, START
from spanlake.traceql.plan.nodes import Column, FirstOf, Source, TimeSinceStart, TraceId

_TRACE_ID_BYTES = 16


@dataclass(slots=True)
class Frame:
    """Not thread-safe: one evaluation, one frame."""

    batch: ScanBatch
    _columns: dict[Column, Values] = field(default_factory=dict)
    _trace_of_row: Rows | None = None
    _parent_row: Rows | None = None

    @property
    def rows(self) -> int:
        return self.batch.rows

    def trace_of_row(self) -> Rows:
        """Per span the index of its trace."""
        if self._trace_of_row is None:
            self._trace_of_row = np.repeat(np.arange(len(self.batch.trace_high)), np.diff(self.batch.trace_first))
        return self._trace_of_row

    def parent_row(self) -> Rows:
        """Per span the row of its parent, -1 for a span without one (a root, or the top of an orphaned tree)."""
        if self._parent_row is None:
            self._parent_row = _parent_rows(self.integers("nested_left"), self.integers("nested_parent"), self.trace_of_row())
        return self._parent_row

    def integers(self, name: str) -> NDArray[np.int64]:
        """A fixed column of integers, without a look at its type; 0 where there is none."""
        values = self.column(Column(Field("intrinsic", name)))
        result = np.zeros(self.rows, np.int64)
        for part in values.parts:
            if isinstance(part, Numbers) and part.valid.all():
                return part.values.astype(np.int64, copy=False)
            if isinstance(part, Numbers):
                result = np.where(part.valid, part.values, result).astype(np.int64)
        return result

    def column(self, column: Column) -> Values:
        """Over all spans; of events and links over all events and links."""
        found = self._columns.get(column)
        if found is None:
            found = self._columns[column] = self._read(column)
        return found

    def _read(self, column: Column) -> Values:
        scope = column.field.scope
        if scope in {"event", "link"}:
            children = self.children(scope)
            return loaded(children.values.get(column.field, no_values(int(children.offsets[-1])))) if children else no_values(0)
        values = loaded(self.batch.values.get(column.field, no_values(self.rows)))
        if column.default is not None:
            values = with_default(values, column.default)
        if column.type is not None:
            values = with_type(values, column.type)
        if column.field == PARENT_ID:
            values = _with_zero_ids(values)
        return take(values, self.parent_row()) if column.of_parent else values

    def children(self, scope: str) -> Children | None:
        """The events or the links of all spans; None if none were read."""
        return self.batch.events if scope == "event" else self.batch.links


def _parent_rows(left: NDArray[np.int64], parent: NDArray[np.int64], trace: Rows) -> Rows:
    """Rows of a trace stand in the order of `left`, so (trace, left) is sorted and a parent is found by bisection."""
    base = trace << 32
    rows = np.searchsorted(base + left, base + parent)
    return np.where(parent > 0, rows, -1)


def _with_zero_ids(values: Values) -> Values:
    """A missing parent id is the zero id."""
    if not values.parts:
        zero = np.zeros(values.rows, np.uint64)
        return Values(values.rows, (Ids(np.ones(values.rows, np.bool_), zero, zero, 8),))
    parts = (
        Ids(np.ones_like(part.valid), np.where(part.valid, part.high, 0), np.where(part.valid, part.low, 0), part.width)
        for part in values.parts
        if isinstance(part, Ids)
    )
    return Values(values.rows, tuple(parts))


@dataclass(frozen=True, slots=True)
class View:
    """Tries. `rows`: their spans, None for all spans in order; `events`, `links`: the event and link of each try, -1 for none.

    What is gathered for a view is kept with it, since queries ask for the same field many times.
    """

    frame: Frame
    rows: Rows | None = None
    events: Rows | None = None
    links: Rows | None = None
    gathered: dict[Source | FirstOf, Values] = field(default_factory=dict, compare=False, repr=False)

    def __len__(self) -> int:
        return self.frame.rows if self.rows is None else len(self.rows)


def view_source(view: View, source: Source | FirstOf) -> Values:
    """The values of a source for the tries of a view."""
    found = view.gathered.get(source)
    if found is None:
        found = view.gathered[source] = _gather(view, source)
    return found


def _gather(view: View, source: Source | FirstOf) -> Values:
    match source:
        case FirstOf():
            return first_of([view_source(view, column) for column in source.columns])
        case Column():
            return _view_column(view, source)
        case TraceId():
            return _trace_ids(view)
        case TimeSinceStart():
            return _since_start(view)
        case _:
            assert_never(source)


def _view_column(view: View, column: Column) -> Values:
    values = view.frame.column(column)
    rows = {"event": view.events, "link": view.links}.get(column.field.scope, view.rows)
    if column.field.scope in {"event", "link"} and rows is None:
        return no_values(len(view))
    return values if rows is None else take(values, rows)


def _trace_ids(view: View) -> Values:
    frame = view.frame
    traces = frame.trace_of_row() if view.rows is None else frame.trace_of_row()[view.rows]
    valid = np.ones(len(traces), np.bool_)
    return Values(len(traces), (Ids(valid, frame.batch.trace_high[traces], frame.batch.trace_low[traces], _TRACE_ID_BYTES),))


def _since_start(view: View) -> Values:
    start = view.frame.integers(START.name)
    start = start if view.rows is None else start[view.rows]
    times = _view_column(view, Column(EVENT_TIME))
    with np.errstate(over="ignore"):
        parts = (Numbers(NumberType.DURATION, part.valid, part.values - start) for part in times.parts if isinstance(part, Numbers))
        return Values(len(view), tuple(parts))

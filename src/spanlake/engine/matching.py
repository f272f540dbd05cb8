"""Which spans of a batch a search finds, and which values fields of theirs have: for names and values of tags, and for filters."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from spanlake.engine.frame import Frame
from spanlake.engine.pipeline import run_stages
from spanlake.engine.spansets import all_spans
from spanlake.engine.values.parts import Rows, present, take
from spanlake.model.queries import TagValue
from spanlake.model.scan import Field, Lists, Numbers, NumberType, Part, ScanBatch, Texts
from spanlake.traceql.durations import format_duration
from spanlake.traceql.literals import format_float
from spanlake.traceql.plan.nodes import Column, SearchPlan
from spanlake.traceql.vocabulary import KIND_VALUES, STATUS_VALUES


def matching_rows(plan: SearchPlan, batch: ScanBatch) -> Rows:
    """The rows that are in some spanset of the result, ascending."""
    found = run_stages(Frame(batch), plan.stages, all_spans(batch.trace_first.astype(np.int64)))
    return np.unique(found.rows)


def distinct_values(batch: ScanBatch, columns: Iterable[Column], rows: Rows | None) -> frozenset[TagValue]:
    """The distinct values of columns for some rows (None: all), for columns of events and links those of these rows."""
    frame = Frame(batch)
    found: set[TagValue] = set()
    for column in columns:
        values = frame.column(column)
        if rows is not None:
            values = take(values, _places(batch, column.field, rows))
        for part in values.parts:
            found |= part_values(part)
    return frozenset(found)


def fields_present(batch: ScanBatch, fields: Sequence[Field], rows: Rows) -> frozenset[Field]:
    """Which of the fields some of the rows have."""
    frame = Frame(batch)
    return frozenset(field for field in fields if present(take(frame.column(Column(field)), _places(batch, field, rows))).any())


def _places(batch: ScanBatch, field: Field, rows: Rows) -> Rows:
    """Where the values of the rows are: for events and links at their places."""
    if field.scope not in {"event", "link"}:
        return rows
    children = batch.events if field.scope == "event" else batch.links
    if children is None:
        return np.zeros(0, np.int64)
    chosen = np.zeros(batch.rows, np.bool_)
    chosen[rows] = True
    return np.flatnonzero(np.repeat(chosen, np.diff(children.offsets)))


def part_values(part: Part) -> set[TagValue]:
    """The distinct values of a part, elements of arrays one by one; ids and what TraceQL cannot hold have none."""
    match part:
        case Texts():
            codes = np.unique(part.codes[part.valid])
            return string_values(part.dictionary.take(pa.array(codes)))
        case Numbers():
            return number_values(part.type, np.unique(part.values[part.valid]))
        case Lists():
            return part_values(part.elements)
        case _:
            return set()


def string_values(array: pa.Array) -> set[TagValue]:
    """Strings as values."""
    return {TagValue("string", text) for text in pc.unique(array).to_pylist() if text is not None}


def number_values(kind: NumberType, values: NDArray[Any]) -> set[TagValue]:
    """Numbers as values, written as TraceQL writes them; NaN and infinity, which it cannot write, are left out."""
    match kind:
        case NumberType.INT:
            return {TagValue("int", str(value)) for value in values.tolist()}
        case NumberType.FLOAT:
            return {TagValue("float", format_float(value)) for value in values.tolist() if np.isfinite(value)}
        case NumberType.BOOL:
            return {TagValue("bool", "true" if value else "false") for value in values.tolist()}
        case NumberType.DURATION:
            return {TagValue("duration", format_duration(value)) for value in values.tolist()}
        case NumberType.STATUS:
            return {TagValue("keyword", STATUS_VALUES[value]) for value in values.tolist() if 0 <= value < len(STATUS_VALUES)}
        case NumberType.KIND:
            return {TagValue("keyword", KIND_VALUES[value]) for value in values.tolist() if 0 <= value < len(KIND_VALUES)}

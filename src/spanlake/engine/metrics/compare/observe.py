"""What a batch says of the attributes of its spans."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from spanlake.engine.frame import Frame
from spanlake.engine.metrics.compare.distinct import Distinct, Kind, count_part, kind_of, merge_distinct
from spanlake.engine.metrics.grid import Grid
from spanlake.engine.metrics.members import counted_rows
from spanlake.engine.metrics.weights import span_weights
from spanlake.engine.tries import span_values, spans_where
from spanlake.engine.values.parts import Mask, Rows
from spanlake.model.scan import Numbers, ScanBatch, Texts
from spanlake.traceql.plan.metrics.nodes import ComparePlan, LabelField


@dataclass(frozen=True, slots=True)
class ComparePartial:
    """Counts of values by attribute key and type. Their cells: points of the others, then points of the selection."""

    counts: dict[tuple[str, Kind], Distinct]

    @property
    def nbytes(self) -> int:
        return sum(one.nbytes for one in self.counts.values())


def observe_compare(plan: ComparePlan, batch: ScanBatch, fields: Sequence[LabelField], grid: Grid) -> ComparePartial:
    """The values of some fields. Arrays, ids, durations and what TraceQL cannot hold are not counted."""
    frame = Frame(batch)
    rows = counted_rows(frame, plan.stages, grid)
    start_ns = frame.integers("start_ns")
    start_ns = start_ns if rows is None else start_ns[rows]
    if not len(start_ns):
        return ComparePartial({})
    cells = grid.point_of(start_ns) + grid.points * _selected(frame, plan, rows)
    weights = span_weights(frame) if plan.hints.extrapolate else None
    weights = weights if weights is None or rows is None else weights[rows]
    width = 2 * grid.points
    found: dict[tuple[str, Kind], list[Distinct]] = {}
    for field in fields:
        for part in span_values(frame, field.operand, rows).parts:
            kind = kind_of(part)
            if kind is not None and part.valid.any():
                assert isinstance(part, Texts | Numbers)
                found.setdefault((field.key, kind[0]), []).append(count_part(part, cells, width, weights))
    return ComparePartial({key: merge_distinct(parts, width) for key, parts in found.items()})


def _selected(frame: Frame, plan: ComparePlan, rows: Rows | None) -> Mask:
    selected = spans_where(frame, plan.selection, rows)
    if plan.window is not None:
        start_ns = frame.integers("start_ns")
        start_ns = start_ns if rows is None else start_ns[rows]
        selected = selected & (start_ns > plan.window.start_ns) & (start_ns <= plan.window.end_ns)
    return selected

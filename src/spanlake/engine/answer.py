"""What an answer says about found traces, as plain Python values.

Works on the few traces of an answer: columns are gathered for the spans to show first, then turned into Python values. The loops are over
spans of the answer, which `limit` and `spss` bound.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from spanlake.engine.frame import Frame, View, view_source
from spanlake.engine.shown import TypedColumn, shown_column, typed_column
from spanlake.engine.spansets import Spansets, kept_sets
from spanlake.engine.values.parts import Mask, Rows, offsets_of, ragged
from spanlake.model.results import Attributes, ResultType, ServiceStatistics, SpanFound, SpansetFound, TraceFound, TypedValue
from spanlake.model.scan import Field
from spanlake.model.spans import STATUS_ERROR
from spanlake.traceql.plan.fields import SERVICE_NAME
from spanlake.traceql.plan.nodes import Column, SearchPlan

_NIL = TypedValue(ResultType.STRING, "nil")


def trace_found(frame: Frame, plan: SearchPlan, spansets: Spansets, *, traces: Rows, spss: int) -> tuple[TraceFound, ...]:
    """The given traces (indices of the batch), in that order; `spansets` is what the plan left of the batch, their owners are traces."""
    spansets = kept_sets(spansets, np.isin(spansets.owner, traces))
    by_trace: dict[int, list[SpansetFound]] = {int(trace): [] for trace in traces}
    for trace, found in zip(spansets.owner.tolist(), _spansets_found(frame, plan, spansets, spss), strict=True):
        by_trace[trace].append(found)
    batch, first = frame.batch, frame.batch.trace_first[traces]
    names, services = (_texts(frame, name, first) for name in ("root_name", "root_service"))
    statistics = _service_statistics(frame, traces)
    starts = frame.integers("trace_start_ns")[first].tolist()
    durations = frame.integers("trace_duration_ns")[first].tolist()
    return tuple(
        TraceFound(
            trace_id=(int(batch.trace_high[trace]) << 64) | int(batch.trace_low[trace]),
            root_service=services[place],
            root_name=names[place],
            start_ns=starts[place],
            duration_ns=durations[place],
            services=statistics[place],
            spansets=tuple(by_trace[trace]),
        )
        for place, trace in enumerate(traces.tolist())
    )


def _texts(frame: Frame, name: str, rows: Rows) -> list[str]:
    column = typed_column(view_source(View(frame, rows), Column(Field("intrinsic", name))))
    return [str(one.value) if one else "" for one in column]


def _service_statistics(frame: Frame, traces: Rows) -> list[tuple[ServiceStatistics, ...]]:
    """Per trace its services by first appearance, over all of its spans. A service name that is no string counts as none."""
    begin = frame.batch.trace_first[traces]
    lengths = frame.batch.trace_first[traces + 1] - begin
    offsets = offsets_of(lengths)
    rows = ragged(begin, lengths, offsets)
    services = typed_column(view_source(View(frame, rows), Column(SERVICE_NAME, default="")))
    errors = frame.integers("status_code")[rows] == STATUS_ERROR
    result = []
    for first, last in zip(offsets[:-1].tolist(), offsets[1:].tolist(), strict=True):
        result.append(_statistics(services[first:last], errors[first:last]))
    return result


def _statistics(services: Sequence[TypedValue | None], errors: Mask) -> tuple[ServiceStatistics, ...]:
    found: dict[str, ServiceStatistics] = {}
    for service, error in zip(services, errors.tolist(), strict=True):
        name = str(service.value) if service and service.type is ResultType.STRING else ""
        one = found.get(name, ServiceStatistics(name, 0, 0))
        found[name] = replace(one, spans=one.spans + 1, errors=one.errors + int(error))
    return tuple(found.values())


# ---- spansets ----


def _spansets_found(frame: Frame, plan: SearchPlan, spansets: Spansets, spss: int) -> list[SpansetFound]:
    matched = np.diff(spansets.first)
    shown = np.minimum(matched, spss)
    offsets = offsets_of(shown)
    spans = _spans_found(frame, plan, spansets.rows[ragged(spansets.first[:-1], shown, offsets)])
    columns = [(one.key, typed_column(one.values)) for one in spansets.annotations]
    return [
        SpansetFound(_annotations(columns, place), int(matched[place]), tuple(spans[offsets[place] : offsets[place + 1]]))
        for place in range(len(spansets))
    ]


def _annotations(columns: list[tuple[str, TypedColumn]], place: int) -> Attributes:
    return tuple((key, column[place] or _NIL) for key, column in columns)


def _spans_found(frame: Frame, plan: SearchPlan, rows: Rows) -> list[SpanFound]:
    view = View(frame, rows)
    ids = [int(str(one.value), 16) if one else 0 for one in typed_column(view_source(view, Column(Field("intrinsic", "span_id"))))]
    starts, durations = (frame.integers(name)[rows].tolist() for name in ("start_ns", "duration_ns"))
    columns = [(shown.key, shown_column(frame, shown, rows)) for shown in plan.shown]
    found = []
    for place in range(len(rows)):
        name = next((str(one.value) for key, column in columns if key is None and (one := column[place])), None)
        attributes = tuple((key, one) for key, column in columns if key is not None and (one := column[place]))
        found.append(SpanFound(ids[place], name, starts[place], durations[place], attributes))
    return found

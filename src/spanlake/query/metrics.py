"""TraceQL metrics: numbers over time, or one number per series, of the spans that a query's pipelines find.

All parts of a query are evaluated in one pass over the units that its range touches; what a batch says is added up as it comes, so that
memory is that of the answer and not of what was read.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from spanlake.blocks.scan.tenant import overlaps
from spanlake.engine import regex_problem
from spanlake.engine.metrics import Bounds, Grid, Total, instant_grid, observe, range_grid
from spanlake.engine.metrics.compare import ComparePartial, CompareTotal, observe_compare
from spanlake.model.errors import InvalidInput
from spanlake.model.metrics import InstantQuery, MetricsAnswer, RangeQuery
from spanlake.model.queries import Progress
from spanlake.model.scan import ScanBatch, ScanRequest
from spanlake.model.settings import QuerySettings
from spanlake.model.stop import Stop
from spanlake.model.tenancy.limits import LimitsSource
from spanlake.model.trace import TimeRange
from spanlake.query.explain import metrics_explanation
from spanlake.query.federated import Sources
from spanlake.query.sources import View, Work, start_work
from spanlake.traceql import check, parse
from spanlake.traceql.durations import format_duration
from spanlake.traceql.plan.metrics import MetricsPlan, finds_no_span, metrics_any_of, metrics_needs, metrics_trace_ids, plan_metrics
from spanlake.traceql.plan.metrics.compared import compared_fields
from spanlake.traceql.plan.metrics.nodes import ComparePlan, LabelField
from spanlake.traceql.plan.needs import expression_fields

FIELDS_AT_ONCE = 48
"""Attributes that compare() reads together: a batch with all of thousands would not fit into memory."""

_NS_PER_SECOND = 1_000_000_000
_NS_PER_MS = 1_000_000


def plan_of(text: str) -> MetricsPlan:
    """The plan of a metrics query. QueryError for what is wrong with the text, InvalidInput for a search."""
    query = parse(text.strip() or "{ }")
    check(query, regex_problem=regex_problem)
    return plan_metrics(query)


@dataclass(frozen=True, slots=True)
class Meter:
    """The use case with what it reads from."""

    sources: Sources
    settings: QuerySettings
    limits: LimitsSource | None = None  # None: the settings hold for every tenant

    def query_range(self, tenant: str, query: RangeQuery, stop: Stop, progress: Progress | None = None) -> MetricsAnswer:
        """Series with a point per step. Raises QueryError, InvalidInput, TooLarge, QueryTimeout, QueryCancelled."""
        plan = plan_of(query.text)
        self._check_range(tenant, query.window)
        self._check_step(query)
        asked = query.exemplars_max if plan.hints.exemplars is None else plan.hints.exemplars
        exemplars_max = min(asked, self.settings.metrics_exemplars_max)
        grid, bounds = range_grid(query.window, query.step_ns), self._bounds(query.series_max, exemplars_max)
        return self._answer(tenant, plan, grid, bounds, lambda: start_work(stop, progress))

    def explain(self, tenant: str, query: RangeQuery, stop: Stop) -> str:
        """How a range query is answered, as lines of text; raises as `query_range` does."""
        return metrics_explanation(plan_of(query.text), query, lambda: self.query_range(tenant, query, stop))

    def query_instant(self, tenant: str, query: InstantQuery, stop: Stop) -> MetricsAnswer:
        """Series with one point, for the whole window; raises as `query_range` does."""
        plan = plan_of(query.text)
        self._check_range(tenant, query.window)
        return self._answer(tenant, plan, instant_grid(query.window), self._bounds(query.series_max, 0), lambda: start_work(stop))

    def _check_range(self, tenant: str, window: TimeRange) -> None:
        own = self.limits.of(tenant) if self.limits else self.settings
        longest = own.metrics_range_seconds_max
        if longest and window.end_ns - window.start_ns > longest * _NS_PER_SECOND:
            allowed = format_duration(round(longest * _NS_PER_SECOND))
            raise InvalidInput(f"metrics query time range exceeds the maximum allowed duration of {allowed}")

    def _check_step(self, query: RangeQuery) -> None:
        if query.step_ns <= 0:
            raise InvalidInput("step must be greater than 0")
        if query.step_ns < _NS_PER_MS:  # the times of points are told in milliseconds
            raise InvalidInput(f"step of {format_duration(query.step_ns)} is too small, minimum step is 1ms")
        most = self.settings.metrics_points_max
        range_ns = query.window.end_ns - query.window.start_ns
        if range_ns // query.step_ns > most:
            step, least = format_duration(query.step_ns), format_duration(-(-range_ns // most))
            raise InvalidInput(f"step of {step} is too small, minimum step for given range is {least}")

    def _bounds(self, series_max: int, exemplars_max: int) -> Bounds:
        allowed = self.settings.metrics_series_max
        return Bounds(min(series_max or allowed, allowed), self.settings.metrics_bytes_max, exemplars_max)

    def _answer(self, tenant: str, plan: MetricsPlan, grid: Grid, bounds: Bounds, start: Callable[[], Work]) -> MetricsAnswer:
        series_max = max(min(bounds.series_max, self.settings.metrics_samples_max // grid.points), 1)
        bounds = Bounds(series_max, bounds.bytes_max, bounds.exemplars_max)
        return self.sources.ask(tenant, lambda view: _answer(view, plan, grid, bounds, start()), grid.window())


def _answer(view: View, plan: MetricsPlan, grid: Grid, bounds: Bounds, work: Work) -> MetricsAnswer:
    if isinstance(plan, ComparePlan):
        return _compared(view, plan, grid, bounds, work)
    total = Total(plan, grid, bounds)
    if not finds_no_span(plan):
        request = _request(plan, grid)
        for unit in view.units:
            for part in view.map(unit, request, lambda batch: observe(plan, batch, grid, exemplars_max=bounds.exemplars_max), work):
                total.add(part)
    series, is_cut = total.finish()
    return MetricsAnswer(series, view.inspected(work), _too_many(bounds.series_max) if is_cut else "")


def _request(plan: MetricsPlan, grid: Grid) -> ScanRequest:
    return ScanRequest(metrics_needs(plan), metrics_any_of(plan), grid.window(), metrics_trace_ids(plan))


def _compared(view: View, plan: ComparePlan, grid: Grid, bounds: Bounds, work: Work) -> MetricsAnswer:
    """compare() reads every attribute that spans of the range may have, some of them at a time."""
    total = CompareTotal(plan, grid, bytes_max=bounds.bytes_max)
    request = _request(plan, grid)
    units = [] if finds_no_span(plan) else [unit for unit in view.units if overlaps(unit.place, grid.window())]
    fields = compared_fields(key for unit in units for key in unit.place.keys(work.statistics))
    for begin in range(0, len(fields), FIELDS_AT_ONCE):
        some = fields[begin : begin + FIELDS_AT_ONCE]
        reading = replace(request, fields=request.fields.union(*(expression_fields(label.operand) for label in some)))

        def evaluate(batch: ScanBatch, some: list[LabelField] = some) -> ComparePartial:
            return observe_compare(plan, batch, some, grid)

        for unit in view.units if units else []:
            for part in view.map(unit, reading, evaluate, work):
                total.add(part)
    series, is_cut = total.finish(bounds.series_max)
    problems = [*([] if total.is_exact else [_INEXACT]), *([_too_many(bounds.series_max)] if is_cut else [])]
    return MetricsAnswer(series, view.inspected(work), " ".join(problems))


_INEXACT = (
    "The spans have more different attribute values than fit into query.metrics_bytes_max: counts of compare() may be too low; "
    "ask for a shorter time range."
)


def _too_many(series_max: int) -> str:
    return (
        f"Response exceeds maximum series limit of {series_max}, a partial response is returned. "
        "Warning: the accuracy of each individual value is not guaranteed."
    )

"""Plans of metrics queries: which spans become which series, and what is done to the series afterwards.

plan = plan_metrics(query)             of a checked query
metrics_needs(plan)                    the fields to read, in one pass for all parts of the query
metrics_any_of(plan), metrics_trace_ids(plan)   for ScanRequest; finds_no_span(plan): no need to ask at all
show_metrics(plan)                     the text for `explain`
"""

from spanlake.traceql.plan.metrics.build import plan_metrics
from spanlake.traceql.plan.metrics.needs import finds_no_span, metrics_any_of, metrics_needs, metrics_trace_ids
from spanlake.traceql.plan.metrics.nodes import MetricsPlan
from spanlake.traceql.plan.metrics.show import show_metrics

__all__ = ["MetricsPlan", "finds_no_span", "metrics_any_of", "metrics_needs", "metrics_trace_ids", "plan_metrics", "show_metrics"]

"""Plans of searches: what to compute over traces, what to read for it, and what may be skipped. Pure Python, no columns, no storage.

    plan = plan_search(query)      of a checked query
    needs(plan)                    fields to read: to find traces, and to answer with them
    any_of(plan), trace_ids(plan)  for ScanRequest.any_of and ScanRequest.traces; finds_nothing(plan): no need to ask at all
    show(plan)                     the text for `explain`

The engine evaluates a plan: `engine.find_traces` needs the fields of `needs(plan).find`, `engine.evaluate_search` those of
`needs(plan).answer`.
"""

from spanlake.traceql.plan.build import plan_search
from spanlake.traceql.plan.needs import Needs, needs
from spanlake.traceql.plan.nodes import SearchPlan
from spanlake.traceql.plan.prune import any_of, finds_nothing, trace_ids
from spanlake.traceql.plan.show import show

__all__ = ["Needs", "SearchPlan", "any_of", "finds_nothing", "needs", "plan_search", "show", "trace_ids"]

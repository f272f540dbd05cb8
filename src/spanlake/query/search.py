"""Search: the newest traces that a TraceQL query finds.

Two passes. The first reads only what the conditions need, newest unit first, keeps the `limit` newest traces, and stops when no older
unit can have a newer one. The second reads what the answer shows, of those traces alone.
"""

from __future__ import annotations

from dataclasses import dataclass

from spanlake.engine import SearchPartial, TracesFound, evaluate_search, find_traces, finish, merge, newest, regex_problem
from spanlake.model.errors import InvalidInput, TooLarge
from spanlake.model.queries import SearchAnswer, SearchQuery
from spanlake.model.results import TraceFound
from spanlake.model.scan import ScanRequest
from spanlake.model.settings import QuerySettings
from spanlake.model.stop import Stop
from spanlake.query.explain import explanation
from spanlake.query.sources import TenantSources, View, Work, start_work
from spanlake.traceql import check, parse
from spanlake.traceql.ast import Pipeline
from spanlake.traceql.plan import SearchPlan, any_of, needs, plan_search, trace_ids
from spanlake.traceql.plan.prune import finds_nothing


def plan_of(text: str) -> SearchPlan:
    """The plan of a search. QueryError for what is wrong with the text, InvalidInput for a metrics query."""
    query = parse(text.strip() or "{ }")
    check(query, regex_problem=regex_problem)
    if not isinstance(query.root, Pipeline):
        raise InvalidInput("this is a metrics query: send it to /api/metrics/query_range")
    return plan_search(query)


@dataclass(frozen=True, slots=True)
class Searcher:
    """The use case with what it reads from."""

    sources: TenantSources
    settings: QuerySettings

    def search(self, tenant: str, query: SearchQuery, stop: Stop) -> SearchAnswer:
        """Answer a search, or raise QueryError, InvalidInput, TooLarge, QueryTimeout, QueryCancelled."""
        plan = plan_of(query.text)
        return self.sources.ask(tenant, lambda view: self._answer(view, plan, query, stop))

    def explain(self, tenant: str, query: SearchQuery, stop: Stop) -> str:
        """How a search is answered, as lines of text; raises as `search` does."""
        return explanation(plan_of(query.text), query, lambda: self.search(tenant, query, stop))

    def _answer(self, view: View, plan: SearchPlan, query: SearchQuery, stop: Stop) -> SearchAnswer:
        work = start_work(stop)
        found = TracesFoundSoFar(query.limit)
        if not finds_nothing(plan):
            self._find(view, plan, query, work, found)
        traces = self._describe(view, plan, query, work, found.best())
        return SearchAnswer(traces, view.inspected(work))

    def _find(self, view: View, plan: SearchPlan, query: SearchQuery, work: Work, found: TracesFoundSoFar) -> None:
        """First pass."""
        request = ScanRequest(needs(plan).find, any_of(plan), query.window, trace_ids(plan))
        for unit in view.units:
            if found.is_settled(unit.newest_ns):
                break
            for part in view.map(unit, request, lambda batch: find_traces(plan, batch, window=query.window), work):
                found.add(part)

    def _describe(self, view: View, plan: SearchPlan, query: SearchQuery, work: Work, found: TracesFound) -> tuple[TraceFound, ...]:
        """Second pass."""
        if not len(found):
            return ()
        ids = frozenset(zip(found.high.tolist(), found.low.tolist(), strict=True))
        request = ScanRequest(needs(plan).answer, (), query.window, ids)
        oldest = int(found.start_ns.min())
        partials: list[SearchPartial] = []
        traces = spans = 0
        for unit in view.units:
            if unit.newest_ns < oldest or traces == len(ids):
                break
            for part in view.map(unit, request, lambda batch: evaluate_search(plan, batch, spss=query.spss, window=query.window), work):
                partials.append(part)
                traces += len(part.traces)
                spans += sum(len(spanset.spans) for trace in part.traces for spanset in trace.spansets)
                self._check_size(spans)
        return finish(merge(partials), query.limit).traces

    def _check_size(self, spans: int) -> None:
        if spans > self.settings.answer_spans_max:
            raise TooLarge(
                f"the answer has more than {self.settings.answer_spans_max} spans (query.answer_spans_max): ask for a lower limit, "
                "fewer spans per spanset (spss) or a shorter time range"
            )


class TracesFoundSoFar:
    """The newest `limit` traces of what was added."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._parts: list[TracesFound] = []
        self._held = 0

    def add(self, part: TracesFound) -> None:
        self._parts.append(part)
        self._held += len(part)
        if self._held > 4 * self._limit + 65_536:
            self._settle()

    def best(self) -> TracesFound:
        """Newest first."""
        self._settle()
        return self._parts[0]

    def is_settled(self, newest_ns: int) -> bool:
        """Whether no trace that starts at `newest_ns` or before can be among the newest `limit`."""
        if self._held < self._limit:
            return False
        best = self.best()
        return len(best) == self._limit and int(best.start_ns[-1]) > newest_ns

    def _settle(self) -> None:
        self._parts = [newest(self._parts, self._limit)]
        self._held = len(self._parts[0])

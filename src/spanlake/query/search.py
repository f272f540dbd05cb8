"""Search: the newest traces that a TraceQL query finds.

Two passes. The first reads only what the conditions need, newest unit first, keeps the `limit` newest traces, and stops when no older
unit can have a newer one. The second reads what the answer shows, of those traces alone.

Whoever wants to see an answer grow hears, now and then, of the traces that are settled: nothing that is still to be read can have a newer
one. Those are described before the first pass goes on.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from spanlake.engine import SearchPartial, TracesFound, evaluate_search, find_traces, finish, merge, newest, regex_problem
from spanlake.model.queries import SearchAnswer, SearchProgress, SearchQuery
from spanlake.model.results import TraceFound
from spanlake.model.scan import ScanBatch, ScanRequest
from spanlake.model.settings import QuerySettings
from spanlake.model.stop import Stop
from spanlake.query.answer_size import AnswerSize
from spanlake.query.explain import explanation
from spanlake.query.sources import TenantSources, View, Work, second_look, start_work
from spanlake.traceql import check, parse
from spanlake.traceql.plan import SearchPlan, any_of, needs, plan_search, trace_ids
from spanlake.traceql.plan.prune import finds_nothing


def plan_of(text: str) -> SearchPlan:
    """The plan of a search, or of the search in a metrics query. QueryError for what is wrong with the text, InvalidInput for arithmetic
    between metrics."""
    query = parse(text.strip() or "{ }")
    check(query, regex_problem=regex_problem)
    return plan_search(query)


@dataclass(frozen=True, slots=True)
class Searcher:
    """The use case with what it reads from."""

    sources: TenantSources
    settings: QuerySettings

    def search(self, tenant: str, query: SearchQuery, stop: Stop, progress: SearchProgress | None = None) -> SearchAnswer:
        """Answer a search, or raise QueryError, InvalidInput, TooLarge, QueryTimeout, QueryCancelled."""
        plan = plan_of(query.text)
        return self.sources.ask(tenant, lambda view: self._answer(Search(view, plan, query, start_work(stop)), progress), query.window)

    def explain(self, tenant: str, query: SearchQuery, stop: Stop) -> str:
        """How a search is answered, as lines of text; raises as `search` does."""
        return explanation(plan_of(query.text), query, lambda: self.search(tenant, query, stop))

    def _answer(self, search: Search, progress: SearchProgress | None) -> SearchAnswer:
        found = TracesFoundSoFar(search.query.limit)
        traces: tuple[TraceFound, ...] = ()
        told = 0  # of the best, which they remain
        for newest_ns in self._find(search, found):
            if progress is not None and progress.is_due():
                settled = found.settled(newest_ns)
                traces += (more := self._describe(search, _from(settled, told), traces))
                progress.tell(SearchAnswer(more, search.view.inspected_so_far(search.work)))
                told = len(settled)
        traces += self._describe(search, _from(found.best(), told), traces)
        return SearchAnswer(traces, search.view.inspected(search.work))

    def _find(self, search: Search, found: TracesFoundSoFar) -> Iterator[int]:
        """First pass. Now and then a time after which no trace starts that is still to be read."""
        plan, query = search.plan, search.query
        if finds_nothing(plan):
            return
        request = ScanRequest(needs(plan).find, any_of(plan), query.window, trace_ids(plan))
        for unit in search.view.units:
            if found.is_settled(unit.newest_ns):
                break
            yield unit.newest_ns
            for part in search.view.map(unit, request, lambda batch: find_traces(plan, batch, window=query.window), search.work):
                found.add(part)
                yield unit.newest_ns

    def _describe(self, search: Search, found: TracesFound, described: tuple[TraceFound, ...]) -> tuple[TraceFound, ...]:
        """Second pass, for the traces found; `described` are in the answer already."""
        if not len(found):
            return ()
        view, plan, query = search.view, search.plan, search.query
        ids = frozenset(zip(found.high.tolist(), found.low.tolist(), strict=True))
        request = ScanRequest(needs(plan).answer, (), query.window, ids)
        oldest = int(found.start_ns.min())

        def evaluate(batch: ScanBatch) -> SearchPartial:
            return evaluate_search(plan, batch, spss=query.spss, window=query.window)

        partials: list[SearchPartial] = []
        traces, size = 0, AnswerSize(self.settings)
        size.add(described)
        with second_look(search.work) as work:
            for unit in view.units:
                if unit.newest_ns < oldest or traces == len(ids):
                    break
                for part in view.map(unit, request, evaluate, work):
                    partials.append(part)
                    traces += len(part.traces)
                    size.add(part.traces)
        return finish(merge(partials), query.limit).traces


def _from(found: TracesFound, place: int) -> TracesFound:
    """Those from a place on."""
    return TracesFound(found.high[place:], found.low[place:], found.start_ns[place:], found.spans[place:])


@dataclass(frozen=True, slots=True)
class Search:
    """One search of one view."""

    view: View
    plan: SearchPlan
    query: SearchQuery
    work: Work


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

    def settled(self, newest_ns: int) -> TracesFound:
        """Those of the best that remain so if nothing that is added starts later than `newest_ns`."""
        best = self.best()
        return newest([best], int(np.count_nonzero(best.start_ns > newest_ns)))

    def is_settled(self, newest_ns: int) -> bool:
        """Whether no trace that starts at `newest_ns` or before can be among the newest `limit`."""
        if self._held < self._limit:
            return False
        best = self.best()
        return len(best) == self._limit and int(best.start_ns[-1]) > newest_ns

    def _settle(self) -> None:
        self._parts = [newest(self._parts, self._limit)]
        self._held = len(self._parts[0])

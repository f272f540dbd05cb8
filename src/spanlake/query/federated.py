"""Queries that ask several tenants at once (`model.tenancy.names.federation`).

Tenants stay apart: each has its units, no trace spans two of them, and an id that several tenants have is a trace of each. Names and values
of tags and metrics read the units of all tenants as if they were one's. A search asks one tenant after the other and keeps the newest
traces. Trace by id alone puts together what the tenants have under one id, as that is what whoever asks for the id wants to see.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from typing import TypeAlias, TypeVar

from spanlake.blocks.catalog import TableSnapshot
from spanlake.blocks.live import LiveView
from spanlake.model.queries import Inspected, SearchAnswer, SearchProgress, SearchQuery
from spanlake.model.results import TraceFound
from spanlake.model.settings import QuerySettings
from spanlake.model.spans import SpanBatch
from spanlake.model.stop import Stop
from spanlake.model.tenancy.names import SEPARATOR, members
from spanlake.model.trace import TimeRange, TraceAnswer
from spanlake.query.answer_size import AnswerSize
from spanlake.query.fresh_views import from_fresh_view
from spanlake.query.search import Searcher
from spanlake.query.sources import TenantSources, View
from spanlake.query.trace import TraceFinder, answer_of

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class FederatedSources:
    """`TenantSources` for one tenant or several."""

    single: TenantSources

    def ask(self, tenant: str, question: Callable[[View], T], window: TimeRange | None = None) -> T:
        """Answer a question from one view of all the tenants, each consistent in itself; `window` as there."""
        if SEPARATOR not in tenant:
            return self.single.ask(tenant, question, window)
        own = members(tenant)
        return from_fresh_view(lambda: question(self._joined(tenant, window)), lambda: [self.single.refresh(member) for member in own])

    def _joined(self, tenant: str, window: TimeRange | None) -> View:
        views = [self.single.view(member) for member in members(tenant)]
        units = [unit for view in views for unit in self.single.units(view, window)]
        blocks = tuple(block for view in views for block in view.table.blocks)
        live = LiveView(TableSnapshot(tenant, blocks=blocks), tuple(rows for view in views for rows in view.rows))
        return View(live, sorted(units, key=lambda unit: (-unit.newest_ns, unit.name)), self.single.executor)


Sources: TypeAlias = TenantSources | FederatedSources
"""What answers a question that does not mind whether it is about one tenant or several."""


@dataclass(frozen=True, slots=True)
class FederatedSearcher:
    """`server.ports.TraceSearcher`. A search of several tenants shows no progress: what is certain turns out at its end."""

    single: Searcher

    def search(self, tenant: str, query: SearchQuery, stop: Stop, progress: SearchProgress | None = None) -> SearchAnswer:
        """As the search of one tenant."""
        if SEPARATOR not in tenant:
            return self.single.search(tenant, query, stop, progress)
        newest: tuple[TraceFound, ...] = ()
        inspected = Inspected()
        for member in members(tenant):
            answer = self.single.search(member, query, stop)
            newest = _newest((*newest, *answer.traces), query.limit)
            inspected = added(inspected, answer.inspected)
        AnswerSize(self.single.settings).add(newest)
        return SearchAnswer(newest, inspected)

    def explain(self, tenant: str, query: SearchQuery, stop: Stop) -> str:
        """One explanation after the other."""
        texts = {member: self.single.explain(member, query, stop) for member in members(tenant)}
        return "\n".join(f"tenant {member}:\n{text}" for member, text in texts.items()) if len(texts) > 1 else texts[tenant]


def _newest(traces: Sequence[TraceFound], limit: int) -> tuple[TraceFound, ...]:
    return tuple(sorted(traces, key=lambda trace: (-trace.start_ns, trace.trace_id))[:limit])


def added(one: Inspected, other: Inspected) -> Inspected:
    """The figures of both."""
    return Inspected(**{field.name: getattr(one, field.name) + getattr(other, field.name) for field in fields(Inspected)})


@dataclass(frozen=True, slots=True)
class FederatedFinder:
    """`server.ports.TraceReader`, and what finds fragments for `FilteringFinder`."""

    single: TraceFinder

    @property
    def settings(self) -> QuerySettings:
        return self.single.settings

    def find(self, tenant: str, trace_id: tuple[int, int], time_range: TimeRange | None) -> TraceAnswer:
        """The trace with that id, of all the tenants."""
        return answer_of(*self.fragments(tenant, trace_id, time_range), self.settings)

    def fragments(self, tenant: str, trace_id: tuple[int, int], time_range: TimeRange | None) -> tuple[list[SpanBatch], int]:
        """What there is of a trace in every place of every tenant, and the bytes that were looked at."""
        found: list[SpanBatch] = []
        inspected = 0
        for member in members(tenant):
            fragments, size = self.single.fragments(member, trace_id, time_range)
            found += fragments
            inspected += size
        return found, inspected

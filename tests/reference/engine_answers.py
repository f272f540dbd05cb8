"""spanlake's answers in the form of the conformance corpus: of the engine over spans in memory, of searches over what a process stores."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

from naive import ROOT_MISSING, SPANS_PER_SET_MAX, Answer
from naive_otlp import payload_of_spans
from naive_spans import Span

from node import Node
from spanlake.blocks.scan.memory import MemoryScan, arranged
from spanlake.blocks.scan.tenant import ScanCaches
from spanlake.engine import evaluate_search, finish, merge
from spanlake.model.queries import SearchQuery, TagValuesQuery
from spanlake.model.results import Attributes, SpanFound, SpansetFound, TraceFound, TypedValue
from spanlake.model.settings import QuerySettings
from spanlake.model.stop import Stop
from spanlake.model.trace import TimeRange
from spanlake.query.executors.inline import InlineExecutor
from spanlake.query.search import Searcher, plan_of
from spanlake.query.sources import TenantSources
from spanlake.query.tags import TagReader
from spanlake.query.tasks import Executor
from spanlake.traceql.plan import needs
from spanlake.wire.otlp.decode import decode_otlp

EVERY = 1 << 20


class SpansInMemory:
    """Spans decoded and arranged once, searched many times by the engine alone."""

    def __init__(self, pushes: Iterable[Sequence[Span]]) -> None:
        self._scan = MemoryScan(arranged([decode_otlp(payload_of_spans(push)).batch for push in pushes]))

    def search(self, query: str) -> Answer:
        plan = plan_of(query)
        partial = evaluate_search(plan, self._scan.batch(needs(plan).answer), spss=EVERY)
        return answer_of(finish(merge([partial]), EVERY).traces)


def sources_of(node: Node, executor: Executor | None = None) -> TenantSources:
    """What queries over a node read from."""
    caches = ScanCaches(node.store, node.footers, bytes_max=1 << 24)
    return TenantSources(caches, node.pipeline.view, node.tenants.refresh, executor or InlineExecutor())


class NodeSearches:
    """Searches as the server makes them, over the live spans and blocks of a node."""

    def __init__(self, node: Node, executor: Executor | None = None) -> None:
        sources = sources_of(node, executor)
        self._searcher = Searcher(sources, QuerySettings())
        self._tags = TagReader(sources, QuerySettings())

    def search(self, tenant: str, query: str, overlaps_ns: tuple[int, int] | None = None, limit: int = EVERY) -> Answer:
        """`overlaps_ns` includes its end."""
        window = None if overlaps_ns is None else TimeRange(overlaps_ns[0], overlaps_ns[1] + 1)
        return answer_of(self._searcher.search(tenant, SearchQuery(query, window, limit, EVERY), Stop()).traces)

    def tag_values(self, tenant: str, tag: str, filter_text: str) -> list[list[str]]:
        """Sorted [type, text]."""
        return [[one.type, one.value] for one in self._tags.values(tenant, TagValuesQuery(tag, filter_text), Stop()).values]


def answer_of(traces: Iterable[TraceFound]) -> Answer:
    """The canonical answer, in the order of the traces."""
    return {f"{trace.trace_id:032x}": _trace(trace) for trace in traces}


def _trace(trace: TraceFound) -> dict[str, Any]:
    return {
        "root": [trace.root_service or ROOT_MISSING, trace.root_name or None],
        "start": trace.start_ns,
        "ms": trace.duration_ns // 1_000_000,
        "stats": {service.service: [service.spans, service.errors] for service in trace.services},
        "sets": [_spanset(one) for one in trace.spansets],
    }


def _spanset(one: SpansetFound) -> dict[str, Any]:
    spans = [_span(span) for span in one.spans]
    assert len(spans) == one.matched
    return {
        "matched": one.matched,
        "attributes": _attributes(one.attributes),
        "spans": spans if one.matched <= SPANS_PER_SET_MAX else None,
    }


def _span(span: SpanFound) -> list[Any]:
    return [f"{span.span_id:016x}", span.name or None, span.start_ns, span.duration_ns, _attributes(span.attributes)]


def _attributes(attributes: Attributes) -> list[list[Any]]:
    return [[str(key), _value(value)] for key, value in attributes]


def _value(value: TypedValue) -> list[Any]:
    if isinstance(value.value, tuple):
        return [str(value.type), [_value(element) for element in value.value]]
    if isinstance(value.value, float) and not math.isfinite(value.value):
        return [str(value.type), "NaN" if math.isnan(value.value) else "Infinity" if value.value > 0 else "-Infinity"]
    return [str(value.type), value.value]

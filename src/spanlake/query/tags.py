"""Names and values of tags: what autocomplete asks while a query is written.

Without a filter most of it comes from footers and dictionary pages, which are remembered. With one, the filter runs as a search over
whole traces, and the spans that it finds are looked at.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass

from spanlake.blocks.scan.tenant import Unit, overlaps
from spanlake.engine import regex_problem
from spanlake.engine.matching import distinct_values, fields_present, matching_rows, part_values
from spanlake.model.errors import InvalidInput, QueryError
from spanlake.model.queries import (
    TAG_SCOPES,
    TagNamesAnswer,
    TagNamesQuery,
    TagValue,
    TagValuesAnswer,
    TagValuesQuery,
)
from spanlake.model.scan import Comparison, Field, Predicate, ScanBatch, ScanRequest
from spanlake.model.settings import QuerySettings
from spanlake.model.stop import Stop
from spanlake.model.trace import TimeRange
from spanlake.query.federated import Sources
from spanlake.query.sources import View, Work, start_work
from spanlake.traceql import ast, parse_leniently, parse_reference
from spanlake.traceql.ast import FieldReference, Intrinsic, Pipeline
from spanlake.traceql.plan import SearchPlan, any_of, needs, plan_search, trace_ids
from spanlake.traceql.plan.fields import SERVICE_NAME, sources_of
from spanlake.traceql.plan.nodes import Column
from spanlake.traceql.plan.prune import finds_nothing
from spanlake.traceql.vocabulary import KIND_VALUES, STATUS_VALUES, IntrinsicName, Scope, ValueType

_I = IntrinsicName
INTRINSIC_TAGS = (
    *("duration", "name", "status", "statusMessage", "kind", "rootServiceName", "rootName", "traceDuration"),
    *("event:name", "event:timeSinceStart", "link:spanID", "link:traceID", "instrumentation:name", "instrumentation:version"),
    *("trace:id", "span:id", "span:parentID", "span:status", "span:statusMessage", "span:duration", "span:name", "span:kind"),
    *("trace:rootName", "trace:rootService", "trace:duration"),
)
"""The intrinsics that are offered, in Tempo's order."""

_TEXT_INTRINSICS = frozenset(
    {_I.NAME, _I.STATUS_MESSAGE, _I.ROOT_NAME, _I.ROOT_SERVICE_NAME, _I.EVENT_NAME, _I.INSTRUMENTATION_NAME, _I.INSTRUMENTATION_VERSION}
)
_KEYWORDS = {_I.STATUS: STATUS_VALUES, _I.KIND: KIND_VALUES}
_OF_WHOLE_TRACES = frozenset({Field("intrinsic", "root_name"), Field("intrinsic", "root_service")})
_VIRTUAL_VALUES = {"status.code": STATUS_VALUES, "error": ("true",)}
_LEGACY_NAMES = {"name": "name", "root.name": "rootName", "root.service.name": "rootServiceName"}
VALUE_BYTES = 150
"""Memory of a value beside its text."""
NAMES_AT_ONCE = 200


@dataclass(frozen=True, slots=True)
class TagReader:
    """The use cases with what they read from."""

    sources: Sources
    settings: QuerySettings

    def names(self, tenant: str, query: TagNamesQuery, stop: Stop) -> TagNamesAnswer:
        """Attribute keys by scope; the filter restricts them to spans that it finds."""
        if query.scope is not None and query.scope not in TAG_SCOPES:
            raise InvalidInput(f"invalid scope: {query.scope}")
        plan = filter_plan(query.filter)
        return self.sources.ask(tenant, lambda view: self._names(view, plan, query, stop), query.window)

    def _names(self, view: View, plan: SearchPlan | None, query: TagNamesQuery, stop: Stop) -> TagNamesAnswer:
        work = start_work(stop)
        found: set[Field] = set()
        if query.scope not in ("intrinsic", "trace"):
            for unit in _units(view, query.window):
                stop.check()
                keys = frozenset(field for field in unit.place.keys(work.statistics) if query.scope in (None, field.scope)) - found
                found |= keys if plan is None else self._present(view, unit, plan, keys, work)
        names = {scope: sorted(field.name for field in found if field.scope == scope) for scope in TAG_SCOPES}
        limited = {scope: self._cut(own[: query.limit or None]) for scope, own in names.items()}
        if query.scope in (None, "intrinsic"):
            limited["intrinsic"] = list(INTRINSIC_TAGS)
        return TagNamesAnswer(tuple((scope, tuple(own)) for scope, own in limited.items() if own), view.inspected(work))

    def _present(self, view: View, unit: Unit, plan: SearchPlan, keys: frozenset[Field], work: Work) -> frozenset[Field]:
        """The keys that spans have which the plan finds."""
        found: set[Field] = set()
        wanted = sorted(keys, key=lambda field: (field.scope, field.name))
        for begin in range(0, len(wanted), NAMES_AT_ONCE):
            some = wanted[begin : begin + NAMES_AT_ONCE]

            def evaluate(batch: ScanBatch, some: list[Field] = some) -> frozenset[Field]:
                return fields_present(batch, some, matching_rows(plan, batch))

            for part in view.map(unit, _request(plan, some), evaluate, work):
                found |= part
        return frozenset(found)

    def values(self, tenant: str, query: TagValuesQuery, stop: Stop) -> TagValuesAnswer:
        """The values of an attribute or intrinsic named as in TraceQL."""
        reference = tag_reference(query.tag)
        plan = filter_plan(query.filter)
        return self.sources.ask(tenant, lambda view: self._values(view, reference, plan, query, stop), query.window)

    def values_v1(self, tenant: str, query: TagValuesQuery, stop: Stop) -> TagValuesAnswer:
        """The values of a tag named without a scope, as the first version of the API has it."""
        virtual = _VIRTUAL_VALUES.get(query.tag, ())
        reference = legacy_reference(query.tag)
        plan = filter_plan(query.filter)
        answer = self.sources.ask(tenant, lambda view: self._values(view, reference, plan, query, stop), query.window)
        values = {*answer.values, *(TagValue("string", text) for text in virtual)}
        return TagValuesAnswer(tuple(sorted(values)), answer.inspected)

    def _values(self, view: View, reference: FieldReference, plan: SearchPlan | None, query: TagValuesQuery, stop: Stop) -> TagValuesAnswer:
        work = start_work(stop)
        if isinstance(reference, Intrinsic) and reference.name not in _TEXT_INTRINSICS:
            keywords = _KEYWORDS.get(reference.name, ())
            return TagValuesAnswer(tuple(sorted(TagValue("keyword", text) for text in keywords)), view.inspected(work))
        columns = _columns(reference)
        found = FirstValues(query.limit, self.settings.tag_values_bytes_max)
        for unit in _units(view, query.window):
            for column in columns:
                for values in self._unit_values(view, unit, column, plan, work):
                    found.add(values)
        return TagValuesAnswer(tuple(found.first()), view.inspected(work))

    def _unit_values(self, view: View, unit: Unit, column: Column, plan: SearchPlan | None, work: Work) -> Iterator[Collection[TagValue]]:
        """The values of one column in one unit, part by part: from dictionaries if that is all of them, else from a scan."""
        # Of a split trace that belongs to this unit, other places hold spans that only a scan of this one brings.
        is_whole = not len(unit.own) and not (len(unit.split.hashes) and column.field in _OF_WHOLE_TRACES)
        at_hand = plan is None and is_whole
        known = unit.place.values(column.field, work.statistics) if at_hand else None
        if known is not None:
            yield from (part_values(part) for part in known.parts)
            if column.default is not None and not unit.place.is_everywhere(column.field):
                yield [TagValue("string", column.default)]
            return
        request = _request(plan, [column.field])

        def evaluate(batch: ScanBatch) -> frozenset[TagValue]:
            return distinct_values(batch, [column], None if plan is None else matching_rows(plan, batch))

        yield from view.map(unit, request, evaluate, work)

    def _cut(self, names: list[str]) -> list[str]:
        """The names that fit."""
        size = 0
        for count, name in enumerate(names):
            size += len(name.encode())
            if size >= self.settings.tag_values_bytes_max:
                return names[:count]
        return names


class FirstValues:
    """The first values, in their order, of all that are added: at most `limit` (0: any number), of fewer bytes than `bytes_max` together.

    Holds a few times that at most: what is not among the first of some values is not among the first of more, and neither is what comes
    after it.
    """

    def __init__(self, limit: int, bytes_max: int) -> None:
        self._limit = limit
        self._bytes_max = bytes_max
        self._values: set[TagValue] = set()
        self._held_bytes = 0
        self._bearable_bytes = 0
        self._beyond: TagValue | None = None  # the least value that was given up

    def add(self, values: Iterable[TagValue]) -> None:
        new = {value for value in values if self._beyond is None or value < self._beyond} - self._values
        self._values |= new
        self._held_bytes += sum(VALUE_BYTES + len(value.value) for value in new)
        if self._held_bytes > self._bearable_bytes:
            self.first()

    def first(self) -> list[TagValue]:
        """Of what was added so far."""
        size = 0
        kept: list[TagValue] = []
        for value in sorted(self._values):
            size += len(value.value.encode()) + len(value.type)
            if size >= self._bytes_max or (self._limit and len(kept) == self._limit):
                self._beyond = value
                break
            kept.append(value)
        self._values = set(kept)
        self._held_bytes = sum(VALUE_BYTES + len(value.value) for value in kept)
        self._bearable_bytes = 2 * self._held_bytes + 8 * self._bytes_max
        return kept


def filter_plan(text: str) -> SearchPlan | None:
    """The plan of what can be used of a filter that may be unfinished; None if that is nothing, and every span counts."""
    query, _ = parse_leniently(text, regex_problem=regex_problem) if text.strip() else (None, ())
    if query is None:
        return None
    root = query.root
    if isinstance(root, ast.MetricsMath):
        return None
    plan = plan_search(query if isinstance(root, Pipeline) else ast.Query(root.pipeline))
    return None if plan == _EVERYTHING else plan


_EVERYTHING = plan_search(ast.Query(Pipeline((ast.SpansetFilter(ast.Literal(ValueType.BOOL, value=True)),))))


def tag_reference(tag: str) -> FieldReference:
    """The attribute or intrinsic that a tag names."""
    try:
        return parse_reference(tag)
    except QueryError as error:
        raise InvalidInput(f"please provide a valid tagName: {error}") from None


def legacy_reference(tag: str) -> FieldReference:
    """What a tag without a scope names."""
    if tag in _LEGACY_NAMES:
        return parse_reference(_LEGACY_NAMES[tag])
    for scope in ("span.", "resource."):
        if tag.startswith(scope):
            return ast.Attribute(Scope(scope[:-1]), tag.removeprefix(scope))
    if not tag:
        raise InvalidInput("please provide a tagName")
    return ast.Attribute(Scope.NONE, tag)


def _columns(reference: FieldReference) -> list[Column]:
    """The columns whose values are those of a tag; one without a scope stands for those of instrumentation scopes too."""
    columns = [source for source in sources_of(reference) if isinstance(source, Column)]
    if isinstance(reference, ast.Attribute) and reference.scope is Scope.NONE:
        columns.append(Column(Field("instrumentation", reference.name)))
    return columns


def _request(plan: SearchPlan | None, fields: Sequence[Field]) -> ScanRequest:
    """What to read to see some fields of the spans that a plan finds, or of all."""
    if plan is None:
        # A missing service name reads as empty, which is a value too.
        existing = () if SERVICE_NAME in fields else tuple(frozenset({Predicate(field, Comparison.EXISTS)}) for field in fields)
        return ScanRequest(frozenset(fields), existing)
    nothing = frozenset[tuple[int, int]]() if finds_nothing(plan) else None
    return ScanRequest(needs(plan).find | frozenset(fields), any_of(plan), traces=trace_ids(plan) if nothing is None else nothing)


def _units(view: View, window: TimeRange | None) -> list[Unit]:
    """The units of a time range."""
    return [unit for unit in view.units if window is None or overlaps(unit.place, window)]

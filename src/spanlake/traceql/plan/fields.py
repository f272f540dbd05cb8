"""From names in a query to fields of spans: which columns an attribute or an intrinsic reads, and under which key it is shown."""

from __future__ import annotations

from spanlake.model.scan import Field, FieldScope, NumberType
from spanlake.traceql.ast import Attribute, FieldReference, Intrinsic
from spanlake.traceql.plan.nodes import Column, FirstOf, Source, TimeSinceStart, TraceId
from spanlake.traceql.vocabulary import IntrinsicName, Scope

_I = IntrinsicName
_INTRINSICS: dict[IntrinsicName, tuple[str, NumberType | None]] = {
    _I.DURATION: ("duration_ns", NumberType.DURATION),
    _I.NAME: ("name", None),
    _I.STATUS: ("status_code", NumberType.STATUS),
    _I.STATUS_MESSAGE: ("status_message", None),
    _I.KIND: ("kind", NumberType.KIND),
    _I.ROOT_NAME: ("root_name", None),
    _I.ROOT_SERVICE_NAME: ("root_service", None),
    _I.TRACE_DURATION: ("trace_duration_ns", NumberType.DURATION),
    _I.NESTED_SET_LEFT: ("nested_left", NumberType.INT),
    _I.NESTED_SET_RIGHT: ("nested_right", NumberType.INT),
    _I.NESTED_SET_PARENT: ("nested_parent", NumberType.INT),
    _I.SPAN_ID: ("span_id", None),
    _I.SPAN_PARENT_ID: ("parent_span_id", None),
    _I.SPAN_CHILD_COUNT: ("child_count", NumberType.INT),
    _I.INSTRUMENTATION_NAME: ("scope_name", None),
    _I.INSTRUMENTATION_VERSION: ("scope_version", None),
}
_OF_CHILDREN: dict[IntrinsicName, Field] = {
    _I.EVENT_NAME: Field("event", ":name"),
    _I.LINK_TRACE_ID: Field("link", ":trace_id"),
    _I.LINK_SPAN_ID: Field("link", ":span_id"),
}
SERVICE_NAME = Field("resource", "service.name")
EVENT_TIME = Field("event", ":time_ns")
START = Field("intrinsic", "start_ns")
PARENT_ID = Field("intrinsic", "parent_span_id")
TRACE_ID = Field("intrinsic", "trace_id")

# Every answer says these of each trace and span; under their own keys they would be there twice.
_NEVER_SHOWN = frozenset({_I.DURATION, _I.TRACE_DURATION, _I.ROOT_NAME, _I.ROOT_SERVICE_NAME, _I.TRACE_ID, _I.SPAN_ID})


def operand_of(reference: FieldReference) -> Source | FirstOf:
    """What a reference reads."""
    sources = sources_of(reference)
    if len(sources) == 1:
        return sources[0]
    columns = tuple(source for source in sources if isinstance(source, Column))
    return FirstOf(columns)


def sources_of(reference: FieldReference) -> tuple[Source, ...]:
    """The columns of a reference, the one that hides the others first."""
    if isinstance(reference, Intrinsic):
        return (_intrinsic(reference.name),)
    if reference.scope is Scope.NONE:
        scopes = (Scope.SPAN, Scope.RESOURCE)
        return tuple(_attribute(Attribute(scope, reference.name, reference.of_parent)) for scope in scopes)
    return (_attribute(reference),)


def _attribute(reference: Attribute) -> Column:
    field = Field(_FIELD_SCOPES[reference.scope], reference.name)
    return Column(field, of_parent=reference.of_parent, default="" if field == SERVICE_NAME else None)


_FIELD_SCOPES: dict[Scope, FieldScope] = {
    Scope.SPAN: "span",
    Scope.RESOURCE: "resource",
    Scope.INSTRUMENTATION: "instrumentation",
    Scope.EVENT: "event",
    Scope.LINK: "link",
}


def _intrinsic(name: IntrinsicName) -> Source:
    if name is _I.TRACE_ID:
        return TraceId()
    if name is _I.EVENT_TIME_SINCE_START:
        return TimeSinceStart()
    if name in _OF_CHILDREN:
        return Column(_OF_CHILDREN[name])
    column, number = _INTRINSICS[name]
    return Column(Field("intrinsic", column), type=number)


def shown_key(reference: FieldReference) -> tuple[str | None] | None:
    """The key that a found span shows the field under, (None,) for the span's name, None for fields that are not shown."""
    if isinstance(reference, Attribute):
        return (reference.name,)
    if reference.name in _NEVER_SHOWN:
        return None
    return (None,) if reference.name is _I.NAME else (str(reference.name),)


def fields_of(source: Source) -> frozenset[Field]:
    """The fields that must be read for a source."""
    match source:
        case Column(field=field):
            return frozenset({field})
        case TimeSinceStart():
            return frozenset({EVENT_TIME, START})
        case TraceId():
            return frozenset()

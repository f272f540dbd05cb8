"""What compare() counts: the values of every attribute of span, resource and instrumentation scope, and of these intrinsics."""

from __future__ import annotations

from collections.abc import Iterable

from spanlake.model.scan import Field
from spanlake.traceql.ast import Attribute, FieldReference, Intrinsic
from spanlake.traceql.format import format_reference
from spanlake.traceql.plan.fields import SERVICE_NAME, operand_of
from spanlake.traceql.plan.metrics.nodes import LabelField
from spanlake.traceql.vocabulary import IntrinsicName, Scope

_I = IntrinsicName
_INTRINSICS = (
    *(_I.NAME, _I.STATUS, _I.STATUS_MESSAGE, _I.KIND, _I.ROOT_NAME, _I.ROOT_SERVICE_NAME),
    *(_I.SPAN_CHILD_COUNT, _I.INSTRUMENTATION_NAME, _I.INSTRUMENTATION_VERSION),
)
_SCOPES = {"span": Scope.SPAN, "resource": Scope.RESOURCE, "instrumentation": Scope.INSTRUMENTATION}


def compared_fields(keys: Iterable[Field]) -> list[LabelField]:
    """What is counted where spans have these attribute keys, sorted by key. A missing service name reads as empty and is counted."""
    references: list[FieldReference] = [Intrinsic(name) for name in _INTRINSICS]
    attributes = {field for field in keys if field.scope in _SCOPES} | {SERVICE_NAME}
    references += [Attribute(_SCOPES[field.scope], field.name) for field in attributes]
    return sorted((LabelField(str(format_reference(one)), operand_of(one)) for one in references), key=lambda label: label.key)

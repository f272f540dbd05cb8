"""Which attributes a found span shows (C8, B33), by the last paragraph of the decisions.

Every field that the query mentions is a candidate. One mentioned without a literal (select, by, arithmetic, bare, `!= nil`, inside `!( )`)
shows its whole value; one only compared with literals shows where such a comparison holds, of an array the elements for which it does.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from naive_fields import literal_value, reference_values
from naive_spans import Span, Trace
from naive_values import Value, compare, display

from spanlake.traceql.ast import (
    COMPARISON,
    REGEX,
    Attribute,
    Binary,
    FieldReference,
    Intrinsic,
    Literal,
    Node,
    Operator,
    Query,
    Unary,
    UnaryOperator,
    children,
)
from spanlake.traceql.vocabulary import IntrinsicName, Scope

_I = IntrinsicName
_NEVER_LISTED = {_I.NAME, _I.DURATION, _I.TRACE_DURATION, _I.ROOT_NAME, _I.ROOT_SERVICE_NAME, _I.TRACE_ID, _I.SPAN_ID}


@dataclass(slots=True)
class Mentions:
    """How the query mentions one field: without a literal at all, and in which comparisons, as (operator, literal on the right)."""

    whole: bool = False
    comparisons: list[tuple[Operator, Value]] = field(default_factory=list)


def mentions_of(query: Query) -> dict[FieldReference, Mentions]:
    """All fields of a query with how they are mentioned; `.x` counts for the span's and for the resource's x."""
    found: dict[FieldReference, Mentions] = {}
    for reference, comparison in _walk(query, negated=False):
        for place in _places(reference):
            mentions = found.setdefault(place, Mentions())
            if comparison is None:
                mentions.whole = True
            else:
                mentions.comparisons.append(comparison)
    return found


def _places(reference: FieldReference) -> list[FieldReference]:
    if isinstance(reference, Attribute) and reference.scope is Scope.NONE:
        return [Attribute(scope, reference.name, reference.of_parent) for scope in (Scope.SPAN, Scope.RESOURCE)]
    return [reference]


_FLIPPED = {
    Operator.LESS: Operator.GREATER,
    Operator.LESS_EQUAL: Operator.GREATER_EQUAL,
    Operator.GREATER: Operator.LESS,
    Operator.GREATER_EQUAL: Operator.LESS_EQUAL,
}


def _walk(node: Node, *, negated: bool) -> Iterator[tuple[FieldReference, tuple[Operator, Value] | None]]:
    if isinstance(node, Attribute | Intrinsic):
        yield node, None
        return
    if isinstance(node, Binary) and not negated:
        pair = _compared(node)
        if pair is not None:
            reference, operator, literal = pair
            value = literal_value(literal)
            if value is not None:
                yield reference, (operator, value)
            elif operator is Operator.NOT_EQUAL:
                yield reference, None
            return
    negated = negated or (isinstance(node, Unary) and node.operator is UnaryOperator.NOT)
    for child in children(node):
        yield from _walk(child, negated=negated)


def _compared(binary: Binary) -> tuple[FieldReference, Operator, Literal] | None:
    """A field compared with a literal, turned so that the literal is on the right."""
    if binary.operator not in COMPARISON | REGEX:
        return None
    if isinstance(binary.left, Attribute | Intrinsic) and isinstance(binary.right, Literal):
        return binary.left, binary.operator, binary.right
    if isinstance(binary.right, Attribute | Intrinsic) and isinstance(binary.left, Literal):
        return binary.right, _FLIPPED.get(binary.operator, binary.operator), binary.left
    return None


def shown_value(reference: FieldReference, mentions: Mentions, trace: Trace, span: Span) -> Value | None:
    """What the span shows of a field. Of several events or links, the last that shows something counts."""
    values = [_part(value, mentions) for value in reference_values(reference, trace, span)]
    found = [value for value in values if value is not None]
    return found[-1] if found else None


def _part(value: Value, mentions: Mentions) -> Value | None:
    if value.type == "opaque":
        return None
    if mentions.whole:
        return value
    holding = [(operator, literal) for operator, literal in mentions.comparisons if compare(operator, value, literal)]
    if value.type != "array":
        return value if holding else None
    elements = tuple(element for element in value.content if any(compare(operator, element, literal) for operator, literal in holding))
    return None if not elements else elements[0] if len(elements) == 1 else Value("array", elements)


def shown_attributes(found: dict[FieldReference, Mentions], trace: Trace, span: Span) -> list[list[Any]]:
    """Sorted [key, [type, value]] pairs; keys are names without scope."""
    pairs = []
    for reference, mentions in found.items():
        if isinstance(reference, Intrinsic) and reference.name in _NEVER_LISTED:
            continue
        value = shown_value(reference, mentions, trace, span)
        if value is not None:
            pairs.append([str(reference.name), display(value)])
    return sorted(pairs, key=repr)


def shown_name(found: dict[FieldReference, Mentions], trace: Trace, span: Span) -> str | None:
    """The span's name where the query refers to it; an empty one is left out."""
    mentions = found.get(Intrinsic(_I.NAME))
    value = shown_value(Intrinsic(_I.NAME), mentions, trace, span) if mentions else None
    return None if value is None else str(value.content) or None

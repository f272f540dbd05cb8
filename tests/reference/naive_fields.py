"""Field expressions of the naive evaluator: the value of an expression for one span, tried with each of its events and links (B7)."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import assert_never

from naive_spans import Event, Link, Span, Trace
from naive_values import Value, boolean, calculate, compare, is_true, negate, value_of

from spanlake.traceql.ast import (
    ARITHMETIC,
    EQUALITY,
    Attribute,
    Binary,
    FieldExpression,
    FieldReference,
    Intrinsic,
    Literal,
    Logical,
    LogicalOperator,
    Operator,
    Unary,
    UnaryOperator,
)
from spanlake.traceql.vocabulary import KIND_VALUES, STATUS_VALUES, IntrinsicName, Scope, ValueType

SERVICE_NAME = "service.name"


@dataclass(frozen=True, slots=True)
class Try:
    """A span with one of its events and one of its links, or none where it has none."""

    trace: Trace
    span: Span
    event: Event | None
    link: Link | None


def tries(trace: Trace, span: Span) -> Iterator[Try]:
    """All combinations of event and link."""
    for event, link in itertools.product(span.events or (None,), span.links or (None,)):
        yield Try(trace, span, event, link)


def holds(condition: FieldExpression, trace: Trace, span: Span) -> bool:
    """Whether a filter keeps the span."""
    return any(is_true(evaluate(condition, attempt)) for attempt in tries(trace, span))


def value_for(expression: FieldExpression, trace: Trace, span: Span) -> Value | None:
    """What by() and aggregates see: the value of the first try that has one; of a condition, true if any try gives true."""
    values = [evaluate(expression, attempt) for attempt in tries(trace, span)]
    found = [value for value in values if value is not None]
    if _is_condition(expression) and any(map(is_true, found)):
        return boolean(truth=True)
    return found[0] if found else None


def _is_condition(expression: FieldExpression) -> bool:
    match expression:
        case Literal() | Attribute() | Intrinsic():
            return False
        case Binary():
            return expression.operator not in ARITHMETIC
        case Logical():
            return True
        case Unary():
            return expression.operator is UnaryOperator.NOT
        case _:
            assert_never(expression)


def evaluate(expression: FieldExpression, attempt: Try) -> Value | None:
    """The value in one try; None if there is none."""
    match expression:
        case Literal():
            return literal_value(expression)
        case Attribute():
            return attribute_value(expression, attempt)
        case Intrinsic():
            return intrinsic_value(expression.name, attempt)
        case Unary():
            operand = evaluate(expression.operand, attempt)
            if expression.operator is UnaryOperator.NEGATE:
                return negate(operand)
            return boolean(truth=not operand.content) if operand is not None and operand.type == "bool" else None
        case Logical():
            combine = all if expression.operator is LogicalOperator.AND else any
            return boolean(truth=combine([is_true(evaluate(operand, attempt)) for operand in expression.operands]))
        case Binary():
            return _binary(expression, attempt)
        case _:
            assert_never(expression)


def is_nil(expression: FieldExpression) -> bool:
    return isinstance(expression, Literal) and expression.type is ValueType.NIL


def _binary(binary: Binary, attempt: Try) -> Value | None:
    left, right = evaluate(binary.left, attempt), evaluate(binary.right, attempt)
    if binary.operator in ARITHMETIC:
        return calculate(binary.operator, left, right)
    if binary.operator in EQUALITY and is_nil(binary.left) is not is_nil(binary.right):
        is_missing = left is None and right is None
        return boolean(truth=is_missing is (binary.operator is Operator.EQUAL))
    return boolean(truth=compare(binary.operator, left, right))


def literal_value(literal: Literal) -> Value | None:
    """A constant."""
    return None if literal.type is ValueType.NIL else Value(str(literal.type), literal.value)


def attribute_value(attribute: Attribute, attempt: Try) -> Value | None:
    """`.x` is the span's, else the resource's (C3); an absent service.name of a resource reads as the empty string."""
    if attribute.of_parent:
        parent = attempt.trace.parents[attempt.span]
        if parent is None:
            return None
        return attribute_value(Attribute(attribute.scope, attribute.name), Try(attempt.trace, parent, None, None))
    span, name = attempt.span, attribute.name
    match attribute.scope:
        case Scope.NONE:
            scope = Scope.SPAN if name in span.attributes else Scope.RESOURCE
            return attribute_value(Attribute(scope, name), attempt)
        case Scope.SPAN:
            attributes = span.attributes
        case Scope.RESOURCE:
            attributes = {SERVICE_NAME: "", **span.resource.attributes}
        case Scope.INSTRUMENTATION:
            attributes = span.scope.attributes
        case Scope.EVENT:
            attributes = attempt.event.attributes if attempt.event else {}
        case Scope.LINK:
            attributes = attempt.link.attributes if attempt.link else {}
        case _:
            assert_never(attribute.scope)
    return value_of(attributes[name]) if name in attributes else None


def intrinsic_value(name: IntrinsicName, attempt: Try) -> Value | None:
    """Every span has all of them but those of events and links (B29)."""
    if name in _OF_CHILDREN:
        return _child_value(name, attempt.span, attempt.event, attempt.link)
    if name in _OF_SPAN:
        return _span_value(name, attempt.span)
    return _trace_value(name, attempt.trace, attempt.span)


_I = IntrinsicName
_OF_CHILDREN = {_I.EVENT_NAME, _I.EVENT_TIME_SINCE_START, _I.LINK_TRACE_ID, _I.LINK_SPAN_ID}
_OF_SPAN = {
    *{_I.DURATION, _I.NAME, _I.STATUS, _I.STATUS_MESSAGE, _I.KIND, _I.INSTRUMENTATION_NAME, _I.INSTRUMENTATION_VERSION},
    *{_I.TRACE_ID, _I.SPAN_ID, _I.SPAN_PARENT_ID},
}


def _child_value(name: IntrinsicName, span: Span, event: Event | None, link: Link | None) -> Value | None:
    if event is not None and name is _I.EVENT_NAME:
        return Value("string", event.name)
    if event is not None and name is _I.EVENT_TIME_SINCE_START:
        return Value("duration", event.time_ns - span.start_ns)
    if link is not None and name is _I.LINK_TRACE_ID:
        return Value("trace_id", link.trace_id)
    if link is not None and name is _I.LINK_SPAN_ID:
        return Value("span_id", link.span_id)
    return None


def _span_value(name: IntrinsicName, span: Span) -> Value:
    match name:
        case _I.DURATION:
            return Value("duration", span.duration_ns)
        case _I.STATUS:
            return Value("status", STATUS_VALUES[span.status])
        case _I.KIND:
            return Value("kind", KIND_VALUES[span.kind])
        case _I.TRACE_ID:
            return Value("trace_id", span.trace_id)
        case _I.SPAN_ID:
            return Value("span_id", span.span_id)
        case _I.SPAN_PARENT_ID:
            return Value("span_id", span.parent_id)
        case _I.NAME:
            return Value("string", span.name)
        case _I.STATUS_MESSAGE:
            return Value("string", span.status_message)
        case _:
            return Value("string", span.scope.name if name is _I.INSTRUMENTATION_NAME else span.scope.version)


def _trace_value(name: IntrinsicName, trace: Trace, span: Span) -> Value:
    root, numbers = trace.root, trace.numbers[span]
    match name:
        case _I.ROOT_NAME:
            return Value("string", root.name if root else "")
        case _I.ROOT_SERVICE_NAME:
            return Value("string", root.service if root else "")
        case _I.TRACE_DURATION:
            return Value("duration", trace.end_ns - trace.start_ns)
        case _I.NESTED_SET_LEFT:
            return Value("int", numbers.left)
        case _I.NESTED_SET_RIGHT:
            return Value("int", numbers.right)
        case _I.NESTED_SET_PARENT:
            return Value("int", numbers.parent)
        case _:
            assert name is _I.SPAN_CHILD_COUNT
            return Value("int", len(trace.children[span]))


def reference_values(reference: FieldReference, trace: Trace, span: Span) -> list[Value]:
    """The values of a reference: one at most, but one per event or link that has it for those scopes."""
    event_scoped = reference.name in _OF_CHILDREN if isinstance(reference, Intrinsic) else reference.scope in {Scope.EVENT, Scope.LINK}
    if not event_scoped:
        value = evaluate(reference, Try(trace, span, None, None))
        return [] if value is None else [value]
    attempts = [Try(trace, span, event, None) for event in span.events] + [Try(trace, span, None, link) for link in span.links]
    return [value for attempt in attempts if (value := evaluate(reference, attempt)) is not None]

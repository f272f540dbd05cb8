"""Which fields a found span shows, and when: collected from every mention of a field in a query.

A field that is mentioned without a literal (select, by, arithmetic, bare, `!= nil`) or inside `!( )` is shown with its whole value. One
that is only compared with literals is shown where such a comparison holds, and of an array the elements for which it does. `= nil` shows
nothing. `.x` mentions the attribute of the span and that of the resource, each for itself.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from spanlake.traceql import ast
from spanlake.traceql.ast import FieldReference, Literal, Node, Operator, Pipeline, Unary, UnaryOperator, children
from spanlake.traceql.plan.comparisons import comparison_with, turned
from spanlake.traceql.plan.fields import shown_key, sources_of
from spanlake.traceql.plan.nodes import AnyOf, CompareConstant, Matches, OneOf, Shown, Source, Test
from spanlake.traceql.plan.rules import simplify
from spanlake.traceql.vocabulary import ValueType


@dataclass(slots=True)
class _Mentions:
    """Of one field, while a query is walked."""

    key: str | None
    whole: bool = False
    tests: list[Test] = field(default_factory=list)


def shown_fields(pipeline: Pipeline) -> tuple[Shown, ...]:
    """In the order of first mention."""
    found: dict[Source, _Mentions] = {}
    waiting: list[tuple[Node, bool]] = [(pipeline, False)]
    while waiting:
        node, negated = waiting.pop()
        negated = negated or (isinstance(node, Unary) and node.operator is UnaryOperator.NOT)
        compared = None if negated else _compared(node)
        if compared is not None:
            _note_comparison(found, *compared)
        elif isinstance(node, FieldReference):
            for mentions in _mentions(found, node).values():
                mentions.whole = True
        else:
            waiting.extend((child, negated) for child in reversed(children(node)))
    return tuple(
        Shown(mentions.key, source, None if mentions.whole else _joined(mentions.tests))
        for source, mentions in found.items()
        if mentions.whole or mentions.tests
    )


def _compared(node: Node) -> tuple[FieldReference, Operator, Literal] | None:
    """The parts of a comparison of a field with a literal."""
    if not isinstance(node, ast.Binary) or node.operator in ast.ARITHMETIC:
        return None
    if isinstance(node.left, FieldReference) and isinstance(node.right, Literal):
        return node.left, node.operator, node.right
    if isinstance(node.right, FieldReference) and isinstance(node.left, Literal):
        return node.right, turned(node.operator), node.left
    return None


def _mentions(found: dict[Source, _Mentions], reference: FieldReference) -> dict[Source, _Mentions]:
    key = shown_key(reference)
    if key is None:
        return {}
    return {source: found.setdefault(source, _Mentions(key[0])) for source in sources_of(reference)}


def _note_comparison(found: dict[Source, _Mentions], reference: FieldReference, operator: Operator, literal: Literal) -> None:
    for source, mentions in _mentions(found, reference).items():
        if literal.type is ValueType.NIL:
            mentions.whole |= operator is Operator.NOT_EQUAL
            continue
        test = comparison_with(source, operator, literal)
        assert isinstance(test, Test)
        mentions.tests.append(test)


def _joined(tests: list[Test]) -> tuple[Test, ...]:
    """The tests with long chains of `=` as one."""
    joined = simplify(AnyOf(tuple(tests))) if len(tests) > 1 else tests[0]
    operands = joined.operands if isinstance(joined, AnyOf) else (joined,)
    return tuple(operand for operand in operands if isinstance(operand, CompareConstant | OneOf | Matches))

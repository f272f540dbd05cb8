"""Tag values by the naive evaluator: looked up span by span among those that a filter finds.

values("span.http", "{ kind = server }", traces)   →   [["int", "200"], ["string", "200"]]
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from naive import Spanset, run_pipeline
from naive_fields import reference_values
from naive_spans import Span, Trace
from naive_values import Value

from spanlake.traceql import parse_leniently, parse_reference
from spanlake.traceql.ast import Attribute, FieldReference, Intrinsic, Pipeline
from spanlake.traceql.vocabulary import KIND_VALUES, STATUS_VALUES, IntrinsicName, Scope

_I = IntrinsicName
KEYWORDS = {_I.STATUS: STATUS_VALUES, _I.KIND: KIND_VALUES}
TYPES = {"int": "int", "float": "float", "string": "string", "bool": "bool"}


def values(tag: str, filter_text: str, traces: Iterable[Trace]) -> list[list[str]]:
    """Sorted [type, text]. What cannot be used of the filter counts as true."""
    reference = parse_reference(tag)
    if isinstance(reference, Intrinsic) and reference.name in KEYWORDS:
        return sorted(["keyword", text] for text in KEYWORDS[reference.name])
    query = parse_leniently(filter_text)[0] if filter_text else None
    found: set[tuple[str, str]] = set()
    for trace in traces:
        sets = [Spanset(trace.spans)]
        if query is not None:
            assert isinstance(query.root, Pipeline)
            sets = run_pipeline(query.root, trace, sets)
        for place in _places(reference):
            found |= {pair for one in sets for span in one.spans for pair in _texts(place, trace, span)}
    return sorted(list(pair) for pair in found)


def _places(reference: FieldReference) -> list[FieldReference]:
    """A tag without a scope stands for all scopes that a span has once."""
    if isinstance(reference, Attribute) and reference.scope is Scope.NONE:
        return [Attribute(scope, reference.name) for scope in (Scope.SPAN, Scope.RESOURCE, Scope.INSTRUMENTATION)]
    return [reference]


def _texts(place: FieldReference, trace: Trace, span: Span) -> Iterator[tuple[str, str]]:
    for value in reference_values(place, trace, span):
        for element in value.content if value.type == "array" else (value,):
            if element.type in TYPES:
                yield TYPES[element.type], _text(element)


def _text(value: Value) -> str:
    return str(value.content).lower() if value.type == "bool" else str(value.content)

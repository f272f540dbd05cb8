"""Events and links: an expression that mentions them is tried with each event, and with each link, of a span, and once without any where
the span has none. A span matches if one of its tries is true.

Tries are made in pieces, so that a span with very many events and very many links cannot exhaust memory.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from spanlake.engine.expressions import truth, value
from spanlake.engine.frame import Frame, View
from spanlake.engine.values.parts import Mask, Rows, boolean_rows, booleans, first_of, offsets_of, present, take
from spanlake.model.scan import Values
from spanlake.traceql.plan import nodes
from spanlake.traceql.plan.needs import sources
from spanlake.traceql.plan.nodes import Expression

TRIES_MAX = 1 << 20


def spans_where(frame: Frame, condition: Expression, rows: Rows | None) -> Mask:
    """Per span, of all or of the given ones, whether the condition is true in one of its tries."""
    scopes = _child_scopes(condition)
    if isinstance(condition, nodes.AllOf) and scopes:
        return _joined_where(frame, condition, rows)
    if not scopes:
        return truth(View(frame, rows), condition)
    result = np.zeros(frame.rows if rows is None else len(rows), np.bool_)
    for view, places in _tries(frame, rows, scopes):
        result[places[truth(view, condition)]] = True
    return result


def _joined_where(frame: Frame, condition: nodes.AllOf, rows: Rows | None) -> Mask:
    """What asks for no event or link is asked first, and tries are made only of the spans that pass."""
    plain = tuple(operand for operand in condition.operands if not _child_scopes(operand))
    trying = tuple(operand for operand in condition.operands if _child_scopes(operand))
    result = truth(View(frame, rows), nodes.AllOf(plain)) if plain else np.ones(frame.rows if rows is None else len(rows), np.bool_)
    left = np.flatnonzero(result)
    inside = left if rows is None else rows[left]
    expression = nodes.AnyOf((nodes.AllOf(trying),))
    result[left] = spans_where(frame, expression, inside)
    return result


def span_values(frame: Frame, expression: Expression, rows: Rows | None) -> Values:
    """Per span the value of the expression in the first try that has one; of a condition, true if it is in any try."""
    scopes = _child_scopes(expression)
    if not scopes:
        return value(View(frame, rows), expression)
    count = frame.rows if rows is None else len(rows)
    if is_condition(expression):
        return booleans(spans_where(frame, expression, rows))
    true, result = Values(count), Values(count)
    for view, places in _tries(frame, rows, scopes):
        found = value(view, expression)
        if isinstance(expression, nodes.Not):
            true = first_of([true, _first_values(found, boolean_rows(found, value=True), places, count)])
        result = first_of([result, _first_values(found, present(found), places, count)])
    return first_of([true, result])


def _first_values(found: Values, wanted: Mask, places: Rows, count: int) -> Values:
    """Per place the value of its first try that is wanted."""
    tries = np.flatnonzero(wanted)
    first = np.full(count, -1)
    first[places[tries][::-1]] = tries[::-1]
    return take(found, first)


def is_condition(expression: Expression) -> bool:
    """Whether the value is always a boolean."""
    return isinstance(
        expression,
        nodes.Truth | nodes.CompareConstant | nodes.OneOf | nodes.Matches | nodes.Compare | nodes.Present | nodes.AllOf | nodes.AnyOf,
    )


def _child_scopes(expression: Expression) -> frozenset[str]:
    found: set[str] = set()
    for source in sources(expression):
        if isinstance(source, nodes.TimeSinceStart):
            found.add("event")
        elif isinstance(source, nodes.Column) and source.field.scope in {"event", "link"}:
            found.add(source.field.scope)
    return frozenset(found)


def _tries(frame: Frame, rows: Rows | None, scopes: frozenset[str]) -> Iterator[tuple[View, Rows]]:
    """Views of all tries, each with the places of its tries among `rows`; in the order of spans, events, links."""
    every = np.arange(frame.rows) if rows is None else rows
    first_event, events = _child_ranges(frame, "event" if "event" in scopes else "", every)
    first_link, links = _child_ranges(frame, "link" if "link" in scopes else "", every)
    offsets = offsets_of(np.maximum(events, 1) * np.maximum(links, 1))
    for begin in range(0, int(offsets[-1]), TRIES_MAX):
        tries = np.arange(begin, min(begin + TRIES_MAX, int(offsets[-1])))
        places = np.searchsorted(offsets, tries, "right") - 1
        event, link = np.divmod(tries - offsets[places], np.maximum(links, 1)[places])
        view = View(
            frame,
            every[places],
            np.where(events[places] > 0, first_event[places] + event, -1),
            np.where(links[places] > 0, first_link[places] + link, -1),
        )
        yield view, places


def _child_ranges(frame: Frame, scope: str, rows: Rows) -> tuple[Rows, Rows]:
    """Per span the first of its events or links, and how many it has."""
    children = frame.children(scope) if scope else None
    if children is None:
        return np.zeros(len(rows), np.int64), np.zeros(len(rows), np.int64)
    first = children.offsets[:-1][rows]
    return first, children.offsets[1:][rows] - first

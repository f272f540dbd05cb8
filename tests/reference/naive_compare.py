"""compare() of the naive metrics evaluator: every value of every attribute is counted, span by span.

Attributes are those of span, resource and instrumentation, and the intrinsics but for ids, durations and nested sets. Each counts once per
span (B28); arrays and what TraceQL cannot hold are not counted.
"""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from naive_fields import SERVICE_NAME, Try, evaluate, holds
from naive_series import Labels, Table
from naive_spans import Span, Trace
from naive_values import has_label, label_value

from spanlake.traceql import format_reference
from spanlake.traceql.ast import Attribute, Compare, FieldReference, Intrinsic
from spanlake.traceql.vocabulary import IntrinsicName, Scope

_I = IntrinsicName
INTRINSICS = (
    *(_I.NAME, _I.KIND, _I.STATUS, _I.STATUS_MESSAGE, _I.ROOT_NAME, _I.ROOT_SERVICE_NAME, _I.SPAN_CHILD_COUNT),
    *(_I.INSTRUMENTATION_NAME, _I.INSTRUMENTATION_VERSION),
)
TypedContent = tuple[str, object]


class AmbiguousTop(Exception):
    """Values of several types are equally frequent where the top values are cut: which of them is smaller is said nowhere."""


@dataclass(slots=True)
class Counted:
    """The values of one attribute on one side: how often each was seen in each bucket. The keys tell 1, 1.0 and true apart."""

    values: dict[tuple[str, str], TypedContent] = field(default_factory=dict)
    counts: dict[tuple[str, str], Counter[int]] = field(default_factory=dict)

    def add(self, value: TypedContent, index: int) -> None:
        key = (value[0], repr(value[1]))
        self.values[key] = value
        self.counts.setdefault(key, Counter())[index] += 1

    def top(self, limit: int) -> Iterator[tuple[TypedContent, Counter[int]]]:
        """The most frequent values, of equally frequent ones the smaller."""

        def compared(one: tuple[str, str], other: tuple[str, str]) -> int:
            difference = self.counts[other].total() - self.counts[one].total()
            return difference or _compared(self.values[one], self.values[other])

        ranked = sorted(self.counts, key=functools.cmp_to_key(compared))
        if limit < len(ranked):
            tied = {key[0] for key in ranked if self.counts[key].total() == self.counts[ranked[limit]].total()}
            if len(tied) > 1 and self.counts[ranked[limit - 1]].total() == self.counts[ranked[limit]].total():
                raise AmbiguousTop(tied)
        for key in ranked[:limit]:
            yield self.values[key], self.counts[key]


def _compared(one: TypedContent, other: TypedContent) -> int:
    (kind, content), (other_kind, other_content) = one, other
    if kind != other_kind:
        return -1 if kind < other_kind else 1
    if isinstance(content, str) and isinstance(other_content, str):
        return -1 if content.encode() < other_content.encode() else int(content != other_content)
    assert isinstance(content, int | float)
    assert isinstance(other_content, int | float)
    return -1 if content < other_content else int(content != other_content)


def compare_series(function: Compare, found: Iterable[tuple[Trace, Span, int]], buckets: int) -> Table:
    """The series of selected spans and of the others, in `buckets` buckets."""
    sides: dict[str, dict[str, Counted]] = {"baseline": {}, "selection": {}}
    for trace, span, index in found:
        side = sides["selection" if is_selected(function, trace, span) else "baseline"]
        for key, value in attributes_of(trace, span):
            side.setdefault(key, Counted()).add(value, index)
    table: Table = {}
    for meta_type, attributes in sides.items():
        for key, counted in attributes.items():
            for value, counts in counted.top(function.top):
                table[_labels(meta_type, key, value)] = {at: float(counts[at]) for at in range(buckets)}
            totals = sum(counted.counts.values(), Counter[int]())
            table[_labels(f"{meta_type}_total", key, ("string", "nil"))] = {at: float(totals[at]) for at in range(buckets)}
    return table


def is_selected(function: Compare, trace: Trace, span: Span) -> bool:
    """Whether the filter holds, and the span starts in the window of the selection if there is one."""
    window = function.window
    if window is not None and not window.start_ns < span.start_ns <= window.end_ns:
        return False
    return holds(function.selection.condition, trace, span)


def attributes_of(trace: Trace, span: Span) -> Iterator[tuple[str, TypedContent]]:
    """Canonical text and value of everything that is counted."""
    references: list[FieldReference] = [Intrinsic(name) for name in INTRINSICS]
    references += [Attribute(Scope.SPAN, key) for key in span.attributes]
    references += [Attribute(Scope.RESOURCE, key) for key in {SERVICE_NAME: "", **span.resource.attributes}]
    references += [Attribute(Scope.INSTRUMENTATION, key) for key in span.scope.attributes]
    for reference in references:
        value = evaluate(reference, Try(trace, span, None, None))
        if value is not None and has_label(value):
            yield str(format_reference(reference)), label_value(value)


def _labels(meta_type: str, key: str, value: TypedContent) -> Labels:
    return (("__meta_type", ("string", meta_type)), (key, value))

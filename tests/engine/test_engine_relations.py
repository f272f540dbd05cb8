"""Structural operators on traces whose shape is known, deep and wide ones of a size that only linear work can do."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from naive import search_traces
from naive_spans import Resource, Span, traces_of
from plain_batches import answer_of, batch_of, plan_of

from spanlake.engine import find_traces
from spanlake.model.scan import Field, Ids, Numbers, NumberType, ScanBatch, Texts, Values

LARGE = 200_000
OPERATORS = [mode + relation for mode in ("", "!", "&") for relation in (">", ">>", "<", "<<", "~")]


def shaped(lefts: np.ndarray, rights: np.ndarray, parents: np.ndarray) -> ScanBatch:
    """One trace; spans are named by their row modulo 3."""
    rows, every = len(lefts), np.ones(len(lefts), np.bool_)

    def column(numbers: np.ndarray) -> Values:
        return Values(rows, (Numbers(NumberType.INT, every, numbers.astype(np.int64)),))

    names = Values(rows, (Texts(every, (np.arange(rows) % 3).astype(np.int32), pa.array(["a", "b", "c"])),))
    zero = np.zeros(rows, np.uint64)
    values = {
        "name": names,
        "nested_left": column(lefts),
        "nested_right": column(rights),
        "nested_parent": column(parents),
        "trace_start_ns": column(np.zeros(rows)),
        "trace_duration_ns": column(np.zeros(rows)),
        "parent_span_id": Values(rows, (Ids(every, zero, zero, 8),)),
    }
    return ScanBatch(np.array([0, rows]), zero[:1], zero[:1], {Field("intrinsic", name): column for name, column in values.items()})


def chain() -> ScanBatch:
    """Every span has one child: rows are depths."""
    depth = np.arange(LARGE)
    return shaped(depth + 1, 2 * LARGE - depth, np.where(depth == 0, -1, depth))


def star() -> ScanBatch:
    """A root with all others as children."""
    place = np.arange(LARGE)
    lefts = np.where(place == 0, 1, 2 * place)
    return shaped(lefts, np.where(place == 0, 2 * LARGE, 2 * place + 1), np.where(place == 0, -1, 1))


A, B = (LARGE + 2) // 3, (LARGE + 1) // 3  # how many are called a, b


@pytest.mark.parametrize(
    ("operator", "in_chain", "in_star"),
    [
        (">", B, B),  # the parent of row i is row i - 1; in the star it is the root, an a
        (">>", B, B),
        ("<", 0, 0),
        ("<<", B - (LARGE % 3 == 2), 0),
        ("~", 0, B),
        ("!>", 0, 0),
        ("!<", B, B),
        ("!~", B, 0),
        ("&>", 2 * B, 1 + B),
        ("&>>", A + B - (LARGE % 3 == 1), 1 + B),
        ("&~", 0, A + B - 1),
    ],
)
def test_large_traces_are_related_in_linear_time(operator: str, in_chain: int, in_star: int) -> None:
    plan = plan_of(f"{{ name = `a` }} {operator} {{ name = `b` }}")
    for batch, expected in ((chain(), in_chain), (star(), in_star)):
        assert find_traces(plan, batch).spans.sum() == expected


def forest() -> list[Span]:
    """Two roots, two tops that name one absent parent, another that names another, a cycle, and twins with children."""
    web = Resource({"service.name": "web"})
    ids = {1: 0, 2: 1, 3: 1, 4: 2, 5: 0, 6: 0x99, 7: 0x99, 8: 0xAA, 9: 10, 10: 11, 11: 9, 12: 5, 13: 12, 14: 6}
    spans = [Span(1, span, 100 + span, 10, parent, name="ab"[span % 2], kind=3, resource=web) for span, parent in ids.items()]
    return [*spans, Span(1, 12, 200, 5, 12, name="a", kind=2, resource=web)]


@pytest.mark.parametrize("operator", OPERATORS)
@pytest.mark.parametrize("sides", [("name = `a`", "name = `b`"), ("true", "true"), ("name = `a`", "true"), ("false", "true")])
def test_every_relation_is_that_of_following_parents(operator: str, sides: tuple[str, str]) -> None:
    query = f"{{ {sides[0]} }} {operator} {{ {sides[1]} }}"
    traces = traces_of(forest())
    for text in (query, f"{{ }} | by(span:id = `2` || span:id = `7`) | {query}"):
        assert corpus_ids(answer_of(text, lambda fields: [batch_of(traces, fields)])) == corpus_ids(search_traces(text, traces))


def corpus_ids(answer: dict[str, dict]) -> list[list[str]]:  # type: ignore[type-arg]
    return sorted(sorted(span[0] for span in one["spans"]) for trace in answer.values() for one in trace["sets"])

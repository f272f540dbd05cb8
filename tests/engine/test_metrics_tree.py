"""What queries make of series: topk, bottomk, comparisons, arithmetic."""

from __future__ import annotations

import numpy as np
import pytest

from spanlake.engine.metrics.labels import NAME
from spanlake.engine.metrics.tree import Table, evaluate_tree
from spanlake.model.results import Attributes, ResultType, TypedValue
from spanlake.query.metrics import plan_of
from spanlake.traceql.plan.metrics.nodes import SeriesPlan

X = np.nan
Points = list[float]
Plain = dict[str, Points]


def labels_of(text: str) -> Attributes:
    """`a=1 b=x`; ints where they are digits; one word is the name."""
    if "=" not in text:
        return ((NAME, TypedValue(ResultType.STRING, text)),)
    pairs = (part.split("=", 1) for part in text.split())
    return tuple((key, TypedValue(ResultType.INT, int(one)) if one.isdigit() else TypedValue(ResultType.STRING, one)) for key, one in pairs)


def text_of(labels: Attributes) -> str:
    return " ".join(str(one.value) if key == NAME else f"{key}={one.value}" for key, one in labels)


def table(series: Plain) -> Table:
    values = np.array(list(series.values())).reshape(len(series), -1 if series else 1)
    return Table(tuple(map(labels_of, series)), values, ((),) * len(series))


def answer(query: str, *leaves: Plain) -> Plain:
    plan = plan_of(query)
    assert isinstance(plan, SeriesPlan)
    assert len(plan.leaves) == len(leaves)
    found = evaluate_tree(plan.tree, [table(leaf) for leaf in leaves])
    return {text_of(labels): points for labels, points in zip(found.labels, found.values.tolist(), strict=True)}


A, B = "{ name = `a` } | rate()", "{ name = `b` } | rate()"
BY_A, BY_B = A + " by (.s)", B + " by (.s)"


@pytest.mark.parametrize(
    ("stages", "series", "expected"),
    [
        ("| topk(1)", {"s=a": [1, 5, X], "s=b": [2, 4, X], "s=c": [0, X, 7]}, {"s=a": [X, 5, X], "s=b": [2, X, X], "s=c": [X, X, 7]}),
        ("| bottomk(1)", {"s=a": [1, 5, X], "s=b": [2, 4, X]}, {"s=a": [1, X, X], "s=b": [X, 4, X]}),
        ("| topk(2)", {"s=a": [1], "s=b": [1], "s=c": [1]}, {"s=a": [1], "s=b": [1]}),  # the first by labels
        ("| bottomk(2)", {"s=a": [1], "s=b": [1], "s=c": [1]}, {"s=b": [1], "s=c": [1]}),  # the last
        ("| topk(1)", {"s=2": [1], "s=10": [1]}, {"s=10": [1]}),  # of numbers the greater
        ("| topk(2)", {"s=a": [3, X], "s=b": [1, 2]}, {"s=a": [3, X], "s=b": [1, 2]}),  # no more series than that: as they are
        ("| topk(1)", {"s=a": [-np.inf], "s=b": [-np.inf]}, {"s=a": [-np.inf]}),
        ("| topk(5) | bottomk(1) > 1", {"s=a": [1, 2], "s=b": [3, 4]}, {"s=a": [X, 2]}),
        ("> 1", {"s=a": [1, 2], "s=b": [1, 0]}, {"s=a": [X, 2]}),
        (">= 100ms < 2", {"s=a": [0.1, 0.09, 2, X]}, {"s=a": [0.1, X, X, X]}),
        ("!= 1", {"s=a": [1, X, 3]}, {"s=a": [X, X, 3]}),
        ("= -1", {"s=a": [1, -1]}, {"s=a": [X, -1]}),
    ],
)
def test_second_stages(stages: str, series: Plain, expected: Plain) -> None:
    np.testing.assert_equal(answer(f"{BY_A} {stages}", series), expected)


@pytest.mark.parametrize(
    ("query", "leaves", "expected"),
    [
        (f"({A}) / ({B})", [{"rate": [4, 1, 0, X]}, {"rate": [2, 0, 0, 1]}], {"(rate / rate)": [2, X, X, X]}),
        (f"({A}) + ({A})", [{"rate": [4]}], {"(rate + rate)": [8]}),  # one leaf, because they are the same
        (f"({A}) - ({B}) * 2", [{"rate": [4]}, {"rate": [1]}], {"(rate - rate)": [2]}),
        (f"100 * ({A})", [{"rate": [4, X]}], {"rate": [400, X]}),
        (f"1 / ({A})", [{"rate": [4, 0]}], {"rate": [0.25, X]}),
        (f"({A}) / 0", [{"rate": [4]}], {}),
        (f"({A}) + (1 / 0)", [{"rate": [4]}], {}),
        (f"({BY_A}) / ({BY_B})", [{"s=a": [4], "s=b": [3]}, {"s=b": [2], "s=c": [1]}], {"s=b": [1.5]}),
        (f"({BY_A}) / ({B})", [{"s=a": [4], "s=b": [3]}, {"rate": [2]}], {"s=a": [2], "s=b": [1.5]}),
        (f"({A}) - ({BY_B})", [{"rate": [2]}, {"s=a": [4], "s=b": [3]}], {"s=a": [-2], "s=b": [-1]}),
        (f"({BY_A}) + ({B})", [{"s=a": [4]}, {}], {}),
        (f"({BY_A} > 3) + ({BY_B})", [{"s=a": [4, 3]}, {"s=a": [1, 1]}], {"s=a": [5, X]}),
        (f"(({BY_A}) + ({BY_B})) > 4", [{"s=a": [4, 3]}, {"s=a": [1, 1]}], {"s=a": [5, X]}),
        (
            f"({A} by (.s, .t)) + ({B} by (.t, .s))",
            [{"s=a t=b": [1]}, {"t=b s=a": [2]}],
            {"s=a t=b": [3]},
        ),
    ],
)
def test_arithmetic(query: str, leaves: list[Plain], expected: Plain) -> None:
    np.testing.assert_equal(answer(query, *leaves), expected)

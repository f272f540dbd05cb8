"""Partial results to series: labels, points, exemplars."""

from __future__ import annotations

from typing import assert_never

import numpy as np
from numpy.typing import NDArray

from spanlake.engine.metrics.functions import counts, extremes, histogram, quantiles, totals
from spanlake.engine.metrics.grid import Grid
from spanlake.engine.metrics.labels import NAME
from spanlake.engine.metrics.partial import LeafPartial
from spanlake.engine.metrics.tree import Mark, Matrix, Table
from spanlake.model.results import Attributes, ResultType, TypedValue
from spanlake.traceql.ast import FieldFunction
from spanlake.traceql.plan.metrics import nodes
from spanlake.traceql.plan.metrics.nodes import Leaf

BUCKET, QUANTILE = "__bucket", "p"


def finish_leaf(leaf: Leaf, partial: LeafPartial, grid: Grid, *, series_max: int) -> Table:
    """The series of a leaf, in the order of those of the partial result; at most so many, the first ones."""
    match leaf.function:
        case nodes.CountSpans() | nodes.ReduceField():
            return _one_each(leaf, partial, _values(leaf.function, partial, grid))
        case nodes.Quantiles():
            return _quantiles(leaf.function, partial, grid, series_max)
        case nodes.Histogram():
            return _histogram(partial, grid, series_max)
        case _:
            assert_never(leaf.function)


def _values(function: nodes.CountSpans | nodes.ReduceField, partial: LeafPartial, grid: Grid) -> Matrix:
    shape = len(partial.series), grid.points
    if isinstance(function, nodes.CountSpans):
        return counts.finish(partial.tables, *shape) / (grid.step_seconds if function.per_second else 1.0)
    if function.function in {FieldFunction.MIN_OVER_TIME, FieldFunction.MAX_OVER_TIME}:
        return extremes.finish(partial.tables, *shape)
    return totals.finish(partial.tables, *shape, average=function.function is FieldFunction.AVG_OVER_TIME)


def _one_each(leaf: Leaf, partial: LeafPartial, values: Matrix) -> Table:
    """One series per combination of by() values; without by() the one series has the name of the function."""
    marks: list[list[Mark]] = [[] for _ in partial.series]
    number = {labels: place for place, labels in enumerate(partial.series)}
    for one in partial.exemplars:
        marks[number[one.series]].append(Mark(one, one.value))
    named: Attributes = ((NAME, _text(leaf.name)),)
    return Table(tuple(labels or named for labels in partial.series), values, tuple(map(tuple, marks)), partial.cut_from is not None)


def _quantiles(function: nodes.Quantiles, partial: LeafPartial, grid: Grid, series_max: int) -> Table:
    """The series of each combination, one per quantile; an exemplar belongs to the quantile at its point that is nearest to its value."""
    share = max(series_max // len(function.quantiles), 1)
    found = quantiles.finish(partial.tables, len(partial.series), grid.points, quantiles=function.quantiles)[:share]
    marks: list[list[Mark]] = [[] for _ in range(found.shape[0] * found.shape[1])]
    number = {labels: place for place, labels in enumerate(partial.series[:share])}
    for one in partial.exemplars:
        if one.series in number and one.value is not None:
            distances = _distances(found[number[one.series], :, one.point], one.value)
            marks[number[one.series] * len(function.quantiles) + int(distances.argmin())].append(Mark(one, one.value))
    labels = tuple((*own, (QUANTILE, _double(quantile))) for own in partial.series[:share] for quantile in function.quantiles)
    return Table(
        labels, found.reshape(-1, grid.points), tuple(map(tuple, marks)), partial.cut_from is not None or share < len(partial.series)
    )


def _distances(numbers: NDArray[np.float64], value: float) -> NDArray[np.float64]:
    """From each number to the value; an infinity is near to itself alone, and what is no number is far from all."""
    with np.errstate(invalid="ignore"):
        return np.where(numbers == value, 0.0, np.nan_to_num(np.abs(numbers - value), nan=np.inf))


def _histogram(partial: LeafPartial, grid: Grid, series_max: int) -> Table:
    (series, buckets, found), cut = histogram.finish(partial.tables, grid.points, pairs_max=series_max)
    pairs = list(zip(series.tolist(), buckets.tolist(), strict=True))
    number = {(partial.series[one], bucket): place for place, (one, bucket) in enumerate(pairs)}
    marks: list[list[Mark]] = [[] for _ in pairs]
    for one in partial.exemplars:
        if (one.series, one.bucket) in number:
            marks[number[one.series, one.bucket]].append(Mark(one, None))
    labels = tuple((*partial.series[one], (BUCKET, _double(histogram.bound_of(bucket)))) for one, bucket in pairs)
    return Table(labels, found, tuple(map(tuple, marks)), partial.cut_from is not None or cut)


def _text(text: str) -> TypedValue:
    return TypedValue(ResultType.STRING, text)


def _double(number: float) -> TypedValue:
    return TypedValue(ResultType.DOUBLE, number)

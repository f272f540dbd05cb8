"""The spans that a function looks at, and the numbers in a field of theirs."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spanlake.engine.values.compare import numeric_parts
from spanlake.engine.values.parts import Rows
from spanlake.model.scan import NumberType, Values

NS_PER_SECOND = 1_000_000_000


@dataclass(frozen=True, slots=True)
class Spans:
    """`keys`: per span its series * points + its point, below `bound`. `values`: of the field of the function, if it has one.

    `weights`: how many spans each stands for; None: itself alone.
    """

    keys: Rows
    bound: int
    values: Values | None = None
    weights: NDArray[np.float64] | None = None


@dataclass(frozen=True, slots=True)
class NumbersOfSpans:
    """Spans that have a number in the field, all of one type. Ints and durations are int64, floats float64 and never NaN."""

    type: NumberType
    numbers: NDArray[Any]
    keys: Rows
    weights: NDArray[np.float64] | None

    def in_units(self) -> NDArray[np.float64]:
        """Durations in seconds, other numbers as they are."""
        floats = self.numbers.astype(np.float64, copy=False)
        return floats / NS_PER_SECOND if self.type is NumberType.DURATION else floats


def numbers_of(spans: Spans) -> Iterator[NumbersOfSpans]:
    """The numbers of the field by type. Everything else, NaN and arrays too, is ignored."""
    assert spans.values is not None
    for part in numeric_parts(spans.values):
        valid = part.valid
        if part.values.dtype.kind == "f":
            valid = valid & ~np.isnan(part.values)
        if valid.all():
            yield NumbersOfSpans(part.type, part.values, spans.keys, spans.weights)
        elif valid.any():
            rows = np.flatnonzero(valid)
            weights = None if spans.weights is None else spans.weights[rows]
            yield NumbersOfSpans(part.type, part.values[rows], spans.keys[rows], weights)

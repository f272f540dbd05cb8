"""min, max, sum and avg over numbers.

All ints, floats and durations count, everything else is ignored. A group of one type keeps it (avg of ints is a float); of mixed types the
result is a float. Sums are exact: an int or duration beyond 64 bits becomes a float. NaN is ignored by min and max, not by the others.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import assert_never

import numpy as np
from numpy.typing import NDArray

from spanlake.engine.values.compare import numeric_parts
from spanlake.engine.values.parts import Mask, Rows
from spanlake.model.scan import Numbers, NumberType, Values
from spanlake.traceql.ast import Reducer

_LOW_BITS = 32
_INT = np.iinfo(np.int64)


@dataclass(frozen=True, slots=True)
class TypeState:
    """What was seen of one type: per group how many, the least and the greatest, and the sum as total * 2^32 + low."""

    count: NDArray[np.int64]
    least: NDArray[np.int64] | NDArray[np.float64]
    greatest: NDArray[np.int64] | NDArray[np.float64]
    total: NDArray[np.int64] | NDArray[np.float64]
    low: NDArray[np.int64]  # zeros for floats, whose total is the sum


@dataclass(frozen=True, slots=True)
class NumberState:
    """Per type of number. The types that were never seen are not there."""

    groups: int
    types: dict[NumberType, TypeState]


def observe(values: Values, group_of_row: Rows, groups: int) -> NumberState:
    """The state of some rows; `group_of_row` has the group of each."""
    result = NumberState(groups, {})
    for part in numeric_parts(values):
        rows = np.flatnonzero(part.valid)
        if len(rows):
            state = _observe_type(part.values[rows], group_of_row[rows], groups)
            result = merge(result, NumberState(groups, {part.type: state}))
    return result


def _observe_type(numbers: NDArray[np.int64] | NDArray[np.float64], group: Rows, groups: int) -> TypeState:
    count = np.bincount(group, minlength=groups)
    low = np.zeros(groups, np.int64)
    if numbers.dtype.kind == "f":
        least, greatest = np.full(groups, np.nan), np.full(groups, np.nan)
        np.fmin.at(least, group, numbers)
        np.fmax.at(greatest, group, numbers)
        total = np.zeros(groups, np.float64)
        np.add.at(total, group, numbers)
        return TypeState(count, least, greatest, total, low)
    whole: NDArray[np.int64] = numbers.astype(np.int64, copy=False)
    lowest, highest = np.full(groups, _INT.max), np.full(groups, _INT.min)
    np.minimum.at(lowest, group, whole)
    np.maximum.at(highest, group, whole)
    high = np.zeros(groups, np.int64)
    np.add.at(high, group, whole >> _LOW_BITS)
    np.add.at(low, group, whole & ((1 << _LOW_BITS) - 1))
    return TypeState(count, lowest, highest, high, low)


def merge(left: NumberState, right: NumberState) -> NumberState:
    """The state of the rows of both; their groups are the same."""
    types = dict(left.types)
    for number, state in right.types.items():
        types[number] = _merge_type(types[number], state) if number in types else state
    return NumberState(left.groups, types)


def _merge_type(left: TypeState, right: TypeState) -> TypeState:
    least, greatest = np.fmin(left.least, right.least), np.fmax(left.greatest, right.greatest)
    return TypeState(left.count + right.count, least, greatest, left.total + right.total, left.low + right.low)


def finish(state: NumberState, reducer: Reducer) -> Values:
    """One value per group; groups without a number have none."""
    types_seen = sum((one.count > 0).astype(np.int64) for one in state.types.values()) + np.zeros(state.groups, np.int64)
    parts: list[Numbers] = []
    for number, one in state.types.items():
        parts += _finish_type(number, one, reducer, (one.count > 0) & (types_seen == 1))
    mixed = types_seen > 1
    if mixed.any():
        parts.append(Numbers(NumberType.FLOAT, mixed, _finish_mixed(list(state.types.values()), reducer)))
    return Values(state.groups, tuple(part for part in parts if part.valid.any()))


def _finish_type(number: NumberType, state: TypeState, reducer: Reducer, valid: Mask) -> list[Numbers]:
    match reducer:
        case Reducer.MIN:
            return [Numbers(number, valid, state.least)]
        case Reducer.MAX:
            return [Numbers(number, valid, state.greatest)]
        case Reducer.SUM:
            if number is NumberType.FLOAT:
                return [Numbers(number, valid, state.total)]
            fits, whole = _whole(state)
            return [Numbers(number, valid & fits, whole), Numbers(NumberType.FLOAT, valid & ~fits, _sum(state))]
        case Reducer.AVG:
            return [_average(number, state, valid)]
        case _:
            assert_never(reducer)


def _average(number: NumberType, state: TypeState, valid: Mask) -> Numbers:
    count = np.maximum(state.count, 1)
    if number is not NumberType.DURATION:
        return Numbers(NumberType.FLOAT, valid, _sum(state) / count)
    # (total * 2^32 + low) / count, rounded towards zero, in parts that fit: an average is never beyond 64 bits.
    quotient, rest = np.divmod(state.total + (state.low >> _LOW_BITS), count)
    below = (rest << _LOW_BITS) + (state.low & ((1 << _LOW_BITS) - 1))
    average = (quotient << _LOW_BITS) + below // count
    return Numbers(number, valid, average + ((average < 0) & (below % count != 0)))


def _whole(state: TypeState) -> tuple[Mask, NDArray[np.int64]]:
    """Which sums fit into 64 bits, and those."""
    high = state.total + (state.low >> _LOW_BITS)
    fits = (high >= -(1 << 31)) & (high < 1 << 31)
    return fits, (np.where(fits, high, 0).astype(np.int64) << _LOW_BITS) + (state.low & ((1 << _LOW_BITS) - 1))


def _sum(state: TypeState) -> NDArray[np.float64]:
    if state.total.dtype.kind == "f":
        return state.total.astype(np.float64)
    fits, whole = _whole(state)
    return np.where(fits, whole.astype(np.float64), state.total * 2.0**_LOW_BITS + state.low)


def _finish_mixed(states: list[TypeState], reducer: Reducer) -> NDArray[np.float64]:
    if reducer in {Reducer.MIN, Reducer.MAX}:
        function = np.fmin if reducer is Reducer.MIN else np.fmax
        ends = [state.least if reducer is Reducer.MIN else state.greatest for state in states]
        seen = [np.where(state.count > 0, end, np.nan) for state, end in zip(states, ends, strict=True)]
        result: NDArray[np.float64] = function.reduce(seen)
        return result
    total = np.sum([_sum(state) for state in states], axis=0)
    if reducer is Reducer.SUM:
        return np.asarray(total, np.float64)
    return np.asarray(total / np.maximum(np.sum([state.count for state in states], axis=0), 1), np.float64)

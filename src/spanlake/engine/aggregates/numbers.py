"""min, max, sum and avg over numbers.

All ints, floats and durations count, everything else is ignored. The least and the greatest keep their type; of equal numbers of different
types an int comes before a duration before a float. Sum and avg of a group of one type keep it too (but avg of ints is a float), of mixed
types they are floats. Sums are exact: one of ints or durations beyond 64 bits becomes a float. NaN is ignored by min and max, unless there
is nothing else.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from spanlake.engine.values.compare import numeric_parts
from spanlake.engine.values.numbers import compare_numbers
from spanlake.engine.values.parts import Mask, Rows
from spanlake.model.scan import Numbers, NumberType, Values
from spanlake.traceql.ast import Operator, Reducer

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


@np.errstate(over="ignore", invalid="ignore")  # sums of floats reach infinity and NaN as they do in IEEE 754
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


@np.errstate(over="ignore", invalid="ignore")
def merge(left: NumberState, right: NumberState) -> NumberState:
    """The state of the rows of both; their groups are the same."""
    types = dict(left.types)
    for number, state in right.types.items():
        types[number] = _merge_type(types[number], state) if number in types else state
    return NumberState(left.groups, types)


def _merge_type(left: TypeState, right: TypeState) -> TypeState:
    least, greatest = np.fmin(left.least, right.least), np.fmax(left.greatest, right.greatest)
    return TypeState(left.count + right.count, least, greatest, left.total + right.total, left.low + right.low)


@np.errstate(over="ignore", invalid="ignore")
def finish(state: NumberState, reducer: Reducer) -> Values:
    """One value per group; groups without a number have none."""
    parts = _extremes(state, reducer) if reducer in {Reducer.MIN, Reducer.MAX} else _totals(state, reducer)
    return Values(state.groups, tuple(part for part in parts if part.valid.any()))


def _extremes(state: NumberState, reducer: Reducer) -> list[Numbers]:
    """Per type where its number goes beyond those of the types before it: exact, so column by column."""
    beyond = Operator.LESS if reducer is Reducer.MIN else Operator.GREATER
    parts: list[Numbers] = []
    for number in (NumberType.INT, NumberType.DURATION, NumberType.FLOAT):
        one = state.types.get(number)
        if one is None:
            continue
        values = one.least if reducer is Reducer.MIN else one.greatest
        valid = one.count > 0
        for before in parts:
            valid = valid & (~before.valid | compare_numbers(beyond, values, before.values))
        parts = [Numbers(before.type, before.valid & ~valid, before.values) for before in parts]
        parts.append(Numbers(number, valid, values))
    return parts


def _totals(state: NumberState, reducer: Reducer) -> list[Numbers]:
    types_seen = sum((one.count > 0).astype(np.int64) for one in state.types.values()) + np.zeros(state.groups, np.int64)
    parts: list[Numbers] = []
    for number, one in state.types.items():
        valid = (one.count > 0) & (types_seen == 1)
        parts += [_average(number, one, valid)] if reducer is Reducer.AVG else _total(number, one, valid)
    if (types_seen > 1).any():
        parts.append(Numbers(NumberType.FLOAT, types_seen > 1, _mixed_total(list(state.types.values()), reducer)))
    return parts


def _total(number: NumberType, state: TypeState, valid: Mask) -> list[Numbers]:
    if number is NumberType.FLOAT:
        return [Numbers(number, valid, state.total)]
    fits, whole = _whole(state)
    return [Numbers(number, valid & fits, whole), Numbers(NumberType.FLOAT, valid & ~fits, _sum(state))]


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


def _mixed_total(states: list[TypeState], reducer: Reducer) -> NDArray[np.float64]:
    total = np.sum([_sum(state) for state in states], axis=0)
    counts = np.sum([state.count for state in states], axis=0)
    return np.asarray(total if reducer is Reducer.SUM else total / np.maximum(counts, 1), np.float64)

"""Numbers: exact comparison across ints, floats and durations, and arithmetic with the rules of the language.

Ints are 64 bits and wrap; anything with a float or a duration is computed in floats, on nanoseconds. Comparisons never round: an int and a
float are equal only if they are the same number.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spanlake.engine.values.parts import Mask
from spanlake.model.scan import Numbers, NumberType
from spanlake.traceql.ast import Operator
from spanlake.traceql.vocabulary import INT_MAX, INT_MIN

NUMERIC = frozenset({NumberType.INT, NumberType.FLOAT, NumberType.DURATION})
Array = NDArray[np.int64] | NDArray[np.float64]
_COMPARE: dict[Operator, Callable[[Any, Any], Any]] = {
    Operator.EQUAL: np.equal,
    Operator.NOT_EQUAL: np.not_equal,
    Operator.LESS: np.less,
    Operator.LESS_EQUAL: np.less_equal,
    Operator.GREATER: np.greater,
    Operator.GREATER_EQUAL: np.greater_equal,
}


def comparable(left: NumberType, right: NumberType, operator: Operator) -> bool:
    """Whether the types have this comparison; without one it is false."""
    if left in NUMERIC and right in NUMERIC:
        return True
    return left is right and operator in {Operator.EQUAL, Operator.NOT_EQUAL}


def compare_number(operator: Operator, values: Array, constant: float) -> Mask:
    """Per value whether `value operator constant` holds."""
    decided = _in_floats(operator, constant) if values.dtype.kind == "f" else _in_integers(operator, constant)
    if isinstance(decided, bool):
        return np.full(len(values), decided)
    result: Mask = _COMPARE[decided[0]](values, decided[1])
    return result


def _in_integers(operator: Operator, constant: float) -> tuple[Operator, int] | bool:
    """The same comparison of an int64 with an int64, or what it is for all of them."""
    if math.isnan(constant):
        return operator is Operator.NOT_EQUAL
    if constant > INT_MAX or constant < INT_MIN:
        return _beyond(operator, above=constant > 0)
    whole = math.floor(constant)
    return (operator, whole) if whole == constant else _between(operator, whole)


def _beyond(operator: Operator, *, above: bool) -> bool:
    """The comparison of any value with something above, or below, all values."""
    lesser = operator in {Operator.LESS, Operator.LESS_EQUAL}
    greater = operator in {Operator.GREATER, Operator.GREATER_EQUAL}
    return operator is Operator.NOT_EQUAL or (lesser and above) or (greater and not above)


def _between(operator: Operator, below: float) -> tuple[Operator, Any] | bool:
    """The comparison with something that lies between `below` and the next value that there can be."""
    if operator in {Operator.EQUAL, Operator.NOT_EQUAL}:
        return operator is Operator.NOT_EQUAL
    return (Operator.LESS_EQUAL if operator in {Operator.LESS, Operator.LESS_EQUAL} else Operator.GREATER), below


def _in_floats(operator: Operator, constant: float) -> tuple[Operator, float] | bool:
    """The same comparison of a float with a float, or what it is for all of them (NaN does not get here: it is a float)."""
    nearest = float(constant)
    if math.isnan(nearest) or nearest == constant:
        return operator, nearest
    below = nearest if nearest < constant else math.nextafter(nearest, -math.inf)
    return _between(operator, below)


def compare_numbers(operator: Operator, left: Array, right: Array) -> Mask:
    """Per row whether `left operator right` holds."""
    if left.dtype.kind == right.dtype.kind:
        result: Mask = _COMPARE[operator](left, right)
        return result
    if left.dtype.kind == "f":
        return compare_numbers(_TURNED.get(operator, operator), right, left)
    # Rounding keeps order, so only where the rounded int equals the float can the int itself still be on either side.
    rounded = left.astype(np.float64)
    tied = rounded == right
    with np.errstate(invalid="ignore"):
        whole = np.where(tied & (right < 2.0**63), right, 0.0).astype(np.int64)
    result = _COMPARE[operator](rounded, right)
    exact = np.where(right < 2.0**63, _COMPARE[operator](left, whole), _COMPARE[operator](0, 1))
    return np.where(tied, exact, result)


_TURNED = {
    Operator.LESS: Operator.GREATER,
    Operator.LESS_EQUAL: Operator.GREATER_EQUAL,
    Operator.GREATER: Operator.LESS,
    Operator.GREATER_EQUAL: Operator.LESS_EQUAL,
}


def negative(numbers: Numbers) -> Numbers:
    """Minus; the least int is its own negative."""
    with np.errstate(over="ignore"):
        return Numbers(numbers.type, numbers.valid, -numbers.values)


def arithmetic(operator: Operator, left: Numbers, right: Numbers) -> list[Numbers]:
    """`left operator right` where both are valid; both types are NUMERIC."""
    valid = left.valid & right.valid
    with np.errstate(all="ignore"):
        if left.type is NumberType.INT and right.type is NumberType.INT and operator is not Operator.POWER:
            values, defined = _integers(operator, left.values.astype(np.int64), right.values.astype(np.int64))
            return [Numbers(NumberType.INT, valid & defined, values)]
        floats = _FLOATS[operator](left.values.astype(np.float64), right.values.astype(np.float64))
        if left.type is NumberType.INT and right.type is NumberType.INT:
            exact = _has_integer_power(right.values, floats)
            powers = np.power(left.values.astype(np.int64), np.where(exact, right.values, 0).astype(np.int64))
            return [Numbers(NumberType.INT, valid & exact, powers), Numbers(NumberType.FLOAT, valid & ~exact, floats)]
        return [Numbers(NumberType.FLOAT, valid, floats)]


def _has_integer_power(exponent: Array, power: NDArray[np.float64]) -> Mask:
    """Whether the power of an int is an int of 64 bits, given its rounded value.

    Rounding does not matter: the only powers with an exponent above 1 that are as near to 2^63 as a float's error are those of two.
    """
    fits = (power >= -(2.0**63)) & (power < 2.0**63)
    return (exponent >= 0) & (exponent < 64) & (fits | (exponent <= 1))


_FLOATS: dict[Operator, Callable[[Any, Any], Any]] = {
    Operator.ADD: np.add,
    Operator.SUBTRACT: np.subtract,
    Operator.MULTIPLY: np.multiply,
    Operator.DIVIDE: np.divide,
    Operator.MODULO: np.fmod,
    Operator.POWER: np.power,
}


def _integers(operator: Operator, left: NDArray[np.int64], right: NDArray[np.int64]) -> tuple[NDArray[np.int64], Mask]:
    """Results, and where there is one: not of a division by zero."""
    always = np.ones(len(left), np.bool_)
    match operator:
        case Operator.ADD | Operator.SUBTRACT | Operator.MULTIPLY:
            return _FLOATS[operator](left, right), always
        case Operator.DIVIDE:
            divisor = np.where(right == 0, 1, right)
            quotient = left // divisor
            towards_zero = (left % divisor != 0) & ((left < 0) != (divisor < 0))
            return quotient + towards_zero, right != 0
        case _:
            assert operator is Operator.MODULO
            return np.fmod(left, np.where(right == 0, 1, right)), right != 0

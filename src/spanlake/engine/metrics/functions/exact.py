"""Sums of floats without rounding, so that their order does not matter.

A float is an integer of 53 bits times a power of two. Written as three digits of 32 bits at its place in one long number, its digits are
added to those of the others at the same place, as integers: nothing is lost, and digits of tables are added like counts. Only at the end
the digits become a float again. Infinities are counted in places of their own.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from spanlake.engine.metrics.cells import Cells, Layout, merged
from spanlake.engine.values.parts import Rows

DIGITS_LAYOUT = Layout((np.add,), bits=7)
_DIGIT_BITS = 32
_DIGIT_MASK = (1 << _DIGIT_BITS) - 1
_LEAST_EXPONENT = -1074  # of the last bit of the least float
_PLACES = 68  # 2098 bits of floats, and as many again for the number of floats
_POSITIVE_INFINITY, _NEGATIVE_INFINITY = 126, 127
_CELLS_AT_ONCE = 1 << 14


def observe_floats(keys: Rows, numbers: NDArray[np.float64]) -> Cells:
    """The digits of floats (never NaN) by key; in a table a key is followed by the place of its digit."""
    infinite = np.isinf(numbers)
    parts = [_infinities(keys[infinite], numbers[infinite])]
    finite = np.where(infinite, 0.0, numbers)
    mantissas, exponents = np.frexp(finite)
    whole = np.abs(np.ldexp(mantissas, 53)).astype(np.int64)
    # Subnormal floats have fewer bits; their mantissa ends in zeros, so that shifting them away is exact.
    exponent = exponents.astype(np.int64) - 53
    below = np.maximum(_LEAST_EXPONENT - exponent, 0)
    place, shift = np.divmod(np.maximum(exponent - _LEAST_EXPONENT, 0), _DIGIT_BITS)
    whole >>= below
    sign = np.where(finite < 0, -1, 1)
    low, high = (whole & _DIGIT_MASK) << shift, (whole >> _DIGIT_BITS) << shift
    carried = (low >> _DIGIT_BITS) + (high & _DIGIT_MASK)
    base = keys << DIGITS_LAYOUT.bits
    for offset, digit in enumerate((low & _DIGIT_MASK, carried, high >> _DIGIT_BITS)):
        used = np.flatnonzero(digit)
        parts.append(Cells(base[used] + place[used] + offset, (digit[used] * sign[used],)))
    return merged(parts, DIGITS_LAYOUT)


def _infinities(keys: Rows, numbers: NDArray[np.float64]) -> Cells:
    places = np.where(numbers > 0, _POSITIVE_INFINITY, _NEGATIVE_INFINITY)
    return Cells((keys << DIGITS_LAYOUT.bits) + places, (np.ones(len(keys), np.int64),))


def finish_floats(digits: Cells, keys: Rows, divisors: NDArray[np.float64]) -> NDArray[np.float64]:
    """The sum for each of some ascending keys divided by its divisor, 0.0 where there are no digits, rounded at most in the last bits; NaN
    for both infinities. A sum that no float holds may have a quotient that one does."""
    result = np.zeros(len(keys))
    for begin in range(0, len(keys), _CELLS_AT_ONCE):
        some = keys[begin : begin + _CELLS_AT_ONCE]
        first, last = np.searchsorted(digits.keys, [some[0] << DIGITS_LAYOUT.bits, (some[-1] + 1) << DIGITS_LAYOUT.bits])
        key, place = np.divmod(digits.keys[first:last], 1 << DIGITS_LAYOUT.bits)
        matrix = np.zeros((1 << DIGITS_LAYOUT.bits, len(some)), np.int64)
        cell = np.searchsorted(some, key)
        known = some[np.minimum(cell, len(some) - 1)] == key
        matrix[place[known], cell[known]] = digits.columns[0][first:last][known]
        result[begin : begin + len(some)] = _floats(matrix, divisors[begin : begin + len(some)])
    return result


@np.errstate(over="ignore", invalid="ignore")
def _floats(digits: NDArray[np.int64], divisors: NDArray[np.float64]) -> NDArray[np.float64]:
    """Digits, shape (places, sums), as floats, divided. Carrying makes every digit at most half of its base, so that the first one
    decides the sign, and adding from the greatest cancels nothing."""
    carry = np.zeros(digits.shape[1], np.int64)
    for place in range(_PLACES + 2):
        digit = digits[place] + carry
        carry = (digit + (1 << (_DIGIT_BITS - 1))) >> _DIGIT_BITS
        digits[place] = digit - (carry << _DIGIT_BITS)
    places = np.arange(_PLACES + 2)[:, None]
    top = np.max(np.where(digits[: _PLACES + 2] != 0, places, 0), axis=0)
    result = np.zeros(digits.shape[1])
    for place in range(_PLACES + 1, -1, -1):  # relative to the first digit, because 2^1024 - 1 is a float but 2^1024 is none
        result += np.ldexp(digits[place].astype(np.float64), (place - top) * _DIGIT_BITS)
    result = np.ldexp(result / divisors, top * _DIGIT_BITS + _LEAST_EXPONENT)
    result = np.where(digits[_POSITIVE_INFINITY] > 0, np.inf, result)
    negative = digits[_NEGATIVE_INFINITY] > 0
    return np.where(negative, np.where(np.isposinf(result) & (digits[_POSITIVE_INFINITY] > 0), np.nan, -np.inf), result)

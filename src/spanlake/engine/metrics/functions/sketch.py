"""Buckets of numbers for quantiles: every power of two is divided into 128 buckets of the same width.

A bucket is found by shifting the bits of a float, because these are exponent and leading digits already. Its number stands for its end
that is nearer to zero, which is less than 0.8 % (2^-7) away from everything in it; ints up to 256, and zero, stand for themselves. Negative
numbers have negative buckets. So the order of buckets is the order of numbers.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from spanlake.engine.values.parts import Rows

BUCKET_BITS = 19
_DROPPED_BITS = 52 - 7
_MAGNITUDE = np.int64(0x7FFF_FFFF_FFFF_FFFF)
_ZERO_BUCKET = 1 << (BUCKET_BITS - 1)


def buckets_of(numbers: NDArray[np.float64]) -> Rows:
    """The bucket of each number, from 0 to 2^BUCKET_BITS - 1; no number is NaN."""
    bits = np.ascontiguousarray(numbers).view(np.int64)
    magnitude = (bits & _MAGNITUDE) >> _DROPPED_BITS
    if not len(bits) or bits.min() >= 0:
        return magnitude + _ZERO_BUCKET
    return np.where(bits < 0, -magnitude, magnitude) + _ZERO_BUCKET


def numbers_of_buckets(buckets: Rows) -> NDArray[np.float64]:
    """What buckets stand for."""
    signed = buckets - _ZERO_BUCKET
    magnitudes: NDArray[np.float64] = (np.abs(signed) << _DROPPED_BITS).view(np.float64)
    return np.where(signed < 0, -magnitudes, magnitudes)

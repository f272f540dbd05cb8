"""Whether a predicate may hold for some value of a range, of a dictionary or of a key: sound, never exact.

Everything here answers "may". A condition that compares a value with a constant of another type never holds in TraceQL, except that nothing
is assumed of `!=`. Integers meet floats as in Python, which compares them exactly.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from spanlake.model.scan import Comparison, Predicate

_NUMERIC = (int, float)


def types_may_hold(predicate: Predicate, types: tuple[str, ...]) -> bool:
    """Whether values of these types (`blocks.build.choose.TYPE_NAMES`) can satisfy a predicate."""
    if not types:
        return False
    if predicate.comparison in (Comparison.EXISTS, Comparison.NOT_EQUAL) or "array" in types:
        return True
    operand = predicate.operand
    if isinstance(operand, str):
        return "string" in types
    if isinstance(operand, bool):
        return "bool" in types
    return "int" in types or "double" in types


def range_may_hold(predicate: Predicate, least: Any, greatest: Any) -> bool:
    """Whether a value between `least` and `greatest` (same type, both included) can satisfy a predicate."""
    operand, comparison = predicate.operand, predicate.comparison
    if comparison in (Comparison.EXISTS, Comparison.NOT_EQUAL, Comparison.MATCH):
        return True
    if not _are_comparable(operand, least):
        return False
    match comparison:
        case Comparison.EQUAL:
            return bool(least <= operand <= greatest)
        case Comparison.LESS:
            return bool(least < operand)
        case Comparison.LESS_EQUAL:
            return bool(least <= operand)
        case Comparison.GREATER:
            return bool(greatest > operand)
        case _:
            return bool(greatest >= operand)


def _are_comparable(operand: Any, value: Any) -> bool:
    if isinstance(operand, str):
        return isinstance(value, str)
    return isinstance(value, _NUMERIC)


def values_may_hold(predicate: Predicate, values: pa.Array) -> NDArray[np.bool_]:
    """Per value of a dictionary, whether it can satisfy a predicate."""
    count = len(values)
    operand, comparison = predicate.operand, predicate.comparison
    is_text = pa.types.is_string(values.type)
    if comparison in (Comparison.EXISTS, Comparison.NOT_EQUAL):
        return np.ones(count, np.bool_)
    if isinstance(operand, str) != is_text:
        return np.zeros(count, np.bool_)
    if comparison is Comparison.MATCH:
        return _matches(str(operand), values)
    if isinstance(operand, str):
        return _strings_may_hold(predicate, values)
    # Few values, and Python compares int with float exactly.
    return np.array([range_may_hold(predicate, value, value) for value in values.to_pylist()], np.bool_)


def _strings_may_hold(predicate: Predicate, values: pa.Array) -> NDArray[np.bool_]:
    """Strings are compared by their bytes."""
    compare = {
        Comparison.EQUAL: pc.equal,
        Comparison.LESS: pc.less,
        Comparison.LESS_EQUAL: pc.less_equal,
        Comparison.GREATER: pc.greater,
        Comparison.GREATER_EQUAL: pc.greater_equal,
    }[predicate.comparison]
    held: NDArray[np.bool_] = compare(values, pa.scalar(predicate.operand, pa.string())).to_numpy(zero_copy_only=False)
    return held


def _matches(pattern: str, values: pa.Array) -> NDArray[np.bool_]:
    try:
        matched = pc.match_substring_regex(values, rf"\A(?s:{pattern})\z")
    except pa.ArrowInvalid:  # the engine says what is wrong with it
        return np.ones(len(values), np.bool_)
    held: NDArray[np.bool_] = matched.to_numpy(zero_copy_only=False)
    return held

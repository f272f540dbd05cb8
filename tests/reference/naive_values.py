"""Values of the naive evaluator: a value is a pair (type, content), a missing one is None.

The rules: numbers compare as numbers whatever their type, and exactly, as Python does; strings are never numbers; enumerations equal only
their own kind; an array satisfies `= =~ < <= > >=` with any element, and `!= !~` with none that equals or matches. What cannot be computed
has no value.
"""

from __future__ import annotations

import math
import operator as operators
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from naive_spans import RawValue

from spanlake.traceql.ast import ARITHMETIC, EQUALITY, REGEX, Operator
from spanlake.traceql.durations import format_duration

NUMERIC = ("int", "float", "duration")
INT_MIN, INT_MAX = -(1 << 63), (1 << 63) - 1


@dataclass(frozen=True, slots=True)
class Value:
    """type: int float string bool duration status kind, trace_id span_id (content: a number), array (content: tuple of Values), opaque."""

    type: str
    content: Any = None


def boolean(*, truth: bool) -> Value:
    return Value("bool", truth)


def is_true(value: Value | None) -> bool:
    """Whether it is the boolean true; nil and everything else count as false (B8)."""
    return value is not None and value.type == "bool" and value.content is True


def value_of(raw: RawValue) -> Value:
    """An attribute value as TraceQL sees it. An array of one is its element; bytes, maps, empty and mixed arrays are opaque (B24)."""
    if isinstance(raw, list):
        elements = tuple(value_of(element) for element in raw)
        if not elements or len({element.type for element in elements}) > 1 or elements[0].type in {"opaque", "array"}:
            return Value("opaque")
        if any(isinstance(element, list) for element in raw):
            return Value("opaque")
        return elements[0] if len(elements) == 1 else Value("array", elements)
    for python_type, name in ((bool, "bool"), (int, "int"), (float, "float"), (str, "string")):
        if isinstance(raw, python_type):
            return Value(name, raw)
    return Value("opaque")


# ---- comparisons ----

_COMPARE: dict[Operator, Callable[[Any, Any], bool]] = {
    Operator.EQUAL: operators.eq,
    Operator.NOT_EQUAL: operators.ne,
    Operator.LESS: operators.lt,
    Operator.LESS_EQUAL: operators.le,
    Operator.GREATER: operators.gt,
    Operator.GREATER_EQUAL: operators.ge,
}


def compare(operator: Operator, left: Value | None, right: Value | None) -> bool:
    """Whether the comparison holds; one with a missing value never does (C2)."""
    if left is None or right is None or (left.type == "array" and right.type == "array"):
        return False
    if left.type == "array":
        pairs = [(element, right) for element in left.content]
    elif right.type == "array":
        pairs = [(left, element) for element in right.content]
    else:
        return _compare_scalars(operator, left, right)
    holds = all if operator in {Operator.NOT_EQUAL, Operator.NOT_MATCH} else any
    return holds(_compare_scalars(operator, *pair) for pair in pairs)


def _compare_scalars(operator: Operator, left: Value, right: Value) -> bool:
    if operator in REGEX:
        text = content_text(left)
        if text is None or right.type != "string":
            return False
        return (re.compile(right.content, re.DOTALL).fullmatch(text) is not None) is (operator is Operator.MATCH)
    if left.type.endswith("_id") or right.type.endswith("_id"):
        return _compare_ids(operator, left, right)
    if left.type in NUMERIC and right.type in NUMERIC:
        return _COMPARE[operator](left.content, right.content)
    if left.type != right.type or left.type == "opaque":
        return False
    if left.type == "string":
        return _COMPARE[operator](left.content.encode(), right.content.encode())
    return operator in EQUALITY and _COMPARE[operator](left.content, right.content)


def content_text(value: Value) -> str | None:
    """The text that regular expressions see: of strings and ids only."""
    return display(value)[1] if value.type in {"string", "trace_id", "span_id"} else None


def _compare_ids(operator: Operator, left: Value, right: Value) -> bool:
    """Ids compare as bytes, hexadecimal text padded on the left (B13); text that is no id differs from every id."""
    if operator not in EQUALITY or not all(side.type in {"string", "trace_id", "span_id"} for side in (left, right)):
        return False
    digits = max(32 if side.type == "trace_id" else 16 for side in (left, right) if side.type != "string")
    one, other = (_id_number(side, digits) for side in (left, right))
    return (one is not None and one == other) is (operator is Operator.EQUAL)


def _id_number(value: Value, digits: int) -> int | None:
    if value.type != "string":
        return int(value.content)
    return int(value.content or "0", 16) if re.fullmatch(rf"[0-9a-fA-F]{{0,{digits}}}", value.content) else None


# ---- arithmetic ----


def negate(operand: Value | None) -> Value | None:
    """Unary minus: of numbers only."""
    if operand is None or operand.type not in NUMERIC:
        return None
    return Value(operand.type, -operand.content if operand.type == "float" else wrapped(-operand.content))


def calculate(operator: Operator, left: Value | None, right: Value | None) -> Value | None:
    """Arithmetic: int with int in 64 bits, everything else in floats; None where there is no result (B4, B25)."""
    assert operator in ARITHMETIC
    if left is None or right is None or left.type not in NUMERIC or right.type not in NUMERIC:
        return None
    if left.type == right.type == "int":
        return _calculate_ints(operator, left.content, right.content)
    return Value("float", _calculate_floats(operator, float(left.content), float(right.content)))


def _calculate_ints(operator: Operator, left: int, right: int) -> Value | None:
    if operator is Operator.POWER:
        return _power_of_ints(left, right)
    if operator in {Operator.DIVIDE, Operator.MODULO}:
        if right == 0:
            return None
        quotient = abs(left) // abs(right) * (1 if (left < 0) is (right < 0) else -1)
        return Value("int", wrapped(quotient if operator is Operator.DIVIDE else left - quotient * right))
    simple = {Operator.ADD: operators.add, Operator.SUBTRACT: operators.sub, Operator.MULTIPLY: operators.mul}
    return Value("int", wrapped(simple[operator](left, right)))


def _power_of_ints(base: int, exponent: int) -> Value:
    """The whole number; where it leaves 64 bits or is a fraction, the float."""
    if 0 <= exponent < 64 and INT_MIN <= base**exponent <= INT_MAX:
        return Value("int", base**exponent)
    return Value("float", _calculate_floats(Operator.POWER, float(base), float(exponent)))


def _calculate_floats(operator: Operator, left: float, right: float) -> float:
    """IEEE 754 without exceptions."""
    try:
        match operator:
            case Operator.ADD:
                return left + right
            case Operator.SUBTRACT:
                return left - right
            case Operator.MULTIPLY:
                return left * right
            case Operator.DIVIDE:
                return left / right
            case Operator.MODULO:
                return math.fmod(left, right)
            case _:
                return math.pow(left, right)
    except ZeroDivisionError:
        return math.nan if left == 0 or math.isnan(left) else math.copysign(math.inf, left) * math.copysign(1.0, right)
    except OverflowError:
        return -math.inf if left < 0 and right % 2 == 1 else math.inf
    except ValueError:
        return math.inf if operator is Operator.POWER and left == 0 else math.nan


def wrapped(value: int) -> int:
    """The number in 64 bits, two's complement."""
    return (value + (1 << 63)) % (1 << 64) - (1 << 63)


# ---- answers ----


def display(value: Value) -> list[Any]:
    """[type, value] as answers show it; only types that JSON has."""
    match value.type:
        case "array":
            return ["array", [display(element) for element in value.content]]
        case "float":
            return ["double", _float_json(value.content)]
        case "duration":
            return ["string", format_duration(value.content)]
        case "status" | "kind":
            return ["string", value.content]
        case "trace_id":
            return ["string", f"{value.content:x}"]
        case "span_id":
            return ["string", f"{value.content:016x}"]
        case _:
            return [value.type, value.content]


def label_value(value: Value) -> tuple[str, object]:
    """(type, content) as labels of series have it; there is one zero, and one NaN."""
    if value.type == "float":
        return "double", math.nan if math.isnan(value.content) else value.content + 0.0
    kind, content = display(value)
    return kind, str(content) if isinstance(content, str) else content


def has_label(value: Value) -> bool:
    """An array has no label, nor has what TraceQL cannot hold (B24, B27)."""
    return value.type not in {"array", "opaque"}


def _float_json(number: float) -> float | str:
    if math.isnan(number):
        return "NaN"
    return number if math.isfinite(number) else "Infinity" if number > 0 else "-Infinity"

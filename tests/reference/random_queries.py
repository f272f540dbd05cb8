"""Random searches over the whole grammar that parse and check, with keys and constants from the pools of `random_traces`."""

from __future__ import annotations

from collections.abc import Callable
from random import Random

from random_traces import EVENT_KEYS, LINK_KEYS, NAMES, RESOURCE_KEYS, SCOPE_KEYS, SMALL, SPAN_IDS, SPAN_KEYS, TEXTS, TRACE_IDS, often

from spanlake.model.errors import QueryError
from spanlake.traceql import check, parse
from spanlake.traceql.literals import format_name, format_string

ORDER = ("<", "<=", ">", ">=")
EQUALITY = ("=", "!=")
REGEX = ("=~", "!~")
PATTERNS = ("a", "a.*", ".*", "", "[ab]+", "(?i)A|B", "2.*", ".", "nil|ab?", "é.*", "a\\\\nb", "[^a]*")
DURATIONS = ("0s", "1ns", "1ms", "1.5ms", "2ms", "50ms", "1s", "1m30s")
RELATIONS = tuple(mode + relation for mode in ("", "!", "&") for relation in (">", "<", ">>", "<<", "~"))
TRIES_MAX = 200


def random_query(chance: Random) -> str:
    """A search. Most have few parts, some nest deeply."""
    for _ in range(TRIES_MAX):
        text = _query(chance)
        try:
            check(parse(text))
        except QueryError:
            continue
        return text
    raise AssertionError("no valid query in many tries: the generator and the grammar have come apart")


def _query(chance: Random) -> str:
    kind = chance.randrange(12)
    if kind == 0:
        operator = chance.choice(("&&", "||", *RELATIONS))
        return f"({pipeline(chance, 2)}) {operator} ({pipeline(chance, 2)})"
    return pipeline(chance, 3 if kind < 4 else 1)


def pipeline(chance: Random, stages_max: int) -> str:
    stages = [spansets(chance, 2) if often(chance, 0.85) else _later_stage(chance, is_first=True)]
    stages += [_later_stage(chance) for _ in range(chance.randint(0, stages_max))]
    return " | ".join(stages)


def _later_stage(chance: Random, *, is_first: bool = False) -> str:
    kind = chance.randrange(10)
    if kind < 2:
        return spansets(chance, 1)
    if kind < 5:
        return f"by({', '.join(_group_key(chance) for _ in range(chance.choice((1, 1, 1, 2))))})"
    if kind < 6 and not is_first:
        return "coalesce()"
    if kind < 8:
        return f"select({', '.join(reference(chance) for _ in range(chance.randint(1, 3)))})"
    return scalar_filter(chance)


def _group_key(chance: Random) -> str:
    kind = chance.randrange(6)
    return reference(chance) if kind < 4 else condition(chance, 1) if kind == 4 else number(chance, 1)


# ---- spansets ----


def spansets(chance: Random, depth: int) -> str:
    """A spanset expression."""
    kind = chance.randrange(10)
    if depth == 0 or kind < 6:
        return f"{{ {condition(chance, 2)} }}" if often(chance, 0.85) else "{ }"
    operator = chance.choice(RELATIONS) if kind < 9 else chance.choice(("&&", "||"))
    sides = [spansets(chance, depth - 1) for _ in range(2)]
    text = f" {operator} ".join(f"({side})" if often(chance, 0.7) else side for side in sides)
    return f"({text})" if often(chance, 0.2) else text


# ---- scalars ----


def scalar_filter(chance: Random) -> str:
    """A comparison with an aggregate in it."""
    left = _scalar(chance, 1)
    right = _scalar(chance, 1) if often(chance, 0.2) else _scalar_constant(chance)
    sides = [left, right] if often(chance, 0.85) else [right, left]
    return f" {chance.choice((*ORDER, *EQUALITY))} ".join(sides)


def _scalar(chance: Random, depth: int) -> str:
    kind = chance.randrange(12)
    if kind < 4:
        return "count()"
    if depth and kind == 4:
        return f"({pipeline(chance, 1)} | {_scalar(chance, 0)})"
    if depth and kind == 5:
        return f"({_scalar(chance, 0)} {chance.choice('+-*/%')} {_scalar_constant(chance)})"
    if depth and kind == 6:
        return f"-({_scalar(chance, 0)} + {_scalar(chance, 0)})"
    argument = "duration" if often(chance, 0.3) else number(chance, 1)
    return f"{chance.choice(('min', 'max', 'avg', 'sum'))}({argument})"


def _scalar_constant(chance: Random) -> str:
    return chance.choice(("0", "1", "2", "3", "0.5", "1.5", "2ms", "1s", "200"))


# ---- fields ----


def condition(chance: Random, depth: int) -> str:
    """Something boolean."""
    kind = chance.randrange(20)
    if depth and kind < 5:
        operator = chance.choice(("&&", "||"))
        return f" {operator} ".join(f"({condition(chance, depth - 1)})" for _ in range(chance.choice((2, 2, 3))))
    if depth and kind == 5:
        return f"!({condition(chance, depth - 1)})"
    if depth and kind == 6:
        return f"({condition(chance, depth - 1)}) {chance.choice(EQUALITY)} {chance.choice(('true', 'false'))}"
    return chance.choice(_CONDITIONS)(chance)


def _typed(chance: Random) -> str:
    """An intrinsic with a constant that suits it."""
    name, operators, constants = chance.choice(_INTRINSICS)
    constant = chance.choice(constants)
    pair = (name, chance.choice(operators), constant)
    return " ".join(pair if operators[-1] in REGEX or often(chance, 0.85) else (constant, _turned(pair[1]), name))


def _turned(operator: str) -> str:
    return operator.translate(str.maketrans("<>", "><"))


def _attribute_with_constant(chance: Random) -> str:
    operator = chance.choice((*ORDER, *EQUALITY, *EQUALITY, *EQUALITY))
    pair = (attribute(chance), operator, constant(chance))
    return " ".join(pair if often(chance, 0.85) else (pair[2], _turned(operator), pair[0]))


def _pattern(chance: Random) -> str:
    name = attribute(chance) if often(chance, 0.7) else chance.choice(("name", "statusMessage", "rootName", "event:name", "span:id"))
    return f'{name} {chance.choice(REGEX)} "{chance.choice(PATTERNS)}"'


def _presence(chance: Random) -> str:
    return f"{reference(chance)} {chance.choice(EQUALITY)} nil"


def _bare(chance: Random) -> str:
    return chance.choice(("", "", "!")) + (chance.choice(("span.flag", ".flag")) if often(chance, 0.6) else attribute(chance))


def _two_references(chance: Random) -> str:
    return f"{reference(chance)} {chance.choice((*ORDER, *EQUALITY, *EQUALITY))} {reference(chance)}"


def _calculation(chance: Random) -> str:
    return f"{number(chance, 2)} {chance.choice((*ORDER, *EQUALITY))} {number(chance, 0)}"


def _constant_condition(chance: Random) -> str:
    return chance.choice(("true", "false", "1 < 2", '"a" = "b"', "2 * 3 = 6", "1 = 1.0"))


_CONDITIONS: tuple[Callable[[Random], str], ...] = (
    *(_attribute_with_constant,) * 5,
    *(_typed,) * 5,
    *(_pattern,) * 2,
    *(_presence,) * 2,
    _bare,
    _two_references,
    *(_calculation,) * 2,
    _constant_condition,
)


def number(chance: Random, depth: int) -> str:
    """Something that may be a number."""
    kind = chance.randrange(10)
    if depth and kind < 4:
        return f"({number(chance, depth - 1)} {chance.choice('+-*/%')} {number(chance, depth - 1)})"
    if depth and kind == 4:
        return f"-({number(chance, depth - 1)})"
    if depth and kind == 5:
        return f"({number(chance, depth - 1)} ^ {chance.choice(('0', '1', '2', '3', '0.5'))})"
    if kind < 8:
        numeric = ("duration", "nestedSetLeft", "nestedSetParent", "span:childCount", "traceDuration", "event:timeSinceStart")
        return attribute(chance) if often(chance, 0.7) else chance.choice(numeric)
    return chance.choice((*(str(value) for value in SMALL if value >= 0), "0.0", "0.5", "2.5", "1ms", "maxInt", "9007199254740993"))


def constant(chance: Random) -> str:
    """A literal of any type."""
    kind = chance.randrange(10)
    if kind < 4:
        return str(chance.choice(SMALL))
    if kind < 7:
        return format_string(chance.choice((*TEXTS, "web", "db")))
    rest = (
        "0.0",
        "0.5",
        "1.0",
        "2.5",
        "-1.5",
        "200.0",
        "true",
        "false",
        "minInt",
        "maxInt",
        "error",
        "server",
        "1ms",
        "9007199254740992",
        "1e300",
    )
    return chance.choice(rest)


def attribute(chance: Random) -> str:
    """An attribute of any scope."""
    prefix, keys = chance.choice(_SCOPES)
    return prefix + format_name(chance.choice(keys))


def reference(chance: Random) -> str:
    """An attribute or an intrinsic."""
    return attribute(chance) if often(chance, 0.65) else chance.choice(_INTRINSICS)[0]


_SCOPES: tuple[tuple[str, tuple[str, ...]], ...] = (
    *(("span.", SPAN_KEYS),) * 5,
    *((".", (*SPAN_KEYS, "region")),) * 3,
    *(("resource.", RESOURCE_KEYS),) * 2,
    *(("event.", EVENT_KEYS),) * 2,
    ("link.", LINK_KEYS),
    ("instrumentation.", SCOPE_KEYS),
    ("parent.", SPAN_KEYS),
    ("parent.span.", SPAN_KEYS),
    ("parent.resource.", RESOURCE_KEYS),
)
_COMPARE = (*ORDER, *EQUALITY)
_TEXT_OPERATORS = (*_COMPARE, "=")
_NAME_CONSTANTS = tuple(format_string(name) for name in NAMES)
_SPAN_ID_CONSTANTS = (*(f'"{number:016x}"' for number in SPAN_IDS), '"1"', '"00ff00000000000A"', '"FFFFFFFFFFFFFFFB"', '"zz"', '""')
_TRACE_ID_CONSTANTS = (*(f'"{number:032x}"' for number in TRACE_IDS[:3]), '"A1000000000000000000000000000001"', '"a1"')
_INTRINSICS: tuple[tuple[str, tuple[str, ...], tuple[str, ...]], ...] = (
    ("duration", _COMPARE, (*DURATIONS, "1000000", "1500000.5", "0")),
    ("name", _TEXT_OPERATORS, _NAME_CONSTANTS),
    ("name", _TEXT_OPERATORS, _NAME_CONSTANTS),
    ("status", EQUALITY, ("ok", "error", "unset")),
    ("kind", EQUALITY, ("server", "client", "internal", "producer", "consumer", "unspecified")),
    ("statusMessage", _TEXT_OPERATORS, ('"timeout"', '""', '"a"')),
    ("rootName", _TEXT_OPERATORS, _NAME_CONSTANTS),
    ("rootServiceName", _TEXT_OPERATORS, ('"web"', '""', '"db"')),
    ("traceDuration", _COMPARE, DURATIONS),
    ("nestedSetLeft", _COMPARE, ("1", "2", "3", "6", "2.5")),
    ("nestedSetRight", _COMPARE, ("2", "4", "7")),
    ("nestedSetParent", _COMPARE, ("0", "-1", "1", "2")),
    ("span:childCount", _COMPARE, ("0", "1", "2", "1.0")),
    ("trace:id", EQUALITY, _TRACE_ID_CONSTANTS),
    ("span:id", EQUALITY, _SPAN_ID_CONSTANTS),
    ("span:parentID", EQUALITY, _SPAN_ID_CONSTANTS),
    ("event:name", _TEXT_OPERATORS, ('"exception"', '"a"', '""')),
    ("event:timeSinceStart", _COMPARE, ("0s", "1ns", "5ms")),
    ("link:traceID", EQUALITY, _TRACE_ID_CONSTANTS),
    ("link:spanID", EQUALITY, _SPAN_ID_CONSTANTS),
    ("instrumentation:name", _TEXT_OPERATORS, ('"lib"', '""')),
    ("instrumentation:version", _TEXT_OPERATORS, ('"1.0"', '""')),
)

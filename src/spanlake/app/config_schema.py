"""Which settings exist and what their values may be, derived from the dataclasses of `model/settings.py` and from nothing else.

A leaf is one setting with its dotted path (`server.http_port`), its kind (a closed set) and its environment variable. Values come as
the text that someone wrote, in a file, a variable or an option alike, so that there is one reading of them: `parse`. Knows no YAML, no
files and no command line, and loads no third-party library, so that `spanlake --help` may use it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields, is_dataclass
from dataclasses import field as dataclass_field
from decimal import Decimal
from typing import Any, Literal, TypeVar, assert_never, get_args, get_origin, get_type_hints

from spanlake.model.settings import Settings

T = TypeVar("T")

Value = bool | int | float | str | dict[str, float]
Raw = str | Mapping[str, str]
"""A value as written: a text, or texts by name."""

Unit = Literal["", "seconds", "bytes"]
VARIABLE_PREFIX = "SPANLAKE_"
NUMBER_CHARACTERS_MAX = 64
INT64_MAX = (1 << 63) - 1

BYTES_BY_SUFFIX = {"b": 1, **{f"{letter}ib": 1024**power for power, letter in enumerate("kmgt", 1)}}
BYTES_BY_SUFFIX |= {f"{letter}b": 1000**power for power, letter in enumerate("kmgt", 1)}
SECONDS_BY_SUFFIX = {
    "ms": Decimal("0.001"),
    "s": Decimal(1),
    "m": Decimal(60),
    "h": Decimal(3600),
    "d": Decimal(86400),
    "w": Decimal(7 * 86400),
}

_DIGITS = r"\d(?:_?\d)*"
_PLAIN = re.compile(rf"[+-]?{_DIGITS}(?:\.\d+)?(?:[eE][+-]?\d{{1,3}})?", re.ASCII)
_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([kmgt]?i?b)", re.ASCII | re.IGNORECASE)
_DURATION = re.compile(r"(?:\d+(?:\.\d+)?(?:ms|[smhdw]))+", re.ASCII)
_DURATION_PART = re.compile(r"(\d+(?:\.\d+)?)(ms|[smhdw])", re.ASCII)


@dataclass(frozen=True, slots=True)
class Flag:
    """true or false."""


@dataclass(frozen=True, slots=True)
class Text:
    """Any text, the empty one included."""


@dataclass(frozen=True, slots=True)
class Choice:
    """One of some words."""

    words: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Number:
    """A number in an inclusive range; with a unit, it may also be written as 30s or 64MiB."""

    whole: bool
    unit: Unit
    least: float | None
    most: float | None


@dataclass(frozen=True, slots=True)
class NumberByName:
    """Numbers under names that the user chooses."""

    number: Number


Kind = Flag | Text | Choice | Number | NumberByName


@dataclass(frozen=True, slots=True)
class Leaf:
    """One setting."""

    path: str
    kind: Kind
    default: Value
    meaning: str

    @property
    def variable(self) -> str:
        """The environment variable that gives this setting."""
        return VARIABLE_PREFIX + self.path.replace(".", "_").upper()


@dataclass(frozen=True, slots=True)
class Schema:
    """Every setting by path, in the order of the dataclasses, and the meaning of every section by path."""

    leaves: dict[str, Leaf] = dataclass_field(default_factory=dict)
    sections: dict[str, str] = dataclass_field(default_factory=dict)


def schema_of(tree: type = Settings) -> Schema:
    """All settings of a tree of settings dataclasses.

    Raises AssertionError for a tree that users could not address: a setting without meaning, of a type that is no `Kind`, or
    two settings with one environment variable.
    """
    schema = Schema()
    _collect(tree, "", schema)
    variables = {leaf.variable for leaf in schema.leaves.values()}
    assert len(variables) == len(schema.leaves), "two settings have the same environment variable"
    return schema


def _collect(tree: type, prefix: str, schema: Schema) -> None:
    hints = get_type_hints(tree)
    for item in fields(tree):
        path, hint = prefix + item.name, hints[item.name]
        if is_dataclass(hint):
            assert isinstance(hint, type)
            schema.sections[path] = (hint.__doc__ or "").strip()
            _collect(hint, path + ".", schema)
            continue
        assert item.metadata.get("meaning"), f"setting {path} has no meaning"
        default: Any = item.default_factory() if callable(item.default_factory) else item.default
        schema.leaves[path] = Leaf(path, _kind_of(hint, item.name, item.metadata), default, item.metadata["meaning"])


def _kind_of(hint: Any, name: str, metadata: Mapping[str, Any]) -> Kind:
    words = name.split("_")
    named: Unit = "seconds" if "seconds" in words else "bytes" if "bytes" in words else ""
    number = Number(hint is int, metadata.get("unit", named), metadata.get("least"), metadata.get("most"))
    if hint is bool:
        return Flag()
    if hint is str:
        return Text()
    if get_origin(hint) is Literal:
        return Choice(get_args(hint))
    if hint in {int, float}:
        return number
    assert hint == dict[str, float], f"no kind for a setting of type {hint}"
    return NumberByName(number)


def build(tree: type[T], values: Mapping[str, Value], prefix: str = "") -> T:
    """An instance of the tree: `values` by path, defaults elsewhere."""
    hints = get_type_hints(tree)
    given: dict[str, Any] = {}
    for item in fields(tree):  # type: ignore[arg-type]  # T is a dataclass by contract
        path = prefix + item.name
        if is_dataclass(hints[item.name]):
            given[item.name] = build(hints[item.name], values, path + ".")
        elif path in values:
            given[item.name] = values[path]
    return tree(**given)


def value_of(settings: object, path: str) -> Any:
    """The value at a path of a built tree."""
    for name in path.split("."):
        settings = getattr(settings, name)
    return settings


def parse(kind: Kind, raw: Raw) -> Value:
    """The value that a text means. Raises ValueError with a phrase that says what was expected instead."""
    if isinstance(kind, NumberByName):
        texts = _texts_by_name(raw) if isinstance(raw, str) else raw
        return {name: float(_parse_number(kind.number, text)) for name, text in texts.items()}
    if not isinstance(raw, str):
        raise ValueError(f"takes {describe(kind)}, not a mapping")
    match kind:
        case Flag():
            return _parse_flag(raw)
        case Text():
            return raw
        case Choice(words):
            if raw not in words:
                raise ValueError(f"is {raw!r}; allowed: {', '.join(words)}")
            return raw
        case Number():
            return _parse_number(kind, raw)
        case _:
            assert_never(kind)


def _parse_flag(text: str) -> bool:
    word = text.lower()
    if word in {"true", "yes", "on", "1"}:
        return True
    if word in {"false", "no", "off", "0"}:
        return False
    raise ValueError(f"is {text!r}; allowed: true, false")


def _texts_by_name(text: str) -> dict[str, str]:
    pairs = [pair.partition("=") for pair in text.split(",") if pair.strip()]
    if not all(name.strip() and separator for name, separator, _ in pairs):
        raise ValueError(f"is {text!r}; expected NAME=VALUE,NAME=VALUE")
    return {name.strip(): value.strip() for name, _, value in pairs}


def _parse_number(kind: Number, text: str) -> int | float:
    amount = _read_amount(text.strip(), kind.unit) if len(text) <= NUMBER_CHARACTERS_MAX else None
    if amount is None:
        raise ValueError(f"is {text[:NUMBER_CHARACTERS_MAX]!r}; expected {describe(kind)}")
    too_small = kind.least is not None and amount < Decimal(repr(kind.least))
    too_large = amount > (INT64_MAX if kind.most is None else Decimal(repr(kind.most)))
    if too_small or too_large:
        raise ValueError(f"is {text.strip()}, out of range; expected {describe(kind)}")
    if not kind.whole:
        return float(amount)
    if amount != amount.to_integral_value():
        raise ValueError(f"is {text.strip()}; expected {describe(kind)}")
    return int(amount)


def _read_amount(text: str, unit: Unit) -> Decimal | None:
    """A number in the base unit, exactly; None when the text is none."""
    if _PLAIN.fullmatch(text):
        return Decimal(text)
    size = _SIZE.fullmatch(text) if unit == "bytes" else None
    if size:
        return Decimal(size[1]) * BYTES_BY_SUFFIX[size[2].lower()] if size[2].lower() in BYTES_BY_SUFFIX else None
    if unit == "seconds" and _DURATION.fullmatch(text):
        return sum((Decimal(amount) * SECONDS_BY_SUFFIX[suffix] for amount, suffix in _DURATION_PART.findall(text)), Decimal(0))
    return None


def describe(kind: Kind) -> str:
    """What a setting takes, in words, with the range."""
    match kind:
        case Flag():
            return "true or false"
        case Text():
            return "text"
        case Choice(words):
            return "one of " + ", ".join(words)
        case Number(whole, unit, _, _):
            plain = "a whole number" if whole else "a number"
            nouns = {
                "": plain,
                "seconds": f"{plain} of seconds or a duration such as 5m",
                "bytes": f"{plain} of bytes or a size such as 64MiB",
            }
            return nouns[unit] + _range_text(kind)
        case NumberByName(number):
            return "for each name " + describe(number)
        case _:
            assert_never(kind)


def _range_text(kind: Number) -> str:
    least = None if kind.least is None else show_number(kind.least, kind.unit)
    most = None if kind.most is None else show_number(kind.most, kind.unit)
    match least, most:
        case None, None:
            return ""
        case _, None:
            return f", at least {least}"
        case None, _:
            return f", at most {most}"
        case _:
            return f", {least} to {most}"


def show_number(amount: float, unit: Unit) -> str:
    """The shortest exact form for a person: 64MiB, 14d, 0.05s, 32768."""
    if amount and unit and float(amount).is_integer():
        for suffix, factor in _suffixes(unit):
            if int(amount) % factor == 0:
                return f"{int(amount) // factor}{suffix}"
    plain = repr(amount).removesuffix(".0")
    return plain + "s" if unit == "seconds" and amount else plain


def _suffixes(unit: Unit) -> Iterator[tuple[str, int]]:
    """Suffixes from large to small, ending with one that divides everything."""
    if unit == "bytes":
        yield from (("TiB", 1 << 40), ("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10), ("B", 1))
    else:
        yield from (("d", 86400), ("h", 3600), ("m", 60), ("s", 1))

"""The text language of behaviour scripts: data, queries and what they must find. README.md beside this file describes it.

A file has named data sets and sections; a section has data and cases: searches, metrics (in `script_series`) and tag values. Parsing yields
plain objects; running them is for the tests.
"""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, assert_never

from naive_spans import Event, Link, RawValue, Resource, Scope, Span
from script_series import Metrics, expect_series, metrics_case

from spanlake.traceql.durations import parse_duration
from spanlake.traceql.vocabulary import KIND_VALUES, STATUS_VALUES

T0_NS = 1_700_000_040_000_000_000
"""What `start=0s` is: a whole minute."""


@dataclass(frozen=True, slots=True)
class ExpectedSpan:
    """`shown` is None where the script does not say what the span shows; its name stands under the key "name:"."""

    span_id: int
    shown: dict[str, Any] | None


@dataclass(frozen=True, slots=True)
class ExpectedSet:
    trace_id: int
    spans: tuple[ExpectedSpan, ...]
    attributes: dict[str, Any]


@dataclass(slots=True)
class Search:
    """A query and what it must give: sets and facts of traces, or an error that contains `error`."""

    line: int
    query: str
    options: dict[str, str] = field(default_factory=dict)
    sets: list[ExpectedSet] = field(default_factory=list)
    facts: dict[int, dict[str, Any]] = field(default_factory=dict)
    error: str | None = None
    nothing: bool = False


@dataclass(slots=True)
class TagValues:
    """A question for the values of a tag, with a filter or an empty text, and the sorted [type, text] that it must give."""

    line: int
    query: str
    tag: str
    filter: str
    values: list[list[str]] = field(default_factory=list)


Case = Search | Metrics | TagValues


@dataclass(slots=True)
class Section:
    """`pushes`: spans in order of arrival, one list per push."""

    name: str
    pushes: list[list[Span]] = field(default_factory=list)
    cases: list[Case] = field(default_factory=list)

    @property
    def rows(self) -> list[str]:
        """The rows of the decisions that the name begins with: `B1`, `C5`, …"""
        return re.findall(r"\b[BC]\d+\b", self.name)


class ScriptError(ValueError):
    """A script that is not in the language; the text names file and line."""


@dataclass(slots=True)
class _Loader:
    """What the following `span` lines belong to."""

    pushes: list[list[Span]]
    trace_id: int = 0
    resource: Resource = field(default_factory=Resource)
    scope: Scope = field(default_factory=Scope)


def parse_script(path: Path, data: dict[str, list[list[Span]]]) -> list[Section]:
    """The sections of a file. `data` holds the named data sets, and gets those of this file."""
    sections: list[Section] = []
    loader: _Loader | None = None
    for number, line in _lines(path):
        try:
            word, _, rest = line.partition(" ")
            if word == "section":
                sections.append(Section(rest.strip()))
                loader = None
            elif word == "data":
                loader = _Loader(data.setdefault(rest.strip(), [[]]))
            elif word == "load" and rest:
                sections[-1].pushes += data[rest.strip()]
            elif word == "load":
                loader = _Loader(sections[-1].pushes)
                loader.pushes.append([])
            elif (begin := _CASES.match(line)) is not None:
                sections[-1].cases.append(_case(number, line, begin[0]))
            elif loader is not None and word in _LOADS:
                _load(loader, word, rest)
            else:
                _expect(sections[-1].cases[-1], line)
        except (ValueError, IndexError, KeyError) as problem:
            raise ScriptError(f"{path.name}:{number}: {line!r}: {problem!r}") from problem
    return sections


_CASES = re.compile(r"(search|metrics|instant|values)(?=[\[ ])")


def _case(number: int, line: str, word: str) -> Case:
    if word == "search":
        return _search(number, line)
    if word == "values":
        tag, _, wanted = line.removeprefix("values ").partition(" | ")
        return TagValues(number, line, tag.strip(), wanted)
    return metrics_case(number, line)


def _expect(case: Case, line: str) -> None:
    """One line under a case."""
    match case:
        case Search():
            _expect_found(case, line)
        case Metrics():
            expect_series(case, line)
        case TagValues():
            if line != "nothing":
                kind, _, text = line.partition(" ")
                case.values.append([kind, json.loads(text)])
        case _:
            assert_never(case)


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    """Lines without comments and blanks; a line that ends in a backslash goes on in the next."""
    begun = ""
    for number, line in enumerate(path.read_text().splitlines(), 1):
        text = begun + line.strip()
        begun = ""
        if text.endswith("\\"):
            begun = text[:-1].rstrip() + " "
        elif text and not text.startswith("#"):
            yield number, text


# ---- data ----

_LOADS = ("trace", "resource", "scope", "span", "event", "link", "push")


def _load(loader: _Loader, word: str, rest: str) -> None:
    if word == "push":
        loader.pushes.append([])
    elif word == "trace":
        loader.trace_id = int(rest, 16)
    elif word == "resource":
        loader.resource, loader.scope = Resource(_fields(rest)[1]), Scope()
    elif word == "scope":
        fixed, attributes = _fields(rest)
        loader.scope = Scope(fixed.get("name", ""), fixed.get("version", ""), attributes)
    elif word == "span":
        loader.pushes[-1].append(_span(loader, rest))
    else:
        last = loader.pushes[-1][-1]
        first, _, rest = rest.partition(" ")
        fixed, attributes = _fields(rest)
        if word == "event":
            event = Event(last.start_ns + _duration_ns(fixed.get("at", "0s")), first.strip('"'), attributes)
            loader.pushes[-1][-1] = replace(last, events=[*last.events, event])
        else:
            trace_id, span_id = (int(part, 16) for part in first.split("/"))
            loader.pushes[-1][-1] = replace(last, links=[*last.links, Link(trace_id, span_id, attributes)])


def _span(loader: _Loader, text: str) -> Span:
    span_id, _, rest = text.partition(" ")
    fixed, attributes = _fields(rest)
    return Span(
        trace_id=loader.trace_id,
        span_id=int(span_id, 16),
        parent_id=int(fixed.pop("parent", "0"), 16),
        name=fixed.pop("name", ""),
        kind=KIND_VALUES.index(fixed.pop("kind", "unspecified")),
        status=STATUS_VALUES.index(fixed.pop("status", "unset")),
        status_message=fixed.pop("message", ""),
        trace_state=fixed.pop("tracestate", ""),
        start_ns=T0_NS + _duration_ns(fixed.pop("start", "0s")),
        duration_ns=_duration_ns(fixed.pop("duration", "1ms")),
        attributes=attributes,
        resource=loader.resource,
        scope=loader.scope,
        **fixed,  # type: ignore[arg-type]
    )


def _duration_ns(text: str) -> int:
    sign = -1 if text.startswith("-") else 1
    duration_ns = parse_duration(text.removeprefix("-"))
    if duration_ns is None:
        raise ValueError(f"{text} is no duration")
    return sign * duration_ns


_FIELD = re.compile(r'\s*(?P<attribute>\.?)(?:"(?P<quoted>[^"]*)"|(?P<name>[^\s="(){}]+))=')


def _fields(text: str) -> tuple[dict[str, str], dict[str, RawValue]]:
    """`name=x .key=1`: fixed fields as text, and attributes, which begin with a dot, as values."""
    fixed: dict[str, str] = {}
    attributes: dict[str, RawValue] = {}
    position = 0
    while text[position:].strip():
        start = _FIELD.match(text, position)
        if start is None:
            raise ValueError(f"expected key=value at {text[position:]!r}")
        key = start["name"] if start["quoted"] is None else start["quoted"]
        if start["attribute"]:
            attributes[key], position = _value(text, start.end())
        else:
            end = re.compile(r'"(?:[^"\\]|\\.)*"|\S+').match(text, start.end())
            assert end is not None
            fixed[key] = json.loads(end[0]) if end[0].startswith('"') else end[0]
            position = end.end()
    return fixed, attributes


def _value(text: str, position: int) -> tuple[RawValue, int]:
    """A JSON value (NaN and Infinity too), `0x…` for bytes, `none` for a value without content; and where it ends."""
    special = re.compile(r"0x([0-9a-f]*)|none").match(text, position)
    if special:
        return (None if special[0] == "none" else bytes.fromhex(special[1])), special.end()
    return json.JSONDecoder().raw_decode(text, position)


# ---- searches ----


def _search(number: int, line: str) -> Search:
    match = re.match(r"search(?:\[(?P<options>[^\]]*)\])?\s*(?P<query>.*)", line, re.DOTALL)
    assert match is not None
    options = dict(pair.strip().split("=", 1) for pair in (match["options"] or "").split(",") if pair.strip())
    return Search(number, match["query"], options)


_SET = re.compile(r"(?P<trace>[0-9a-f]+):(?P<spans>[^|]*)(?:\|(?P<attributes>.*))?")
_SPAN = re.compile(r"\s*(?P<id>[0-9a-f]+)(?P<shown>\()?")


def _expect_found(search: Search, line: str) -> None:
    """One line under a search."""
    if line == "nothing":
        search.nothing = True
    elif line.startswith("error"):
        search.error = shlex.split(line)[1] if line != "error" else ""
    elif found := re.match(r"(?P<trace>[0-9a-f]+) has (?P<facts>\{.*\})", line):
        search.facts[int(found["trace"], 16)] = json.loads(found["facts"])
    else:
        search.sets.append(_expected_set(line))


def _expected_set(line: str) -> ExpectedSet:
    head = re.match(r"([0-9a-f]+):", line)
    if head is None:
        raise ValueError("expected `trace: spans | key=value`, `trace has {…}`, `nothing` or `error`")
    position, spans = head.end(), []
    while match := _SPAN.match(line, position):
        position, shown = match.end(), None
        if match["shown"]:
            shown, position = _pairs(line, position)
            if line[position : position + 1] != ")":
                raise ValueError(f"expected key=JSON or ) at {line[position:]!r}")
            position += 1
        spans.append(ExpectedSpan(int(match["id"], 16), shown))
    attributes: dict[str, Any] = {}
    if line[position:].strip():
        if line[position:].lstrip()[0] != "|":
            raise ValueError(f"cannot read {line[position:]!r}")
        attributes, position = _pairs(line, line.index("|", position) + 1)
    return ExpectedSet(int(head[1], 16), tuple(spans), attributes)


_KEY = re.compile(r"\s*(?:\"(?P<quoted>[^\"]*)\"|(?P<plain>[^\s=()]+(?:\([^)]*\))?))\s*=\s*")


def _pairs(line: str, position: int) -> tuple[dict[str, Any], int]:
    """`key=JSON` pairs, and where they end. A key that is there twice has a list of values, marked by the key `key*`."""
    pairs: dict[str, Any] = {}
    while match := _KEY.match(line, position):
        key = match["plain"] if match["quoted"] is None else match["quoted"]
        pairs[key], position = json.JSONDecoder().raw_decode(line, match.end())
    return pairs, position

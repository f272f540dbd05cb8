"""Searches from before TraceQL, by `tags`, `minDuration` and `maxDuration`, as TraceQL (wire contract, section 1.4).

Tags are logfmt, `key=value key2="a value"`. Each must be on some span of the trace: strings contain the value, numbers and booleans
equal it. Durations are those of traces.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping

from spanlake.model.errors import InvalidInput
from spanlake.traceql import format_reference
from spanlake.traceql.ast import Attribute, Literal
from spanlake.traceql.durations import parse_duration
from spanlake.traceql.literals import format_literal
from spanlake.traceql.vocabulary import STATUS_VALUES, Scope, ValueType

_PAIR = re.compile(r'\s*(?P<key>[^\s="]+)(?:=(?:(?P<quoted>"(?:[^"\\]|\\.)*")|(?P<plain>[^\s"]*)))?(?=\s|$)')
_INTRINSICS = {"name": "name", "root.name": "rootName", "root.service.name": "rootServiceName"}
_REGEX_SPECIAL = re.compile(r"([\\.+*?()|\[\]{}^$])")
TAGS_MAX = 100


def legacy_query(parameters: Mapping[str, str]) -> str:
    """The TraceQL text of a legacy search; `{ }` if it has no conditions."""
    spansets = [_tag_spanset(key, value) for key, value in parse_tags(parameters.get("tags", ""))]
    for name, operator in (("minDuration", ">="), ("maxDuration", "<=")):
        if parameters.get(name):
            spansets.append(f"{{ traceDuration {operator} {_duration_ns(name, parameters[name])}ns }}")
    return " && ".join(spansets) or "{ }"


def parse_tags(text: str) -> list[tuple[str, str]]:
    """The pairs of a logfmt text; a key alone has the value `true`."""
    pairs = []
    at = 0
    text = text.rstrip()
    while at < len(text):
        matched = _PAIR.match(text, at)
        if matched is None:
            raise InvalidInput(f"invalid tags: expected key=value at position {at + 1} of {text[:200]!r}")
        at = matched.end()
        pairs.append((matched["key"], _tag_value(matched)))
    if len(pairs) > TAGS_MAX:
        raise InvalidInput(f"invalid tags: {len(pairs)} tags, at most {TAGS_MAX} are accepted")
    return pairs


def _tag_value(matched: re.Match[str]) -> str:
    if matched["quoted"] is not None:
        try:
            return str(json.loads(matched["quoted"], strict=False))
        except ValueError:
            raise InvalidInput(f"invalid tags: {matched['quoted'][:200]} is not a quoted string") from None
    return "true" if matched["plain"] is None else matched["plain"]


def _tag_spanset(key: str, value: str) -> str:
    if key == "status.code":
        return f"{{ status = {value} }}" if value in STATUS_VALUES else "{ false }"
    escaped = _REGEX_SPECIAL.sub(r"\\\1", value)
    contains = f"=~ {_string(f'.*{escaped}.*')}"
    if key in _INTRINSICS:
        return f"{{ {_INTRINSICS[key]} {contains} }}"
    attribute = format_reference(Attribute(Scope.NONE, key))
    conditions = [f"{attribute} {contains}"]
    if re.fullmatch(r"-?\d{1,18}|-?\d{1,18}\.\d{1,18}", value):
        conditions.append(f"{attribute} = {value}")
    if value in ("true", "false"):
        conditions.append(f"{attribute} = {value}")
    if key == "error" and value == "true":
        conditions.append("status = error")
    return f"{{ {' || '.join(conditions)} }}"


def _string(text: str) -> str:
    return format_literal(Literal(ValueType.STRING, text))


def _duration_ns(name: str, text: str) -> int:
    duration_ns = parse_duration(text)
    if duration_ns is None or duration_ns < 0:
        raise InvalidInput(f"invalid {name}: {text[:40]!r} is not a duration such as 300ms or 1m30s")
    return duration_ns

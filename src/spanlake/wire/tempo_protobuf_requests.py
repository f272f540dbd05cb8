"""Requests of package tempopb as the parameters that the HTTP API would have for them: one set of checks and texts serves both.

Each function takes the bytes of one message and returns parameters as `server/parameters` parses them: a field that has its default value
is absent, as it is in HTTP. Fields that ask how to work rather than for what are skipped. InvalidInput if the bytes are not protobuf.
Field numbers: wire-contract section 2.6.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import orjson

from spanlake.model.errors import InvalidInput
from spanlake.wire.fields import decode_fields

Encoded = int | memoryview
_TIME_DIGITS = 19
"""With so many digits, zeros in front if need be, a time is one in nanoseconds."""


@dataclass(frozen=True, slots=True)
class _Parameter:
    """What one field of a message becomes."""

    name: str
    show: Callable[[Encoded], str]


def decode_search_request(message: bytes) -> dict[str, str]:
    """SearchRequest as parameters of `/api/search`."""
    tags = [_tag(value) for number, value in decode_fields(message) if number == 1]
    return {**({"tags": " ".join(tags)} if tags else {}), **_parameters(message, _SEARCH)}


def decode_tags_request(message: bytes) -> dict[str, str]:
    """SearchTagsRequest as parameters of `/api/search/tags`."""
    return _parameters(message, _TAGS)


def decode_tag_values_request(message: bytes) -> tuple[str, dict[str, str]]:
    """SearchTagValuesRequest as (tag, parameters of `/api/search/tag/{tag}/values`)."""
    parameters = _parameters(message, _TAG_VALUES)
    return parameters.pop("tag", ""), parameters


def decode_query_range_request(message: bytes) -> dict[str, str]:
    """QueryRangeRequest as parameters of `/api/metrics/query_range`."""
    return _parameters(message, _QUERY_RANGE)


def decode_query_instant_request(message: bytes) -> dict[str, str]:
    """QueryInstantRequest as parameters of `/api/metrics/query`."""
    return _parameters(message, _QUERY_INSTANT)


def _parameters(message: bytes, fields: Mapping[int, _Parameter]) -> dict[str, str]:
    """The last value of each field that is known and not the default."""
    found = {}
    for number, value in decode_fields(message):
        parameter = fields.get(number)
        if parameter is not None:
            found[parameter.name] = parameter.show(value)
    return {name: text for name, text in found.items() if text}


def _text(value: Encoded) -> str:
    if isinstance(value, int):
        raise InvalidInput("a text of the request is encoded as a number")
    try:
        return str(value, "utf-8")
    except UnicodeDecodeError as error:
        raise InvalidInput(f"a text of the request is not UTF-8: {error}") from None


def _integer(value: Encoded) -> str:
    if isinstance(value, memoryview):
        raise InvalidInput("a number of the request is encoded as bytes")
    return str(value) if value else ""


def _small(value: Encoded) -> str:
    """uint32: more bits are cut off, as every protobuf parser does."""
    return _integer(value & 0xFFFF_FFFF if isinstance(value, int) else value)


def _milliseconds(value: Encoded) -> str:
    count = _small(value)
    return f"{count}ms" if count else ""


def _nanoseconds(value: Encoded) -> str:
    count = _integer(value)
    return f"{count}ns" if count else ""


def _time_ns(value: Encoded) -> str:
    count = _integer(value)
    return count.zfill(_TIME_DIGITS) if count else ""


def _tag(entry: Encoded) -> str:
    """An entry of map<string, string> in logfmt. The value is quoted as JSON, which escapes what logfmt does."""
    if isinstance(entry, int):
        raise InvalidInput("the tags of the request are encoded as a number")
    texts = {number: _text(value) for number, value in decode_fields(entry) if number in {1, 2}}
    return f"{texts.get(1, '')}={orjson.dumps(texts.get(2, '')).decode()}"


_SEARCH = {
    2: _Parameter("minDuration", _milliseconds),
    3: _Parameter("maxDuration", _milliseconds),
    4: _Parameter("limit", _small),
    5: _Parameter("start", _small),
    6: _Parameter("end", _small),
    8: _Parameter("q", _text),
    9: _Parameter("spss", _small),
}
_TAGS = {
    1: _Parameter("scope", _text),
    2: _Parameter("q", _text),
    3: _Parameter("start", _small),
    4: _Parameter("end", _small),
    5: _Parameter("limit", _small),
}
_TAG_VALUES = {
    1: _Parameter("tag", _text),
    2: _Parameter("q", _text),
    4: _Parameter("start", _small),
    5: _Parameter("end", _small),
    6: _Parameter("limit", _small),
}
_QUERY_RANGE = {
    1: _Parameter("q", _text),
    2: _Parameter("start", _time_ns),
    3: _Parameter("end", _time_ns),
    4: _Parameter("step", _nanoseconds),
    16: _Parameter("exemplars", _small),
    17: _Parameter("maxSeries", _small),
}
_QUERY_INSTANT = {number: _QUERY_RANGE[number] for number in (1, 2, 3)}

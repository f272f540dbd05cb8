"""Ids, times and numbers."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import datetime
from decimal import Decimal

from spanlake.model.errors import InvalidInput
from spanlake.model.trace import TimeRange

NS_PER_SECOND = 1_000_000_000
INT64_MAX = (1 << 63) - 1
SECONDS_DIGITS_MAX = 10
"""A time of more digits counts nanoseconds."""

_HEX = re.compile(r"[0-9A-Fa-f]*")
_INTEGER = re.compile(r"[+-]?[0-9]{1,19}")
_DIGITS = re.compile(r"[0-9]{1,19}")
_FRACTION = re.compile(r"[0-9]{1,10}\.[0-9]{0,30}")
_RFC3339 = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,9})?(Z|[+-]\d\d:\d\d)", re.ASCII)


def parse_trace_id(text: str) -> tuple[int, int]:
    """(high, low) 64 bits of a trace id of at most 32 hex digits; a shorter one has zeros in front. Clients know these error texts."""
    matched = _HEX.match(text)
    good = matched.end() if matched else 0
    if good < len(text):
        raise InvalidInput(f"trace IDs can only contain hex characters: invalid character '{text[good]}' at position {good + 1}")
    if len(text) > 32:
        raise InvalidInput("trace IDs can't be larger than 128 bits")
    number = int(text or "0", 16)
    return number >> 64, number & 0xFFFF_FFFF_FFFF_FFFF


def parse_time_ns(name: str, text: str) -> int:
    """Unix seconds (at most 10 digits, or with a fraction), unix nanoseconds (more digits) or RFC 3339, as nanoseconds."""
    if _DIGITS.fullmatch(text):
        time_ns = int(text) * NS_PER_SECOND if len(text) <= SECONDS_DIGITS_MAX else int(text)
    elif _FRACTION.fullmatch(text):
        time_ns = int(Decimal(text) * NS_PER_SECOND)
    else:
        time_ns = _rfc3339_ns(name, text)
    if not 0 <= time_ns <= INT64_MAX:
        raise InvalidInput(f"invalid {name}: {text!r} is not between the years 1970 and 2262")
    return time_ns


def parse_time_range(parameters: Mapping[str, str]) -> TimeRange | None:
    """The range of `start` and `end`; absent and 0 leave that side open, and both open is no range at all."""
    start_ns, end_ns = (parse_time_ns(name, parameters[name]) if parameters.get(name) else 0 for name in ("start", "end"))
    if not start_ns and not end_ns:
        return None
    if end_ns and start_ns >= end_ns:
        start, end = start_ns // NS_PER_SECOND, end_ns // NS_PER_SECOND
        raise InvalidInput(f"http parameter start must be before end. received start={start} end={end}")
    return TimeRange(start_ns, end_ns or INT64_MAX)


def parse_integer(parameters: Mapping[str, str], name: str, default: int) -> int:
    """A whole number; absent and empty are the default."""
    text = parameters.get(name, "")
    if not text:
        return default
    if not _INTEGER.fullmatch(text):
        raise InvalidInput(f"invalid {name}: {text[:40]!r} is not a number")
    return int(text)


def _rfc3339_ns(name: str, text: str) -> int:
    matched = _RFC3339.fullmatch(text)
    if matched is None:
        raise InvalidInput(f"invalid {name}: {text[:40]!r} is neither unix seconds or nanoseconds nor an RFC 3339 time")
    fraction = matched[1] or ""
    try:
        seconds = datetime.fromisoformat(text.replace(fraction, "", 1)).timestamp()
    except ValueError as error:
        raise InvalidInput(f"invalid {name}: {text!r}: {error}") from None
    return int(seconds) * NS_PER_SECOND + int(fraction[1:].ljust(9, "0"))

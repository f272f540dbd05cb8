"""Durations in TraceQL text: Prometheus and Go notation to nanoseconds, and back in Go notation.

Formats: https://pkg.go.dev/time#ParseDuration and https://prometheus.io/docs/prometheus/latest/configuration/configuration/ (<duration>).
"""

from __future__ import annotations

import re

from spanlake.traceql.vocabulary import INT_MAX

_UNIT_NS = {
    "ns": 1,
    "us": 1_000,
    "µs": 1_000,
    "μs": 1_000,
    "ms": 1_000_000,
    "s": 1_000_000_000,
    "m": 60 * 1_000_000_000,
    "h": 3600 * 1_000_000_000,
    "d": 86_400 * 1_000_000_000,
    "w": 7 * 86_400 * 1_000_000_000,
    "y": 365 * 86_400 * 1_000_000_000,
}
_PROMETHEUS_UNITS = ("y", "w", "d", "h", "m", "s", "ms")
_PROMETHEUS = re.compile("".join(rf"(?:([0-9]+){unit})?" for unit in _PROMETHEUS_UNITS))
_GO_PART = re.compile(r"([0-9]*)(?:\.([0-9]*))?(ns|us|µs|μs|ms|s|m|h)")
_DIGITS_MAX = 19  # int64 has no more; also keeps int() away from its own limit on digits


def parse_duration(text: str) -> int | None:
    """Nanoseconds of `1d12h` (whole numbers, units y w d h m s ms in this order) or `1.5h30m` (Go); None if it is neither, or too long.

    A fraction of a nanosecond is cut off. There is no sign.
    """
    match = _PROMETHEUS.fullmatch(text) if text else None
    total = _prometheus_ns(match) if match else _go_ns(text)
    return total if total is not None and total <= INT_MAX else None


def _prometheus_ns(match: re.Match[str]) -> int | None:
    total = 0
    for digits, unit in zip(match.groups(), _PROMETHEUS_UNITS, strict=True):
        if digits is not None:
            number = _small_int(digits)
            if number is None:
                return None
            total += number * _UNIT_NS[unit]
    return total


def _go_ns(text: str) -> int | None:
    total, position = 0, 0
    while position < len(text):
        part = _GO_PART.match(text, position)
        if part is None:
            return None
        whole, fraction, unit = part.group(1), part.group(2) or "", part.group(3)
        number = _small_int(whole or "0")
        if number is None or not (whole or fraction):
            return None
        fraction = fraction[:_DIGITS_MAX]
        total += number * _UNIT_NS[unit] + int(fraction or "0") * _UNIT_NS[unit] // 10 ** len(fraction)
        position = part.end()
    return total if text else None


def _small_int(digits: str) -> int | None:
    digits = digits.lstrip("0")
    return int(digits or "0") if len(digits) <= _DIGITS_MAX else None


def format_duration(duration_ns: int) -> str:
    """Go's text: `1h15m30.9s`, `1.5ms`, `0s`; a negative duration starts with a minus."""
    sign, rest = ("-", -duration_ns) if duration_ns < 0 else ("", duration_ns)
    if rest < _UNIT_NS["s"]:
        unit = next(unit for unit in ("ms", "µs", "ns") if rest >= _UNIT_NS[unit] or unit == "ns")
        return sign + (_decimal(rest, _UNIT_NS[unit]) + unit if rest else "0s")
    hours, rest = divmod(rest, _UNIT_NS["h"])
    minutes, rest = divmod(rest, _UNIT_NS["m"])
    text = f"{hours}h{minutes}m" if hours else f"{minutes}m" if minutes else ""
    return sign + text + _decimal(rest, _UNIT_NS["s"]) + "s"


def _decimal(count: int, unit: int) -> str:
    whole, fraction = divmod(count, unit)
    digits = f"{fraction:0{len(str(unit)) - 1}d}".rstrip("0") if fraction else ""
    return f"{whole}.{digits}" if digits else str(whole)

"""Limits of one tenant as someone wrote them: names and values are those of the settings that are their defaults."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import replace
from functools import cache
from typing import Any

from spanlake.app.config_schema import Kind, parse, schema_of
from spanlake.model.tenancy.limits import SETTING_OF, TenantLimits

LimitValues = Mapping[str, float]
"""Some limits by name, checked."""


@cache
def _kinds() -> Mapping[str, Kind]:
    leaves = schema_of().leaves
    return {name: leaves[path].kind for name, path in SETTING_OF.items()}


def parse_limit(name: str, written: object) -> float:
    """The value of a limit that was written as a number or text. ValueError with the name and what is allowed."""
    kind = _kinds().get(name)
    if kind is None:
        near = difflib.get_close_matches(name, SETTING_OF, 1)
        remedy = f"did you mean {near[0]}?" if near else f"limits are {', '.join(SETTING_OF)}"
        raise ValueError(f"{name[:80]} is not a limit; {remedy}")
    if isinstance(written, bool) or not isinstance(written, int | float | str):
        raise ValueError(f"{name} must be a number, or a text such as 10MiB or 7d")
    try:
        value = parse(kind, written if isinstance(written, str) else repr(written))
    except ValueError as error:
        raise ValueError(f"{name} {error}") from None
    assert isinstance(value, int | float)
    return value


def parse_limits(written: Mapping[str, object]) -> LimitValues:
    """The values of some limits. ValueError as `parse_limit`."""
    return {name: parse_limit(name, value) for name, value in written.items()}


def with_limits(limits: TenantLimits, values: LimitValues) -> TenantLimits:
    """The limits with some replaced."""
    given: dict[str, Any] = dict(values)
    return replace(limits, **given)


def strictest(limits: list[TenantLimits]) -> TenantLimits:
    """Per limit the lowest; 0, which is no limit, is the highest."""
    names = SETTING_OF
    least = {name: min((value for one in limits if (value := getattr(one, name))), default=0) for name in names}
    return TenantLimits(**least)

"""Ids, times and tenants as clients write them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spanlake.model.errors import InvalidInput, NoTenant
from spanlake.model.trace import TimeRange
from spanlake.server.access.credentials import Role
from spanlake.server.access.decide import TENANT_HEADER, Access, Values
from spanlake.server.parameters.basic import INT64_MAX, parse_time_ns, parse_time_range, parse_trace_id

S = 1_000_000_000

TIME_CASES = [
    ("0", 0),
    ("1700000000", 1_700_000_000 * S),
    ("9999999999", None),  # seconds beyond the year 2262
    ("01700000000", 1_700_000_000),  # eleven digits count nanoseconds
    ("1700000000123456789", 1_700_000_000_123_456_789),
    ("9223372036854775807", INT64_MAX),
    ("9223372036854775808", None),
    ("99999999999999999999", None),
    ("1700000000.5", 1_700_000_000 * S + 500_000_000),
    ("1700000000.123456789", 1_700_000_000_123_456_789),
    ("1700000000.", 1_700_000_000 * S),
    ("1970-01-01T00:00:01Z", S),
    ("2023-11-14T22:13:20Z", 1_700_000_000 * S),
    ("2023-11-14T23:13:20.000000001+01:00", 1_700_000_000 * S + 1),
    ("2023-11-14T22:13:20", None),
    ("2023-13-14T22:13:20Z", None),
    ("1960-01-01T00:00:00Z", None),
    ("3000-01-01T00:00:00Z", None),
    ("-1", None),
    ("+1", None),
    ("1e9", None),
    (" 1", None),
    ("١٢٣", None),
    ("now", None),
    ("1.2.3", None),
    ("inf", None),
    ("nan", None),
]


@pytest.mark.parametrize(("text", "expected_ns"), TIME_CASES)
def test_time_is_read_in_nanoseconds_when_it_is_valid(text: str, expected_ns: int | None) -> None:
    if expected_ns is None:
        with pytest.raises(InvalidInput, match=r"^invalid start: "):
            parse_time_ns("start", text)
    else:
        assert parse_time_ns("start", text) == expected_ns


@given(st.text(max_size=30))
def test_time_is_read_or_refused_when_it_is_any_text(text: str) -> None:
    try:
        assert 0 <= parse_time_ns("end", text) <= INT64_MAX
    except InvalidInput:
        return


RANGE_CASES: list[tuple[dict[str, str], TimeRange | None]] = [
    ({}, None),
    ({"start": "", "end": ""}, None),
    ({"start": "0", "end": "0"}, None),
    ({"start": "10", "end": "20"}, TimeRange(10 * S, 20 * S)),
    ({"start": "10"}, TimeRange(10 * S, INT64_MAX)),
    ({"end": "20"}, TimeRange(0, 20 * S)),
    ({"start": "10", "end": "10000000001"}, TimeRange(10 * S, 10_000_000_001)),
]


@pytest.mark.parametrize(("parameters", "expected"), RANGE_CASES)
def test_time_range_is_open_where_a_parameter_is_absent(parameters: dict[str, str], expected: TimeRange | None) -> None:
    assert parse_time_range(parameters) == expected


@given(st.integers(0, (1 << 128) - 1), st.booleans(), st.booleans())
def test_trace_id_is_read_when_written_in_any_way(number: int, upper: bool, padded: bool) -> None:
    text = f"{number:032x}" if padded else f"{number:x}"
    assert parse_trace_id(text.upper() if upper else text) == (number >> 64, number & ((1 << 64) - 1))


def asked_by(*tenants: str) -> Values:
    """A request with these values of X-Scope-OrgID, and whatever Authorization."""
    return lambda name: list(tenants) if name == "x-scope-orgid" else ["whatever"]


def tenant_to_write(access: Access, values: Values) -> str:
    """The tenant that a push is for, as the receivers find it."""
    return access.identify(values, Role.WRITE).tenant(values(TENANT_HEADER))


SINGLE, MULTIPLE = Access(multitenancy=False), Access(multitenancy=True)


@pytest.mark.parametrize("tenant", ["a", "single-tenant", "Team_1.x!*'()", "a" * 150, "..."])
def test_tenant_is_the_header_when_it_is_a_name(tenant: str) -> None:
    for ask in (tenant_to_write, Access.tenants_to_read):
        assert ask(MULTIPLE, asked_by(tenant, tenant, "")) == tenant
        assert ask(SINGLE, asked_by(tenant)) == "single-tenant"


@pytest.mark.parametrize(
    "tenant", ["", ".", "..", "a/b", "a\\b", "a b", "é", "a\n", "a\x00", "a" * 151, "%2e%2e", "|", "a|", "a||b", "a|..", "a|b/c"]
)
def test_tenant_is_refused_when_it_is_no_name(tenant: str) -> None:
    for ask in (tenant_to_write, Access.tenants_to_read):
        with pytest.raises(NoTenant):
            ask(MULTIPLE, asked_by(tenant))


def test_only_queries_ask_several_tenants_at_once() -> None:
    assert MULTIPLE.tenants_to_read(asked_by("b|a|b")) == "a|b"
    assert SINGLE.tenants_to_read(asked_by("b|a")) == "single-tenant"
    with pytest.raises(NoTenant, match=r"tenant name 'a\|b' is refused"):
        tenant_to_write(MULTIPLE, asked_by("a|b"))
    with pytest.raises(NoTenant, match="names 33 tenants, at most 32"):
        MULTIPLE.tenants_to_read(asked_by("|".join(f"t{number}" for number in range(33))))
    with pytest.raises(NoTenant, match="names 2 tenants, expected one"):
        MULTIPLE.tenants_to_read(asked_by("a", "b"))

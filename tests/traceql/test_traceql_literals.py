"""Durations, numbers, references and patterns on their own."""

from __future__ import annotations

import pyarrow as pa
import pyarrow.compute as pc
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spanlake.model.errors import QueryError
from spanlake.traceql import format_reference, parse_reference, regex_problem
from spanlake.traceql.durations import format_duration, parse_duration
from spanlake.traceql.literals import format_float
from spanlake.traceql.vocabulary import INT_MAX

SECOND = 10**9
DAY = 86_400 * SECOND


@pytest.mark.parametrize(
    ("text", "duration_ns"),
    [
        ("1y2w3d4h5m6s7ms", 365 * DAY + 17 * DAY + 4 * 3600 * SECOND + 5 * 60 * SECOND + 6 * SECOND + 7_000_000),
        ("1d12h", DAY + DAY // 2),
        ("0s", 0),
        ("1h15m30.9s", 4530 * SECOND + 900_000_000),
        (".5h", 1800 * SECOND),
        ("5.s", 5 * SECOND),
        ("1.5ms", 1_500_000),
        ("1us2µs3μs4ns", 6004),
        ("1s1h", 3601 * SECOND),
        ("0.0000000019s", 1),
        ("106751d", 106751 * DAY),
        ("2562047h47m16.854775807s", INT_MAX),
        ("2562047h47m16.854775808s", None),
        ("106752d", None),
        ("99999999999999999999y", None),
        ("1.5d", None),
        ("1h1d", None),
        ("1t", None),
        ("5", None),
        (".s", None),
        ("", None),
    ],
)
def test_duration_is_read_as_prometheus_or_go_writes_it(text: str, duration_ns: int | None) -> None:
    assert parse_duration(text) == duration_ns


@pytest.mark.parametrize(
    ("duration_ns", "text"),
    [
        (0, "0s"),
        (1, "1ns"),
        (1100, "1.1µs"),
        (2_200_000, "2.2ms"),
        (SECOND, "1s"),
        (90 * SECOND, "1m30s"),
        (3600 * SECOND, "1h0m0s"),
        (DAY + 1, "24h0m0.000000001s"),
        (-1_500_000_000, "-1.5s"),
        (-5, "-5ns"),
        (INT_MAX, "2562047h47m16.854775807s"),
    ],
)
def test_duration_is_written_as_go_writes_it(duration_ns: int, text: str) -> None:
    assert format_duration(duration_ns) == text


@given(st.integers(0, INT_MAX) | st.integers(0, 10**12))
def test_duration_comes_back_when_written_and_read(duration_ns: int) -> None:
    assert parse_duration(format_duration(duration_ns)) == duration_ns


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0, "0.0"),
        (-0.0, "-0.0"),
        (500.0, "500.0"),
        (-1.5, "-1.5"),
        (123456.0, "123456.0"),
        (999999.5, "999999.5"),
        (1e6, "1e+06"),
        (1234567.5, "1.2345675e+06"),
        (1e-4, "0.0001"),
        (0.00012, "0.00012"),
        (1e-5, "1e-05"),
        (1e300, "1e+300"),
        (5e-324, "5e-324"),
        (float("inf"), "+Inf"),
        (float("-inf"), "-Inf"),
        (float("nan"), "NaN"),
    ],
)
def test_float_is_written_as_go_writes_it(value: float, text: str) -> None:
    assert format_float(value) == text


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_float_comes_back_when_written_and_read(value: float) -> None:
    assert float(format_float(value)) == value


@pytest.mark.parametrize(
    ("text", "canonical"),
    [
        (".x", ".x"),
        (" span.http.method ", "span.http.method"),
        ('resource."a b"', 'resource."a b"'),
        ("name", "name"),
        ("span:name", "name"),
        ("event:name", "event:name"),
        ("parent.resource.x", "parent.resource.x"),
    ],
)
def test_reference_is_read_when_it_is_one_field(text: str, canonical: str) -> None:
    assert format_reference(parse_reference(text)) == canonical


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "expected an attribute or an intrinsic, found the end of the query"),
        ("foo", "unknown identifier: foo; for an attribute write .foo, span.foo or resource.foo"),
        (".a .b", "expected nothing after the attribute, found `.b`"),
        ("1", "expected an attribute or an intrinsic, found `1`"),
        ("error", "expected an attribute or an intrinsic, found `error`"),
        ('span."x', 'this name has no closing "'),
    ],
)
def test_reference_is_refused_when_it_is_not_one_field(text: str, message: str) -> None:
    with pytest.raises(QueryError) as caught:
        parse_reference(text)
    assert caught.value.message == message


BAD_PATTERNS = [
    ("(", "missing )"),
    ("a)", "unexpected )"),
    ("[a", "missing ]"),
    ("[[:nope:]]", "unknown character class [:nope:]"),
    ("*a", "no argument for repetition operator *"),
    ("a|+", "no argument for repetition operator +"),
    ("(?", "bad group syntax (?"),
    ("a**", "bad repetition operator * after another one"),
    ("a{2}{3}", "bad repetition operator {3} after another one"),
    ("a{3,2}", "bad repetition operator {3,2}: counts go up to 1000, the smaller one first"),
    ("a{1001}", "bad repetition operator {1001}: counts go up to 1000, the smaller one first"),
    ("(?=a)", "RE2 has no look-around ((?=a)"),
    ("(?<!a)", "RE2 has no look-around ((?<!)"),
    (r"(a)\1", r"RE2 has no back-references (\1)"),
    (r"\h", r"unknown escape \h"),
    (r"\Z", r"unknown escape \Z"),
    (r"\x4", r"incomplete escape \x"),
    ("a\\", "a backslash at the end"),
    ("(?P<a b>x)", "bad group name 'a b'"),
]
GROUPS = r"( ) | (?: (?i) (?U) (?-s) (?i-s: (?x) (?P<n> (?<m> (?= (?! (?P=n) (?P<n (? (?>a)"
CLASSES = r"[ ] [^ - [:alpha:] [:foo:] [a-z] []a]"
ESCAPES = r"\d \pL \p{Greek} \p \x41 \x{1F525} \x \1 \12 \0 \8 \Q \E \z \Z \b \_ \- \é \C"
OTHERS = "a b . é ^ $ \\ * + ? *? { } {2} {2,} {3,2} {1001} {,3}"
PATTERN_PARTS = f"{GROUPS} {CLASSES} {ESCAPES} {OTHERS}".split()


@pytest.mark.parametrize(("pattern", "problem"), BAD_PATTERNS)
def test_pattern_is_refused_when_it_is_no_re2(pattern: str, problem: str) -> None:
    assert regex_problem(pattern) == problem
    assert re2_refuses(pattern)


@settings(max_examples=300, deadline=None)
@given(st.lists(st.sampled_from(PATTERN_PARTS), max_size=5).map("".join))
def test_pattern_is_not_refused_when_re2_takes_it(pattern: str) -> None:
    assert regex_problem(pattern) is None or re2_refuses(pattern)


def re2_refuses(pattern: str) -> bool:
    try:
        pc.match_substring_regex(pa.array(["x"]), pattern)
    except pa.ArrowInvalid:
        return True
    return False

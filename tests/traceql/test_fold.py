"""Constant folding: what has one certain value is replaced by it, everything else stays as it was written."""

from __future__ import annotations

import pytest

from spanlake.traceql import check, fold, format_query, parse

FOLDED = [
    ("{ 1 + 1 = 2 }", "{ true }"),
    ("{ 2 ^ 3 = 8 && 2 ^ 3 ^ 2 = 512 }", "{ true }"),
    ("{ 7 / 2 = 3 && -7 / 2 = -3 && -(7 % 3) = -1 && (-7) % 3 = -1 && 7 % (-3) = 1 }", "{ true }"),
    ("{ maxInt + 1 = minInt && -minInt = minInt && minInt - 1 = maxInt }", "{ true }"),
    ("{ 1 = 1.0 && 1s = 1000000000 && 2m + 2m = 4m && 2m * 2 = 4m && 0.5 < 1 }", "{ true }"),
    ("{ maxInt = 9223372036854775808.0 }", "{ false }"),
    ("{ duration > 10ms * 20 }", "{ duration > 2e+08 }"),
    ("{ .a > 2 * 1000 + 500 }", "{ .a > 2500 }"),
    ("{ .a > -5 && .a < -(2 * 3) }", "{ (.a > -5) && (.a < -6) }"),
    ("{ .a + 1 + 1 = 2 }", "{ ((.a + 1) + 1) = 2 }"),
    ('{ "a" < "b" && "a" != "b" && "é" > "z" && "" = `` }', "{ true }"),
    ("{ true = false || ok = error || server != client }", "{ true }"),
    ("{ nil = nil || nil != nil || 1 = nil }", "{ false }"),
    ("{ 1 != nil && nil != `x` }", "{ true }"),
    ("{ !(1 = 2) && !false }", "{ true }"),
    ("{ 1 = 1 && .a }", "{ true && .a }"),
    ("{ 1 / 0 = 1 }", "{ (1 / 0) = 1 }"),
    ("{ 1 % 0 = 1 }", "{ (1 % 0) = 1 }"),
    ("{ 1 / 0.0 > 1 }", "{ (1 / 0.0) > 1 }"),
    ("{ 1e308 * 10 > 1 }", "{ (1e+308 * 10) > 1 }"),
    ("{ 10 ^ 30 > 1 }", "{ (10 ^ 30) > 1 }"),
    ("{ 2 ^ -1 = 0 }", "{ (2 ^ -1) = 0 }"),
    ("{ (-8) ^ 0.5 = 0 }", "{ ((-8) ^ 0.5) = 0 }"),
    ("{ 2.0 ^ 0.5 > 1.4 && 5.5 % 2 = 1.5 }", "{ true }"),
    ('{ "a" =~ "a" }', "{ `a` =~ `a` }"),
    ("{ .a = 1 + 1 } > { .b = 2 * 2 } | { .c = 3 - 1 }", "{ .a = 2 } > { .b = 4 } | { .c = 2 }"),
    ("{} | by(.a + (1 + 1)) | max(.b * (2 + 2)) > 2 * 3 + count() | select(.a)", None),
    ("({} | count() > 1 + 1) && ({ 1 = 1 })", "({ true } | count() > 2) && ({ true })"),
    ("({ 1 = 1 } | count()) > -(1 + 1)", "({ true } | count()) > -2"),
    ("{ 1 = 1 } | rate()", "{ true } | rate()"),
    ("{} | compare({ .a = 1 + 1 })", "{ true } | compare({ .a = 2 }, 10)"),
    ("({ 1 = 1 } | rate()) * (6/2*(1+2)) + (3/2)", "(({ true } | rate()) * 9) + 1"),
    ("({} | rate()) * (1 / 0)", "({ true } | rate()) * (1 / 0)"),
]


@pytest.mark.parametrize(("text", "folded"), FOLDED)
def test_constants_are_folded_when_their_value_is_certain(text: str, folded: str | None) -> None:
    query = parse(text)
    check(query)
    expected = folded or "{ true } | by(.a + 2) | max(.b * 4) > (6 + count()) | select(.a)"
    assert format_query(fold(query)) == expected

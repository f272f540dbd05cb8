"""What is refused: where, and in which words. `place` is line:column of the caret."""

from __future__ import annotations

import pytest

from spanlake.model.errors import QueryError
from spanlake.traceql import check, parse
from spanlake.traceql.ast import Intrinsic, Pipeline, Query, SpansetFilter
from spanlake.traceql.vocabulary import IntrinsicName

SPAN_INTRINSICS = "span has span:id, span:parentID, span:childCount, span:duration, span:name, span:kind, span:status, span:statusMessage"
STAGES = (
    "count, min, max, avg, sum, by, coalesce, select, rate, count_over_time, min_over_time, max_over_time, avg_over_time, sum_over_time, "
    "quantile_over_time, histogram_over_time, compare, topk, bottomk"
)
JOINS = "joins spansets, but one side is a comparison of aggregates; put each pipeline in parentheses"

# Rows of the tables: the query, the place, the message.
LEXICAL: list[tuple[str, str, str]] = [
    ("{ .a = 'x' }", "1:8", "unexpected character ': strings stand in double quotes or back-ticks, not in single quotes"),
    ("{ .a = “x” }", "1:8", 'unexpected character “: write a plain double quote "'),
    ("{ .a & .b }", "1:6", "unexpected character &: write && for and"),
    ("{ .a ; }", "1:6", "unexpected character ;: stages are separated by |"),
    ("{ [1] }", "1:3", 'unexpected character [: there are no lists; join comparisons with ||, or match a regular expression: =~ "a|b"'),
    ("{ $x }", "1:3", "unexpected character $: was a dashboard variable not replaced?"),
    ("{ (.a)\xa0= 1 }", "1:7", "unexpected character U+00A0 NO-BREAK SPACE: write an ordinary blank"),
    ('{ .a = "abc', "1:8", 'this string has no closing "'),
    ('{ .a = "abc\n" }', "1:8", 'this string has no closing "'),
    ("{ .a = `abc", "1:8", "this string has no closing back-tick"),
    ('{ .a = "x" /* foo', "1:12", "this comment has no closing */"),
    ('{ .a = "x\\q" }', "1:10", "unknown escape \\q; for a backslash write \\\\ or use back-ticks"),
    ('{ .a = "\\ud800" }', "1:9", "\\ud800 is not a Unicode character"),
    ('{ .a = "\\400" }', "1:9", "octal escape \\400 is above \\377"),
    ('{ .a = "\\xff" }', "1:9", "the escapes of this string do not form valid UTF-8 text, and no stored string can equal it"),
    ("{ . }", "1:3", "expected the name of an attribute after ."),
    ("{ span. = 1 }", "1:3", "expected the name of an attribute after span."),
    ("{ parent. = 1 }", "1:3", "expected the name of an attribute after parent."),
    ('{ ."" = 1 }', "1:3", "expected the name of an attribute after ."),
    ('{ span."foo = 1 }', "1:8", 'this name has no closing "'),
    ('{ span."f\\n" = 1 }', "1:3", 'unknown escape \\n in a name; only \\" and \\\\ are possible'),
    ("{ .a = 9223372036854775808 }", "1:8", "integer out of range; the largest is maxInt, the smallest minInt"),
    ("{ .a = -9223372036854775808 }", "1:9", "integer out of range; the largest is maxInt, the smallest minInt"),
    ("{ .a = 1e999 }", "1:8", "number out of range"),
    (
        "{ duration > 1t }",
        "1:15",
        "expected an operator, found `t`; `1t` is neither a number nor a duration (durations are like 100ms, 1.5s, 1h30m)",
    ),
    (
        "{ duration > 1.5d }",
        "1:17",
        "expected an operator, found `d`; `1.5d` is neither a number nor a duration (durations are like 100ms, 1.5s, 1h30m)",
    ),
    (
        "{ .a = 0x10 }",
        "1:9",
        "expected an operator, found `x10`; `0x10` is neither a number nor a duration (durations are like 100ms, 1.5s, 1h30m)",
    ),
    (
        "{ .a = 1_000 }",
        "1:9",
        "expected an operator, found `_000`; `1_000` is neither a number nor a duration (durations are like 100ms, 1.5s, 1h30m)",
    ),
    ("{ .a = \ud800 }", "1:8", "this character is half of a surrogate pair, no Unicode text"),
]

FIELDS: list[tuple[str, str, str]] = [
    ("{ attribute = 4 }", "1:3", "unknown identifier: attribute; for an attribute write .attribute, span.attribute or resource.attribute"),
    ("{ stauts = error }", "1:3", "unknown identifier: stauts; did you mean status?"),
    ('{ rootservicename = "x" }', "1:3", "unknown identifier: rootservicename; did you mean rootServiceName?"),
    (
        "{ http.status_code = 200 }",
        "1:3",
        "unknown identifier: http; attributes start with a dot or a scope: .http.status_code or span.http.status_code",
    ),
    ("{ .a = foo }", "1:8", 'unknown identifier: foo; strings stand in quotes: "foo"'),
    ("{ .a = True }", "1:8", "unknown identifier: True; did you mean true?"),
    ("{ .a = null }", "1:8", "unknown identifier: null; write nil"),
    ("{ parent = nil }", "1:3", "`parent` alone is no value; write parent.x for an attribute of the parent span, or span:parentID"),
    ("{ trace:status = error }", "1:3", "unknown identifier: trace:status; did you mean span:status?"),
    ('{ trace:rootServiceName = "x" }', "1:3", "unknown identifier: trace:rootServiceName; did you mean trace:rootService?"),
    (
        "{ span:nosuch = 1 }",
        "1:3",
        f"unknown identifier: span:nosuch; {SPAN_INTRINSICS}; for an attribute write span.nosuch",
    ),
    (
        "{ span:foo }",
        "1:3",
        f"unknown identifier: span:foo; {SPAN_INTRINSICS}; for an attribute write span.foo",
    ),
    ("{ http:foo }", "1:3", "unknown identifier: http:foo; a colon stands only after trace, span, event, link and instrumentation"),
    ("{ .a == 1 }", "1:7", "expected an attribute or a value, found `=`; equality is a single ="),
    ("{ .a <> 1 }", "1:7", "expected an attribute or a value, found `>`; write != for inequality"),
    ("{ .a => 1 }", "1:7", "expected an attribute or a value, found `>`; write >= or <="),
    ("{ .a = }", "1:8", "expected an attribute or a value, found `}`"),
    ("{ = 1 }", "1:3", "expected an attribute or a value, found `=`"),
    ("{ .a = 1 && }", "1:13", "expected an attribute or a value, found `}`"),
    ("{ && .a }", "1:3", "expected an attribute or a value, found `&&`"),
    ("{ .a .b }", "1:6", "expected an operator, found `.b`"),
    ("{ .a = 1 and .b = 2 }", "1:10", "expected an operator, found `and`; write &&"),
    ('{ .a in ("x", "y") }', "1:6", 'expected an operator, found `in`; write .a = "x" || .a = "y", or a regular expression: .a =~ "x|y"'),
    (
        '{ .a contains "x" }',
        "1:6",
        'expected an operator, found `contains`; write =~ and a regular expression for the whole value: .a =~ ".*text.*"',
    ),
    ("{ not .a }", "1:3", "unknown identifier: not; write ! before a condition in parentheses, or != and !~"),
    ("{ .a = 1, .b = 2 }", "1:9", "expected an operator or `}` to close the `{` at 1:1 (conditions are joined by &&), found `,`"),
    ("{ (.a = 1 }", "1:11", "expected an operator or `)` to close the `(` at 1:3, found `}`"),
    ("{ .a = 1) }", "1:9", "expected an operator or `}` to close the `{` at 1:1, found `)`"),
    ("{ (.a || .b }", "1:13", "expected an operator or `)` to close the `(` at 1:3, found `}`"),
    ("{ count() > 1 }", "1:3", "`count` does not work on a single span; it stands behind the braces: { } | count( … )"),
    ("{ by(.a) }", "1:3", "`by` does not work on a single span; it stands behind the braces: { } | by( … )"),
    ("{ .a > > 1 }", "1:8", "expected an attribute or a value, found `>`"),
    ("{ .a >> .b }", "1:6", "expected an operator, found `>>`; `>>` stands between spansets: { … } >> { … }"),
    ("{ .a ~ .b }", "1:6", "expected an operator, found `~`; `~` stands between spansets: { … } ~ { … }"),
    ("{ {} }", "1:3", "expected an attribute or a value, found `{`"),
    ("{ .a = 1 | rate()", "1:10", "expected an operator or `}` to close the `{` at 1:1, found `|`"),
    ('{ name = "x"', "1:13", "expected an operator or `}` to close the `{` at 1:1, found the end of the query"),
    ("{\n .a = 1\n .b }", "3:2", "expected an operator, found `.b`"),
    ("{ () }", "1:4", "expected an attribute or a value, found `)`"),
]

PIPELINES: list[tuple[str, str, str]] = [
    ("", "1:1", "the query is empty; { } finds all spans"),
    ("  ", "1:3", "the query is empty; { } finds all spans"),
    ("// nothing", "1:11", "the query is empty; { } finds all spans"),
    ("{} |", "1:5", "expected `{`, `(`, an aggregate or a stage, found the end of the query"),
    ("| {}", "1:1", "expected `{`, `(`, an aggregate or a stage, found `|`"),
    ("{} || ", "1:7", "expected `{`, `(`, an aggregate or a stage, found the end of the query"),
    ("{} {}", "1:4", "expected an operator, `|` or the end of the query, found `{`"),
    ("{ .a = 1 }}", "1:11", "expected the end of the query, found `}`"),
    ("{} )", "1:4", "expected the end of the query, found `)`"),
    ("({}", "1:4", "expected an operator, `|` or `)` to close the `(` at 1:1, found the end of the query"),
    ("()", "1:2", "expected `{`, `(`, an aggregate or a stage, found `)`"),
    ("duration > 1s", "1:1", "conditions on spans stand in braces: { duration … }"),
    (".a = 1", "1:1", "conditions on spans stand in braces: { .a … }"),
    ("status = error", "1:1", "conditions on spans stand in braces: { status … }"),
    ("true", "1:1", "a value alone is no query; compare an aggregate with it, for example { } | count() > 1"),
    ('"x"', "1:1", "a value alone is no query; compare an aggregate with it, for example { } | count() > 1"),
    ("5", "1:1", "a value alone is no query; compare an aggregate with it, for example { } | count() > 1"),
    ("2*3", "1:1", "a value alone is no query; compare an aggregate with it, for example { } | count() > 1"),
    ("5 > 3", "1:1", "a comparison outside braces needs an aggregate: count(), or min, max, avg, sum of a field"),
    ('"a" = "a"', "1:1", "a comparison outside braces needs an aggregate: count(), or min, max, avg, sum of a field"),
    ("{} | 5", "1:6", "a constant is no stage"),
    ("{} | count()", "1:6", "a value alone is no query; compare an aggregate with it, for example { } | count() > 1"),
    ("count()", "1:1", "a value alone is no query; compare an aggregate with it, for example { } | count() > 1"),
    ("{} | count() | by(.a)", "1:6", "an aggregate needs a comparison, for example count() > 1"),
    ("{} | count(.a) > 1", "1:12", "expected `)` (count takes no argument), found `.a`"),
    ("{} | count > 1", "1:12", "expected `(` after count, found `>`"),
    ("{} | max() > 1", "1:10", "expected an attribute or a value, found `)`"),
    ("{} | max(.a > 1", "1:16", "expected an operator or `)` to close the `(` at 1:9, found the end of the query"),
    ('{} | count() =~ "x"', "1:14", "expected an operator, `|` or the end of the query, found `=~`"),
    ("{} | count() > 1 > 2", "1:18", "`>` cannot be applied to a comparison; write | between two comparisons"),
    ("{} > 5", "1:4", "`>` joins spansets, but one side is a number"),
    ("{} = {}", "1:4", "`=` does not work on spansets"),
    ("{} + {}", "1:4", "`+` does not work on spansets"),
    (
        "{} && count() > 1",
        "1:4",
        f"`&&` {JOINS}: ({{ }} | count() > 1) && ({{ }} | count() > 2)",
    ),
    (
        "count() > 1 && count() > 2",
        "1:13",
        f"`&&` {JOINS}: ({{ }} | count() > 1) && ({{ }} | count() > 2)",
    ),
    ("!{}", "1:1", "`!` negates a condition and stands inside the braces: { !( … ) }"),
    ("-{}", "1:1", "`-` negates numbers, not a spanset"),
    ("{} !", "1:4", "expected an operator, `|` or the end of the query, found `!`"),
    ("coalesce()", "1:1", "coalesce() cannot be the first stage; write { } | coalesce()"),
    ("coalesce() | {}", "1:1", "coalesce() cannot be the first stage; write { } | coalesce()"),
    ("{} | coalesce(.a)", "1:15", "expected `)` to close the `(` at 1:14, found `.a`"),
    ("by()", "1:4", "expected an attribute or a value, found `)`"),
    ("by", "1:3", "expected `(` after by, found the end of the query"),
    ("{} | by(.a", "1:11", "expected an operator, `,` or `)` to close the `(` at 1:8, found the end of the query"),
    ("select()", "1:8", "expected an attribute or an intrinsic, found `)`"),
    ('select(1+"x")', "1:8", "expected an attribute or an intrinsic, found `1`"),
    ("select(.a + 1)", "1:11", "expected `,` or `)` to close the `(` at 1:7, found `+`"),
    ("select(foo)", "1:8", "unknown identifier: foo; for an attribute write .foo, span.foo or resource.foo"),
    (
        "{} | nosuch()",
        "1:6",
        f"unknown function or stage: nosuch; stages are {{ … }}, {STAGES}",
    ),
    ("{} | cuont() > 1", "1:6", "unknown function or stage: cuont; did you mean count?"),
    ("{} | limit 5", "1:6", "unknown function or stage: limit; the number of traces is a parameter of the request"),
    ("({} | count() > 1) >> {}", "1:23", "next to a pipeline in parentheses the other side stands in parentheses too: ({ … })"),
    ("{} >> ({} | count() > 1)", "1:1", "next to a pipeline in parentheses the other side stands in parentheses too: ({ … })"),
    ("({} | count() > 1) && ({}) && { .a }", "1:31", "next to a pipeline in parentheses the other side stands in parentheses too: ({ … })"),
    ("{ .a } && ({}) && (count() > 1)", "1:12", "next to a pipeline in parentheses the other side stands in parentheses too: ({ … })"),
    (
        "({} | count() > 1) && ({}) | select(.a)",
        "1:28",
        "a pipeline in parentheses is only combined with others, by spanset operators; write | inside the parentheses",
    ),
    (
        "({} | count() > 1) | {}",
        "1:20",
        "a pipeline in parentheses is only combined with others, by spanset operators; write | inside the parentheses",
    ),
    (
        "{} | (({} | count() > 1) && (count() > 2))",
        "1:43",
        "a pipeline in parentheses is only combined with others, by spanset operators; write | inside the parentheses",
    ),
    ("({} | count()) && ({} | count())", "1:16", "`&&` joins spansets, but one side is a number"),
    ("({} | 5) > 3", "1:7", "a constant is no stage"),
    ("({} | count()) > {}", "1:16", "`>` joins spansets, but one side is a number"),
]

METRICS: list[tuple[str, str, str]] = [
    ("rate()", "1:1", "rate() needs spans to work on; write { } | rate( … )"),
    ("{} | rate", "1:10", "expected `(` after rate, found the end of the query"),
    ("{} | rate(", "1:11", "expected `)` to close the `(` at 1:10, found the end of the query"),
    ("{} | rate(.a)", "1:11", "expected `)` (rate takes no argument), found `.a`"),
    ("{} | rate() by", "1:15", "expected `(` after by, found the end of the query"),
    ("{} | rate() by .a", "1:16", "expected `(` after by, found `.a`"),
    ("{} | rate() by (.a + 1)", "1:20", "expected `,` or `)` to close the `(` at 1:16, found `+`"),
    ("{} | rate() by ()", "1:17", "expected an attribute or an intrinsic, found `)`"),
    ("{} | max_over_time()", "1:20", "expected an attribute or an intrinsic, found `)`"),
    ("{} | max_over_time(.a + 1)", "1:23", "expected `)` to close the `(` at 1:19, found `+`"),
    ("{} | max_over_time(.a, .b)", "1:22", "expected `)` to close the `(` at 1:19, found `,`"),
    ("{} | quantile_over_time(duration)", "1:33", "expected `,` and a quantile between 0 and 1, found `)`"),
    ("{} | quantile_over_time(duration, -1)", "1:35", "expected a quantile between 0 and 1, found `-`"),
    ('{} | quantile_over_time(duration, "x")', "1:35", 'expected a quantile between 0 and 1, found `"x"`'),
    ("{} | compare()", "1:14", "expected `{`, found `)`"),
    (
        "{} | compare({} >> {})",
        "1:17",
        "expected `,` or `)` to close the `(` at 1:13, found `>>`; `>>` stands between spansets: { … } >> { … }",
    ),
    ("{} | compare({.a}, 10, 5)", "1:25", "expected `,` and the end of the time window, found `)`"),
    ("{} | compare({.a}, -1)", "1:20", "expected a positive integer, found `-`"),
    ("{} | compare({.a}, 1, 2, 3, 4)", "1:27", "expected `)` to close the `(` at 1:13, found `,`"),
    ("{} | compare({.a}) by (.b)", "1:20", "expected an operator, `|` or the end of the query, found `by`"),
    ("{} | topk(10)", "1:6", "topk() works on metrics; write { } | rate() | topk( … )"),
    ("{} | rate() | topk(-1)", "1:20", "expected a positive integer, found `-`"),
    ("{} | rate() | topk(1.5)", "1:20", "expected a positive integer, found `1.5`"),
    ("{} | rate() | topk()", "1:20", "expected a positive integer, found `)`"),
    ("{} | rate() | {}", "1:15", "expected topk( ) or bottomk( ) (metrics have no other stages), found `{`"),
    ("{} | rate() | count() > 1", "1:15", "expected topk( ) or bottomk( ) (metrics have no other stages), found `count`"),
    ('{} | rate() > "x"', "1:15", 'expected a number or a duration, found `"x"`'),
    (
        "{} | rate() > 2 * 3",
        "1:17",
        "metrics are compared with a single number; to combine metrics, put them in parentheses: ({ } | rate()) * 2 > 3",
    ),
    ("{} | rate() + 1", "1:13", "metrics that are operands stand in parentheses: ({ } | rate()) / ({ } | rate())"),
    ("({}|rate()) % 10", "1:13", "`%` cannot stand here: metrics are combined by + - * / only"),
    ("({}|rate()) ^ 2", "1:13", "`^` cannot stand here: metrics are combined by + - * / only"),
    ("({}|rate()) && ({}|rate())", "1:13", "`&&` joins spansets, but one side is metrics"),
    ("({}|rate()) > ({}|rate())", "1:16", "metrics are compared with a number or a duration"),
    ("5 < ({}|rate())", "1:3", "`<` cannot stand here: metrics stand on the left of a comparison"),
    ("({}|rate()) + count()", "1:15", "metrics are combined with metrics and with constants, not with aggregates"),
    ("({}|rate()) + (count() > 1)", "1:13", "`+` does not work on spansets"),
    ("({}|rate()) + {}", "1:13", "`+` does not work on spansets"),
    ("-({}|rate())", "1:1", "`-` negates numbers, not metrics"),
    (
        "(({}|rate()) * 60 > 100) + 1",
        "1:3",
        "topk, bottomk and comparisons of metrics arithmetic stand at the end of the query, not in parentheses",
    ),
    ("{} | ({} | rate())", "1:7", "metrics in parentheses cannot follow a stage"),
    ("{} with(a)", "1:10", "expected `=` after a, found `)`"),
    ("{} with(a=b)", "1:11", "expected a value, found `b`"),
    ("{} with(1=2)", "1:9", "expected the name of a hint, found `1`"),
    ('{} with(a=-"x")', "1:12", 'expected a value, found `"x"`'),
    ("{} with(a=1", "1:12", "expected `,` or `)` to close the `(` at 1:8, found the end of the query"),
    ("{} with(a=1) | rate()", "1:14", "expected the end of the query, found `|`"),
    ("({} with(a=1))", "1:5", "expected an operator, `|` or `)` to close the `(` at 1:1, found `with`"),
]

CHECKS: list[tuple[str, str, str]] = [
    (
        '{ 1 = "foo" }',
        "1:7",
        "binary operations must operate on the same type: 1 = `foo`; the left side is an int, the right side a string",
    ),
    (
        '{ status = "error" }',
        "1:12",
        "binary operations must operate on the same type: status = `error`; a status is written without quotes, for example error",
    ),
    (
        '{ kind = "server" }',
        "1:10",
        "binary operations must operate on the same type: kind = `server`; a kind is written without quotes, for example server",
    ),
    (
        "{ kind = error }",
        "1:10",
        "binary operations must operate on the same type: kind = error; the left side is a kind, the right side a status",
    ),
    (
        "{ status = 2 }",
        "1:12",
        "binary operations must operate on the same type: status = 2; the left side is a status, the right side an int",
    ),
    (
        '{ duration > "fast" }',
        "1:14",
        "binary operations must operate on the same type: duration > `fast`; a duration is written without quotes, for example 100ms",
    ),
    ("{ name > 1 }", "1:10", "binary operations must operate on the same type: name > 1; the left side is a string, the right side an int"),
    ("{ .a && 1 }", "1:9", "illegal operation for the given types: .a && 1; && joins conditions, and this is an int"),
    ('{ .a || "x" }', "1:9", "illegal operation for the given types: .a || `x`; || joins conditions, and this is a string"),
    ("{ true && nil }", "1:11", "illegal operation for the given types: true && nil"),
    ("{ 1 && true }", "1:3", "binary operations must operate on the same type: 1 && true; && joins conditions, and this is an int"),
    ("{ status > ok }", "1:12", "illegal operation for the given types: status > ok"),
    (
        '{ kind =~ "s" }',
        "1:11",
        "binary operations must operate on the same type: kind =~ `s`; a kind is written without quotes, for example server",
    ),
    ('{ 1 =~ "x" }', "1:8", "binary operations must operate on the same type: 1 =~ `x`; the left side is an int, the right side a string"),
    ('{ "a" + "b" }', "1:9", "illegal operation for the given types: `a` + `b`"),
    ("{ true > false }", "1:10", "illegal operation for the given types: true > false"),
    ("{ nil > 1 }", "1:9", "illegal operation for the given types: nil > 1"),
    ("{ .a + nil = 1 }", "1:8", "illegal operation for the given types: .a + nil"),
    ('{ -"a" = 1 }', "1:3", "illegal operation for the given type: -`a`"),
    ("{ .a =! 1 }", "1:7", "illegal operation for the given type: !1"),
    ("{ !5 }", "1:3", "illegal operation for the given type: !5"),
    ("{ -status }", "1:3", "illegal operation for the given type: -status"),
    ("{ !name }", "1:3", "illegal operation for the given type: !name"),
    ("{ !nil }", "1:3", "illegal operation for the given type: !nil"),
    (
        "{ status }",
        "1:3",
        "span filter field expressions must resolve to a boolean: { status }; this is a status; compare it with something",
    ),
    ("{ 1.1 }", "1:3", "span filter field expressions must resolve to a boolean: { 1.1 }; this is a float; compare it with something"),
    ("{ name }", "1:3", "span filter field expressions must resolve to a boolean: { name }; this is a string; compare it with something"),
    ("{ nil }", "1:3", "span filter field expressions must resolve to a boolean: { nil }; this is a nil; compare it with something"),
    ("{ 1 + 1 }", "1:3", "span filter field expressions must resolve to a boolean: { 1 + 1 }; this is an int; compare it with something"),
    ("{ .a + 1 }", "1:3", "span filter field expressions must resolve to a boolean: { .a + 1 }; this is an int; compare it with something"),
    ("{ .a =~ 5 }", "1:9", "illegal operation for the given types: .a =~ 5"),
    ("{ .a =~ .b }", "1:9", "invalid type for =~ or !~: .a =~ .b; a regular expression is a string on the right side"),
    ("{ .a =~ name }", "1:9", "invalid type for =~ or !~: .a =~ name; a regular expression is a string on the right side"),
    ('{ .a =~ "(" }', "1:9", "invalid regex: `(`; missing )"),
    ('{ .a !~ "(?=x)" }', "1:9", "invalid regex: `(?=x)`; RE2 has no look-around ((?=x)"),
    ("{ name = nil }", "1:3", "name=nil is not valid because intrinsics cannot be nil"),
    ("{ nil = event:name }", "1:9", "event:name=nil is not valid because intrinsics cannot be nil"),
    (
        "{ resource.service.name = nil }",
        "1:3",
        "resource.service.name=nil is not valid because resource.service.name cannot be nil; a missing one is empty: = ``",
    ),
    ('{ span:id > "a" }', "1:3", "illegal operation for the given types: span:id > `a`; ids have no order; use = or !="),
    ('{ "a" <= trace:id }', "1:10", "illegal operation for the given types: `a` <= trace:id; ids have no order; use = or !="),
    ("{} | by(1)", "1:9", "grouping field expressions must reference the span: by(1)"),
    ("{} | by(.a, 1 + 1)", "1:13", "grouping field expressions must reference the span: by(1 + 1)"),
    ("{} | by(.a && 1)", "1:15", "illegal operation for the given types: .a && 1; && joins conditions, and this is an int"),
    ("{} | avg(name) > 1", "1:10", "aggregate field expressions must resolve to a number type: avg(name); this is a string"),
    ("{} | max(status) = 1", "1:10", "aggregate field expressions must resolve to a number type: max(status); this is a status"),
    ("{} | max(.a = 1) = 1", "1:10", "aggregate field expressions must resolve to a number type: max(.a = 1); this is a bool"),
    ("{} | sum(1) > 0", "1:10", "aggregate field expressions must reference the span: sum(1)"),
    (
        '{} | count() > "x"',
        "1:16",
        "binary operations must operate on the same type: count() > `x`; the left side is an int, the right side a string",
    ),
    (
        "{} | count() = true",
        "1:16",
        "binary operations must operate on the same type: count() = true; the left side is an int, the right side a bool",
    ),
    (
        "{} | max(duration) > `x`",
        "1:22",
        "binary operations must operate on the same type: max(duration) > `x`; the left side is a duration, the right side a string",
    ),
    (
        '{} | count() + "x" > 1',
        "1:16",
        "binary operations must operate on the same type: count() + `x`; the left side is an int, the right side a string",
    ),
    ("{} | count() > nil", "1:16", "illegal operation for the given types: count() > nil"),
    ('{} | -"x" > count()', "1:6", "illegal operation for the given type: -`x`"),
    ("{.a} > {1}", "1:9", "span filter field expressions must resolve to a boolean: { 1 }; this is an int; compare it with something"),
    (
        "{} && {} && {1}",
        "1:14",
        "span filter field expressions must resolve to a boolean: { 1 }; this is an int; compare it with something",
    ),
    (
        "({ 1 } | count() > 1) && (count() > 2)",
        "1:4",
        "span filter field expressions must resolve to a boolean: { 1 }; this is an int; compare it with something",
    ),
    (
        "({ 1 } | count()) > 1",
        "1:4",
        "span filter field expressions must resolve to a boolean: { 1 }; this is an int; compare it with something",
    ),
    ("{ 1 } | rate()", "1:3", "span filter field expressions must resolve to a boolean: { 1 }; this is an int; compare it with something"),
    ("{} | rate() | topk(0)", "1:15", "limit must be greater than 0"),
    ("{} | rate() > 1 | bottomk(0)", "1:19", "limit must be greater than 0"),
    ("{} | quantile_over_time(duration, 1.5)", "1:6", "quantile must be between 0 and 1: 1.5"),
    (
        "{} | compare({ 1 })",
        "1:16",
        "span filter field expressions must resolve to a boolean: { 1 }; this is an int; compare it with something",
    ),
    ("{} | compare({.a}, 0)", "1:6", "compare() top number of values must be an integer between 1 and 1000"),
    ("{} | compare({.a}, 1001)", "1:6", "compare() top number of values must be an integer between 1 and 1000"),
    ("{} | compare({.a}, 1, 0, 5)", "1:6", "compare() timestamps must be positive Unix nanoseconds"),
    ("{} | compare({.a}, 1, 5, 5)", "1:6", "compare() end timestamp must be greater than its start timestamp"),
    ("{} | compare({.a}) | topk(1)", "1:22", "`compare()` cannot be used with second stage functions"),
    ("({} | compare({.a})) + 1", "1:7", "`compare()` cannot be used in metric arithmetic"),
    ("({} | rate()) + 5s", "1:17", "duration cannot be used as a scalar operand in metric arithmetic; write the number of seconds"),
    ("({} | rate()) * (5s + 1)", "1:18", "duration cannot be used in scalar arithmetic; write the number of seconds"),
    ('({} | rate()) * "x"', "1:17", "illegal operation for the given types: `x`; metrics are numbers"),
    (
        '({} | rate()) * ("x" + 1)',
        "1:24",
        "binary operations must operate on the same type: `x` + 1; the left side is a string, the right side an int",
    ),
    (
        "({1} | rate()) * 2",
        "1:3",
        "span filter field expressions must resolve to a boolean: { 1 }; this is an int; compare it with something",
    ),
]


@pytest.mark.parametrize(("text", "place", "message"), [*LEXICAL, *FIELDS, *PIPELINES, *METRICS])
def test_query_is_refused_with_place_and_message_when_it_does_not_parse(text: str, place: str, message: str) -> None:
    with pytest.raises(QueryError) as caught:
        parse(text)
    assert (f"{caught.value.line}:{caught.value.column}", caught.value.message) == (place, message)


@pytest.mark.parametrize(("text", "place", "message"), CHECKS)
def test_query_is_refused_with_place_and_message_when_types_do_not_fit(text: str, place: str, message: str) -> None:
    query = parse(text)
    with pytest.raises(QueryError) as caught:
        check(query)
    assert (f"{caught.value.line}:{caught.value.column}", caught.value.message) == (place, message)


def test_error_shows_the_line_and_a_caret_when_printed() -> None:
    with pytest.raises(QueryError) as caught:
        parse("{ .a = 1 &&\n\t.b = }")
    assert str(caught.value) == "2:7: expected an attribute or a value, found `}`\n   .b = }\n        ^"


def test_error_shows_the_part_around_the_caret_when_the_line_is_long() -> None:
    with pytest.raises(QueryError) as caught:
        parse("{ " + ".a = 1 && " * 1000 + "stauts = ok" + " && .b" * 1000 + " }")
    heading, shown, caret = str(caught.value).split("\n")
    assert heading == "1:10003: unknown identifier: stauts; did you mean status?"
    assert len(shown) < 150
    assert shown[caret.index("^") :].startswith("stauts = ok")


BOUNDS = [
    ({"bytes_max": 10}, "{ .a = 1 }", None),
    ({"bytes_max": 10}, "{ .a  = 1 }", "TraceQL expression exceeds the configured maximum size of 10 bytes, "),
    ({"bytes_max": 10}, "{ .ä = 1 }", "TraceQL expression exceeds the configured maximum size of 10 bytes, "),
    ({"tokens_max": 5}, "{ .a = 1 }", None),
    ({"tokens_max": 4}, "{ .a = 1 }", "the query is longer than 4 tokens"),
    ({"depth_max": 4}, "{ (.a) }", None),
    ({"depth_max": 4}, "{ (((.a))) }", "the query is nested more than 4 levels deep"),
    ({"depth_max": 4}, "(((({}))))", "the query is nested more than 4 levels deep"),
    ({"depth_max": 4}, "{ !!!.a }", "the query is nested more than 4 levels deep"),
    ({"depth_max": 4}, "{ 1 ^ 1 ^ 1 ^ 1 = 1 }", "the query is nested more than 4 levels deep"),
    ({"depth_max": 4}, "{ .a + .a + .a + .a = 1 }", "the query is nested more than 4 levels deep"),
    ({"depth_max": 4}, "{ .a && .b || .c && .d || .e }", "the query is nested more than 4 levels deep"),
    ({"depth_max": 4}, "{ .a && .b && .c && .d && .e && .f && .g }", None),
    ({"depth_max": 4}, "{} > {} > {} > {} > {}", "the query is nested more than 4 levels deep"),
    ({}, "{" + "(" * 8_000, "the query is nested more than 64 levels deep"),
    ({}, "{" + "!" * 8_000 + ".a }", "the query is nested more than 64 levels deep"),
    ({}, "(" * 8_000, "the query is nested more than 64 levels deep"),
    ({}, "{ 1" + " ^ 1" * 8_000 + " }", "the query is nested more than 64 levels deep"),
    ({}, "{ .a" + " + .a" * 8_000 + " }", "the query is nested more than 64 levels deep"),
    ({}, "{}" + " >> {}" * 8_000, "the query is nested more than 64 levels deep"),
    ({}, "," * 70_000, "the query is longer than 65536 tokens"),
    ({}, "{ }" + " | by(name)" * 199, None),
    ({}, "{ }" + " | by(name)" * 200, "the query has more than 200 stages"),
    ({}, "{ } | rate()" + " | topk(5)" * 200, "the query has more than 200 stages"),
    ({}, "x" * 200_000, "TraceQL expression exceeds the configured maximum size of 131072 bytes, "),
]


@pytest.mark.parametrize(("bounds", "text", "message"), BOUNDS)
def test_bound_is_kept_when_parsing(bounds: dict[str, int], text: str, message: str | None) -> None:
    if message is None:
        assert parse(text, **bounds)
        return
    with pytest.raises(QueryError) as caught:
        parse(text, **bounds)
    assert caught.value.message.startswith(message)


def test_pattern_is_judged_by_the_caller_when_it_brings_a_judge() -> None:
    query = parse("{ .a =~ `x` }")
    check(query, regex_problem=lambda _: None)
    with pytest.raises(QueryError, match=r"1:9: invalid regex: `x`; too short"):
        check(query, regex_problem=lambda _: "too short")


def test_error_has_a_place_when_the_tree_has_no_source() -> None:
    with pytest.raises(QueryError, match=r"1:1: .*\n  \{ status \}\n  \^"):
        check(Query(Pipeline((SpansetFilter(Intrinsic(IntrinsicName.STATUS)),))))

"""What parses and checks, and the canonical text that it prints as. The text must parse to the same tree, and print as itself."""

from __future__ import annotations

import pytest

from spanlake.traceql import check, fold, format_query, parse, parse_leniently

FILTERS = [
    ("{}", "{ true }"),
    ("{ }", "{ true }"),
    ("{ true }", "{ true }"),
    ("{ false }", "{ false }"),
    ("{ .a }", "{ .a }"),
    ("{(.a)}", "{ .a }"),
    ("{ .a = 1 }", "{ .a = 1 }"),
    ("{.a=1}", "{ .a = 1 }"),
    ("{ .a != 1 && .b < 2 }", "{ (.a != 1) && (.b < 2) }"),
    ("{ .a <= 1 || .b >= 2 || .c > 3 }", "{ (.a <= 1) || (.b >= 2) || (.c > 3) }"),
    ('{ .a =~ "x.*" && .b !~ `y` }', "{ (.a =~ `x.*`) && (.b !~ `y`) }"),
    ("{nestedSetParent<0 && true}", "{ (nestedSetParent < 0) && true }"),
    ("{ true &&status=error}", "{ true && (status = error) }"),
    ("{ .a = nil || .b != nil || nil = .c || nil != .d }", "{ (.a = nil) || (.b != nil) || (nil = .c) || (nil != .d) }"),
    ("{ (.a + .b) = nil }", "{ (.a + .b) = nil }"),
    ("{ nil = nil && nil != nil }", "{ (nil = nil) && (nil != nil) }"),
    ("{ name != nil }", "{ name != nil }"),
    ("{ duration >= 0 }", "{ duration >= 0 }"),
    ("{ duration > 1 && duration < 2.5 && 3s = duration }", "{ (duration > 1) && (duration < 2.5) && (3s = duration) }"),
    ("{ .a = .b && 1 = 1 && `a` != `b` }", "{ (.a = .b) && (1 = 1) && (`a` != `b`) }"),
    (
        "{ span:id =~ `a.*` && trace:id = `1` && span:parentID != `` }",
        "{ (span:id =~ `a.*`) && (trace:id = `1`) && (span:parentID != ``) }",
    ),
    ("{ .a // a comment }\n }", "{ .a }"),
    ("{ /* several\n lines */ .a }", "{ .a }"),
    ("{ .a //b = 1\n = 2 }", "{ .a = 2 }"),
    ("{ .a/b*c = 1 }", "{ .a/b*c = 1 }"),
    ("\n\t {\r\n.a\n}\n", "{ .a }"),
]

PRECEDENCE = [
    ("{ .a || .b && .c }", "{ (.a || .b) && .c }"),
    ("{ .a && .b || .c && .d }", "{ ((.a && .b) || .c) && .d }"),
    ("{ .a || (.b && .c) }", "{ .a || (.b && .c) }"),
    ("{ (.a && .b) && .c }", "{ .a && .b && .c }"),
    ("{ .a && (.b && .c) }", "{ .a && (.b && .c) }"),
    ("{ .a = .b = .c }", "{ (.a = .b) = .c }"),
    ("{ .a + .b - .c = 1 }", "{ ((.a + .b) - .c) = 1 }"),
    ("{ .a + .b * .c ^ .d = 1 }", "{ (.a + (.b * (.c ^ .d))) = 1 }"),
    ("{ .a * .b / .c % .d = 1 }", "{ (((.a * .b) / .c) % .d) = 1 }"),
    ("{ 2 ^ 3 ^ 2 = .a }", "{ (2 ^ (3 ^ 2)) = .a }"),
    ("{ -.a * 2 = 1 }", "{ (-(.a * 2)) = 1 }"),
    ("{ -.a + 2 = 1 }", "{ ((-.a) + 2) = 1 }"),
    ("{ -.a ^ 2 = 1 }", "{ (-(.a ^ 2)) = 1 }"),
    ("{ .a ^ -.b * 2 = 1 }", "{ (.a ^ (-(.b * 2))) = 1 }"),
    ("{ !.a = .b }", "{ (!.a) = .b }"),
    ("{ !.a && !.b }", "{ (!.a) && (!.b) }"),
    ("{ !!.a }", "{ !(!.a) }"),
    ("{ - - .a = -5 }", "{ (-(-.a)) = -5 }"),
    ("{ -5 + .a = 1 }", "{ ((-5) + .a) = 1 }"),
    ("{ !(.a = 1) }", "{ !(.a = 1) }"),
    ("{ 1 - 1 - 1 = -1 }", "{ ((1 - 1) - 1) = -1 }"),
    ("{.a} > {.b} && {.c} ~ {.d}", "({ .a } > { .b }) && ({ .c } ~ { .d })"),
    ("{.a} && {.b} > {.c}", "{ .a } && ({ .b } > { .c })"),
    ("{.a} || {.b} && {.c}", "({ .a } || { .b }) && { .c }"),
    ("{.a} > {.b} > {.c}", "({ .a } > { .b }) > { .c }"),
    ("{.a} > ({.b} > {.c})", "{ .a } > ({ .b } > { .c })"),
    ("({.a} && {.b}) && {.c}", "{ .a } && { .b } && { .c }"),
]

LITERALS = [
    (r'{ .a = "\n\t\\\"\x41\u00e9\U0001F525\101" }', '{ .a = `\n\t\\"Aé🔥A` }'),
    ('{ .a = "plain `tick`" }', '{ .a = "plain `tick`" }'),
    (r'{ .a = "\xc3\xa9" }', "{ .a = `é` }"),
    ('{ .a = `raw \\n\n"q"` }', '{ .a = `raw \\n\n"q"` }'),
    ("{ .a = `carriage\r return` }", "{ .a = `carriage return` }"),
    (r'{ .a = "carriage\r return" }', r'{ .a = "carriage\r return" }'),
    (r'{ .a = "\a\b\f\v\x00`" }', r'{ .a = "\x07\x08\x0c\x0b\x00`" }'),
    ('{ .a = "" }', "{ .a = `` }"),
    ("{ .a = 007 }", "{ .a = 7 }"),
    ("{ .a = minInt || .a = maxInt }", "{ (.a = minInt) || (.a = 9223372036854775807) }"),
    (
        "{ .a = 1.5 || .a = .5 || .a = 5. || .a = 1e3 || .a = 1.e-2 }",
        "{ (.a = 1.5) || (.a = 0.5) || (.a = 5.0) || (.a = 1000.0) || (.a = 0.01) }",
    ),
    ("{ .a = 1000000.0 || .a = 1.25e+300 || .a = 0.00001 }", "{ (.a = 1e+06) || (.a = 1.25e+300) || (.a = 1e-05) }"),
    ("{ duration > 1d12h && duration < 1y2w }", "{ (duration > 36h0m0s) && (duration < 9096h0m0s) }"),
    ("{ duration > 1h15m30.9s && duration < .5h }", "{ (duration > 1h15m30.9s) && (duration < 30m0s) }"),
    ("{ duration > 1.5ms && duration > 3us && duration > 3µs && duration > 7ns }", None),
    ("{ duration = 0s || duration = -90s }", "{ (duration = 0s) || (duration = -1m30s) }"),
    ("{ .a = true || .a = false }", "{ (.a = true) || (.a = false) }"),
    ("{ status = ok || status = error || status = unset }", "{ (status = ok) || (status = error) || (status = unset) }"),
    ("{ kind = unspecified || kind = internal || kind = server }", "{ (kind = unspecified) || (kind = internal) || (kind = server) }"),
    ("{ kind = client || kind = producer || kind != consumer }", "{ (kind = client) || (kind = producer) || (kind != consumer) }"),
]

NAMES = [
    ("{ span.a = resource.b }", "{ span.a = resource.b }"),
    ("{ event.a = link.b && instrumentation.c = 1 }", "{ (event.a = link.b) && (instrumentation.c = 1) }"),
    (
        "{ parent.a = 1 && parent.span.b = 2 && parent.resource.c = 3 }",
        "{ (parent.a = 1) && (parent.span.b = 2) && (parent.resource.c = 3) }",
    ),
    ("{ parent.event.a = 1 && parent.name = `x` }", "{ (parent.event.a = 1) && (parent.name = `x`) }"),
    ('{ parent."span.x" = 1 && parent.span = 2 }', '{ (parent."span.x" = 1) && (parent.span = 2) }'),
    ("{ .name = 1 && .duration = 1 && span.kind.x = 2 && .status = nil }", None),
    ("{ span.resource.foo = 1 && .span.foo = 1 }", "{ (span.resource.foo = 1) && (.span.foo = 1) }"),
    ("{ .a+.b = 1 }", "{ .a+.b = 1 }"),
    ("{ .a:b;c[0]'@#$?-d/e*%5 = 1 }", "{ .a:b;c[0]'@#$?-d/e*%5 = 1 }"),
    ("{ .ünï🔥 = 1 }", "{ .ünï🔥 = 1 }"),
    ('{ span."foo bar" = 1 }', '{ span."foo bar" = 1 }'),
    ('{ .a."b c".d = 1 }', '{ ."a.b c.d" = 1 }'),
    (r'{ span."q\"uote\\" = 1 }', r'{ span."q\"uote\\" = 1 }'),
    ("{ span.back\\slash = 1 }", "{ span.back\\slash = 1 }"),
    ('{ span."back\\\\slash" = 1 }', "{ span.back\\slash = 1 }"),
    ('{ ."5xx" = 1 && span.5xx = 2 }', '{ (."5xx" = 1) && (span.5xx = 2) }'),
    ("{ .a. = 1 && ..b = 2 }", "{ (.a. = 1) && (..b = 2) }"),
]

INTRINSICS = [
    (f"{{ {written} = {value} }}", f"{{ {canonical} = {value} }}")
    for written, canonical, value in [
        ("duration", "duration", "1s"),
        ("span:duration", "duration", "1s"),
        ("name", "name", "`x`"),
        ("span:name", "name", "`x`"),
        ("status", "status", "error"),
        ("span:status", "status", "error"),
        ("statusMessage", "statusMessage", "`x`"),
        ("span:statusMessage", "statusMessage", "`x`"),
        ("kind", "kind", "server"),
        ("span:kind", "kind", "server"),
        ("rootName", "rootName", "`x`"),
        ("trace:rootName", "rootName", "`x`"),
        ("rootServiceName", "rootServiceName", "`x`"),
        ("trace:rootService", "rootServiceName", "`x`"),
        ("traceDuration", "traceDuration", "1s"),
        ("trace:duration", "traceDuration", "1s"),
        ("trace:id", "trace:id", "`1`"),
        ("span:id", "span:id", "`1`"),
        ("span:parentID", "span:parentID", "`1`"),
        ("span:childCount", "span:childCount", "2"),
        ("nestedSetLeft", "nestedSetLeft", "1"),
        ("nestedSetRight", "nestedSetRight", "1"),
        ("nestedSetParent", "nestedSetParent", "1"),
        ("event:name", "event:name", "`x`"),
        ("event:timeSinceStart", "event:timeSinceStart", "5ms"),
        ("link:traceID", "link:traceID", "`1`"),
        ("link:spanID", "link:spanID", "`1`"),
        ("instrumentation:name", "instrumentation:name", "`x`"),
        ("instrumentation:version", "instrumentation:version", "1"),
    ]
]

PIPELINES = [
    *((f"{{ .a }} {operator} {{ .b }}", f"{{ .a }} {operator} {{ .b }}") for operator in ["&&", "||", ">", ">>", "<", "<<", "~"]),
    *((f"{{.a}}!{relation}{{.b}}", f"{{ .a }} !{relation} {{ .b }}") for relation in [">", ">>", "<", "<<", "~"]),
    *((f"{{.a}}&{relation}{{.b}}", f"{{ .a }} &{relation} {{ .b }}") for relation in [">", ">>", "<", "<<", "~"]),
    ("{.a}|{.b}", "{ .a } | { .b }"),
    ("{.a} | {.b} > {.c}", "{ .a } | { .b } > { .c }"),
    ("({.a})", "{ .a }"),
    ("({.a} | {.b})", "{ .a } | { .b }"),
    ("{} | by(name)", "{ true } | by(name)"),
    ("by(.a)", "by(.a)"),
    ("{} | by(.a + 1, span:kind) | by(1 = .b)", "{ true } | by(.a + 1, kind) | by(1 = .b)"),
    ("{} | by(span.depth % 2 = 0)", "{ true } | by((span.depth % 2) = 0)"),
    ("{} | by(.a) | coalesce()", "{ true } | by(.a) | coalesce()"),
    ("{} | select(.a, span.b,name , event:name)", "{ true } | select(.a, span.b, name, event:name)"),
    ("select(.a) | {.b}", "select(.a) | { .b }"),
    ("{} | count() > 1 | {.a} | avg(duration) <= 3ms", "{ true } | count() > 1 | { .a } | avg(duration) <= 3ms"),
    ("count() > 2", "count() > 2"),
    ("{} | 2 < count()", "{ true } | 2 < count()"),
    ("{} | max(.a) != -1.5", "{ true } | max(.a) != -1.5"),
    ("{} | sum(.a * 2) = 0", "{ true } | sum(.a * 2) = 0"),
    ("{} | min(.a) < max(.b)", "{ true } | min(.a) < max(.b)"),
    ("{} | count() + 5 > 25", "{ true } | (count() + 5) > 25"),
    ("{} | (count() + 5) * 2 ^ 2 > -(1 + 2)", "{ true } | ((count() + 5) * (2 ^ 2)) > (-(1 + 2))"),
    ("{} | -count() < --5", "{ true } | (-count()) < 5"),
    ("({.a} | count()) > 2", "({ .a } | count()) > 2"),
    ("({.a} | count()) > ({.b} | by(.c) | max(.d) + 1)", "({ .a } | count()) > ({ .b } | by(.c) | max(.d) + 1)"),
    ("{} | ({.a} | count()) = 1", "{ true } | ({ .a } | count()) = 1"),
    ("({.a} | count() > 1) && ({.b} | count() > 2)", "({ .a } | count() > 1) && ({ .b } | count() > 2)"),
    ("({.a} | by(.x)) >> ({.b} | by(.y))", "({ .a } | by(.x)) >> ({ .b } | by(.y))"),
    ("(count() > 1) || (by(.a) | count() > 2)", "(count() > 1) || (by(.a) | count() > 2)"),
    ("({.a} | count() > 1) && ({.b})", "({ .a } | count() > 1) && ({ .b })"),
    ("({.a}) && ({.b}) || (count() > 2)", "({ .a } && { .b }) || (count() > 2)"),
    ("(({.a} | count() > 1) && (count() > 2)) || (count() > 3)", "(({ .a } | count() > 1) && (count() > 2)) || (count() > 3)"),
]

METRICS = [
    ("{}|rate()", "{ true } | rate()"),
    ("{nestedSetParent<0 && true} | rate()  with(sample=true)", "{ (nestedSetParent < 0) && true } | rate() with(sample=true)"),
    ("{} | count_over_time() by (.a, name)", "{ true } | count_over_time() by(.a, name)"),
    ("{} | rate() by(.a, .b, .c, .d, .e, .f, .g)", "{ true } | rate() by(.a, .b, .c, .d, .e, .f, .g)"),
    ("{} | min_over_time(duration)", "{ true } | min_over_time(duration)"),
    ("{} | max_over_time(span.a) by(resource.b)", "{ true } | max_over_time(span.a) by(resource.b)"),
    ("{} | avg_over_time(.a) | topk(3)", "{ true } | avg_over_time(.a) | topk(3)"),
    ("{} | sum_over_time(parent.a)", "{ true } | sum_over_time(parent.a)"),
    ("{} | histogram_over_time(duration)", "{ true } | histogram_over_time(duration)"),
    ("{} | quantile_over_time(duration, .5, 0.99,0, 1) by(name)", "{ true } | quantile_over_time(duration, 0.5, 0.99, 0.0, 1.0) by(name)"),
    ("{} | compare({status=error})", "{ true } | compare({ status = error }, 10)"),
    ("{} | compare({})", "{ true } | compare({ true }, 10)"),
    ("{} | compare({.a}, 5, 1700000000000000000, 1700000001000000000)", None),
    ("{.a} >> {.b} | by(.c) | count() > 1 | rate()", "{ .a } >> { .b } | by(.c) | count() > 1 | rate()"),
    ("{} | rate() by(name) > 1 | bottomk(2) <= 5s != -3", "{ true } | rate() by(name) > 1 | bottomk(2) <= 5s != -3"),
    ("({} | rate())", "{ true } | rate()"),
    ("({} | rate() > 1) | topk(2) > 3", "{ true } | rate() > 1 | topk(2) > 3"),
    ("({.a} | rate()) / ({} | rate())", "({ .a } | rate()) / ({ true } | rate())"),
    ("({.a} | rate()) + ({} | rate()) * 2 > 60", "({ .a } | rate()) + (({ true } | rate()) * 2) > 60"),
    ("100 * ({.a} | rate() > 1) / ({} | rate()) | topk(2)", "(100 * ({ .a } | rate() > 1)) / ({ true } | rate()) | topk(2)"),
    ("(({ } | rate()) * 60) > 100", "({ true } | rate()) * 60 > 100"),
    ("({} | rate()) * (6/2*(1+2))", "({ true } | rate()) * ((6 / 2) * (1 + 2))"),
    ("-1.5 * ({} | rate())", "-1.5 * ({ true } | rate())"),
    ("{} with(most_recent=true)", "{ true } with(most_recent=true)"),
    ("{} with (a=1, b=-0.5) with(c=`x,y`, a=5s)", "{ true } with(a=1, b=-0.5, c=`x,y`, a=5s)"),
    ("{} | rate() with(exemplars=0,name=error)", "{ true } | rate() with(exemplars=0, name=error)"),
]

# What Traces Drilldown and the Grafana plugin send (wire-contract.md section 3).
CLIENTS = [
    "{nestedSetParent<0 && true && status=error} | rate()  with(sample=true)",
    "{kind=server && true} | histogram_over_time(duration) with(sample=true)",
    "{true && true} | quantile_over_time(duration, 0.9) by(resource.service.name)",
    '{span.db.system.name!="" && resource.k8s.pod.name != nil} | rate() by(resource.k8s.pod.name)',
    "{nestedSetParent<0} | rate() ",
    "{true} | compare({duration >= 2s && duration <= 5s}, 10)",
    "({nestedSetParent<0 } &>> { kind = server }) || ({nestedSetParent<0 }) | select(status, resource.service.name, name, nestedSetParent)",
    "{status = error} | select(resource.service.name, event.exception.message,event.exception.type) with(most_recent=true)",
    '{(resource.service.name="a" || resource.service.name="b") && name=~"GET.*" && duration<1.2s}',
    '{.vulture-process-0 = "x"}',
]


@pytest.mark.parametrize(("text", "canonical"), [*FILTERS, *PRECEDENCE, *LITERALS, *NAMES, *INTRINSICS, *PIPELINES, *METRICS])
def test_query_prints_canonically_when_parsed(text: str, canonical: str | None) -> None:
    query = parse(text)
    check(query)
    printed = format_query(query)
    assert canonical is None or printed == canonical
    assert parse(printed) == query
    assert format_query(parse(printed)) == printed


@pytest.mark.parametrize("text", CLIENTS)
def test_query_of_a_client_is_valid_when_parsed(text: str) -> None:
    query = parse(text)
    check(query)
    check(fold(query))
    assert parse(format_query(query)) == query


def test_chain_is_one_node_when_it_is_thousands_long() -> None:
    query = parse("{" + " || ".join(f".a = {number}" for number in range(5000)) + "}")
    check(query)
    assert parse(format_query(query)) == query
    assert format_query(fold(query)) == format_query(query)


DEEP = [
    "{" + "(" * 62 + ".a" + ")" * 62 + "}",
    "(" * 63 + "{}" + ")" * 63,
    "{" + "!(" * 61 + ".a" + ")" * 61 + "}",
    "{" + "!" * 61 + ".a }",
    "{ .a" + " + .a" * 60 + " = 1 }",
    "{ .a" + " && .a || .a" * 30 + " }",
    "{" + ".a && (.b || (" * 30 + ".a" + "))" * 30 + "}",
    "{}" + " >> {}" * 61,
    "{} >> (" * 60 + "{}" + ")" * 60,
    "(count() > 1) && (" * 59 + "count() > 1" + ")" * 59,
    "(" * 60 + "count()" + " + 1)" * 60 + " > 1",
    "({} | " * 58 + "count()" + ")" * 58 + " > 1",
    "({} | rate()) + (" * 58 + "1" + ")" * 58,
]


@pytest.mark.parametrize("text", DEEP)
def test_deep_query_overflows_no_stack_when_within_the_bound(text: str) -> None:
    query = parse(text)
    check(query)
    assert parse(format_query(query)) == query
    assert hash(parse(text)) == hash(query)
    assert format_query(fold(query))
    assert repr(query)
    assert parse_leniently(text) == (query, ())

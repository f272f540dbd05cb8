"""`spanlake trace`: what a trace looks like, and what the command says when there is none to show."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from collections.abc import Iterator
from datetime import timedelta, timezone
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, ArrayValue, InstrumentationScope, KeyValue, KeyValueList
from opentelemetry.proto.resource.v1.resource_pb2 import Resource
from opentelemetry.proto.trace.v1.trace_pb2 import ResourceSpans, ScopeSpans, Span, Status, TracesData
from serving import Served, serving

from spanlake.app.cli.main import main
from spanlake.app.trace_view.read import ReadTrace, read_trace, value_text
from spanlake.app.trace_view.tree import build_tree, choose_shown
from spanlake.app.trace_view.view import ViewOptions, bar, duration_text, trace_lines
from spanlake.model.errors import InvalidInput, Overloaded
from spanlake.model.trace import TraceAnswer
from spanlake.wire.trace_json import encode_trace_v2_protobuf

MS = 1_000_000
START_NS = 1_767_225_600_000 * MS  # 2026-01-01
TRACE_ID = "000000000000000000000000000000ab"
FAILED = Status(code=Status.STATUS_CODE_ERROR, message="card refused")


def span(number: int, parent: int = 0, name: str = "", at_ms: float = 0, ms: float = 10, **more: Any) -> Span:
    begin = START_NS + int(at_ms * MS)
    parent_id = parent.to_bytes(8) if parent else b""
    times = {"start_time_unix_nano": begin, "end_time_unix_nano": begin + int(ms * MS)}
    return Span(trace_id=bytes.fromhex(TRACE_ID), span_id=number.to_bytes(8), parent_span_id=parent_id, name=name, **(times | more))


def text(key: str, value: str) -> KeyValue:
    return KeyValue(key=key, value=AnyValue(string_value=value))


def service(name: str, *spans: Span) -> ResourceSpans:
    resource = Resource(attributes=[text("service.name", name)] if name else [])
    return ResourceSpans(resource=resource, scope_spans=[ScopeSpans(scope=InstrumentationScope(name="lib", version="1"), spans=spans)])


def answer(*groups: ResourceSpans) -> TraceAnswer:
    encoded: bytes = TracesData(resource_spans=groups).SerializeToString()
    return TraceAnswer(encoded, sum(len(scope.spans) for group in groups for scope in group.scope_spans))


def read(*groups: ResourceSpans) -> ReadTrace:
    return read_trace(encode_trace_v2_protobuf(answer(*groups)))


def show(trace: ReadTrace, width: int = 80, limit: int = 500, *, attributes: bool = False) -> list[str]:
    zone = timezone(timedelta(hours=2))
    return [line.plain for line in trace_lines(TRACE_ID, trace, ViewOptions(width, limit, attributes, zone))]


EXCEPTION = Span.Event(
    time_unix_nano=START_NS + 31 * MS,
    name="exception",
    attributes=[text("exception.type", "IOError"), text("exception.message", "line\nbreak \x1b[31m")],
)
SHOP = (
    service("web", span(1, 0, "GET /", 0, 100, kind=2), span(2, 1, "call pay", 10, 80, kind=3), span(5, 1, "render", 95, 4)),
    service(
        "pay",
        span(
            3,
            2,
            "POST /pay",
            20,
            60,
            kind=2,
            status=FAILED,
            events=[EXCEPTION],
            links=[Span.Link(trace_id=b"\1" * 16, span_id=b"\2" * 8)],
            attributes=[text("user", "ann"), KeyValue(key="tries", value=AnyValue(int_value=3))],
        ),
        span(4, 3, "INSERT", 30, 0.005),
    ),
)


def test_trace_is_a_tree_with_bars() -> None:
    assert show(read(*SHOP)) == [
        "trace  000000000000000000000000000000ab",
        "root   web  GET /",
        "start  2026-01-01 02:00:00.000+02:00   took  100 ms",
        "has    5 spans of 2 services, 1 error",
        "",
        "                                              0                           100 ms",
        "web GET /                 server      100 ms  ██████████████████████████████████",
        "├╴web call pay            client     80.0 ms     ███████████████████████████▌",
        "│ └╴✗ pay POST /pay •1 →1 server     60.0 ms        ▐████████████████████",
        "│   │ ✗ card refused",
        "│   │ ! IOError: line\\nbreak \\x1b[31m",
        "│   └╴pay INSERT                     5.00 µs            ▌",
        "└╴web render                         4.00 ms                                  █▌",
    ]


def test_narrow_terminals_lose_kinds_then_bars() -> None:
    assert show(read(*SHOP), 60)[5:8] == [
        "                                     0                100 ms",
        "web GET /                    100 ms  ███████████████████████",
        "├╴web call pay              80.0 ms    ██████████████████▌",
    ]
    assert show(read(*SHOP), 40)[5:7] == ["web GET /                         100 ms", "├╴web call pay                   80.0 ms"]


def test_attributes_stand_below_each_span_and_resources_at_the_end() -> None:
    lines = show(read(*SHOP), attributes=True)
    assert lines[10:23] == [
        "│ └╴✗ pay POST /pay •1 →1 server     60.0 ms        ▐████████████████████",
        "│   │ ✗ card refused",
        "│   │ ! IOError: line\\nbreak \\x1b[31m",
        "│   │ id 0000000000000003  scope lib 1",
        "│   │ user = ann",
        "│   │ tries = 3",
        "│   │ • exception  11.0 ms after its start",
        "│   │     exception.type = IOError",
        "│   │     exception.message = line",
        "│   │         break \\x1b[31m",
        f"│   │ → trace {'01' * 16} span {'02' * 8}",
        "│   └╴pay INSERT                     5.00 µs            ▌",
        "│       id 0000000000000004  scope lib 1",
    ]
    assert lines[-5:] == ["resource  web", "  service.name = web", "", "resource  pay", "  service.name = pay"]


def test_odd_traces_say_what_is_odd() -> None:
    odd = service(
        "",
        span(1, 0, "one"),
        span(2, 0, "two", 10, 0),
        span(3, 9, "orphan", 20),
        span(4, 9, "sister", 30),
        span(5, 6, "cycle", 40),
        span(6, 5, "back", 50),
        span(7, 7, "self", 60, -2),
        span(8, 1, "timeless", start_time_unix_nano=0, end_time_unix_nano=0),
    )
    lines = show(read(odd), 44)
    assert lines[1] == "root   (no service)  one"
    assert lines[4:6] == ["       2 roots", "       4 spans without the parent that they name"]
    assert lines[7:] == [
        "(no service) one                     10.0 ms",
        "└╴(no service) timeless                 0 ns",
        "(no service) two                        0 ns",
        "? parent 0000000000000009 is not in this trace",
        "├╴(no service) orphan                10.0 ms",
        "└╴(no service) sister                10.0 ms",
        "? a cycle: these parents lead back to themselves",
        "├╴(no service) cycle                 10.0 ms",
        "│ └╴(no service) back                10.0 ms",
        "└╴(no service) self                 -2.00 ms",
    ]
    assert "not here" in show(read(service("a", span(1, 2, "only an orphan"))))[1]


def test_deep_spans_show_their_depth() -> None:
    chain = read(service("a", *(span(number, number - 1, f"level {number}") for number in range(1, 40))))
    lines = [line[:30].rstrip() for line in show(chain, 60)]
    assert lines[14:17] == ["              └╴a level 9", "                └╴a level 10", "   10⋯          └╴a level 11"]
    assert lines[-1] == "   38⋯          └╴a level 39"


def test_large_traces_are_cut_from_below() -> None:
    lines = show(read(*SHOP), limit=2)
    assert [line[:31].rstrip() for line in lines[6:8]] == ["web GET / +1 hidden      server", "└╴web call pay +1 hidden client"]
    assert lines[8:] == ["3 of 5 spans are not shown; --limit 0 shows all"]


def test_partial_answers_say_so() -> None:
    whole = answer(*SHOP)
    trace = read_trace(encode_trace_v2_protobuf(TraceAnswer(whole.encoded, whole.spans, complete=False, message="too large")))
    assert show(trace)[4] == "       incomplete: too large"


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (AnyValue(), ""),
        (AnyValue(string_value="a b"), "a b"),
        (AnyValue(bool_value=False), "false"),
        (AnyValue(int_value=-5), "-5"),
        (AnyValue(double_value=0.1), "0.1"),
        (AnyValue(bytes_value=b"\x00\xff"), "0x00ff"),
        (AnyValue(array_value=ArrayValue(values=[AnyValue(string_value="x"), AnyValue(int_value=1)])), '["x", 1]'),
        (AnyValue(kvlist_value=KeyValueList(values=[text("k", "v")])), '{"k": "v"}'),
    ],
)
def test_values_as_text(value: AnyValue, expected: str) -> None:
    assert value_text(memoryview(value.SerializeToString())) == expected


@pytest.mark.parametrize(
    ("duration_ns", "expected"),
    [
        (0, "0 ns"),
        (999, "999 ns"),
        (1_500, "1.50 µs"),
        (99_960, "100 µs"),
        (12_345_678, "12.3 ms"),
        (-2_000_000, "-2.00 ms"),
        (59_400_000_000, "59.4 s"),
        (123_000_000_000, "2m 03s"),
        (5 * 3600 * 10**9, "5h 00m"),
        (90_000 * 10**9, "1d 1h"),
        (56 * 365 * 86_400 * 10**9, "20,440d"),
    ],
)
def test_durations_as_text(duration_ns: int, expected: str) -> None:
    assert duration_text(duration_ns) == expected


@given(st.integers(-(2**63), 2**63))
def test_durations_fit_their_column(duration_ns: int) -> None:
    assert len(duration_text(duration_ns)) <= 9


@given(st.floats(0, 1), st.floats(0, 1), st.integers(1, 60))
def test_bars_stay_in_their_column(one: float, other: float, cells: int) -> None:
    text_of_bar = bar((min(one, other), max(one, other)), cells)
    assert 1 <= len(text_of_bar) <= cells
    assert text_of_bar.strip(" ")


@given(st.lists(st.tuples(st.integers(1, 6), st.integers(0, 6), st.integers(0, 5)), max_size=12), st.integers(0, 13))
def test_every_span_is_in_the_forest_once(ids: list[tuple[int, int, int]], limit: int) -> None:
    tree = build_tree(read(service("a", *(span(one, parent, at_ms=at) for one, parent, at in ids))).spans)
    everywhere = [top for group in tree.groups for top in group.tops] + [child for children in tree.children for child in children]
    assert sorted(everywhere) == list(range(len(ids)))
    shown = choose_shown(tree, limit)
    assert len(shown) == (min(limit, len(ids)) if limit else len(ids))


def test_a_chain_of_many_spans_is_read_without_recursion() -> None:
    chain = read(service("a", *(span(number, number - 1) for number in range(1, 5000))))
    assert len(show(chain, limit=0)) == 4999 + 6


# The command against a server.


@pytest.fixture(scope="module")
def served() -> Iterator[Served]:
    with serving() as running:
        yield running


def run(served: Served, outcome: TraceAnswer | Exception, *options: str) -> int:
    served.reader.outcome = outcome
    return main(["trace", "--url", f"http://127.0.0.1:{served.ports.http}", *options])


def test_command_prints_the_tree_without_colours_into_a_pipe(served: Served, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(served, answer(*SHOP), "AB", "--tenant", "me") == 0
    printed = capsys.readouterr().out
    assert served.reader.asked[-1][1] == (0, 0xAB)
    assert printed.splitlines()[:2] == ["trace  000000000000000000000000000000ab", "root   web  GET /"]
    assert "\x1b" not in printed


def test_command_prints_the_answer_as_json(served: Served, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(served, answer(*SHOP), "ab", "--json") == 0
    document = json.loads(capsys.readouterr().out)
    assert len(document["trace"]["resourceSpans"]) == 2


@pytest.mark.parametrize(
    ("outcome", "options", "expected"),
    [
        (TraceAnswer(b"", 0), ["ab"], f"has no trace {TRACE_ID}; it may not have arrived yet"),
        (TraceAnswer(b"", 0), ["ab", "--json"], f"has no trace {TRACE_ID}; it may not have arrived yet"),
        (TraceAnswer(b"", 0), ["ab", "--tenant", "me"], f"has no trace {TRACE_ID} for tenant me; "),
        (Overloaded("busy"), ["ab"], "cannot answer now: 429 busy"),
        (InvalidInput("no \x1b way"), ["ab"], "refuses: 400 no \\x1b way"),
        (TraceAnswer(b"", 0), ["xyz"], "trace IDs can only contain hex characters: invalid character 'x' at position 1"),
        (TraceAnswer(b"", 0), ["1" * 33], "trace IDs can't be larger than 128 bits"),
    ],
)
def test_command_fails_in_one_line(
    served: Served, outcome: TraceAnswer | Exception, options: list[str], expected: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(served, outcome, *options) == 1
    printed = capsys.readouterr()
    assert printed.out == ""
    assert expected in printed.err
    assert printed.err.count("\n") == 1


def test_command_asks_for_the_tenant_when_there_are_several(capsys: pytest.CaptureFixture[str]) -> None:
    with serving(multitenancy=True) as served:
        assert run(served, answer(*SHOP), "ab") == 1
        assert "refuses: no org id; name the tenant with --tenant NAME" in capsys.readouterr().err
        assert run(served, answer(*SHOP), "ab", "--tenant", "me") == 0
        assert served.reader.asked[-1][0] == "me"


def test_command_says_when_the_port_is_another_one(served: Served, capsys: pytest.CaptureFixture[str]) -> None:
    for port, expected in ((served.ports.otlp_http, "has no trace API"), (served.ports.otlp_grpc, "does not speak HTTP")):
        assert main(["trace", "--url", f"http://127.0.0.1:{port}", "ab"]) == 1
        assert expected in capsys.readouterr().err


def test_command_says_when_nothing_listens(capsys: pytest.CaptureFixture[str]) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{unused.getsockname()[1]}"
        assert main(["trace", "--url", url, "ab"]) == 1
    printed = capsys.readouterr().err
    assert (
        printed
        == f"spanlake: cannot reach {url}: connection refused; start a server with `spanlake serve`, or name a running one with --url URL\n"
    )


def test_command_loads_no_kernels(served: Served) -> None:
    served.reader.outcome = answer(*SHOP)
    argv = ["trace", "--url", f"http://127.0.0.1:{served.ports.http}", "ab"]
    program = (
        f"import sys; from spanlake.app.cli.main import main; main({argv!r}); print({{'numpy', 'numba', 'pyarrow'}} & set(sys.modules))"
    )
    printed = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True).stdout
    assert printed.splitlines()[-1] == "set()"

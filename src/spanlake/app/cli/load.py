"""`spanlake load`: send generated traces to an OTLP endpoint, report how it went, and on request read everything back."""

from __future__ import annotations

import argparse
import math
import re
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console

    from spanlake.app.load.report import Report
    from spanlake.app.load.run import LoadPlan
    from spanlake.app.load.schedule import Goal
    from spanlake.app.load.traces import TraceTemplates
    from spanlake.app.load.verify import Verification, VerifyPlan

DEFAULT_PORTS = {"grpc": 4317, "http": 4318}
DEFAULT_QUERY_PORT = 3200
DEFAULT_SECONDS = 10.0
BATCH_SPANS = 1000
BATCH_SPANS_MAX = 200_000
BATCHES_PER_SECOND_LEAST = 10  # at a low rate, smaller batches rather than rarer ones
RATE_PREPARED_LEAST = 2000  # slower runs build the templates as they go
TENANT_HEADER = "X-Scope-OrgID"
_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "": 1.0}


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Declare the command."""
    text = "send realistic, generated traces to an OTLP endpoint and report speed, latency and errors"
    parser = subparsers.add_parser(
        "load",
        help=text,
        description=f"{text[0].upper()}{text[1:]}. Exits with 0 if every span was acknowledged and, with --verify, read back once.",
    )
    _add_target_options(parser)
    _add_amount_options(parser)
    _add_verify_options(parser)
    parser.add_argument("--json", action="store_true", help="print the report as JSON")
    parser.set_defaults(run=run)


def _add_target_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--endpoint", metavar="URL", help="OTLP endpoint (default: http://127.0.0.1:4317, with --protocol http :4318/v1/traces)"
    )
    parser.add_argument(
        "--protocol", choices=("grpc", "http"), default="grpc", help="OTLP over gRPC (default) or HTTP with protobuf bodies"
    )
    parser.add_argument(
        "--connections", type=_between(1, 256), default=4, metavar="N", help="connections that send side by side (default: 4)"
    )
    parser.add_argument(
        "--header", type=_header, action="append", default=[], metavar="NAME=VALUE", help="header of every request; repeatable"
    )
    parser.add_argument("--tenant", metavar="NAME", help=f"the same as --header {TENANT_HEADER}=NAME")
    parser.add_argument("--gzip", action="store_true", help="compress payloads")
    parser.add_argument("--timeout", type=_seconds, default=30.0, metavar="TIME", help="longest wait for an answer (default: 30s)")
    parser.add_argument(
        "--retries", type=_between(0, 100), default=6, metavar="N", help="retries of a payload before it failed (default: 6)"
    )


def _add_amount_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--rate", type=_positive, metavar="SPANS", help="spans per second (default: as fast as the endpoint takes them)")
    amount = parser.add_mutually_exclusive_group()
    amount.add_argument("--spans", type=_between(1, 1 << 50), metavar="N", help="send N spans, rounded up to whole payloads")
    amount.add_argument(
        "--duration",
        type=_seconds,
        default=DEFAULT_SECONDS,
        metavar="TIME",
        help="send for so long, such as 30s or 5m; 0 until interrupted (default: 10s)",
    )
    parser.add_argument(
        "--batch",
        type=_between(1, BATCH_SPANS_MAX),
        metavar="N",
        help=f"spans per payload, rounded up to whole traces (default: {BATCH_SPANS}; fewer at a low rate)",
    )
    parser.add_argument(
        "--seed",
        type=_between(0, (1 << 63) - 1),
        metavar="N",
        help="the same seed and batch give the same ids and content (default: another one every time)",
    )


def _add_verify_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--verify", action="store_true", help="afterwards, read back every acknowledged trace and compare span by span")
    parser.add_argument("--verify-sample", type=_between(1, 1 << 50), metavar="N", help="read back N traces, chosen at random, and not all")
    parser.add_argument(
        "--query-url",
        default=f"http://127.0.0.1:{DEFAULT_QUERY_PORT}",
        metavar="URL",
        help=f"where to read back (default: http://127.0.0.1:{DEFAULT_QUERY_PORT})",
    )


def run(args: argparse.Namespace) -> int:
    """Send, report, verify; 1 when anything was not acknowledged or not read back as it should be. Raises Unavailable, InvalidInput."""
    import secrets

    from rich.console import Console

    from spanlake.app.load.send.address import check_reachable
    from spanlake.app.load.traces import TraceTemplates

    seed = args.seed if args.seed is not None else secrets.randbits(32)
    plan, verify_plan = _load_plan(args), _verify_plan(args, seed)
    check_reachable(plan.address, "--endpoint")
    if verify_plan is not None:
        check_reachable(verify_plan.address, "--query-url")
    console = Console(stderr=True)
    report = _send(TraceTemplates(seed, batch_spans(args.batch, args.rate)), plan, verify_plan, console)
    _print(report, as_json=args.json)
    if report.gave_up:
        console.print(f"spanlake: gave up: {plan.address} does not take the payloads", markup=False, highlight=False, soft_wrap=True)
    return 0 if report.passed else 1


def batch_spans(batch: int | None, rate: float | None) -> int:
    """Spans per payload unless given: at a low rate few, so that they arrive as a stream and not in lumps."""
    if batch is not None:
        return batch
    return BATCH_SPANS if rate is None else max(1, min(BATCH_SPANS, int(rate / BATCHES_PER_SECOND_LEAST)))


def _send(templates: TraceTemplates, plan: LoadPlan, verify_plan: VerifyPlan | None, console: Console) -> Report:
    from spanlake.app.load.display import RateWindow, open_display, share_done
    from spanlake.app.load.report import Report
    from spanlake.app.load.run import run_load

    if plan.rate is None or plan.rate > RATE_PREPARED_LEAST:
        _prepare(templates, plan.goal, console)
    window = RateWindow()
    with open_display(f"sending to {plan.address}", console) as display:
        sent = run_load(templates, plan, lambda tally: display.show(share_done(plan.goal, tally.figures()), window.text(tally.figures())))
    report = Report(plan, templates.seed, sent.tally.figures(), sent.interrupted, sent.gave_up)
    if verify_plan is None:
        return report
    return replace(report, verification=_verify(templates, sent.tally.numbers_acknowledged(), verify_plan, console))


def _prepare(templates: TraceTemplates, goal: Goal, console: Console) -> None:
    """Builds the templates that the run will need before its clock starts."""
    from spanlake.app.load.display import open_display
    from spanlake.app.load.schedule import SpanGoal

    needed = -(-goal.spans // templates.spans_per_payload) if isinstance(goal, SpanGoal) else templates.distinct
    count = min(needed, templates.distinct)
    with open_display("preparing traces", console) as display:
        for number in range(count):
            templates.spans_in(number)
            display.show((number + 1) / count, f"{number + 1:,} of {count:,} payloads")


def _verify(templates: TraceTemplates, numbers: list[int], plan: VerifyPlan, console: Console) -> Verification:
    from spanlake.app.load.display import open_display
    from spanlake.app.load.verify import Progress, verify_traces

    with open_display(f"reading back from {plan.address}", console) as display:

        def watch(progress: Progress) -> None:
            share = progress.traces / max(progress.traces_total, 1)
            display.show(share, f"{progress.traces:,} of {progress.traces_total:,} traces · {progress.traces_wrong:,} wrong")

        return verify_traces(templates, numbers, plan, watch)


def _print(report: Report, *, as_json: bool) -> None:
    import json

    from rich.console import Console

    from spanlake.app.load.report import print_report, report_json

    if as_json:
        print(json.dumps(report_json(report), indent=2))
    else:
        print_report(report, Console())


def _load_plan(args: argparse.Namespace) -> LoadPlan:
    from spanlake.app.load.run import LoadPlan
    from spanlake.app.load.schedule import NoGoal, SpanGoal, TimeGoal
    from spanlake.app.load.send.address import parse_address
    from spanlake.app.load.send.deliver import RetryPolicy
    from spanlake.app.load.send.outcome import SendOptions

    port = DEFAULT_PORTS[args.protocol]
    goal: Goal = TimeGoal(args.duration) if args.duration else NoGoal()
    if args.spans is not None:
        goal = SpanGoal(args.spans)
    return LoadPlan(
        parse_address(args.endpoint or f"http://127.0.0.1:{port}", port),
        args.protocol,
        goal,
        args.rate,
        args.connections,
        SendOptions(_headers(args), args.gzip, args.timeout),
        RetryPolicy(args.retries),
    )


def _verify_plan(args: argparse.Namespace, seed: int) -> VerifyPlan | None:
    from spanlake.app.load.send.address import parse_address
    from spanlake.app.load.verify import VerifyPlan

    if not args.verify and args.verify_sample is None:
        return None
    address = parse_address(args.query_url, DEFAULT_QUERY_PORT)
    return VerifyPlan(address, _headers(args), args.verify_sample, seed, args.connections, args.timeout)


def _headers(args: argparse.Namespace) -> tuple[tuple[str, str], ...]:
    tenant = ((TENANT_HEADER, args.tenant),) if args.tenant is not None else ()
    return (*args.header, *tenant)


def _between(least: int, most: int) -> Callable[[str], int]:
    def parse(text: str) -> int:
        number = int(text.replace("_", "").replace(",", ""))
        if not least <= number <= most:
            raise argparse.ArgumentTypeError(f"{number} is not between {least} and {most}")
        return number

    parse.__name__ = "number"  # argparse names the function when it raises ValueError
    return parse


def _positive(text: str) -> float:
    number = float(text.replace("_", "").replace(",", ""))
    if not 0 < number < math.inf:
        raise argparse.ArgumentTypeError(f"{text} is not a positive number")
    return number


def _seconds(text: str) -> float:
    """`30s`, `1.5m`, `250ms`, `2h`, or plain seconds."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)(ms|s|m|h|)", text)
    if not match:
        raise argparse.ArgumentTypeError(f"{text!r} is not a time such as 500ms, 30s, 5m or 1h")
    return float(match[1]) * _UNITS[match[2]]


def _header(text: str) -> tuple[str, str]:
    name, separator, value = text.partition("=")
    if not separator or not re.fullmatch(r"[A-Za-z0-9_.-]+", name) or not (value.isascii() and value.isprintable()):
        raise argparse.ArgumentTypeError(f"{text!r} is not NAME=VALUE, in printable ASCII")
    return name, value

"""`spanlake metrics`: the time series of a TraceQL metrics query as a chart and a table, from a running server."""

from __future__ import annotations

import argparse

from spanlake.app.cli.query.search import DEFAULT_PORT, DEFAULT_URL


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Declare the command."""
    text = "chart a TraceQL metrics query against a running server"
    description = (
        f"{text[0].upper()}{text[1:]}: a line per series, all on one scale, with the series' lowest, mean, highest and last value. "
        "A cell of the chart is the highest of its points, a blank a time without a point."
    )
    parser = subparsers.add_parser("metrics", help=text, description=description)
    example = "{ } | rate() by (resource.service.name)"
    parser.add_argument("query", metavar="QUERY", help=f"TraceQL, for example '{example}'")
    parser.add_argument("--since", metavar="DURATION", default="1h", help="how far back, for example 30m, 1h or 1d (default: 1h)")
    parser.add_argument("--step", metavar="DURATION", default="", help="time between points, for example 15s or 1m (default: by the range)")
    parser.add_argument("--instant", action="store_true", help="one value per series over the whole time, instead of points")
    parser.add_argument("--limit", type=_limit, default=50, metavar="N", help="series shown at most, 0 for all (default: 50)")
    parser.add_argument("--url", default=DEFAULT_URL, metavar="URL", help=f"query API of the server (default: {DEFAULT_URL})")
    parser.add_argument("--tenant", metavar="NAME", help="tenant, for a server with multi-tenancy (header X-Scope-OrgID)")
    parser.add_argument("--json", action="store_true", help="print the answer as the server's JSON instead")
    parser.set_defaults(run=run)


def _limit(text: str) -> int:
    number = int(text)
    if number < 0:
        raise argparse.ArgumentTypeError(f"{number} is less than 0")
    return number


_limit.__name__ = "number"  # argparse names the function when it raises ValueError


def run(args: argparse.Namespace) -> int:
    """Print the series; 0, also if there are none."""
    from urllib.parse import urlencode

    from spanlake.app.load.send.address import parse_address
    from spanlake.app.query_api import get_answer

    address = parse_address(args.url, DEFAULT_PORT)
    path = "/api/metrics/query" if args.instant else "/api/metrics/query_range"
    target = f"{path}?{urlencode({'q': args.query, 'since': args.since, 'step': args.step})}"
    body = get_answer(address, target, args.tenant, media_types=("application/json",), what="metrics")
    if args.json:
        print(body.decode())
    else:
        _print_view(body, args)
    return 0


def _print_view(body: bytes, args: argparse.Namespace) -> None:
    import sys
    from datetime import datetime
    from io import TextIOWrapper

    from rich.console import Console

    from spanlake.app.query_view.metrics import MetricsViewOptions, instant_lines, range_lines

    if isinstance(sys.stdout, TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # a terminal without Unicode shows ? for bars
    console = Console(highlight=False, markup=False, emoji=False, soft_wrap=True)
    zone = datetime.now().astimezone().tzinfo
    assert zone is not None
    options = MetricsViewOptions(console.width, args.limit, zone)
    for line in instant_lines(body, options) if args.instant else range_lines(body, options):
        console.print(line)

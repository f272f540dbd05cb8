"""`spanlake trace`: one trace as a tree in the terminal, from a running server."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from spanlake.app.load.send.address import Address

DEFAULT_URL = "http://127.0.0.1:3200"
DEFAULT_PORT = 3200
JSON, PROTOBUF = "application/json", "application/protobuf"


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Declare the command."""
    text = "show a trace of a running server as a tree"
    description = (
        f"{text[0].upper()}{text[1:]}: service, name, kind, duration and a bar that says when. "
        "✗ is an error, ! an exception, •N events, →N links. Exits with 1 if there is no such trace."
    )
    parser = subparsers.add_parser("trace", help=text, description=description)
    parser.add_argument("trace_id", metavar="ID", help="trace id in hex; zeros in front may be left out")
    parser.add_argument("--url", default=DEFAULT_URL, metavar="URL", help=f"query API of the server (default: {DEFAULT_URL})")
    parser.add_argument("--tenant", metavar="NAME", help="tenant, for a server with multi-tenancy (header X-Scope-OrgID)")
    parser.add_argument("--limit", type=_limit, default=500, metavar="N", help="spans shown at most, 0 for all (default: 500)")
    parser.add_argument("--attributes", action="store_true", help="show attributes, events and links below each span, and all resources")
    parser.add_argument("--json", action="store_true", help="print the answer as the server's JSON instead")
    parser.set_defaults(run=run)


def _limit(text: str) -> int:
    number = int(text.replace("_", "").replace(",", ""))
    if number < 0:
        raise argparse.ArgumentTypeError(f"{number} is less than 0")
    return number


_limit.__name__ = "number"  # argparse names the function when it raises ValueError


def run(args: argparse.Namespace) -> int:
    """Print; 0, or 1 if there is no such trace."""
    from spanlake.app.load.send.address import parse_address
    from spanlake.server.parameters import parse_trace_id

    high, low = parse_trace_id(args.trace_id.strip())
    trace_id = f"{high:016x}{low:016x}"
    address = parse_address(args.url, DEFAULT_PORT)
    if args.json:
        _print_json(address, trace_id, args.tenant)
    else:
        _print_tree(address, trace_id, args)
    return 0


def _print_json(address: Address, trace_id: str, tenant: str | None) -> None:
    import json

    body = fetch(address, trace_id, tenant, JSON)
    if not json.loads(body).get("trace"):
        raise missing(address, trace_id, tenant)
    print(body.decode())


def _print_tree(address: Address, trace_id: str, args: argparse.Namespace) -> None:
    import sys
    from datetime import datetime

    from spanlake.app.trace_view.read import read_trace

    trace = read_trace(fetch(address, trace_id, args.tenant, PROTOBUF))
    if not trace.spans:
        raise missing(address, trace_id, args.tenant)

    from io import TextIOWrapper

    from rich.console import Console

    from spanlake.app.trace_view.view import ViewOptions, trace_lines

    if isinstance(sys.stdout, TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # a terminal without Unicode shows ? for bars
    console = Console(highlight=False, markup=False, emoji=False, soft_wrap=True)
    zone = datetime.now().astimezone().tzinfo
    assert zone is not None
    for line in trace_lines(trace_id, trace, ViewOptions(console.width, args.limit, args.attributes, zone)):
        console.print(line)


def missing(address: Address, trace_id: str, tenant: str | None) -> Exception:
    """The error for a trace that the server does not have."""
    from spanlake.model.errors import NotFound

    whose = f" for tenant {tenant}" if tenant else ""
    return NotFound(
        f"{address} has no trace {trace_id}{whose}; it may not have arrived yet (exporters send every few seconds) or be expired"
    )


def fetch(address: Address, trace_id: str, tenant: str | None, media_type: str) -> bytes:
    """The body of the server's answer. Errors: nothing answers (Unavailable), no trace (NotFound), anything else but a trace."""
    from spanlake.app.query_api import get_answer

    other = PROTOBUF if media_type == JSON else JSON
    return get_answer(address, f"/api/v2/traces/{trace_id}", tenant, media_types=(media_type, other), what="trace")

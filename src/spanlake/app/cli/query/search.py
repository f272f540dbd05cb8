"""`spanlake search`: the newest traces that a TraceQL query finds, from a running server."""

from __future__ import annotations

import argparse

DEFAULT_URL = "http://127.0.0.1:3200"
DEFAULT_PORT = 3200


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Declare the command."""
    text = "search the traces of a running server with TraceQL"
    parser = subparsers.add_parser("search", help=text, description=f"{text[0].upper()}{text[1:]}, newest first.")
    add_query_arguments(parser)
    parser.add_argument("--spss", type=int, default=3, metavar="N", help="spans per spanset, with --json (default: 3)")
    parser.add_argument("--json", action="store_true", help="print the answer as the server's JSON instead")
    parser.set_defaults(run=run)


def add_query_arguments(parser: argparse.ArgumentParser) -> None:
    """The query, where to ask, and what to look at: the same for `search` and `explain`."""
    parser.add_argument("query", metavar="QUERY", help="TraceQL, for example '{ status = error }'")
    parser.add_argument("--since", metavar="DURATION", help="how far back, for example 30m, 1h or 2d (default: everything)")
    parser.add_argument("--limit", type=int, default=20, metavar="N", help="traces at most (default: 20)")
    parser.add_argument("--url", default=DEFAULT_URL, metavar="URL", help=f"query API of the server (default: {DEFAULT_URL})")
    parser.add_argument("--tenant", metavar="NAME", help="tenant, for a server with multi-tenancy (header X-Scope-OrgID)")


def target_of(path: str, args: argparse.Namespace, **more: str) -> str:
    """Path and query of the request."""
    from urllib.parse import urlencode

    parameters = {"q": args.query, "limit": str(args.limit), **more}
    if args.since:
        parameters["since"] = args.since
    return f"{path}?{urlencode(parameters)}"


def run(args: argparse.Namespace) -> int:
    """Print the traces; 0, also if there are none."""
    from spanlake.app.load.send.address import parse_address
    from spanlake.app.query_api import get_answer
    from spanlake.app.query_view.search import search_lines

    address = parse_address(args.url, DEFAULT_PORT)
    target = target_of("/api/search", args, spss=str(args.spss))
    body = get_answer(address, target, args.tenant, media_types=("application/json",), what="search")
    if args.json:
        print(body.decode())
        return 0
    for line in search_lines(body):
        print(line)
    return 0

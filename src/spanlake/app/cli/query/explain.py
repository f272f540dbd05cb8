"""`spanlake explain`: how a running server answers a TraceQL query, and what that costs."""

from __future__ import annotations

import argparse

from spanlake.app.cli.query.search import DEFAULT_PORT, add_query_arguments, target_of


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Declare the command."""
    text = "show how a TraceQL query is answered, and what it reads"
    description = (
        f"{text[0].upper()}{text[1:]}. The query is run; its traces or series are counted and not shown. "
        "Metrics are those of the last hour without --since."
    )
    parser = subparsers.add_parser("explain", help=text, description=description)
    add_query_arguments(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Print the explanation."""
    from spanlake.app.load.send.address import parse_address
    from spanlake.app.query_api import get_answer

    address = parse_address(args.url, DEFAULT_PORT)
    body = get_answer(address, target_of("/api/explain", args), args.tenant, media_types=("text/plain",), what="explanation")
    print(body.decode().rstrip("\n"))
    return 0

"""The `spanlake` command: finds the subcommand, runs it, and turns what it raises into one line and an exit status.

A command is a module of this package, or of `query` in it, with `add_parser(subparsers)`, which declares it and sets `run` as a default,
and `run(args) -> int`, which imports what is heavy. Command modules import at most the standard library and `app/config_schema.py` at
the top, so that `spanlake --help` is quick.
"""

from __future__ import annotations

import argparse
import importlib
import os
import sys
import traceback
from collections.abc import Callable, Sequence

from spanlake import __version__
from spanlake.model.errors import SpanlakeError

COMMANDS = ("serve", "query.trace", "query.search", "query.metrics", "query.explain", "blocks", "check", "load", "warmup", "config")
"""Modules of `spanlake.app.cli`, in the order of `spanlake --help`."""

EXIT_ERROR = 1
EXIT_USAGE = 2
EXIT_INTERRUPTED = 130
EXIT_BROKEN_PIPE = 141


class CommandParser(argparse.ArgumentParser):
    """An argument parser, for the top and for every command, that takes no abbreviations: a new option must not break old scripts."""

    def __init__(self, **options: object) -> None:
        super().__init__(**{**options, "allow_abbrev": False})  # type: ignore[arg-type]  # argparse's own options


def build_parser(commands: Sequence[str] = COMMANDS) -> argparse.ArgumentParser:
    """The parser of all commands."""
    parser = CommandParser(prog="spanlake", description="A distributed-tracing backend: any span in, one open table, TraceQL out.")
    parser.add_argument("--version", action="version", version=f"spanlake {__version__}", help="print the version")
    parser.add_argument("--markdown", action="store_true", help="print the reference of all commands (docs/cli.md)")
    parser.add_argument("--debug", action="store_true", help="print the traceback of an error")
    subparsers = parser.add_subparsers(title="commands", metavar="COMMAND", dest="command", parser_class=CommandParser)
    for name in commands:
        importlib.import_module(f"spanlake.app.cli.{name}").add_parser(subparsers)
    for command in subparsers.choices.values():
        # Without SUPPRESS the command's default would undo a --debug in front of the command.
        command.add_argument("--debug", action="store_true", default=argparse.SUPPRESS, help="print the traceback of an error")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command line; the exit status."""
    parser = build_parser()
    args = parser.parse_args(argv)
    if args.command:
        return run_command(args.run, args)
    if args.markdown:
        return run_command(_print_reference, args)
    parser.print_help(sys.stderr)
    return EXIT_USAGE


def _print_reference(_args: argparse.Namespace) -> int:
    from spanlake.app.cli.reference import cli_markdown

    print(cli_markdown(build_parser()), end="")
    return 0


def run_command(run: Callable[[argparse.Namespace], int], args: argparse.Namespace) -> int:
    """The status of `run(args)`, with errors that a user can act on as one line. Anything else is a defect and keeps its traceback."""
    try:
        status = run(args)
        sys.stdout.flush()  # a reader that went away shows here and not at interpreter exit
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_BROKEN_PIPE
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED
    except (SpanlakeError, OSError) as error:
        if args.debug:
            traceback.print_exc()
        print(f"spanlake: {error}", file=sys.stderr)
        return EXIT_ERROR
    return status


if __name__ == "__main__":
    sys.exit(main())

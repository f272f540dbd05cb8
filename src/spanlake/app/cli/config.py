"""`spanlake config`: the settings in force, each with its meaning and the place it came from."""

from __future__ import annotations

import argparse

from spanlake.app.cli.options import add_settings_options, settings_from


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Declare the command."""
    text = "print the settings in force as YAML, with the meaning and the source of each"
    parser = subparsers.add_parser("config", help=text, description=text)
    parser.add_argument("--markdown", action="store_true", help="print the reference of all settings instead (docs/settings.md)")
    add_settings_options(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Print; 0."""
    from spanlake.app.config_text import effective, settings_markdown

    print(settings_markdown() if args.markdown else effective(settings_from(args)), end="")
    return 0

"""The options that every command with settings takes, and how they become settings.

The common ones have names of their own; `--set` reaches every other setting. Both are kept in the order of the command line, so that
the last one wins.
"""

from __future__ import annotations

import argparse
import os
from functools import partial
from typing import TYPE_CHECKING

from spanlake.app.config_schema import schema_of

if TYPE_CHECKING:
    from spanlake.app.config import Loaded

# option, metavar, setting; the help is the setting's meaning
NAMED_OPTIONS = (
    ("--data", "DIR_OR_URL", "data"),
    ("--host", "ADDRESS", "server.host"),
    ("--http-port", "PORT", "server.http_port"),
    ("--grpc-port", "PORT", "server.grpc_port"),
    ("--otlp-grpc-port", "PORT", "server.otlp_grpc_port"),
    ("--otlp-http-port", "PORT", "server.otlp_http_port"),
)


def add_settings_options(parser: argparse.ArgumentParser) -> None:
    """Add `--config`, the named options and `--set`; read them back with `settings_from`."""
    leaves = schema_of().leaves
    group = parser.add_argument_group("settings")
    group.add_argument("--config", metavar="FILE", dest="config_file", help="YAML file with settings; also SPANLAKE_CONFIG")
    for option, metavar, path in NAMED_OPTIONS:
        leaf = leaves[path]
        meaning = f"{leaf.meaning} (default: {leaf.default})".replace("%", "%%")
        group.add_argument(option, metavar=metavar, dest="given", action="append", type=partial(_named, option, path), help=meaning)
    group.add_argument(
        "--set",
        metavar="SETTING=VALUE",
        dest="given",
        action="append",
        type=_assignment,
        help="any setting, such as server.http_port=0; `spanlake config` lists them",
    )


def _named(option: str, path: str, text: str) -> tuple[str, str, str]:
    return path, text, option


def _assignment(text: str) -> tuple[str, str, str]:
    path, separator, value = text.partition("=")
    if not separator:
        raise argparse.ArgumentTypeError(f"{text!r} is not SETTING=VALUE")
    return path.strip(), value, "--set"


def settings_from(args: argparse.Namespace) -> Loaded:
    """The settings for a command whose parser has the settings options. Raises ConfigError."""
    from spanlake.app.config import load

    return load(config_file=args.config_file, environ=os.environ, options=args.given or ())

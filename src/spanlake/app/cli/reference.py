"""The command-line reference (`docs/cli.md`), derived from the parsers themselves so that no option can be missing.

Written from the parsers' actions rather than from `format_help`, whose layout depends on the terminal and on the Python version.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from html import escape

INTRODUCTION = """# The command line

Written by `make docs` from the commands in `src/spanlake/app/cli/`; edit those, not this file.

Exit status: 0 done, 1 an error (one line on standard error says which), 2 wrong usage, 130 interrupted. Every command also takes
`--debug` and `--help`. Settings and their order of precedence: [settings.md](settings.md).
"""


def cli_markdown(parser: argparse.ArgumentParser) -> str:
    """The text of `docs/cli.md` for the top parser."""
    return INTRODUCTION + "\n".join(_lines(parser, "")) + "\n"


def _lines(parser: argparse.ArgumentParser, summary: str) -> Iterator[str]:
    yield from ("", f"## `{parser.prog}`", "")
    if parser.description or summary:
        yield from (_prose(parser.description or summary), "")
    commands: list[tuple[argparse.ArgumentParser, str]] = []
    rows: list[str] = []
    for action in parser._actions:  # noqa: SLF001  # argparse has no public way to list what it was given
        if isinstance(action, argparse._SubParsersAction):  # noqa: SLF001
            summaries = {choice.dest: choice.help or "" for choice in action._choices_actions}  # noqa: SLF001
            commands = [(sub, summaries.get(name, "")) for name, sub in action.choices.items()]
        elif not isinstance(action, argparse._HelpAction):  # noqa: SLF001
            rows.append(f"| {_name(action)} | {_prose(_meaning(action))} |")
    if rows:
        yield from ("| option | meaning |", "|---|---|", *rows)
    for sub, text in commands:
        yield from _lines(sub, text)


def _name(action: argparse.Action) -> str:
    metavar = action.metavar if isinstance(action.metavar, str) else action.dest.upper()
    if not action.option_strings:
        return f"`{metavar}`"
    value = "" if action.nargs == 0 else f" {metavar}"
    return ", ".join(f"`{option}{value}`" for option in action.option_strings)


def _meaning(action: argparse.Action) -> str:
    """The help with its placeholders filled, and the choices."""
    text = (action.help or "") % {**vars(action), "default": action.default}
    return f"{text} (one of {', '.join(map(str, action.choices))})" if action.choices else text


def _prose(text: str) -> str:
    return escape(" ".join(text.split()), quote=False).replace("|", "\\|")

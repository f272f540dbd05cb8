"""Settings as text: the effective configuration as a YAML file that can be loaded again, and the table of `docs/settings.md`."""

from __future__ import annotations

from collections.abc import Iterator
from html import escape

import yaml

from spanlake.app.config import CONFIG_VARIABLE, Loaded
from spanlake.app.config_schema import Kind, Leaf, Number, NumberByName, Value, describe, schema_of, show_number, value_of

INTRODUCTION = f"""# Settings

Written by `make docs` from `src/spanlake/model/settings.py`; edit that file, not this one.

A setting is taken from the first of these that gives it:

1. an option on the command line: one of its own, such as `--http-port 3200`, or `--set server.http_port=3200` for any setting;
2. an environment variable, such as `SPANLAKE_SERVER_HTTP_PORT=3200`;
3. a YAML file, named by `--config FILE` or `{CONFIG_VARIABLE}`, with the sections below as mappings;
4. the default.

A name that is not a setting, a value of the wrong type or out of range stops the start with an error that says where it stands.
`spanlake config` prints the settings in force with the place each one came from, as a file that `--config` takes.

Durations are numbers of seconds or texts such as `500ms`, `30s`, `1h30m`, `14d`; sizes are numbers of bytes or texts such as `64MiB`
(1024-based) and `64MB` (1000-based). Values by name are a mapping in the file and `acme=30d,other=7d` elsewhere.
Variables that Kubernetes sets for a service named `spanlake` (`SPANLAKE_SERVICE_HOST`, `SPANLAKE_PORT=tcp://…`) are not settings.
"""


def effective(loaded: Loaded) -> str:
    """The settings in force as YAML, each with its meaning and the place it came from. Loading the text gives the same settings."""
    return "\n".join(_effective_lines(loaded)) + "\n"


def _effective_lines(loaded: Loaded) -> Iterator[str]:
    schema, section = schema_of(), ""
    for leaf in schema.leaves.values():
        parent, _, name = leaf.path.rpartition(".")
        if parent and parent != section:
            yield from ("", f"# {schema.sections[parent]}", f"{parent}:")
        elif not parent and section:
            yield ""
        section, indent = parent, "  " if parent else ""
        value = value_of(loaded.settings, leaf.path)
        notes = [loaded.places.get(leaf.path, "default")]
        if show_value(value, leaf.kind) not in {_yaml_text(value), f"{_yaml_text(value)}s"}:
            notes.insert(0, show_value(value, leaf.kind))
        yield f"{indent}# {leaf.meaning}"
        yield f"{indent}{name}: {_yaml_text(value)}  # {', '.join(notes)}"


def _yaml_text(value: Value) -> str:
    """One line that YAML reads as this value."""
    if isinstance(value, float):
        return repr(value).removesuffix(".0")
    text = _dump(value, style=None)
    return text if len(text.splitlines()) == 1 else _dump(value, style='"')


def _dump(value: Value, *, style: str | None) -> str:
    text: str = yaml.safe_dump(value, default_flow_style=True, default_style=style, width=float("inf"), allow_unicode=True)
    return text.removesuffix("...\n").removesuffix("\n")


def show_value(value: Value, kind: Kind) -> str:
    """A value as a person would write it: 14d, 64MiB, false."""
    if isinstance(kind, Number) and isinstance(value, int | float):
        return show_number(value, kind.unit)
    if isinstance(kind, NumberByName) and isinstance(value, dict):
        return ", ".join(f"{_yaml_text(name)}={show_number(one, kind.number.unit)}" for name, one in value.items()) or "{}"
    return _yaml_text(value)


def settings_markdown() -> str:
    """The text of `docs/settings.md`."""
    return INTRODUCTION + "\n".join(_markdown_lines()) + "\n"


def _markdown_lines() -> Iterator[str]:
    schema = schema_of()
    # An empty section name stands for the settings at the top of the file.
    for section, meaning in {"": "At the top of the file.", **schema.sections}.items():
        yield from ("", f"## {section or 'Top level'}", "", meaning, "")
        yield from ("| setting | default | allowed | meaning |", "|---|---|---|---|")
        yield from (_markdown_row(leaf) for leaf in schema.leaves.values() if leaf.path.rpartition(".")[0] == section)


def _markdown_row(leaf: Leaf) -> str:
    prose = (escape(text, quote=False).replace("|", "\\|") for text in (describe(leaf.kind), leaf.meaning))
    return " | ".join([f"| `{leaf.path}`<br>`{leaf.variable}`", f"`{show_value(leaf.default, leaf.kind)}`", *prose]) + " |"

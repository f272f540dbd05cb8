"""Settings for a process: defaults, then a YAML file, then environment variables, then options; the last one that speaks wins.

Whatever is not a setting, is of the wrong type or out of range is a ConfigError that names the setting, the place where it was written
and what is allowed. This module reads the file and merges the layers; what exists and what is allowed comes from `config_schema.py`.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import yaml

from spanlake.app.config_schema import VARIABLE_PREFIX, Raw, Schema, Value, build, describe, parse, schema_of
from spanlake.app.yaml_file import is_null, pairs, place, read_yaml, scalar
from spanlake.model.errors import ConfigError
from spanlake.model.settings import Settings

CONFIG_VARIABLE = VARIABLE_PREFIX + "CONFIG"
# Read elsewhere: the settings file here, the directory of compiled kernels where they are compiled (model/kernel.py), the token of commands
# that ask a server where they ask it (query_api.py).
OTHER_VARIABLES = (CONFIG_VARIABLE, VARIABLE_PREFIX + "KERNEL_CACHE", VARIABLE_PREFIX + "TOKEN")
SIMILARITY_MIN = 0.6

# Kubernetes and Docker links put the address of a service into the environment of its neighbours: a service named `spanlake` or
# `spanlake-query` yields SPANLAKE_SERVICE_HOST, SPANLAKE_PORT=tcp://…, SPANLAKE_QUERY_PORT_3200_TCP_ADDR. Nobody wrote those for us.
_SERVICE_NAME = re.compile(r"SPANLAKE_(\w+_)?(SERVICE_HOST|SERVICE_PORT(_\w+)?|PORT_\d+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)", re.ASCII)
_SERVICE_URL = re.compile(r"(tcp|udp|sctp)://")


@dataclass(frozen=True, slots=True)
class Given:
    """One setting as someone wrote it, and where: `file spanlake.yaml:3`, `environment SPANLAKE_DATA`, `option --data`."""

    path: str
    raw: Raw
    place: str


@dataclass(frozen=True, slots=True)
class Loaded:
    """The settings in force, and the place of every one that is not a default, by path."""

    settings: Settings
    places: Mapping[str, str]


def load(*, config_file: str | None = None, environ: Mapping[str, str], options: Iterable[tuple[str, str, str]] = ()) -> Loaded:
    """Merge all layers. `options` are (path, text, option name), later ones win. Raises ConfigError."""
    schema = schema_of()
    chosen = config_file or environ.get(CONFIG_VARIABLE)
    layers: list[Given] = list(_from_file(Path(chosen), schema)) if chosen else []
    layers += _from_environment(environ, schema)
    layers += _from_options(options, schema)
    values: dict[str, Value] = {}
    places: dict[str, str] = {}
    for given in layers:
        values[given.path] = _parsed(given, schema)
        places[given.path] = given.place
    return Loaded(build(Settings, values), places)


def _parsed(given: Given, schema: Schema) -> Value:
    try:
        return parse(schema.leaves[given.path].kind, given.raw)
    except ValueError as error:
        raise ConfigError(f"{given.place}: {given.path} {error}") from None


def _unknown(name: str, place: str, known: Iterable[str]) -> ConfigError:
    """The error for a name that is no setting, with the most similar one that is; a right name in a wrong section is similar."""

    def similarity(candidate: str) -> float:
        whole = difflib.SequenceMatcher(None, name, candidate).ratio()
        last = difflib.SequenceMatcher(None, name.rpartition(".")[2], candidate.rpartition(".")[2]).ratio()
        return max(whole, last) + whole / 1000

    best = max(known, key=similarity)
    remedy = f"did you mean {best}?" if similarity(best) >= SIMILARITY_MIN else "`spanlake config` lists all"
    return ConfigError(f"{place}: {name} is not a setting; {remedy}")


def _from_options(options: Iterable[tuple[str, str, str]], schema: Schema) -> Iterator[Given]:
    for path, text, name in options:
        if path not in schema.leaves:
            raise _unknown(path, f"option {name}", schema.leaves)
        yield Given(path, text, f"option {name}")


def _from_environment(environ: Mapping[str, str], schema: Schema) -> Iterator[Given]:
    paths = {leaf.variable: leaf.path for leaf in schema.leaves.values()}
    for name in sorted(name for name in environ if name.startswith(VARIABLE_PREFIX)):
        if name in paths:
            yield Given(paths[name], environ[name], f"environment {name}")
        elif name not in OTHER_VARIABLES and not _SERVICE_NAME.fullmatch(name) and not _SERVICE_URL.match(environ[name]):
            raise _unknown(name, "environment", [*paths, *OTHER_VARIABLES])


def _from_file(path: Path, schema: Schema) -> Iterator[Given]:
    given: dict[str, Given] = {}
    root = read_yaml(path)
    if root is not None:
        for one in _walk(root, "", path, schema):
            if one.path in given:
                raise ConfigError(f"{one.place}: {one.path} is given twice, first at {given[one.path].place}")
            given[one.path] = one
    yield from given.values()


def _walk(node: yaml.Node, prefix: str, file: Path, schema: Schema) -> Iterator[Given]:
    """The settings in a mapping, in order. An empty section is allowed: its lines may be commented out."""
    for key, value in pairs(node, prefix.rstrip(".") or "the file", file):
        path, where = prefix + key.value, place(key, file)
        if path in schema.sections:
            if not is_null(value):
                yield from _walk(value, path + ".", file, schema)
        elif path not in schema.leaves:
            raise _unknown(path, where, [*schema.leaves, *schema.sections])
        else:
            yield Given(path, _raw(value, path, file, schema), where)


def _raw(node: yaml.Node, path: str, file: Path, schema: Schema) -> Raw:
    expected = describe(schema.leaves[path].kind)
    if not isinstance(node, yaml.MappingNode):
        return scalar(node, path, file, expected)
    texts: dict[str, str] = {}
    for key, value in pairs(node, path, file):
        if key.value in texts:
            raise ConfigError(f"{place(key, file)}: {path}.{key.value} is given twice")
        texts[key.value] = scalar(value, f"{path}.{key.value}", file, expected)
    return texts

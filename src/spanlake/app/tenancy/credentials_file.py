"""The file with credentials. Secrets stand in it, or in files and environment variables that it names:

    credentials:
      - token_file: /run/secrets/collector
        tenants: [acme, other]
        roles: [write]
      - user: grafana
        password_variable: GRAFANA_PASSWORD
        tenants: "*"
        roles: [read]

No message and no output of spanlake has a secret, nor a digest of one.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import yaml

from spanlake.app.yaml_file import pairs, place, read_yaml, scalar
from spanlake.model.errors import ConfigError, NoTenant
from spanlake.model.tenancy.names import check_tenant
from spanlake.server.access.credentials import Credential, Role, secret_digest

SECTION = "credentials"
EVERY_TENANT = "*"
SECRET_BYTES_MAX = 4096
_SECRETS = ("token", "password")
_NAMES = ("user", "tenants", "roles", *(f"{secret}{source}" for secret in _SECRETS for source in ("", "_file", "_variable")))


@dataclass(frozen=True, slots=True)
class _Entry:
    """One entry of the list: its parts by name, and where it stands."""

    parts: Mapping[str, yaml.Node]
    where: str
    file: Path


def read_credentials(path: Path, environ: Mapping[str, str]) -> tuple[Credential, ...]:
    """All credentials of a file. ConfigError that says what is wrong and where."""
    root = read_yaml(path)
    if root is None:
        raise ConfigError(f"file {path}: has no {SECTION}, so nobody could do anything")
    found: dict[bytes, Credential] = {}
    for section, entries in pairs(root, "the file", path):
        if section.value != SECTION:
            raise ConfigError(f"{place(section, path)}: {section.value} is not known; the file has one section, {SECTION}")
        if not isinstance(entries, yaml.SequenceNode):
            raise ConfigError(f"{place(entries, path)}: {SECTION} must be a list")
        for node in entries.value:
            entry = _entry(node, path)
            one = _credential(entry, environ)
            if one.digest in found:
                raise ConfigError(f"{entry.where}: the same secret is given twice")
            found[one.digest] = one
    return tuple(found.values())


def _entry(node: yaml.Node, path: Path) -> _Entry:
    where, parts = place(node, path), dict[str, yaml.Node]()
    for name, value in pairs(node, "an entry", path, of="user, tenants, roles and a secret"):
        if name.value not in _NAMES:
            raise ConfigError(f"{place(name, path)}: {name.value[:40]} is not known; an entry has {', '.join(_NAMES)}")
        if name.value in parts:
            raise ConfigError(f"{place(name, path)}: {name.value} is given twice")
        parts[name.value] = value
    return _Entry(parts, where, path)


def _credential(entry: _Entry, environ: Mapping[str, str]) -> Credential:
    user = scalar(entry.parts["user"], "user", entry.file, "a name") if "user" in entry.parts else ""
    if "user" in entry.parts and (not user or ":" in user):
        raise ConfigError(f"{entry.where}: a user's name must not be empty, nor have a colon")
    secret = _secret(entry, "password" if user else "token", environ)
    return Credential(secret_digest(secret, user=user), _tenants(entry), _roles(entry))


def _secret(entry: _Entry, kind: str, environ: Mapping[str, str]) -> str:
    """The text of the secret, from where the entry says."""
    given = [name for name in entry.parts if name.partition("_")[0] in _SECRETS]
    if len(given) != 1 or given[0].partition("_")[0] != kind:
        who = "with a user" if kind == "password" else "without a user"
        raise ConfigError(f"{entry.where}: an entry {who} has one of {kind}, {kind}_file, {kind}_variable")
    (name,) = given
    text = scalar(entry.parts[name], name, entry.file, "a text")
    if name.endswith("_file"):
        try:
            with Path(text).open("rb") as file:
                text = file.read(SECRET_BYTES_MAX).decode().rstrip("\r\n")
        except (OSError, UnicodeDecodeError) as error:
            reason = error.strerror if isinstance(error, OSError) else "not UTF-8"
            raise ConfigError(f"{entry.where}: {name} {text!r} cannot be read: {reason}") from None
    elif name.endswith("_variable"):
        if text not in environ:
            raise ConfigError(f"{entry.where}: the environment has no variable {text!r}")
        text = environ[text]
    if not text.strip():
        raise ConfigError(f"{entry.where}: the secret that {name} gives is empty")
    return text


def _tenants(entry: _Entry) -> frozenset[str] | None:
    names = _list(entry, "tenants", "names of tenants, or '*' for all")
    if EVERY_TENANT in names:
        if len(names) > 1:
            raise ConfigError(f"{entry.where}: tenants are names, or {EVERY_TENANT!r} alone for all")
        return None
    try:
        return frozenset(check_tenant(name) for name in names)
    except NoTenant as error:
        raise ConfigError(f"{entry.where}: {error}") from None


def _roles(entry: _Entry) -> frozenset[Role]:
    names = _list(entry, "roles", f"some of {', '.join(Role)}")
    for name in names:
        if name not in list(Role):
            raise ConfigError(f"{entry.where}: {name[:40]!r} is not a role; roles are {', '.join(Role)}")
    return frozenset(Role(name) for name in names)


def _list(entry: _Entry, name: str, expected: str) -> list[str]:
    """The texts of a list, or of one text."""
    node = entry.parts.get(name)
    nodes = node.value if isinstance(node, yaml.SequenceNode) else [] if node is None else [node]
    if not nodes:
        raise ConfigError(f"{entry.where}: the entry has no {name}; expected {expected}")
    return [scalar(one, name, entry.file, expected) for one in nodes]

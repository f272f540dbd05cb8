"""The file with limits of tenants:

overrides:
  acme:
    ingest_bytes_per_second: 10MB
    retention_seconds: 30d
"""

from __future__ import annotations

from pathlib import Path

import yaml

from spanlake.app.tenancy.limit_values import LimitValues, parse_limit
from spanlake.app.yaml_file import is_null, pairs, place, read_yaml, scalar
from spanlake.model.errors import ConfigError, NoTenant
from spanlake.model.tenancy.names import check_tenant

SECTION = "overrides"


def read_limits_file(path: Path) -> dict[str, LimitValues]:
    """The limits of each tenant that the file names. ConfigError that says what is wrong and where."""
    found: dict[str, LimitValues] = {}
    root = read_yaml(path)
    for section, tenants in pairs(root, "the file", path) if root is not None else ():
        if section.value != SECTION:
            raise ConfigError(f"{place(section, path)}: {section.value} is not known; the file has one section, {SECTION}, with tenants")
        for tenant, limits in pairs(tenants, SECTION, path, of="tenants") if not is_null(tenants) else ():
            if tenant.value in found:
                raise ConfigError(f"{place(tenant, path)}: {tenant.value} is given twice")
            try:
                found[check_tenant(tenant.value)] = _limits(limits, tenant.value, path)
            except NoTenant as error:
                raise ConfigError(f"{place(tenant, path)}: {error}") from None
    return found


def _limits(node: yaml.Node, tenant: str, path: Path) -> LimitValues:
    values: dict[str, float] = {}
    for name, written in pairs(node, tenant, path, of="limits") if not is_null(node) else ():
        if name.value in values:
            raise ConfigError(f"{place(name, path)}: {tenant}.{name.value} is given twice")
        try:
            values[name.value] = parse_limit(name.value, scalar(written, f"{tenant}.{name.value}", path, "a value"))
        except ValueError as error:
            raise ConfigError(f"{place(name, path)}: {tenant}: {error}") from None
    return values

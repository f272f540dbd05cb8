"""Where in the store a tenant's table lies."""

from __future__ import annotations

import re

from spanlake.model.errors import NoTenant
from spanlake.model.tenancy.names import check_tenant

# Fine in a tenant name, but a shell, a glob or a URL parser between us and the table takes them for its own.
_ESCAPED = re.compile(r"[!*'()]")
_UNDERSCORE = re.compile(r"_")
_ESCAPE = re.compile(r"@([0-9A-F]{2})")

_TABLES = "tables"
TENANTS_PREFIX = "tenants"
LOG_DIRECTORY = "_delta_log"
CHECKPOINT_KEY = re.compile(rf".*/{LOG_DIRECTORY}/(\d{{20}})\.checkpoint\.parquet")
"""Keys of checkpoints, with the version as the group."""


def table_prefix(tenant: str) -> str:
    """The directory of the tenant's table: `tables/<name>`, the name as `tenant_directory` has it."""
    return f"{_TABLES}/{tenant_directory(tenant)}"


def block_key(tenant: str, path: str) -> str:
    """The key in the store of a file with this path relative to the tenant's table."""
    return f"{table_prefix(tenant)}/{path}"


def log_entry_key(tenant: str, version: int) -> str:
    return f"{table_prefix(tenant)}/{LOG_DIRECTORY}/{version:020d}.json"


def marker_key(tenant: str) -> str:
    """The empty object that says that the tenant exists. Tenants are found by these, as listing tables would list every block."""
    return f"{TENANTS_PREFIX}/{tenant_directory(tenant)}"


def tenant_of_marker(key: str) -> str | None:
    """The inverse of `marker_key`; None for keys that it does not make."""
    prefix, _, directory = key.partition("/")
    return tenant_of_directory(directory) if prefix == TENANTS_PREFIX else None


def tenant_directory(tenant: str) -> str:
    """The name of a tenant as one segment of a key: with `@XX` (hexadecimal) for each of `!*'()`. Different tenants have different ones."""
    # A table in a directory named as the log of a table is one that the Delta library does not find.
    special = _UNDERSCORE if check_tenant(tenant) == LOG_DIRECTORY else _ESCAPED
    return special.sub(lambda match: f"@{ord(match[0]):02X}", tenant)


def tenant_of_directory(directory: str) -> str | None:
    """The inverse of `tenant_directory`; None for segments that it does not make."""
    tenant = _ESCAPE.sub(lambda match: chr(int(match[1], 16)), directory)
    try:
        return tenant if tenant_directory(tenant) == directory else None
    except NoTenant:
        return None

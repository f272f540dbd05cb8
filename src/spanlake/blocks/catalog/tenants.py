"""Tenant names, and where in the store a tenant's table lies."""

from __future__ import annotations

import re

from spanlake.model.errors import NoTenant

TENANT_CHARACTERS_MAX = 150
_TENANT = re.compile(r"[a-zA-Z0-9!\-_.*'()]+")
# Fine in a tenant name, but a shell, a glob or a URL parser between us and the table takes them for its own.
_ESCAPED = re.compile(r"[!*'()]")
_ESCAPE = re.compile(r"@([0-9A-F]{2})")

_TABLES = "tables"
TENANTS_PREFIX = "tenants"
LOG_DIRECTORY = "_delta_log"
CHECKPOINT_KEY = re.compile(rf".*/{LOG_DIRECTORY}/(\d{{20}})\.checkpoint\.parquet")
"""Keys of checkpoints, with the version as the group."""


def check_tenant(tenant: str) -> str:
    """The name itself, or NoTenant that says what is wrong: 1 to 150 of `a-zA-Z0-9!-_.*'()`, and neither `.` nor `..`."""
    if not tenant or len(tenant) > TENANT_CHARACTERS_MAX:
        raise NoTenant(f"a tenant name has 1 to {TENANT_CHARACTERS_MAX} characters, not {len(tenant)}")
    if tenant in {".", ".."} or not _TENANT.fullmatch(tenant):
        raise NoTenant(f"tenant name {tenant!r} is refused: use only a-z A-Z 0-9 ! - _ . * ' ( ), and neither '.' nor '..'")
    return tenant


def table_prefix(tenant: str) -> str:
    """The directory of the tenant's table: `tables/<name>`, the name with `@XX` (hexadecimal) for each of `!*'()`."""
    return f"{_TABLES}/{_directory(tenant)}"


def block_key(tenant: str, path: str) -> str:
    """The key in the store of a file with this path relative to the tenant's table."""
    return f"{table_prefix(tenant)}/{path}"


def log_entry_key(tenant: str, version: int) -> str:
    return f"{table_prefix(tenant)}/{LOG_DIRECTORY}/{version:020d}.json"


def marker_key(tenant: str) -> str:
    """The empty object that says that the tenant exists. Tenants are found by these, as listing tables would list every block."""
    return f"{TENANTS_PREFIX}/{_directory(tenant)}"


def tenant_of_marker(key: str) -> str | None:
    """The inverse of `marker_key`; None for keys that it does not make."""
    tenant = _ESCAPE.sub(lambda match: chr(int(match[1], 16)), key.removeprefix(f"{TENANTS_PREFIX}/"))
    try:
        return tenant if marker_key(tenant) == key else None
    except NoTenant:
        return None


def _directory(tenant: str) -> str:
    return _ESCAPED.sub(lambda match: f"@{ord(match[0]):02X}", check_tenant(tenant))

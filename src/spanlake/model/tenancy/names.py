"""Tenant names. They name directories, tables and keys of caches, so what a name may hold is decided here and nowhere else.

A query may ask several tenants at once: their names joined by `|`, which no name holds. Such a text goes through the query path in the
place of a name (`federation`), down to the use case that takes it apart; storage and ingest refuse it as they refuse any bad name.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from spanlake.model.errors import NoTenant

SINGLE_TENANT = "single-tenant"
"""The tenant of every request while multi-tenancy is off."""

SEPARATOR = "|"
TENANT_CHARACTERS_MAX = 150
_TENANT = re.compile(r"[a-zA-Z0-9!\-_.*'()]+")


def check_tenant(tenant: str) -> str:
    """The name itself, or NoTenant that says what is wrong: 1 to 150 of `a-zA-Z0-9!-_.*'()`, and neither `.` nor `..`."""
    if not tenant or len(tenant) > TENANT_CHARACTERS_MAX:
        raise NoTenant(f"a tenant name has 1 to {TENANT_CHARACTERS_MAX} characters, not {len(tenant)}")
    if tenant in {".", ".."} or not _TENANT.fullmatch(tenant):
        raise NoTenant(f"tenant name {tenant!r} is refused: use only a-z A-Z 0-9 ! - _ . * ' ( ), and neither '.' nor '..'")
    return tenant


def federation(tenants: Iterable[str]) -> str:
    """The text for some tenants, equal for equal sets of them: the name of one, else the names in order, joined."""
    return SEPARATOR.join(sorted({check_tenant(tenant) for tenant in tenants}))


def members(text: str) -> tuple[str, ...]:
    """The tenants that a text of `federation` stands for."""
    return tuple(text.split(SEPARATOR))

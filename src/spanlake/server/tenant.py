"""Which tenant a request is for. Tenants name directories and tables, so their characters are restricted here, at the edge."""

from __future__ import annotations

import re
from collections.abc import Iterable

from spanlake.model.errors import NoTenant

SINGLE_TENANT = "single-tenant"
"""The tenant of every request while multi-tenancy is off."""

TENANT_HEADER = "x-scope-orgid"
TENANT_CHARACTERS_MAX = 150

_TENANT = re.compile(r"[A-Za-z0-9!_.*'()-]+")


def tenant_of(values: Iterable[str], *, multitenancy: bool) -> str:
    """The tenant that the X-Scope-OrgID values of a request name.

    Off: always `SINGLE_TENANT`. On: the one distinct value that is not empty (clients send identical duplicates and empty ones);
    NoTenant if there is none, more than one or one that is no valid name.
    """
    if not multitenancy:
        return SINGLE_TENANT
    named = {value for value in values if value}
    if not named:
        raise NoTenant("no org id")
    if len(named) > 1:
        raise NoTenant(f"X-Scope-OrgID names {len(named)} tenants, expected one")
    tenant = named.pop()
    if len(tenant) > TENANT_CHARACTERS_MAX:
        raise NoTenant(f"tenant has {len(tenant)} characters, at most {TENANT_CHARACTERS_MAX} are accepted")
    if not _TENANT.fullmatch(tenant) or tenant in {".", ".."}:
        raise NoTenant(f"tenant {tenant!r} is not a name of letters, digits and !_.*'()-")
    return tenant

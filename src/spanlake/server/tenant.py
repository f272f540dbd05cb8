"""Which tenant a request is for: the X-Scope-OrgID header, or gRPC metadata of that name."""

from __future__ import annotations

from collections.abc import Iterable

from spanlake.model.errors import NoTenant
from spanlake.model.tenants import SINGLE_TENANT, check_tenant

TENANT_HEADER = "x-scope-orgid"


def tenant_of(values: Iterable[str], *, multitenancy: bool) -> str:
    """The tenant that the X-Scope-OrgID values of a request name.

    Off: always `SINGLE_TENANT`. On: the one distinct value that is not empty (clients send identical duplicates and empty ones);
    NoTenant if there is none, more than one or one that is no valid name.
    """
    return check_tenant(_named(values)) if multitenancy else SINGLE_TENANT


def _named(values: Iterable[str]) -> str:
    named = {value for value in values if value}
    if not named:
        raise NoTenant("no org id")
    if len(named) > 1:
        raise NoTenant(f"X-Scope-OrgID names {len(named)} tenants, expected one")
    return named.pop()

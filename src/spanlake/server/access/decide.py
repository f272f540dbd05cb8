"""What a request may do: its role from its credentials, its tenants from its credentials and X-Scope-OrgID.

HTTP and gRPC ask here alike, with the values of headers or metadata. Without credentials in the settings everybody may do everything,
and Authorization headers, which some clients send unasked, are not looked at.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from spanlake.model.errors import Forbidden, NoTenant, Unauthenticated
from spanlake.model.tenancy.names import SEPARATOR, SINGLE_TENANT, check_tenant, federation
from spanlake.server.access.credentials import Credential, Presented, Role, known

AUTHORIZATION_HEADER = "authorization"
TENANT_HEADER = "x-scope-orgid"
FEDERATED_MAX = 32

Values = Callable[[str], Sequence[str]]
"""The values of a header or of metadata, by its name in lower case."""


def metadata_values(metadata: Iterable[tuple[str, str | bytes]]) -> Values:
    """The values of a call's metadata."""
    pairs = tuple(metadata)
    return lambda name: [value for key, value in pairs if key == name and isinstance(value, str)]


@dataclass(frozen=True, slots=True)
class Access:
    """The rules. `credentials` None: no restrictions. `refused` is told the reason of each refusal, from any thread."""

    credentials: Sequence[Credential] | None = None
    multitenancy: bool = False
    refused: Callable[[str], None] = lambda _reason: None

    def identify(self, values: Values, role: Role) -> Identity:
        """Who asks. Unauthenticated or Forbidden unless they have the role."""
        if self.credentials is None:
            return Identity(None, self)
        try:
            presented = known(self.credentials, values(AUTHORIZATION_HEADER))
        except Unauthenticated as refusal:
            self.refused(refusal.reason)
            raise
        identity = Identity(presented, self)
        if role not in presented.credential.roles:
            raise identity.forbidden("role", f"these credentials do not have the role {role.value}")
        return identity

    def tenants_to_read(self, values: Values) -> str:
        """The tenants that a query is for, as `model.tenancy.names.federation` has them. Raises as `identify` does, and NoTenant."""
        return self.identify(values, Role.READ).tenants(values(TENANT_HEADER))


@dataclass(frozen=True, slots=True)
class Identity:
    """Who a request is from; None for anybody."""

    presented: Presented | None
    access: Access

    def tenant(self, named: Iterable[str]) -> str:
        """The one tenant of a request with these X-Scope-OrgID values. NoTenant if they name none, several or a bad one; Forbidden."""
        return self._allowed(check_tenant(self._named(named)) if self.access.multitenancy else SINGLE_TENANT)

    def tenants(self, named: Iterable[str]) -> str:
        """As `tenant`, for queries, which may name several: `a|b`."""
        if not self.access.multitenancy:
            return self._allowed(SINGLE_TENANT)
        names = self._named(named).split(SEPARATOR)
        if len(names) > FEDERATED_MAX:
            raise NoTenant(f"X-Scope-OrgID names {len(names)} tenants, at most {FEDERATED_MAX} can be asked at once")
        return federation(self._allowed(check_tenant(name)) for name in names)

    def check_whole_server(self) -> None:
        """Forbidden unless they may see what is about all tenants."""
        if self.presented is not None and self.presented.credential.tenants is not None:
            raise self.forbidden("tenant", "these credentials are not for all tenants, and this is about all of them")

    def forbidden(self, reason: str, message: str) -> Forbidden:
        """The refusal, counted."""
        self.access.refused(reason)
        return Forbidden(message)

    def _named(self, values: Iterable[str]) -> str:
        """The one distinct value that is not empty (clients send identical duplicates and empty ones), else what the credentials say."""
        named = {value for value in values if value}
        if len(named) > 1:
            raise NoTenant(f"X-Scope-OrgID names {len(named)} tenants, expected one")
        if named:
            return named.pop()
        if self.presented is not None and self.presented.user_tenant:
            return self.presented.user_tenant
        if self.presented is not None and self.presented.credential.tenants and len(self.presented.credential.tenants) == 1:
            return next(iter(self.presented.credential.tenants))
        raise NoTenant("no org id")

    def _allowed(self, tenant: str) -> str:
        if self.presented is None or self.presented.credential.tenants is None or tenant in self.presented.credential.tenants:
            return tenant
        raise self.forbidden("tenant", f"these credentials are not for tenant {tenant!r}")


OPEN = Access()
"""Everybody may do everything, and there is one tenant."""

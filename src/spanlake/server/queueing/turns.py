"""Whose turn it is: queries that wait, by tenant, and how many of each tenant run. Bookkeeping only: no threads, no clock, no locks.

Tenants take turns. A tenant with waiting queries stands in line once, however many it has; when its turn comes, its oldest query starts
and the tenant goes to the end of the line. A tenant that runs as many queries as it may leaves the line until one of them ends.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum
from typing import Generic, TypeVar

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class TurnLimits:
    """How many queries may run, and how many more may wait, of all tenants and of each. `running_max_of` a tenant is at least 1."""

    running_max: int
    waiting_max: int
    running_max_of: Callable[[str], int]
    waiting_per_tenant_max: int


class Full(Enum):
    """Which bound a query met."""

    ALL = "all"
    TENANT = "tenant"


@dataclass(slots=True)
class Tenant(Generic[T]):
    """One tenant that has queries. `waiting` is in order of arrival; its values mean nothing."""

    waiting: OrderedDict[T, None] = field(default_factory=OrderedDict)
    running: int = 0


class Turns(Generic[T]):
    """Waiting and running queries; a query is anything hashable. For one thread at a time."""

    def __init__(self, limits: TurnLimits) -> None:
        self._limits = limits
        self._tenants: dict[str, Tenant[T]] = {}
        self._line: OrderedDict[str, None] = OrderedDict()  # tenants whose turn may come
        self.waiting = 0
        self.running = 0

    def full(self, tenant: str) -> Full | None:
        """The bound that one more query of a tenant would pass."""
        limits, known = self._limits, self._tenants.get(tenant)
        if self.running + self.waiting >= limits.running_max + limits.waiting_max:
            return Full.ALL
        own = 0 if known is None else known.running + len(known.waiting)
        return Full.TENANT if own >= limits.running_max_of(tenant) + limits.waiting_per_tenant_max else None

    def enter(self, tenant: str, query: T) -> None:
        """Let a query wait, behind those of its tenant. The caller has asked `full`."""
        known = self._tenants.setdefault(tenant, Tenant())
        known.waiting[query] = None
        self.waiting += 1
        self._stand_in_line(tenant, known)

    def next(self) -> tuple[str, T] | None:
        """Start the query whose turn it is; None if none may start."""
        if not self._line or self.running >= self._limits.running_max:
            return None
        tenant, _ = self._line.popitem(last=False)
        known = self._tenants[tenant]
        query, _ = known.waiting.popitem(last=False)
        known.running += 1
        self.waiting -= 1
        self.running += 1
        self._stand_in_line(tenant, known)
        return tenant, query

    def finish(self, tenant: str) -> None:
        """A query of a tenant has ended."""
        known = self._tenants[tenant]
        known.running -= 1
        self.running -= 1
        self._stand_in_line(tenant, known)
        self._forget(tenant, known)

    def leave(self, tenant: str, query: T) -> bool:
        """Take a waiting query out; whether it was still waiting."""
        known = self._tenants.get(tenant)
        if known is None or query not in known.waiting:
            return False
        del known.waiting[query]
        self.waiting -= 1
        if not known.waiting:
            self._line.pop(tenant, None)
        self._forget(tenant, known)
        return True

    def leave_all(self) -> list[T]:
        """Take out every waiting query."""
        queries = [query for known in self._tenants.values() for query in known.waiting]
        for tenant, known in list(self._tenants.items()):
            known.waiting.clear()
            self._forget(tenant, known)
        self._line.clear()
        self.waiting = 0
        return queries

    def _stand_in_line(self, tenant: str, known: Tenant[T]) -> None:
        if known.waiting and known.running < self._limits.running_max_of(tenant) and tenant not in self._line:
            self._line[tenant] = None

    def _forget(self, tenant: str, known: Tenant[T]) -> None:
        if not known.waiting and not known.running:
            del self._tenants[tenant]

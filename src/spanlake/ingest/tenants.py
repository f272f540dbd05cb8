"""Every tenant's live spans together with its table: one view of both, and the rule by which table versions become part of it.

A new version of a table becomes visible to queries under the tenant's table lock, and a flush holds that lock from its commit until its
spans are no longer live. So no version that has the flushed spans is ever combined with the live copies of them. Where the commit
of a flush was left without an answer, whoever brings in a version first finds out whether the commit took place.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import OrderedDict
from collections.abc import Callable

from spanlake.blocks.catalog import Catalog, TableSnapshot
from spanlake.blocks.live import LiveView, Sealed, TenantSpans, Usage
from spanlake.ingest.carry import Flushed
from spanlake.model.errors import Overloaded

_LOG = logging.getLogger(__name__)
TABLE_LOCKS = 64  # tenants share them by hash
WATCHED_MAX = 1000
WATCHED_SECONDS = 600.0


class Tenants:
    """Thread-safe. `writer_id` is this process's log in table commits; at most `tenants_max` tenants have live spans."""

    def __init__(self, catalog: Catalog, writer_id: str, *, tenants_max: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._catalog = catalog
        self._writer_id = writer_id
        self._tenants_max = tenants_max
        self._clock = clock
        self._lock = threading.Lock()  # of the dictionaries
        self._spans: dict[str, TenantSpans] = {}
        self._usage: dict[str, Usage] = {}
        self._total = Usage()
        self._table_locks = tuple(threading.Lock() for _ in range(TABLE_LOCKS))
        self._watched: OrderedDict[str, float] = OrderedDict()  # when a query last asked for a tenant

    # Live spans

    def live(self) -> list[TenantSpans]:
        """The tenants that have had spans lately."""
        return list(self._spans.values())

    def get(self, tenant: str) -> TenantSpans | None:
        return self._spans.get(tenant)

    def open(self, tenant: str, *, limited: bool = True) -> TenantSpans:
        """The live spans of a tenant, if need be new ones; the first time reads the store. Overloaded when there are too many tenants."""
        spans = self._spans.get(tenant)
        if spans is not None:
            return spans
        table = self._catalog.snapshot(tenant)
        with self._lock:
            if limited and tenant not in self._spans and len(self._spans) >= self._tenants_max:
                raise Overloaded(f"{len(self._spans)} tenants have live spans, which is ingest.tenants_max: tenant {tenant!r} must wait")
            return self._spans.setdefault(tenant, TenantSpans(tenant, table))

    def close_idle(self) -> None:
        """Forget tenants without live spans when there are many. Nobody may be appending meanwhile."""
        with self._lock:
            if 2 * len(self._spans) < self._tenants_max:
                return
            for tenant in [name for name, spans in self._spans.items() if spans.is_empty]:
                del self._spans[tenant]
                self._total -= self._usage.pop(tenant, Usage())

    def account(self, spans: TenantSpans) -> None:
        """Bring the totals up to date with one tenant's."""
        with self._lock:
            if self._spans.get(spans.tenant) is spans:
                new, old = spans.usage, self._usage.get(spans.tenant, Usage())
                self._usage[spans.tenant] = new
                self._total = self._total - old + new

    @property
    def usage(self) -> Usage:
        """The totals over all tenants."""
        return self._total

    def usage_of(self, tenant: str) -> Usage:
        """One tenant's part of the totals."""
        return self._usage.get(tenant, Usage())

    # Tables

    def names(self) -> list[str]:
        """Tenants with live spans or a table. Reads the store."""
        return sorted({*self._spans, *self._catalog.tenants()})

    def view(self, tenant: str) -> LiveView:
        """A consistent view of the tenant's live spans and table. An unknown tenant has none of both.

        The table of a tenant that is queried regularly is refreshed in the background (`refresh_watched`), another one here.
        """
        if tenant not in self._watched:
            self._try_refresh(tenant)
        spans = self._spans.get(tenant)
        view = spans.view() if spans is not None else LiveView(self._catalog.snapshot(tenant), ())
        if spans is not None or view.table.version >= 0:
            self._watch(tenant)
        return view

    def _watch(self, tenant: str) -> None:
        with self._lock:
            self._watched[tenant] = self._clock()
            self._watched.move_to_end(tenant)
            if len(self._watched) > WATCHED_MAX:
                self._watched.popitem(last=False)

    def refresh(self, tenant: str) -> TableSnapshot:
        """Look for table versions of other processes; part of the view from then on."""
        return self.change_table(tenant, lambda: self._catalog.refresh(tenant))

    def refresh_watched(self) -> None:
        """Refresh the tables that queries have asked for lately."""
        oldest = self._clock() - WATCHED_SECONDS
        with self._lock:
            for tenant in [name for name, asked in self._watched.items() if asked < oldest]:
                del self._watched[tenant]
            watched = list(self._watched)
        for tenant in watched:
            self._try_refresh(tenant)

    def _try_refresh(self, tenant: str) -> None:
        try:
            self.refresh(tenant)
        except Exception as failure:  # noqa: BLE001 (what is known of the table will do, or the query fails with the reason)
            _LOG.warning("cannot refresh a table, queries use what is known of it", extra={"tenant": tenant, "reason": str(failure)})

    def change_table(self, tenant: str, change: Callable[[], TableSnapshot]) -> TableSnapshot:
        """Run something that brings in a new table version, other than a flush of this process, and make it part of the view."""
        with self._table_lock(tenant):
            table = change()
            spans = self._spans.get(tenant)
            if spans is None:
                return table
            sealed = spans.sealed
            if sealed is not None and sealed.attempted and self._is_committed(tenant, sealed):
                table = self._catalog.snapshot(tenant)
                spans.publish(table, seconds=self._clock())
                self.account(spans)
            else:
                spans.publish_table(table)
            return table

    def _is_committed(self, tenant: str, sealed: Sealed) -> bool:
        version = self._catalog.writer_version(tenant, self._writer_id)
        return version is not None and version >= flush_of(sealed).commit_version

    def commit_flush(self, spans: TenantSpans, sealed: Sealed, commit: Callable[[], TableSnapshot]) -> bool:
        """Commit the flush of sealed spans and make it part of the view; False if that has happened meanwhile.

        If `commit` raises StoreError, it may have taken place nevertheless; call this again for the same sealed spans.
        """
        with self._table_lock(spans.tenant):
            if spans.sealed is not sealed:
                return False
            sealed.attempted = True
            spans.publish(commit(), seconds=self._clock())
            return True

    def _table_lock(self, tenant: str) -> threading.Lock:
        return self._table_locks[hash(tenant) % TABLE_LOCKS]


def flush_of(sealed: Sealed) -> Flushed:
    """What the table will know once the sealed spans are in it. Their carry is decided."""
    assert sealed.carry is not None
    return Flushed(sealed.through, carries=sealed.carry.rows is not None)

"""The catalog proper: snapshots of tables, commits that are atomic and exactly once, and what keeps tables small.

A commit is one conditional put: the log entry that makes version n+1 is put under a name that only one entry can have, so that it
takes effect only if nothing has happened since version n, the one it was checked against. Whoever loses reads what happened, checks
again and tries the next version. That, and not locking, is what makes any number of processes safe.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType

from deltalake import DeltaTable

from spanlake.blocks.catalog import dead_files
from spanlake.blocks.catalog.log_entry import CHECKPOINT_INTERVAL, Change, TableMetadata, check_change, check_removed, encode_entry
from spanlake.blocks.catalog.snapshot import Block, NewBlock, TableSnapshot
from spanlake.blocks.catalog.table import (
    check_writable,
    open_table,
    read_blocks,
    read_metadata,
    update_table,
    write_checkpoint,
    writer_version,
)
from spanlake.blocks.catalog.tenants import (
    TENANTS_PREFIX,
    block_key,
    log_entry_key,
    marker_key,
    table_prefix,
    tenant_of_marker,
)
from spanlake.model.errors import CommitConflict, ConfigError, KeyExists, StoreError
from spanlake.model.schema import ATTRIBUTE_COLUMN_TYPES, ColumnType, column_attribute
from spanlake.model.settings import StoreSettings
from spanlake.model.tenancy.names import check_tenant
from spanlake.objectstore.delta import delta_location
from spanlake.objectstore.store import ObjectStore

logger = logging.getLogger(__name__)

# Each lost attempt means that another commit succeeded, so this many writers can meet before one gives up.
COMMIT_ATTEMPTS_MAX = 64
# Tables beyond are forgotten, least recently used first, and read anew when asked for. Tenant names come from requests.
TABLES_CACHED_MAX = 1000

_COLUMN_TYPES: Mapping[str, ColumnType] = {delta: kind for kind, delta in ATTRIBUTE_COLUMN_TYPES.items()}


class Catalog:
    """All tables of a store. Thread-safe; calls for one tenant but `snapshot` wait for each other.

    Every method that takes a tenant raises NoTenant for a bad name, and StoreError if the store fails. `clock_ns` gives nanoseconds
    since the epoch.
    """

    def __init__(self, store: ObjectStore, settings: StoreSettings, *, clock_ns: Callable[[], int] = time.time_ns) -> None:
        self._store = store
        self._settings = settings
        self._clock_ns = clock_ns
        self._lock = threading.Lock()
        self._entries: OrderedDict[str, _Entry] = OrderedDict()

    def tenants(self) -> list[str]:
        """Every tenant that ever had a commit, in order. Reads the store."""
        tenants = (tenant_of_marker(info.key) for info in self._store.list(TENANTS_PREFIX))
        return sorted(tenant for tenant in tenants if tenant is not None)

    def snapshot(self, tenant: str) -> TableSnapshot:
        """The table as this catalog saw it last, at no cost; read from the store if it never has."""
        entry = self._entry(tenant)
        return entry.snapshot if entry.loaded else self.refresh(tenant)

    def refresh(self, tenant: str) -> TableSnapshot:
        """The table as it is now. Reads only what the log has gained since the last time."""
        entry = self._entry(tenant)
        with entry.lock:
            return self._load(entry)

    def writer_version(self, tenant: str, writer_id: str) -> int | None:
        """The version that the writer committed last, None if none; read from the store."""
        entry = self._entry(tenant)
        with entry.lock:
            self._load(entry)
            return writer_version(entry.table, writer_id) if entry.table else None

    def commit(
        self,
        tenant: str,
        *,
        add: Sequence[NewBlock],
        remove: Sequence[Block],
        columns: Mapping[str, ColumnType],
        writer: tuple[str, int] | None,
        reason: str,
    ) -> TableSnapshot:
        """Add and remove blocks in one step, and give the table that results. The first commit creates the table.

        `columns` are the attribute columns of the added files; the table gains those it lacks. `writer` is an id and a version that
        grows with each commit of that id. `reason` is for people, except that "compact", with blocks added and removed, says that the
        rows are still the same, so that programs that follow the table skip the commit.

        Exactly once: nothing happens and the table is returned if the writer has already committed that version or a later one, or if
        the table already is what the commit would make of it. So after a StoreError, which leaves open whether the commit took place,
        the same call may be made again (a mere removal that had taken place then conflicts with itself). The uploaded files must then
        not be deleted; strays go by themselves.

        Raises CommitConflict if a block to be removed is no longer in the table, or if an added one is older than 12 hours (upload it
        again; see dead_files.py), and ColumnConflict if the table has such a column with another type or spelling.
        """
        change = Change(tuple(add), tuple(remove), dict(columns), writer, reason)
        check_change(change)
        entry = self._entry(tenant)
        with entry.lock:
            version = self._put_entry(entry, change)
            self._load(entry)
            if version is not None:
                self._maintain(entry, version)
            return entry.snapshot

    def dead_files(self, tenant: str, *, grace_seconds: float) -> list[str]:
        """The paths, relative to the table, that `delete_dead_files` would delete now."""
        grace_ms = round(grace_seconds * 1000)
        if not 0 <= grace_ms <= dead_files.GRACE_MAX_MS:
            raise ConfigError(f"the grace of dead files is 0 to {dead_files.GRACE_MAX_MS // 1000} seconds, not {grace_seconds}")
        entry, table = self._entry(tenant), table_prefix(tenant)
        # The listing first: what it shows and a later version of the log does not know was not committed in between.
        files = list(self._store.list(table))
        with entry.lock:
            snapshot = self._load(entry)
            if snapshot.version < 0 and dead_files.has_log(files, table):
                raise StoreError(f"cannot tell which files of {table} are dead: its log is there, but not readable", transient=True)
            entry.tombstones = dead_files.read_tombstones(self._store, tenant, snapshot.version, files, entry.tombstones)
            live = {block.path for block in snapshot.blocks}
            return dead_files.dead_paths(files, table, live, entry.tombstones, now_ms=self._now_ms(), grace_ms=grace_ms)

    def delete_dead_files(self, tenant: str, *, grace_seconds: float) -> int:
        """Delete the files that the table no longer contains since `grace_seconds`, and strays; returns how many.

        The rule is in dead_files.py. Processes may do this at the same time. `grace_seconds` is at most a day (ConfigError).
        """
        paths = self.dead_files(tenant, grace_seconds=grace_seconds)
        if paths:
            self._store.delete([block_key(tenant, path) for path in paths])
        return len(paths)

    def _entry(self, tenant: str) -> _Entry:
        check_tenant(tenant)
        with self._lock:
            entry = self._entries.pop(tenant, None) or _Entry(tenant)
            self._entries[tenant] = entry  # the last is the most recently used
            if len(self._entries) > TABLES_CACHED_MAX:
                self._entries.popitem(last=False)
            return entry

    def _load(self, entry: _Entry) -> TableSnapshot:
        """Bring the entry to the newest version. Its lock is held."""
        table, entry.table = entry.table, None  # an update that fails may leave the library's object useless: then open anew
        if table is None:
            location = delta_location(self._store.url, table_prefix(entry.tenant), self._settings)
            table = open_table(self._store, entry.tenant, location)
        else:
            update_table(table)
        if table is None and entry.snapshot.version >= 0:
            raise StoreError(f"the table of tenant {entry.tenant!r} is gone from {self._store.url}: restore it or restart", transient=True)
        entry.table = table
        if table is not None and table.version() != entry.snapshot.version:
            entry.adopt(table)
        entry.loaded = True
        return entry.snapshot

    def _put_entry(self, entry: _Entry, change: Change) -> int | None:
        """Put the log entry for the change and return the version it makes; None if the table already is as it would be."""
        failure: StoreError | None = None
        attempted = False
        for _ in range(COMMIT_ATTEMPTS_MAX):
            base = self._load(entry).version
            if entry.has(change, attempted=attempted):
                return None
            if failure:
                raise failure
            self._check(entry, change)
            now_ms = self._now_ms()
            if base < 0:
                self._store.put(marker_key(entry.tenant), b"")
            data = encode_entry(change, version=base, metadata=entry.metadata, tenant=entry.tenant, now_ms=now_ms)
            attempted = True
            try:
                self._store.put_if_absent(log_entry_key(entry.tenant, base + 1), data)
            except KeyExists:
                continue
            except StoreError as error:
                failure = error
                continue
            return base + 1
        raise StoreError(f"{COMMIT_ATTEMPTS_MAX} other commits to the table of {entry.tenant!r} came first; try again", transient=True)

    def _check(self, entry: _Entry, change: Change) -> None:
        if entry.table is not None:
            check_writable(entry.table)
        check_removed(change, entry.blocks)
        oldest_ms = self._now_ms() - dead_files.COMMIT_AGE_MAX_MS
        for block in change.add:
            if block.created_ms < oldest_ms:
                raise CommitConflict(f"block {block.path} was made more than 12 hours ago and may be deleted as a stray; upload it again")
            if block.path in entry.blocks:
                raise CommitConflict(f"block {block.path} is already in the table; give each upload its own path")

    def _maintain(self, entry: _Entry, version: int) -> None:
        """After the commit of each twentieth version: a checkpoint, and old log entries go. Failures wait for the next time."""
        if version == 0 or version % CHECKPOINT_INTERVAL or not entry.table:
            return
        try:
            write_checkpoint(entry.table, self._store, entry.tenant)
        except StoreError as error:
            logger.warning("the table of tenant %s has no checkpoint of version %d: %s", entry.tenant, version, error)

    def _now_ms(self) -> int:
        return self._clock_ns() // 1_000_000


class _Entry:
    """What the catalog holds of one table. `lock` guards all but `snapshot`, which is replaced as a whole, and `loaded`."""

    def __init__(self, tenant: str) -> None:
        self.tenant = tenant
        self.lock = threading.Lock()
        self.loaded = False
        self.snapshot = TableSnapshot(tenant)
        self.table: DeltaTable | None = None
        self.metadata: TableMetadata | None = None
        self.blocks: dict[str, Block] = {}
        self.tombstones: dead_files.Tombstones | None = None

    def adopt(self, table: DeltaTable) -> None:
        """Read the state of the table at the version it is at."""
        metadata = read_metadata(table)
        if metadata.name != self.tenant and metadata.name and metadata.name.lower() == self.tenant.lower():
            # On a file system that ignores case two tenants would share a table.
            raise StoreError(f"tenant {self.tenant!r} cannot be told from tenant {metadata.name!r} on this file system", transient=False)
        self.metadata = metadata
        self.blocks = read_blocks(table, self.blocks)
        types = {field["name"]: field["type"] for field in metadata.fields if isinstance(field["type"], str)}
        columns = {name: _COLUMN_TYPES[kind] for name, kind in types.items() if kind in _COLUMN_TYPES and column_attribute(name)}
        self.snapshot = TableSnapshot(self.tenant, table.version(), tuple(self.blocks.values()), MappingProxyType(columns))

    def has(self, change: Change, *, attempted: bool) -> bool:
        """Whether the table already is what the change would make of it. `attempted`: this process has tried to commit it."""
        if change.writer and self.table:
            version = writer_version(self.table, change.writer[0])
            if version is not None and version >= change.writer[1]:
                return True
        if any(block.path in self.blocks for block in change.remove):
            return False
        # With nothing added there is no telling who removed the blocks, but after an attempt of our own it no longer matters.
        return all(block.path in self.blocks for block in change.add) if change.add else attempted

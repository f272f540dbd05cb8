"""Background work on the tables: compaction, retention, deletion of dead files.

Safe with several processes on one table: work on blocks that another process has replaced meanwhile ends in a lost commit race
and is thrown away. A merge takes at most a share of one core, by pausing in proportion to the CPU time that it used.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

from spanlake.blocks.catalog import Block, Catalog, NewBlock, TableSnapshot, block_key
from spanlake.blocks.compaction import expired_blocks, merge_blocks, plan_compactions
from spanlake.blocks.file.writer import WrittenBlock
from spanlake.blocks.footers import FooterCache
from spanlake.ingest.flush import upload
from spanlake.ingest.tenants import Tenants
from spanlake.model.errors import CommitConflict, CorruptData, KeyMissing, SpanlakeError
from spanlake.model.schema import ColumnType
from spanlake.model.settings import BlockSettings, CompactionSettings
from spanlake.model.tenancy.limits import LimitsSource
from spanlake.objectstore.store import ObjectStore

_LOG = logging.getLogger(__name__)
UNREADABLE_PAUSE_NS = 3600 * 10**9


@dataclass(slots=True)
class MaintenanceCounters:
    """Totals since the start, for /metrics; written by the maintenance thread only."""

    compactions: int = 0
    compacted_blocks: int = 0
    compacted_spans: int = 0
    lost_races: int = 0
    failures: int = 0
    expired_blocks: int = 0
    deleted_files: int = 0


class Maintenance:
    """The maintenance of all tenants, in one thread."""

    def __init__(
        self, tenants: Tenants, store: ObjectStore, catalog: Catalog, footers: FooterCache, *, settings: MaintenanceSettings
    ) -> None:
        self._tenants = tenants
        self._store = store
        self._catalog = catalog
        self._footers = footers
        self._settings = settings
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None
        self._avoided: dict[str, int] = {}  # keys of blocks → until when (nanoseconds since the epoch)
        self.counters = MaintenanceCounters()

    def start(self) -> None:
        if self._settings.compaction.enabled:
            self._thread = threading.Thread(target=self._run, name="maintenance", daemon=True)
            self._thread.start()

    def stop(self) -> None:
        """End the work after the window at hand."""
        self._stopping.set()
        if self._thread is not None:
            self._thread.join()

    def run_once(self, *, paced: bool = False) -> None:
        """One look at every tenant: expire, delete dead files, compact until nothing is worth it."""
        for tenant in self._tenants.names():
            try:
                self._maintain(tenant, paced=paced)
            except Exception as failure:  # noqa: BLE001 (whatever is wrong with one table, the others need their maintenance)
                self.counters.failures += 1
                unexpected = not isinstance(failure, (SpanlakeError, OSError))
                fields = {"tenant": tenant, "reason": str(failure)}
                _LOG.warning("maintenance of a tenant failed; it will be tried again", extra=fields, exc_info=unexpected)
            if self._stopping.is_set():
                return

    def _maintain(self, tenant: str, *, paced: bool) -> None:
        self._expire(tenant)
        grace = self._settings.compaction.delete_grace_seconds
        self.counters.deleted_files += self._catalog.delete_dead_files(tenant, grace_seconds=grace)
        while not self._stopping.is_set() and self._compact_one(tenant, paced=paced):
            pass

    def _run(self) -> None:
        while not self._stopping.wait(self._settings.compaction.interval_seconds):
            try:
                self.run_once(paced=True)
            except Exception:  # noqa: BLE001 (maintenance must outlive whatever it runs into)
                self.counters.failures += 1
                _LOG.exception("maintenance failed; it will be tried again")

    def _expire(self, tenant: str) -> None:
        retention = self._settings.limits.of(tenant).retention_seconds
        table = self._tenants.refresh(tenant)
        expired = expired_blocks(table, now_ns=self._settings.clock_ns(), retention_seconds=retention)
        if not expired:
            return
        try:
            self._commit(tenant, add=[], remove=expired, columns={}, reason="expire")
            self.counters.expired_blocks += len(expired)
        except CommitConflict:
            self.counters.lost_races += 1

    def _commit(
        self, tenant: str, *, add: Sequence[NewBlock], remove: Sequence[Block], columns: Mapping[str, ColumnType], reason: str
    ) -> None:
        change = partial(self._catalog.commit, tenant, add=add, remove=remove, columns=columns, writer=None, reason=reason)
        self._tenants.change_table(tenant, change)

    def _compact_one(self, tenant: str, *, paced: bool) -> bool:
        """Merge the group that is most worth it; False if none is, if another process was faster, or if the server stops."""
        table = self._without_unreadable(self._tenants.refresh(tenant))
        groups = plan_compactions(table, self._settings.compaction, self._settings.blocks)
        if not groups:
            return False
        try:
            footers = self._footers.get_all(tenant, groups[0])
            steps = merge_blocks(self._store, footers, table=table.columns, settings=self._settings.blocks)
            written = self._drive(steps, paced=paced)
            if written is None:
                return False
            self._replace(tenant, groups[0], written)
        except (CommitConflict, CorruptData, KeyMissing) as failure:
            live = {block.path for block in self._tenants.refresh(tenant).blocks}
            if isinstance(failure, CommitConflict) or not live.issuperset(block.path for block in groups[0]):
                self.counters.lost_races += 1
                _LOG.info("another process changed these blocks first", extra={"tenant": tenant, "reason": str(failure)})
                return False
            self._avoid(tenant, groups[0], failure)
        return True

    def _avoid(self, tenant: str, blocks: Sequence[Block], failure: SpanlakeError) -> None:
        """Leave blocks alone for a while that cannot be merged because a file of theirs is damaged or lost."""
        self.counters.failures += 1
        until_ns = self._settings.clock_ns() + UNREADABLE_PAUSE_NS
        self._avoided |= dict.fromkeys((block_key(tenant, block.path) for block in blocks), until_ns)
        _LOG.error("these blocks cannot be merged", extra={"tenant": tenant, "blocks": len(blocks), "reason": str(failure)})

    def _without_unreadable(self, table: TableSnapshot) -> TableSnapshot:
        now_ns = self._settings.clock_ns()
        self._avoided = {key: until_ns for key, until_ns in self._avoided.items() if until_ns > now_ns}
        blocks = (block for block in table.blocks if block_key(table.tenant, block.path) not in self._avoided)
        return replace(table, blocks=tuple(blocks))

    def _drive(self, steps: Generator[WrittenBlock | None], *, paced: bool) -> WrittenBlock | None:
        """Run a merge to its end, with pauses if `paced`; None if the server is stopping."""
        used = time.thread_time()
        for step in steps:
            if step is not None:
                return step
            now = time.thread_time()
            share = self._settings.compaction.cpu_share
            if paced and self._stopping.wait((now - used) * (1 - share) / share):
                steps.close()
                return None
            used = now
        return None

    def _replace(self, tenant: str, blocks: tuple[Block, ...], written: WrittenBlock) -> None:
        arrived = blocks[0].path.rpartition("/")[2].partition("-")[0]
        created_ms = self._settings.clock_ns() // 1_000_000
        new = upload(self._store, tenant, written, blocks[0].day, created_ms=created_ms, arrived=arrived)
        try:
            self._commit(tenant, add=[new], remove=list(blocks), columns=written.columns, reason="compact")
        except CommitConflict:
            # For certain not in the table, as others have removed the blocks, so it need not wait until it counts as a stray.
            self._store.delete([block_key(tenant, new.path)])
            raise
        self.counters.compactions += 1
        self.counters.compacted_blocks += len(blocks)
        self.counters.compacted_spans += written.info.rows
        saved = {"bytes_before": sum(block.size_bytes for block in blocks), "bytes_after": written.size_bytes}
        _LOG.info("compacted", extra={"tenant": tenant, "blocks": len(blocks), "spans": written.info.rows, **saved})


@dataclass(frozen=True, slots=True)
class MaintenanceSettings:
    """What maintenance follows: branches of the settings tree, and how long each tenant keeps its spans."""

    compaction: CompactionSettings
    blocks: BlockSettings
    limits: LimitsSource
    clock_ns: Callable[[], int] = time.time_ns

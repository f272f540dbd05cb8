"""The one place that names concrete classes: the running system, put together from the settings."""

from __future__ import annotations

import logging
import os
import threading
import time
from dataclasses import replace
from pathlib import Path

from prometheus_client import CollectorRegistry, Histogram

from spanlake import __version__
from spanlake.app.metrics import LimitsCollector, register_metrics
from spanlake.app.tenancy.credentials_file import read_credentials
from spanlake.app.tenancy.limits_in_force import LimitsInForce
from spanlake.app.tenancy.stored_limits import StoredLimits
from spanlake.app.timed import TimedReader, timed_queries
from spanlake.blocks.catalog import Catalog
from spanlake.blocks.footers import FooterCache
from spanlake.blocks.scan.tenant import ScanCaches
from spanlake.blocks.wal import open_wal
from spanlake.ingest.flush import Flusher
from spanlake.ingest.maintenance import Maintenance, MaintenanceSettings
from spanlake.ingest.pipeline import Pipeline
from spanlake.ingest.tenants import Tenants
from spanlake.model.settings import Settings
from spanlake.objectstore.opening import open_store
from spanlake.objectstore.store import ObjectStore
from spanlake.query.executors.inline import InlineExecutor
from spanlake.query.executors.threads import ThreadExecutor
from spanlake.query.federated import FederatedFinder, FederatedSearcher, FederatedSources
from spanlake.query.metrics import Meter
from spanlake.query.search import Searcher
from spanlake.query.sources import TenantSources
from spanlake.query.tags import TagReader
from spanlake.query.trace import TraceFinder
from spanlake.query.trace_filter import FilteringFinder
from spanlake.server.listeners import Core
from spanlake.server.ports import BuildInfo, Queries
from spanlake.server.transport.tls import load_tls

_LOG = logging.getLogger(__name__)
REFRESHED_EVERY_SECONDS = 0.5
LIVE_KEPT_SECONDS = 60.0
"""How long what queries made of the live spans stays in memory when there are no queries."""


def wal_directory(settings: Settings, store: ObjectStore) -> Path:
    """Where the write-ahead log lives."""
    if settings.wal.directory:
        return Path(settings.wal.directory)
    root = store.local_path("wal")
    return root if root is not None else Path("data/wal")


class System:
    """A running spanlake without its listeners. Owns the log, the background threads and the state of readiness."""

    def __init__(self, settings: Settings, effective_config: str) -> None:
        self._effective_config = effective_config
        self._settings = settings
        credentials = read_credentials(Path(settings.access.file), os.environ) if settings.access.file else None
        tls = load_tls(settings.tls)
        self.store = open_store(settings.data, settings.store)
        self.limits = LimitsInForce(settings, StoredLimits(self.store))
        self.catalog = Catalog(self.store, settings.store)
        self.footers = FooterCache(self.store, bytes_max=settings.blocks.footer_cache_bytes)
        wal = open_wal(wal_directory(settings, self.store), settings.wal)
        self._stopping = threading.Event()
        self.tenants = Tenants(self.catalog, wal.writer_id, tenants_max=settings.ingest.tenants_max)
        flusher = Flusher(self.store, self.catalog, wal, self.tenants, settings.blocks, settings.ingest)
        self.pipeline = Pipeline(flusher, settings.ingest, limits=self.limits, stopping=self._stopping)
        upkeep = MaintenanceSettings(settings.compaction, settings.blocks, self.limits)
        self.maintenance = Maintenance(self.tenants, self.store, self.catalog, self.footers, settings=upkeep)
        self.registry = CollectorRegistry()
        register_metrics(self.registry, self.pipeline, self.maintenance, self.footers)
        self.registry.register(LimitsCollector(self.limits))
        seconds = Histogram("spanlake_query_seconds", "Duration of queries", ["kind"], registry=self.registry)
        finder = FederatedFinder(TraceFinder(self.store, self.footers, self.pipeline.view, self.tenants.refresh, settings.query))
        self.caches = ScanCaches(self.store, self.footers, bytes_max=settings.query.cache_bytes)
        executor = ThreadExecutor(settings.query.threads) if settings.query.threads else InlineExecutor()
        single = TenantSources(self.caches, self.pipeline.view, self.tenants.refresh, executor, settings.query.horizon_seconds)
        sources = FederatedSources(single)
        searcher, tags = FederatedSearcher(Searcher(single, settings.query)), TagReader(sources, settings.query)
        meter = Meter(sources, settings.query, self.limits)
        queries = timed_queries(Queries(searcher, tags, FilteringFinder(finder), meter), seconds)
        reader = TimedReader(finder, seconds)
        self.core = Core(
            self.pipeline,
            reader,
            self,
            self.registry,
            queries,
            credentials=credentials,
            limits=self.limits,
            tls=tls,
            overrides=self.limits,
        )
        self._waiting_for = "starting"
        self._starter = threading.Thread(target=self._start, name="starter", daemon=True)
        self._refresher = threading.Thread(target=self._refresh, name="refresher", daemon=True)

    def start(self) -> None:
        """Begin to warm up and to replay, in the background; `readiness` tells how far it is."""
        self._starter.start()

    def wait_until_ready(self) -> None:
        """Return once the start is over, whether or not it succeeded."""
        self._starter.join()

    def stop(self, *, flush: bool) -> None:
        """Stop background work and close the log; call after the listeners have stopped."""
        self._waiting_for = "stopping"
        self._stopping.set()
        self.limits.stop()
        self.maintenance.stop()
        for thread in (self._starter, self._refresher):
            if thread.is_alive():
                thread.join()
        self.pipeline.stop(flush=flush)

    # server.ports.Health

    def readiness(self) -> str:
        return self._waiting_for

    def effective_config(self) -> str:
        return self._effective_config

    def build(self) -> BuildInfo:
        return BuildInfo(version=__version__)

    def _start(self) -> None:
        begin = time.monotonic()
        try:
            # Imported here because it loads and compiles kernels: the listeners answer /ready meanwhile.
            from spanlake.app.warmup import is_warm, warm_kernels

            if not is_warm():
                self._waiting_for = "compiling kernels; only the first start of a version takes this long"
                warm_kernels()
            self._waiting_for = "replaying the write-ahead log"
            self.pipeline.start()
            self._waiting_for = "reading the limits of tenants from the store"
            self.limits.start()
        except Exception as failure:  # noqa: BLE001 (whatever it was, /ready must tell)
            if self._stopping.is_set():
                return
            self._waiting_for = f"start failed: {failure}"
            _LOG.exception("start failed; see the reason and start again")
            return
        self._waiting_for = ""
        self.maintenance.start()
        self._refresher.start()
        _LOG.info("ready", extra={"seconds": round(time.monotonic() - begin, 2)})

    def _refresh(self) -> None:
        """Keep the view of blocks that other processes write no staler than the settings allow."""
        pause = max(self._settings.query.catalog_refresh_seconds, REFRESHED_EVERY_SECONDS)
        while not self._stopping.wait(pause):
            self.tenants.refresh_watched()
            self.caches.forget_live(idle_seconds=LIVE_KEPT_SECONDS)


def build_system(settings: Settings, effective_config: str) -> System:
    """Open the store and the log. ConfigError or Unavailable if one cannot be opened."""
    return System(replace(settings), effective_config)

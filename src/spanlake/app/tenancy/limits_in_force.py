"""The limits in force: those given through the API over those of the file over the defaults of the settings.

They are put together when something changes and not when someone asks. File and store are looked at now and then; what cannot be read
leaves the limits as they were, is logged once per fault, and counts.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path

from spanlake.app.tenancy.limit_values import LimitValues, parse_limits, strictest, with_limits
from spanlake.app.tenancy.limits_file import read_limits_file
from spanlake.app.tenancy.stored_limits import StoredLimits
from spanlake.model.errors import CorruptData, InvalidInput, SpanlakeError
from spanlake.model.settings import Settings
from spanlake.model.tenancy.limits import TenantLimits, default_limits
from spanlake.model.tenancy.names import SEPARATOR, members
from spanlake.server.ports import Overrides

_LOG = logging.getLogger(__name__)
RETRY_SECONDS = 1.0
FILE, STORE = "file", "store"


class LimitsInForce:
    """`LimitsSource` and `server.ports.TenantOverrides`. Owns the thread that looks for changes, from `start` to `stop`."""

    def __init__(self, settings: Settings, stored: StoredLimits) -> None:
        self._settings = settings.overrides
        self._stored = stored
        self._defaults = default_limits(settings)
        by_tenant = settings.retention_by_tenant.items()
        self._from_settings: Mapping[str, LimitValues] = {tenant: {"retention_seconds": seconds} for tenant, seconds in by_tenant}
        self._from_file: Mapping[str, LimitValues] = self._read_file()
        self._from_store: Mapping[str, LimitValues] = {}
        self._known: dict[str, int] = {}  # versions in the store
        self._limits: Mapping[str, TenantLimits] = {}
        self._lock = threading.Lock()  # guards changes of all of these
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="limits", daemon=True)
        self._faults: dict[str, str] = {}
        self.failures = {FILE: 0, STORE: 0}
        self._put_together()

    # model.tenancy.limits.LimitsSource

    def of(self, tenant: str) -> TenantLimits:
        """The limits of a tenant; for a federation the strictest of its members'."""
        if SEPARATOR in tenant:
            return strictest([self.of(member) for member in members(tenant)])
        return self._limits.get(tenant, self._defaults)

    # server.ports.TenantOverrides

    @property
    def changeable(self) -> bool:
        return self._settings.api

    def get(self, tenant: str) -> Overrides:
        return self._stored.read(tenant)

    def put(self, tenant: str, limits: Mapping[str, object] | None, *, after: int) -> Overrides:
        try:
            values = parse_limits(limits or {})
        except ValueError as error:
            raise InvalidInput(str(error)) from None
        written = self._stored.write(tenant, limits, after=after)
        with self._lock:
            self._take(tenant, written.version, values if limits is not None else None)
            self._put_together()
        _LOG.info("limits were changed", extra={"tenant": tenant, "limits": dict(limits or {}), "version": written.version})
        return written

    def in_force(self, tenant: str) -> Mapping[str, float]:
        return asdict(self.of(tenant))

    # Life

    def start(self) -> None:
        """Read what the store has, which is tried until it succeeds or `stop` is called, and look for changes from then on."""
        while not self._try(STORE, self._look_at_store):
            if self._stopping.wait(RETRY_SECONDS):
                return
        self._thread.start()

    def stop(self) -> None:
        """End the thread."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join()

    def reload(self) -> None:
        """Look for changes once."""
        self._try(FILE, self._look_at_file)
        self._try(STORE, self._look_at_store)

    def _run(self) -> None:
        while not self._stopping.wait(self._settings.reload_seconds):
            self.reload()

    def _try(self, source: str, look: Callable[[], None]) -> bool:
        """Whether a look succeeds; a fault is counted, and logged if it is not the one of the last look."""
        try:
            look()
            self._faults.pop(source, None)
            return True
        except Exception as fault:  # noqa: BLE001 (whatever it is, the limits in force stay, and the next look may succeed)
            self.failures[source] += 1
            if self._faults.get(source) != str(fault):
                self._faults[source] = str(fault)
                unexpected = not isinstance(fault, (SpanlakeError, OSError))
                fields = {"source": source, "reason": str(fault)}
                _LOG.error("the limits of tenants cannot be read, those in force stay", extra=fields, exc_info=unexpected)
            return False

    def _look_at_file(self) -> None:
        found = self._read_file()
        with self._lock:
            self._from_file = found
            self._put_together()

    def _read_file(self) -> Mapping[str, LimitValues]:
        return read_limits_file(Path(self._settings.file)) if self._settings.file else {}

    def _look_at_store(self) -> None:
        """Read the versions that are new. One that is of no use, as an older or newer release may have written it, keeps none of the rest
        from being read."""
        useless: list[str] = []
        for tenant, version in self._stored.versions().items():
            if version <= self._known.get(tenant, 0):
                continue
            try:
                limits = self._stored.read_version(tenant, version).limits
                values = None if limits is None else parse_limits(limits)
            except (CorruptData, ValueError) as error:
                useless.append(f"tenant {tenant!r}: {error}")
                continue
            with self._lock:
                self._take(tenant, version, values)
        with self._lock:
            self._put_together()
        if useless:
            raise CorruptData("; ".join(useless))

    def _take(self, tenant: str, version: int, values: LimitValues | None) -> None:
        """Note a version, unless a later one is known. The lock is held."""
        if version <= self._known.get(tenant, 0):
            return
        self._known[tenant] = version
        others = {name: own for name, own in self._from_store.items() if name != tenant}
        self._from_store = others if values is None else {**others, tenant: values}

    def _put_together(self) -> None:
        limits: dict[str, TenantLimits] = {}
        for layer in (self._from_settings, self._from_file, self._from_store):
            for tenant, values in layer.items():
                limits[tenant] = with_limits(limits.get(tenant, self._defaults), values)
        self._limits = limits

"""The limits in force: those of the API over those of the file over the defaults of the settings.

They are put together when something changes and not when someone asks. File and store are looked at now and then; what cannot be read
leaves the limits as they were, is logged once per fault, and counts.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Mapping
from pathlib import Path

from spanlake.app.tenancy.limit_values import LimitValues, strictest, with_limits
from spanlake.app.tenancy.limits_file import read_limits_file
from spanlake.model.errors import ConfigError
from spanlake.model.limits import TenantLimits, default_limits
from spanlake.model.settings import Settings
from spanlake.model.tenants import SEPARATOR, members

_LOG = logging.getLogger(__name__)


class LimitsInForce:
    """`model.limits.LimitsSource`. Owns the thread that looks for changes, from `start` to `stop`."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings.overrides
        self._defaults = default_limits(settings)
        by_tenant = settings.retention_by_tenant.items()
        self._from_settings: Mapping[str, LimitValues] = {tenant: {"retention_seconds": seconds} for tenant, seconds in by_tenant}
        self._from_file: Mapping[str, LimitValues] = self._read_file()
        self._limits: Mapping[str, TenantLimits] = {}
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="limits", daemon=True)
        self._last_fault = ""
        self.file_failures = 0
        self._put_together()

    def of(self, tenant: str) -> TenantLimits:
        """The limits of a tenant; for a federation the strictest of its members'."""
        if SEPARATOR in tenant:
            return strictest([self.of(member) for member in members(tenant)])
        return self._limits.get(tenant, self._defaults)

    def start(self) -> None:
        """Look for changes from now on."""
        self._thread.start()

    def stop(self) -> None:
        """End the thread."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join()

    def reload(self) -> None:
        """Look for changes once."""
        try:
            self._from_file = self._read_file()
            self._last_fault = ""
        except ConfigError as fault:
            self.file_failures += 1
            if str(fault) != self._last_fault:
                self._last_fault = str(fault)
                _LOG.error("the limits of tenants cannot be read, those in force stay", extra={"reason": str(fault)})
        self._put_together()

    def _read_file(self) -> Mapping[str, LimitValues]:
        return read_limits_file(Path(self._settings.file)) if self._settings.file else {}

    def _put_together(self) -> None:
        layers = (self._from_settings, self._from_file)
        limits: dict[str, TenantLimits] = {}
        for layer in layers:
            for tenant, values in layer.items():
                limits[tenant] = with_limits(limits.get(tenant, self._defaults), values)
        self._limits = limits

    def _run(self) -> None:
        while not self._stopping.wait(self._settings.reload_seconds):
            self.reload()

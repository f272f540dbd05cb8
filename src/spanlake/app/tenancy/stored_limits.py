"""Limits that were given through the API, kept in the object store: `overrides/<tenant>/<version>.json`, the highest version in force.

A change puts the next version if there is none with its number, which of several writers only one can: every store has such a put, and not
every one has a put that replaces a certain version. Removing limits is a version without any. Versions before the last one are deleted
a day later, when nobody can be about to put one of them again.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import orjson

from spanlake.blocks.catalog.tenants import tenant_directory, tenant_of_directory
from spanlake.model.errors import CorruptData, KeyExists, PreconditionFailed
from spanlake.objectstore.store import ObjectInfo, ObjectStore
from spanlake.server.ports import Overrides

PREFIX = "overrides"
SUPERSEDED_NS = 86_400 * 10**9
_SUFFIX = ".json"
_DIGITS = 20


@dataclass(frozen=True, slots=True)
class StoredLimits:
    """The limits in the store; every call reads or writes it."""

    store: ObjectStore
    clock_ns: Callable[[], int] = time.time_ns

    def versions(self) -> dict[str, int]:
        """The last version of every tenant that ever had limits of its own."""
        last: dict[str, int] = {}
        for tenant, version, _ in self._list(PREFIX):
            last[tenant] = max(version, last.get(tenant, 0))
        return last

    def read(self, tenant: str) -> Overrides:
        """What is in force; version 0 if there never was anything."""
        version = max((version for _, version, _ in self._list(_directory(tenant))), default=0)
        return self.read_version(tenant, version) if version else Overrides(0, None)

    def read_version(self, tenant: str, version: int) -> Overrides:
        """One version. KeyMissing if there is none, CorruptData if it is not what `write` writes."""
        return Overrides(version, _decode(_key(tenant, version), self.store.get(_key(tenant, version)))[0])

    def write(self, tenant: str, limits: Mapping[str, object] | None, *, after: int) -> Overrides:
        """Put the version after `after`. PreconditionFailed if someone else has."""
        key, mark = _key(tenant, after + 1), secrets.token_hex(16)
        try:
            self.store.put_if_absent(key, orjson.dumps({"limits": limits, "id": mark}))
        except KeyExists:
            # A put whose answer was lost is tried again, and finds itself.
            if _decode(key, self.store.get(key))[1] != mark:
                raise PreconditionFailed(f"the overrides of tenant {tenant!r} were changed meanwhile: get them and try again") from None
        old = [info.key for _, version, info in self._list(_directory(tenant)) if version <= after and self._is_old(info)]
        self.store.delete(old)
        return Overrides(after + 1, limits)

    def _is_old(self, info: ObjectInfo) -> bool:
        return info.modified_ns < self.clock_ns() - SUPERSEDED_NS

    def _list(self, prefix: str) -> Iterator[tuple[str, int, ObjectInfo]]:
        for info in self.store.list(prefix):
            directory, _, name = info.key.removeprefix(f"{PREFIX}/").partition("/")
            tenant, number = tenant_of_directory(directory), name.removesuffix(_SUFFIX)
            if tenant is not None and len(number) == _DIGITS and number.isdecimal() and name.endswith(_SUFFIX):
                yield tenant, int(number), info


def _directory(tenant: str) -> str:
    return f"{PREFIX}/{tenant_directory(tenant)}"


def _key(tenant: str, version: int) -> str:
    return f"{_directory(tenant)}/{version:0{_DIGITS}d}{_SUFFIX}"


def _decode(key: str, data: bytes) -> tuple[Mapping[str, object] | None, object]:
    """(limits, mark of the writer)."""
    try:
        found = orjson.loads(data)
    except orjson.JSONDecodeError as error:
        raise CorruptData(f"object {key!r} is not JSON: {error}") from None
    if not isinstance(found, dict) or not isinstance(found.get("limits"), dict | None):
        raise CorruptData(f"object {key!r} has no limits")
    return found["limits"], found.get("id")

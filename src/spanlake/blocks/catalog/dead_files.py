"""Files that nobody needs: which objects below a table may be deleted, and when.

A file is *dead* if the table does not contain it and either
- the log says that it was removed (a tombstone), at least `grace` ago: queries that read an older snapshot have that long; or
- the log does not know it, and it was written at least `STRAY_AGE` ago. It is a stray: its writer died before the commit, or lost it,
  or its tombstone has expired.

A stray may also be an upload whose commit is still to come. Therefore `Catalog.commit` refuses blocks older than `COMMIT_AGE_MAX`, half
of `STRAY_AGE`; the other half is room for clocks that differ and for commits that take long. Only names that `block_path` makes are
ever considered, so that the log and what others keep beside the table are safe.
"""

from __future__ import annotations

import io
import json
from collections.abc import Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from urllib.parse import unquote

import pyarrow.parquet as pq

from spanlake.blocks.catalog.log_entry import TOMBSTONE_RETENTION_DAYS
from spanlake.blocks.catalog.snapshot import is_block_path
from spanlake.blocks.catalog.tenants import CHECKPOINT_KEY, LOG_DIRECTORY, log_entry_key, table_prefix
from spanlake.objectstore.store import ObjectInfo, ObjectStore

DAY_MS = 86_400_000
STRAY_AGE_MS = DAY_MS
COMMIT_AGE_MAX_MS = STRAY_AGE_MS // 2
# A tombstone must outlive the grace, or its file would be taken for a stray of its age.
GRACE_MAX_MS = (TOMBSTONE_RETENTION_DAYS - 1) * DAY_MS


@dataclass(frozen=True, slots=True)
class Tombstones:
    """When each file that was removed from the table was removed (milliseconds since the epoch), as of a version of the log."""

    version: int
    removed_ms: Mapping[str, int]


def dead_paths(
    files: Iterable[ObjectInfo], table: str, live: AbstractSet[str], tombstones: Tombstones, *, now_ms: int, grace_ms: int
) -> list[str]:
    """Those of `files`, all below the directory `table`, that may be deleted, as paths relative to it."""
    dead = []
    for file in files:
        path = file.key.removeprefix(f"{table}/")
        if path in live or not is_block_path(path):
            continue
        removed_ms = tombstones.removed_ms.get(path)
        since_ms, age_ms = (file.modified_ns // 1_000_000, max(grace_ms, STRAY_AGE_MS)) if removed_ms is None else (removed_ms, grace_ms)
        if now_ms - since_ms >= age_ms:
            dead.append(path)
    return dead


def has_log(files: Iterable[ObjectInfo], table: str) -> bool:
    return any(file.key.startswith(f"{table}/{LOG_DIRECTORY}/") for file in files)


def read_tombstones(store: ObjectStore, tenant: str, version: int, files: Sequence[ObjectInfo], known: Tombstones | None) -> Tombstones:
    """The tombstones of the table at `version`: `known`, or else the newest checkpoint among `files`, and the log entries since."""
    if known and known.version == version:
        return known
    checkpoint = max((int(match[1]) for file in files if (match := CHECKPOINT_KEY.fullmatch(file.key))), default=-1)
    # Entries before the newest checkpoint may already be removed from the log.
    if known is None or known.version < checkpoint:
        known = Tombstones(checkpoint, _checkpoint_tombstones(store, tenant, checkpoint) if checkpoint >= 0 else {})
    removed_ms = dict(known.removed_ms)
    for number in range(known.version + 1, version + 1):
        _apply_entry(store.get(log_entry_key(tenant, number)), removed_ms)
    return Tombstones(max(version, known.version), removed_ms)


def _checkpoint_tombstones(store: ObjectStore, tenant: str, version: int) -> dict[str, int]:
    data = store.get(f"{table_prefix(tenant)}/{LOG_DIRECTORY}/{version:020d}.checkpoint.parquet")
    rows = pq.read_table(io.BytesIO(data), columns=["remove"]).column("remove").combine_chunks()
    removes = rows.filter(rows.is_valid())
    times = removes.field("deletionTimestamp").to_pylist()
    return {unquote(path): time or 0 for path, time in zip(removes.field("path").to_pylist(), times, strict=True)}


def _apply_entry(entry: bytes, removed_ms: dict[str, int]) -> None:
    for line in entry.splitlines():
        action = json.loads(line) if line.strip() else {}
        if remove := action.get("remove"):
            removed_ms[unquote(remove["path"])] = remove.get("deletionTimestamp") or 0

"""Reading a Delta table through the `deltalake` library, the only module that names it: state, checkpoints, removal of old log entries.

Failures of the library or the store below it are raised as StoreError.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import pyarrow as pa
from deltalake import DeltaTable
from deltalake.exceptions import DeltaError, TableNotFoundError

from spanlake.blocks.catalog.log_entry import READER_VERSION, WRITER_VERSION, TableMetadata
from spanlake.blocks.catalog.snapshot import Block
from spanlake.blocks.catalog.tenants import CHECKPOINT_KEY, LOG_DIRECTORY, table_prefix
from spanlake.model.errors import CorruptData, StoreError
from spanlake.objectstore.delta import DeltaLocation
from spanlake.objectstore.store import ObjectStore


def open_table(store: ObjectStore, tenant: str, location: DeltaLocation) -> DeltaTable | None:
    """The tenant's table, which is at that location, at its newest version; None if there is none."""
    try:
        return _open(location)
    except StoreError:
        if not _remove_broken_checkpoints(store, tenant):
            raise
        return _open(location)


def _open(location: DeltaLocation) -> DeltaTable | None:
    with _delta_failures("opening", location.url):
        try:
            return DeltaTable(location.url, storage_options=location.options)
        except TableNotFoundError:
            return None


def update_table(table: DeltaTable) -> None:
    """Advance to the newest version, reading only what the log has gained."""
    with _delta_failures("reading the log of", table.table_uri):
        table.update_incremental()


def writer_version(table: DeltaTable, writer_id: str) -> int | None:
    """The version that the writer recorded last."""
    with _delta_failures("reading the log of", table.table_uri):
        return table.transaction_version(writer_id)


def check_writable(table: DeltaTable) -> None:
    """StoreError if the table needs abilities that entries of this program do not have, as others may have enabled them."""
    protocol = table.protocol()
    if protocol.min_reader_version > READER_VERSION or protocol.min_writer_version > WRITER_VERSION:
        needs = f"reader version {protocol.min_reader_version} and writer version {protocol.min_writer_version}"
        remedy = "another program has enabled table features; drop them there"
        raise StoreError(f"cannot write to table {table.table_uri}, which needs {needs}: {remedy}", transient=False)


def read_metadata(table: DeltaTable) -> TableMetadata:
    with _delta_failures("reading the metadata of", table.table_uri):
        metadata = table.metadata()
        fields = tuple(json.loads(table.schema().to_json())["fields"])
    return TableMetadata(
        id=str(metadata.id),
        name=metadata.name,
        description=metadata.description,
        fields=fields,
        partition_columns=tuple(metadata.partition_columns),
        configuration=metadata.configuration,
        created_ms=metadata.created_time,
    )


def read_blocks(table: DeltaTable, known: Mapping[str, Block]) -> dict[str, Block]:
    """The blocks of the table by path, in the order of paths; those in `known` are taken from there, as a path is used once."""
    with _delta_failures("reading the files of", table.table_uri):
        files = pa.table(table.get_add_actions(flatten=True))
    paths: list[str] = files.column("path").to_pylist()
    fresh = [row for row, path in enumerate(paths) if path not in known]
    live = {path: known[path] for path in paths if path in known}
    for row in files.take(pa.array(fresh, pa.int64())).to_pylist() if fresh else ():
        live[row["path"]] = _block(row, table.table_uri)
    return dict(sorted(live.items()))


def write_checkpoint(table: DeltaTable, store: ObjectStore, tenant: str) -> None:
    """Write a checkpoint of the table's version and remove the log entries that are older than their retention."""
    with _delta_failures("writing a checkpoint of", table.table_uri):
        table.create_checkpoint()
    # Before entries go that only the checkpoint replaces: the library does not sync what it writes to a local disk.
    _sync_checkpoint(store, f"{table_prefix(tenant)}/{LOG_DIRECTORY}", table.version())
    with _delta_failures("cleaning the log of", table.table_uri):
        table.cleanup_metadata()


def _sync_checkpoint(store: ObjectStore, log: str, version: int) -> None:
    for name in (f"{version:020d}.checkpoint.parquet", "_last_checkpoint"):
        path = store.local_path(f"{log}/{name}")
        if path is None:
            return
        for synced in (path, path.parent):
            descriptor = os.open(synced, os.O_RDONLY)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)


def _remove_broken_checkpoints(store: ObjectStore, tenant: str) -> int:
    """Remove checkpoints that a power cut before `_sync_checkpoint` has truncated; returns how many. The entries since the one before
    are still there."""
    log = f"{table_prefix(tenant)}/{LOG_DIRECTORY}"
    checkpoints = [info for info in store.list(log) if CHECKPOINT_KEY.fullmatch(info.key)]
    ends = (store.get_range(info.key, max(info.size_bytes - 4, 0), min(info.size_bytes, 4)) for info in checkpoints)
    broken = [info.key for info, end in zip(checkpoints, ends, strict=True) if end != b"PAR1"]
    if broken:
        store.delete([f"{log}/_last_checkpoint", *broken])
    return len(broken)


def _block(row: Mapping[str, Any], table_uri: str) -> Block:
    missing = [name for name in _BLOCK_NUMBERS if row.get(name) is None]
    if missing:
        # Only another program writes such entries. Guessing would lose spans from answers without a word.
        raise CorruptData(f"file {row['path']} of table {table_uri} has no {missing[0]} in the log; remove it from the table")
    return Block(
        path=row["path"],
        size_bytes=row["size_bytes"],
        rows=row["num_records"],
        day=row.get("partition.day"),
        start_min_ns=row["min.start_ns"],
        start_max_ns=row["max.start_ns"],
        trace_start_min_ns=row["min.trace_start_ns"],
        trace_end_max_ns=row["max.trace_start_ns"] + row["max.trace_duration_ns"],
        created_ms=row["modification_time"],
    )


_BLOCK_NUMBERS = (
    "size_bytes",
    "num_records",
    "modification_time",
    "min.start_ns",
    "max.start_ns",
    "min.trace_start_ns",
    "max.trace_start_ns",
    "max.trace_duration_ns",
)


@contextmanager
def _delta_failures(doing: str, place: str) -> Iterator[None]:
    """The library's exceptions become StoreError. It raises bare Exception and OSError too, and does not tell what is transient."""
    try:
        yield
    except StoreError:
        raise
    except (DeltaError, OSError, Exception) as error:
        cause = " ".join(str(error).split())[:400]
        raise StoreError(f"{doing} table {place} failed: {cause}", transient=True) from error

"""One entry of the Delta log: what a commit writes, as a pure function from the table's state and the wanted change to bytes.

Entries follow the Delta transaction protocol (https://github.com/delta-io/delta/blob/master/PROTOCOL.md), reader version 1 and writer
version 2, the lowest that have what the table needs. Why they are written here and not by the `deltalake` library, which reads them, is
told in docs/formats/catalog.md.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

from spanlake.blocks.catalog.snapshot import Block, NewBlock, is_path_of_day
from spanlake.model.errors import ColumnConflict, CommitConflict
from spanlake.model.schema import (
    ATTRIBUTE_COLUMN_TYPES,
    DAY_COLUMN,
    SPAN_COLUMNS,
    STATISTICS_COLUMNS,
    ColumnType,
    ListOf,
    Primitive,
    column_attribute,
    column_fold,
)

Action: TypeAlias = dict[str, Any]

READER_VERSION = 1
WRITER_VERSION = 2

CHECKPOINT_INTERVAL = 20
LOG_RETENTION_DAYS = 1
TOMBSTONE_RETENTION_DAYS = 2
CONFIGURATION: Mapping[str, str] = {
    "delta.checkpointInterval": str(CHECKPOINT_INTERVAL),
    "delta.dataSkippingStatsColumns": ",".join(STATISTICS_COLUMNS),
    "delta.logRetentionDuration": f"interval {LOG_RETENTION_DAYS} days",
    "delta.deletedFileRetentionDuration": f"interval {TOMBSTONE_RETENTION_DAYS} days",
    # delta.setTransactionRetentionDuration stays unset: a writer that comes back after months must still find its version.
}


@dataclass(frozen=True, slots=True)
class Change:
    """What one commit shall do. `writer` is the id and the new version of whoever must not commit the same twice."""

    add: tuple[NewBlock, ...]
    remove: tuple[Block, ...]
    columns: Mapping[str, ColumnType]
    writer: tuple[str, int] | None
    reason: str


@dataclass(frozen=True, slots=True)
class TableMetadata:
    """The table's description in the log: the members of Delta's metaData action, the schema parsed."""

    id: str
    name: str | None
    description: str | None
    fields: tuple[Action, ...]
    partition_columns: tuple[str, ...]
    configuration: Mapping[str, str]
    created_ms: int | None


def check_change(change: Change) -> None:
    """Assert what every caller must have seen to."""
    assert change.add or change.remove, "an empty commit"
    paths = [block.path for block in change.add] + [block.path for block in change.remove]
    assert len(set(paths)) == len(paths), "a path twice"
    for block in change.add:
        assert is_path_of_day(block.path, block.day), block
        assert block.rows > 0, block
        assert block.start_min_ns <= block.start_max_ns, block
        assert block.trace_start_min_ns <= block.trace_start_max_ns, block
    for name in change.columns:
        assert column_attribute(name), name


def encode_entry(change: Change, *, version: int, metadata: TableMetadata | None, tenant: str, now_ms: int) -> bytes:
    """The log entry that makes `change` to the table at `version`, whose metadata is given; None with version -1 creates the table.

    Raises ColumnConflict if the table cannot have the columns. That removed blocks are in the table is for the caller to check.
    """
    before = metadata or _new_metadata(tenant, now_ms)
    missing = missing_columns(before, change.columns)
    after = replace(
        before, fields=before.fields + tuple(_delta_field(name, ATTRIBUTE_COLUMN_TYPES[kind], "") for name, kind in missing.items())
    )
    data_change = not is_rearrangement(change)
    actions: list[Action] = [{"commitInfo": _commit_info(change, version, now_ms)}]
    if metadata is None:
        actions.append({"protocol": {"minReaderVersion": READER_VERSION, "minWriterVersion": WRITER_VERSION}})
    if metadata is None or missing:
        actions.append({"metaData": _metadata_action(after)})
    if change.writer:
        app_id, app_version = change.writer
        actions.append({"txn": {"appId": app_id, "version": app_version, "lastUpdated": now_ms}})
    actions += [{"remove": _remove_action(block, data_change, now_ms)} for block in change.remove]
    actions += [{"add": _add_action(block, data_change)} for block in change.add]
    return "".join(json.dumps(action, separators=(",", ":")) + "\n" for action in actions).encode()


def is_rearrangement(change: Change) -> bool:
    """Whether the change leaves the rows as they were: followers of the table skip such commits."""
    return bool(change.add and change.remove) and change.reason == "compact"


def missing_columns(metadata: TableMetadata, columns: Mapping[str, ColumnType]) -> dict[str, ColumnType]:
    """Those of `columns` that the table lacks. ColumnConflict if it has one with another type or another spelling."""
    types = {field["name"]: field["type"] for field in metadata.fields}
    spellings = {column_fold(name): name for name in types}
    missing: dict[str, ColumnType] = {}
    for name, kind in columns.items():
        spelling = spellings.setdefault(column_fold(name), name)
        if spelling != name:
            raise ColumnConflict(
                f"table {metadata.name!r} has column {spelling!r}: keep the values of {name!r} out of columns", column=name
            )
        if name not in types:
            missing[name] = kind
        elif types[name] != ATTRIBUTE_COLUMN_TYPES[kind]:
            wanted = ATTRIBUTE_COLUMN_TYPES[kind]
            text = f"column {name!r} of table {metadata.name!r} has type {types[name]}, not {wanted}: keep values of other types out of it"
            raise ColumnConflict(text, column=name)
    return missing


def check_removed(change: Change, live: Mapping[str, Block]) -> None:
    """CommitConflict if a block to be removed is no longer in the table."""
    gone = [block.path for block in change.remove if block.path not in live]
    if gone:
        raise CommitConflict(f"{len(gone)} of {len(change.remove)} blocks to remove were removed by another commit, the first is {gone[0]}")


def _new_metadata(tenant: str, now_ms: int) -> TableMetadata:
    fields = tuple(_delta_field(column.name, column.type, column.meaning) for column in (*SPAN_COLUMNS, DAY_COLUMN))
    return TableMetadata(
        id=str(uuid.uuid4()),
        name=tenant,
        description="Spans, one per row, written by spanlake",
        fields=fields,
        partition_columns=(DAY_COLUMN.name,),
        configuration=CONFIGURATION,
        created_ms=now_ms,
    )


def _metadata_action(metadata: TableMetadata) -> Action:
    return {
        "id": metadata.id,
        "name": metadata.name,
        "description": metadata.description,
        "format": {"provider": "parquet", "options": {}},
        "schemaString": json.dumps({"type": "struct", "fields": metadata.fields}, separators=(",", ":")),
        "partitionColumns": metadata.partition_columns,
        "configuration": dict(metadata.configuration),
        "createdTime": metadata.created_ms,
    }


def _delta_field(name: str, kind: Primitive | ListOf, meaning: str) -> Action:
    return {"name": name, "type": _delta_type(kind), "nullable": True, "metadata": {"comment": meaning} if meaning else {}}


def _delta_type(kind: Primitive | ListOf) -> str | Action:
    if not isinstance(kind, ListOf):
        return kind
    fields = [_delta_field(field.name, field.type, field.meaning) for field in kind.fields]
    return {"type": "array", "elementType": {"type": "struct", "fields": fields}, "containsNull": True}


def _commit_info(change: Change, version: int, now_ms: int) -> Action:
    operation = "OPTIMIZE" if is_rearrangement(change) else "WRITE" if change.add else "DELETE"
    info: Action = {
        "timestamp": now_ms,
        "operation": operation,
        "operationParameters": {"mode": "Append"} if operation == "WRITE" else {},
        "isBlindAppend": not change.remove,
        "engineInfo": "spanlake",
        "spanlake.reason": change.reason,
    }
    return info if version < 0 else info | {"readVersion": version}


def _add_action(block: NewBlock, data_change: bool) -> Action:
    statistics = {
        "numRecords": block.rows,
        "minValues": {"start_ns": block.start_min_ns, "trace_start_ns": block.trace_start_min_ns},
        "maxValues": {
            "start_ns": block.start_max_ns,
            "trace_start_ns": block.trace_start_max_ns,
            "trace_duration_ns": block.trace_duration_max_ns,
        },
        "nullCount": dict.fromkeys(STATISTICS_COLUMNS, 0),
    }
    return {
        "path": block.path,
        "partitionValues": {DAY_COLUMN.name: block.day.isoformat() if block.day else None},
        "size": block.size_bytes,
        "modificationTime": block.created_ms,
        "dataChange": data_change,
        "stats": json.dumps(statistics, separators=(",", ":")),
    }


def _remove_action(block: Block, data_change: bool, now_ms: int) -> Action:
    return {
        "path": block.path,
        "deletionTimestamp": now_ms,
        "dataChange": data_change,
        "extendedFileMetadata": True,
        "partitionValues": {DAY_COLUMN.name: block.day.isoformat() if block.day else None},
        "size": block.size_bytes,
    }

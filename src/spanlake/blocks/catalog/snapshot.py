"""What the catalog takes and gives: blocks as a writer announces them, blocks as a reader sees them, and the table at one version."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date
from types import MappingProxyType

from spanlake.model.schema import ColumnType

# Polars takes the partition value from the path and not from the log, so paths follow Hive, null included.
_NO_DAY = "__HIVE_DEFAULT_PARTITION__"
# Nothing that the Delta log would percent-encode.
_BLOCK_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,99}")
_BLOCK_PATH = re.compile(rf"day=(?:\d{{4}}-\d\d-\d\d|{_NO_DAY})/{_BLOCK_ID.pattern}\.parquet")


@dataclass(frozen=True, slots=True)
class NewBlock:
    """A file that is in the store and shall become part of the table.

    `path` is `block_path(day, …)`, never used before. The least and greatest values are exact, over all rows, of which there is at
    least one. `created_ms` (milliseconds since the epoch) is not later than the end of the upload.
    """

    path: str
    size_bytes: int
    rows: int
    day: date | None
    start_min_ns: int
    start_max_ns: int
    trace_start_min_ns: int
    trace_start_max_ns: int
    trace_duration_max_ns: int
    created_ms: int


@dataclass(frozen=True, slots=True)
class Block:
    """A file of the table. `path` is relative to the table (`block_key` gives the key in the store).

    All spans of the block start in [`start_min_ns`, `start_max_ns`]; all its traces lie within [`trace_start_min_ns`,
    `trace_end_max_ns`], of which only the first is exact. `day` is None for a block of several days.
    """

    path: str
    size_bytes: int
    rows: int
    day: date | None
    start_min_ns: int
    start_max_ns: int
    trace_start_min_ns: int
    trace_end_max_ns: int
    created_ms: int


@dataclass(frozen=True, slots=True)
class TableSnapshot:
    """A tenant's table at one version: the blocks, ordered by path, and every attribute column that any block may have.

    Version -1 is the table that does not exist yet. Blocks of a snapshot stay readable for the grace of dead files after a newer
    version has dropped them.
    """

    tenant: str
    version: int = -1
    blocks: tuple[Block, ...] = ()
    columns: Mapping[str, ColumnType] = field(default_factory=lambda: MappingProxyType({}))


def block_path(day: date | None, block_id: str) -> str:
    """Where a block of that day goes, relative to the table. `block_id`: 1 to 100 of `A-Za-z0-9_.-`, first a letter or digit."""
    assert _BLOCK_ID.fullmatch(block_id), block_id
    return f"day={day.isoformat() if day else _NO_DAY}/{block_id}.parquet"


def is_block_path(path: str) -> bool:
    """Whether `block_path` could have made it."""
    return bool(_BLOCK_PATH.fullmatch(path))


def is_path_of_day(path: str, day: date | None) -> bool:
    return is_block_path(path) and path.startswith(f"day={day.isoformat() if day else _NO_DAY}/")

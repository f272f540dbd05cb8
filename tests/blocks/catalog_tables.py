"""What the tests of the catalog share: a clock that stands, tiny block files, and commits in one line."""

from __future__ import annotations

import io
import json
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import date
from itertools import count
from pathlib import Path
from typing import Any, TypeVar

import pyarrow as pa
import pyarrow.parquet as pq

from spanlake.blocks.catalog import Block, Catalog, NewBlock, TableSnapshot, block_key, block_path
from spanlake.blocks.schema import file_schema
from spanlake.model.schema import ColumnType
from spanlake.model.settings import StoreSettings
from spanlake.objectstore.opening import open_store
from spanlake.objectstore.store import ObjectStore

A = TypeVar("A")
T = TypeVar("T")

DAY = date(2026, 9, 21)
START_NS = 1_789_948_800_000_000_000
SETTINGS = StoreSettings()
_IDS = count()


class Clock:
    """Stands still until told. Starts now, because the Delta library looks at the system's clock to drop old tombstones."""

    def __init__(self) -> None:
        self.now_ns = time.time_ns()

    def __call__(self) -> int:
        return self.now_ns

    def advance(self, seconds: float) -> None:
        self.now_ns += round(seconds * 1e9)

    @property
    def now_ms(self) -> int:
        return self.now_ns // 1_000_000


class Tables:
    """A store with one catalog, and shorthands for it."""

    def __init__(self, data: str | Path, wrap: Callable[[ObjectStore], ObjectStore] = lambda store: store) -> None:
        self.data = str(data)
        self.clock = Clock()
        self.store = open_store(self.data)
        self.catalog = Catalog(wrap(self.store), SETTINGS, clock_ns=self.clock)

    def other(self, wrap: Callable[[ObjectStore], ObjectStore] = lambda store: store) -> Catalog:
        """Another catalog on the same store, as another process would have."""
        return Catalog(wrap(open_store(self.data)), SETTINGS, clock_ns=self.clock)

    def upload(
        self, *, tenant: str = "t", rows: int = 2, day: date | None = DAY, columns: Mapping[str, ColumnType] | None = None
    ) -> NewBlock:
        """A block file in the store, not committed."""
        data = tiny_file(rows, columns or {})
        path = block_path(day, f"b{next(_IDS):04}")
        self.store.put(block_key(tenant, path), data)
        return new_block(path, day=day, rows=rows, size_bytes=len(data), created_ms=self.clock.now_ms)

    def flush(
        self, catalog: Catalog | None = None, *, tenant: str = "t", writer: tuple[str, int] | None = None, **uploaded: Any
    ) -> TableSnapshot:
        """Upload a block and commit it."""
        block = self.upload(tenant=tenant, **uploaded)
        return commit(catalog or self.catalog, [block], tenant=tenant, columns=uploaded.get("columns"), writer=writer)

    def log(self, version: int, *, tenant: str = "t") -> list[dict[str, Any]]:
        """The actions of a log entry."""
        data = self.store.get(f"tables/{tenant}/_delta_log/{version:020d}.json")
        return [json.loads(line) for line in data.splitlines()]

    def files(self, tenant: str = "t") -> set[str]:
        """The block files that are in the store, as paths relative to the table."""
        prefix = f"tables/{tenant}/"
        keys = (info.key.removeprefix(prefix) for info in self.store.list(prefix))
        return {key for key in keys if not key.startswith("_delta_log/")}


def commit(
    catalog: Catalog,
    add: Sequence[NewBlock] = (),
    remove: Sequence[Block] = (),
    *,
    tenant: str = "t",
    columns: Mapping[str, ColumnType] | None = None,
    writer: tuple[str, int] | None = None,
) -> TableSnapshot:
    reason = "compact" if add and remove else "flush" if add else "expire"
    return catalog.commit(tenant, add=add, remove=remove, columns=columns or {}, writer=writer, reason=reason)


def new_block(path: str, *, day: date | None = DAY, rows: int = 2, size_bytes: int = 100, created_ms: int) -> NewBlock:
    return NewBlock(
        path=path,
        size_bytes=size_bytes,
        rows=rows,
        day=day,
        start_min_ns=START_NS,
        start_max_ns=START_NS + rows - 1,
        trace_start_min_ns=START_NS,
        trace_start_max_ns=START_NS,
        trace_duration_max_ns=1000,
        created_ms=created_ms,
    )


def tiny_file(rows: int, columns: Mapping[str, ColumnType]) -> bytes:
    """A Parquet file with the schema of blocks; `start_ns` counts up from START_NS, attribute columns hold the row number as text etc."""
    schema = file_schema(columns)
    table = pa.Table.from_pylist([_row(number, schema, columns) for number in range(rows)], schema=schema)
    out = io.BytesIO()
    pq.write_table(table, out)
    return out.getvalue()


def _row(number: int, schema: pa.Schema, columns: Mapping[str, ColumnType]) -> dict[str, Any]:
    samples = {"string": str(number), "int": number, "double": number / 2, "bool": number % 2 == 0}
    attribute = {"key": "k", "type": 1, "string_value": "v"}
    row = {field.name: _plain(field) for field in schema}
    row |= {"start_ns": START_NS + number, "trace_start_ns": START_NS, "trace_duration_ns": 1000}
    row |= {"attributes": [{"scope": "span", **attribute}], "links": []}
    row |= {"events": [{"time_ns": 1, "name": "e", "dropped_attributes": 0, "attributes": [attribute]}]}
    return row | {name: samples[kind] for name, kind in columns.items()}


def _plain(field: pa.Field) -> Any:
    if field.nullable:
        return None
    return "" if pa.types.is_string(field.type) else b"" if pa.types.is_binary(field.type) else 0


def in_threads(call: Callable[[A], T], arguments: Sequence[A]) -> list[T | Exception]:
    """Make all calls at once, each in its thread; what each returned or raised, in the order of the arguments."""
    barrier = threading.Barrier(len(arguments))

    def run(argument: A) -> T | Exception:
        barrier.wait()
        try:
            return call(argument)
        except Exception as error:  # noqa: BLE001 - the test looks at it
            return error

    with ThreadPoolExecutor(len(arguments)) as threads:
        return list(threads.map(run, arguments))


def names(results: Sequence[object]) -> list[str]:
    """The types of the results, in order of name."""
    return sorted(type(result).__name__ for result in results)

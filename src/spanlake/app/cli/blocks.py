"""`spanlake blocks`: the blocks of the table, read from the store itself, with or without a server."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from spanlake.app.cli.options import add_settings_options, settings_from

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.table import Table

    from spanlake.blocks.catalog import Block, Catalog, TableSnapshot
    from spanlake.model.settings import Settings
    from spanlake.objectstore.store import ObjectStore

PIPED_COLUMNS = 200  # width of the table where the output is no terminal
UNITS = ("B", "kB", "MB", "GB", "TB")


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Declare the command."""
    text = "list the blocks of the span table"
    parser = subparsers.add_parser("blocks", help=text, description=f"{text[0].upper()}{text[1:]}. Reads the store; needs no server.")
    parser.add_argument("--tenant", metavar="NAME", help="only this tenant (default: all)")
    parser.add_argument("--json", action="store_true", help="print JSON: one object per block, and the totals")
    add_settings_options(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Print the blocks; 0, or 1 if a footer cannot be read. Raises ConfigError, NotFound, StoreError."""
    store, _, snapshots = open_tables(settings_from(args).settings, args.tenant)
    rows = [_described(store, snapshot, block) for snapshot in snapshots for block in _by_time(snapshot.blocks)]
    totals = _totals(rows)
    if args.json:
        import orjson

        print(orjson.dumps({"blocks": rows, "total": totals}, option=orjson.OPT_INDENT_2).decode())
    else:
        _print(rows, totals, tenants=len(snapshots))
    return 1 if any("error" in row for row in rows) else 0


def open_tables(settings: Settings, tenant: str | None) -> tuple[ObjectStore, Catalog, list[TableSnapshot]]:
    """The store, its catalog, and the tables of one tenant or of all. ConfigError if there is no store, NotFound if there is no table."""
    from pathlib import Path
    from urllib.parse import unquote

    from spanlake.blocks.catalog import Catalog
    from spanlake.model.errors import ConfigError, NotFound
    from spanlake.model.tenancy.names import check_tenant
    from spanlake.objectstore.opening import open_store

    path = unquote(settings.data.removeprefix("file://")) if settings.data.startswith("file://") else settings.data
    if "://" not in path and not Path(path).expanduser().is_dir():
        # Opening a store makes its directory, which is right for a server and wrong for a typing error here.
        raise ConfigError(f"data: there is no directory {path!r}; name the store with --data")
    store = open_store(settings.data, settings.store)
    catalog = Catalog(store, settings.store)
    if tenant is None:
        return store, catalog, [catalog.refresh(name) for name in catalog.tenants()]
    snapshot = catalog.refresh(check_tenant(tenant))
    if snapshot.version < 0:
        known = ", ".join(catalog.tenants()) or "none"
        raise NotFound(f"tenant {tenant!r} has no table in {store.url}; tenants there: {known}")
    return store, catalog, [snapshot]


def _by_time(blocks: Sequence[Block]) -> list[Block]:
    return sorted(blocks, key=lambda block: (block.trace_start_min_ns, block.path))


def _described(store: ObjectStore, snapshot: TableSnapshot, block: Block) -> dict[str, Any]:
    """A block as a JSON object. What only its footer tells is missing if that cannot be read; then `error` says why."""
    from spanlake.blocks.catalog import block_key
    from spanlake.blocks.file.reader import read_footer
    from spanlake.model.errors import CorruptData, KeyMissing
    from spanlake.model.schema import column_attribute

    row: dict[str, Any] = {
        "tenant": snapshot.tenant,
        "path": block.path,
        "day": block.day,
        "rows": block.rows,
        "bytes": block.size_bytes,
        "bytes_per_span": round(block.size_bytes / max(block.rows, 1), 2),
        "trace_start_min_ns": block.trace_start_min_ns,
        "trace_end_max_ns": block.trace_end_max_ns,
        "created_ms": block.created_ms,
    }
    try:
        footer = read_footer(store, block_key(snapshot.tenant, block.path), block.size_bytes)
    except (CorruptData, KeyMissing) as failure:
        return row | {"error": str(failure)}
    names = footer.metadata.schema.to_arrow_schema().names
    return row | {
        "row_groups": footer.metadata.num_row_groups,
        "attribute_columns": sum(column_attribute(name) is not None for name in names),
        "traces": footer.info.traces,
        "trace_end_max_ns": footer.info.trace_end_max_ns,
    }


def _totals(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    spans, size = sum(row["rows"] for row in rows), sum(row["bytes"] for row in rows)
    counted = {name: sum(row.get(name, 0) for row in rows) for name in ("row_groups", "traces")}
    return {"blocks": len(rows), "rows": spans, "bytes": size, "bytes_per_span": round(size / spans, 2) if spans else 0, **counted}


def _print(rows: Sequence[dict[str, Any]], totals: dict[str, Any], *, tenants: int) -> None:
    import sys

    from rich.console import Console

    console = Console(highlight=False)
    if not console.is_terminal:
        console = Console(highlight=False, width=PIPED_COLUMNS)
    if rows:
        console.print(_table(rows, with_tenant=tenants > 1))
    for row in rows:
        if "error" in row:
            print(f"spanlake: {row['error']}", file=sys.stderr)
    counts = ", ".join(count_text(totals[name], word) for name, word in (("blocks", "block"), ("rows", "span"), ("traces", "trace")))
    print(f"{counts}, {size_text(totals['bytes'])}, {totals['bytes_per_span']:.1f} B/span" if rows else "no blocks")


def _table(rows: Sequence[dict[str, Any]], *, with_tenant: bool) -> Table:
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in (*(["tenant"] if with_tenant else []), "day", "spans", "size", "B/span", "groups", "columns", "traces"):
        table.add_column(name, justify="left" if name in {"tenant", "day"} else "right", no_wrap=True)
    for name in ("traces from", "to", "created", "file"):
        table.add_column(name, overflow="fold", no_wrap=name != "file")
    for row in rows:
        counts = (f"{row[name]:,}" if name in row else "?" for name in ("row_groups", "attribute_columns", "traces"))
        table.add_row(
            *([row["tenant"]] if with_tenant else []),
            str(row["day"] or "several"),
            f"{row['rows']:,}",
            size_text(row["bytes"]),
            f"{row['bytes_per_span']:.1f}",
            *counts,
            time_text(row["trace_start_min_ns"]),
            time_text(row["trace_end_max_ns"]),
            time_text(row["created_ms"] * 1_000_000),
            row["path"].rpartition("/")[2],
        )
    return table


def count_text(count: int, word: str) -> str:
    """A number of things: `1 block`, `2,000 blocks`."""
    return f"{count:,} {word}{'' if count == 1 else 's'}"


def size_text(size: float) -> str:
    """A number of bytes with three digits or so: `43.2 MB`."""
    unit = 0
    while size >= 1000 and unit + 1 < len(UNITS):
        size /= 1000
        unit += 1
    return f"{size:.0f} B" if unit == 0 else f"{size:.{1 if size < 100 else 0}f} {UNITS[unit]}"


def time_text(time_ns: int) -> str:
    """UTC to the second; the number itself if it is in no year that Python knows."""
    from datetime import UTC, datetime, timedelta

    try:
        return f"{datetime(1970, 1, 1, tzinfo=UTC) + timedelta(seconds=time_ns // 1_000_000_000):%Y-%m-%d %H:%M:%S}"
    except OverflowError:
        return str(time_ns)

"""`spanlake check`: verify every block of the table, read from the store itself, with or without a server."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from spanlake.app.cli.blocks import count_text, open_tables
from spanlake.app.cli.options import add_settings_options, settings_from

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from spanlake.blocks.catalog import Catalog, TableSnapshot
    from spanlake.blocks.check import Finding
    from spanlake.objectstore.store import ObjectStore


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Declare the command."""
    parser = subparsers.add_parser(
        "check",
        help="verify every block of the span table",
        description="Verify every block of the span table: checksums, order of rows, trees, statistics, filters, and that the files "
        "are those of the log. Reads everything and changes nothing; needs no server. Exits with 1 if something is wrong.",
    )
    parser.add_argument("--tenant", metavar="NAME", help="only this tenant (default: all)")
    add_settings_options(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Print what is wrong; 0 if nothing is, else 1. Raises ConfigError, NotFound, StoreError."""
    from rich.console import Console
    from rich.progress import Progress

    store, catalog, snapshots = open_tables(settings_from(args).settings, args.tenant)
    blocks, spans = (sum(len(table.blocks) for table in snapshots), sum(block.rows for table in snapshots for block in table.blocks))
    problems = 0
    with Progress(console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("spans", total=spans)
        for snapshot in snapshots:
            for finding in findings_of(store, catalog, snapshot, on_rows=lambda rows: progress.advance(task, rows)):
                problems += 1
                progress.stop()
                print(f"{finding.place}\n  {finding.problem}\n  → {finding.remedy}", flush=True)
                progress.start()
    print(f"{count_text(blocks, 'block')}, {count_text(spans, 'span')}: {count_text(problems, 'problem') if problems else 'nothing wrong'}")
    return 1 if problems else 0


def findings_of(store: ObjectStore, catalog: Catalog, snapshot: TableSnapshot, *, on_rows: Callable[[int], None]) -> Iterator[Finding]:
    """What is wrong with a tenant's table. Blocks whose file is missing or has another size are not looked into.

    What a server has replaced in the meantime may be gone, and is not wrong.
    """
    from spanlake.blocks.catalog import block_key
    from spanlake.blocks.check import DEAD_SECONDS, check_block, check_files

    def live_keys() -> set[str]:
        table = catalog.refresh(snapshot.tenant)
        return {block_key(table.tenant, block.path) for block in table.blocks}

    blocks = {block_key(snapshot.tenant, block.path): block for block in snapshot.blocks}
    findings = list(check_files(store, snapshot, catalog.dead_files(snapshot.tenant, grace_seconds=DEAD_SECONDS)))
    yield from (finding for finding in findings if finding.place not in blocks or finding.place in live_keys())
    for key in sorted(blocks.keys() - {finding.place for finding in findings}):
        findings = list(check_block(store, snapshot, blocks[key], on_rows=on_rows))
        if findings and key in live_keys():
            yield from findings

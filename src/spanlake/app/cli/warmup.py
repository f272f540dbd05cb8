"""`spanlake warmup`: compile the kernels ahead of the first start, for images."""

from __future__ import annotations

import argparse


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Declare the command."""
    text = "compile all kernels into the on-disk cache, so that the first start is as quick as any"
    description = f"{text}. The cache is below $SPANLAKE_KERNEL_CACHE, else $XDG_CACHE_HOME, else ~/.cache."
    parser = subparsers.add_parser("warmup", help=text, description=description)
    parser.set_defaults(run=run)


def run(_args: argparse.Namespace) -> int:
    """Compile and say where the cache is; 0."""
    from rich.console import Console

    console = Console(stderr=True)
    with console.status("compiling kernels (about 20 seconds the first time)"):
        from spanlake.app.warmup import warm_kernels
        from spanlake.model.kernel import cache_directory

        warm_kernels()
    print(f"kernels are compiled in {cache_directory()}")
    return 0

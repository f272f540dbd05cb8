"""`spanlake serve`: the server."""

from __future__ import annotations

import argparse

from spanlake.app.cli.options import add_settings_options, settings_from


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Declare the command."""
    text = "run the server: take spans, keep them, answer queries"
    parser = subparsers.add_parser("serve", help=text, description=text)
    add_settings_options(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Serve until SIGTERM or SIGINT; 0."""
    from spanlake.app.memory import keep_freed_memory

    keep_freed_memory()
    loaded = settings_from(args)
    from spanlake.app.assemble import build_system
    from spanlake.app.config_text import effective
    from spanlake.app.interpreter import favour_short_work
    from spanlake.app.logs import configure_logging
    from spanlake.server.listeners import Listeners, Ports, serve_until_signal

    settings = loaded.settings
    configure_logging(settings.log)
    system = build_system(settings, effective(loaded))

    def on_ready(ports: Ports) -> None:
        host, http = settings.server.host, "https" if settings.tls.certificate_file else "http"
        print(f"spanlake keeps its data in {settings.data}", flush=True)
        print(f"  send spans   OTLP/gRPC  {host}:{ports.otlp_grpc}", flush=True)
        print(f"               OTLP/HTTP  {http}://{host}:{ports.otlp_http}/v1/traces", flush=True)
        print(f"  ask          curl {http}://{host}:{ports.http}/api/traces/<trace id>   or   spanlake trace <trace id>", flush=True)
        print(f"               gRPC (tempopb.StreamingQuerier)  {host}:{ports.grpc}  and  {host}:{ports.http}", flush=True)
        print(f"  look         {http}://{host}:{ports.http}/ready  /metrics  /status/config", flush=True)
        favour_short_work()
        system.start()

    try:
        serve_until_signal(Listeners(system.core, settings.server, settings.query), on_ready)
    finally:
        system.stop(flush=True)
    return 0

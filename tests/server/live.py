"""A whole server in this process, on real sockets: what it is pushed is stored, what it is asked is looked for."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from serving import FREE_PORTS, Reply, listening, send

from spanlake.app.assemble import System, build_system
from spanlake.model.settings import CompactionSettings, Settings
from spanlake.server.listeners import Listeners, Ports


@dataclass
class Live:
    """A running server with its parts."""

    system: System
    ports: Ports

    def push(self, payload: bytes, **headers: str) -> None:
        """An OTLP export request in protobuf, which must be taken."""
        sent = {"content-type": "application/x-protobuf", **{name.replace("_", "-"): value for name, value in headers.items()}}
        reply = send(self.ports.otlp_http, "POST", "/v1/traces", payload, sent)
        assert reply.status == 200, reply

    def get(self, path: str, parameters: dict[str, Any] | None = None, **headers: str) -> Reply:
        """One request to the query port; underscores in header names stand for hyphens."""
        return send(self.ports.http, "GET", f"{path}?{urlencode(parameters)}" if parameters else path, None, headers)


@contextmanager
def live_server(directory: Path, base: Settings | None = None, **server: Any) -> Iterator[Live]:
    """Run a server with its data in the directory, ready, without compaction."""
    settings = replace(
        base or Settings(),
        data=str(directory / "data"),
        server=replace(FREE_PORTS, **server),
        compaction=CompactionSettings(enabled=False),
    )
    system = build_system(settings, "")
    try:
        with listening(Listeners(system.core, settings.server, settings.query)) as ports:
            system.start()
            system.wait_until_ready()
            assert system.readiness() == ""
            yield Live(system, ports)
    finally:
        system.stop(flush=False)

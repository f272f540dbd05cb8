"""Starting and stopping all listeners together."""

from __future__ import annotations

import asyncio
import signal
import socket
import subprocess
import sys
import textwrap
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry
from serving import FREE_PORTS, WAIT_SECONDS, FixedHealth, RecordingReader, RecordingReceiver, eventually, recording_queries, serving

from spanlake.model.errors import ConfigError
from spanlake.model.settings import QuerySettings
from spanlake.server.listeners import Core, Listeners
from spanlake.server.transport.sockets import bind

pytestmark = pytest.mark.slow


def listeners_with(**settings: int) -> Listeners:
    core = Core(RecordingReceiver(), RecordingReader(), FixedHealth(), CollectorRegistry(), recording_queries())
    return Listeners(core, replace(FREE_PORTS, **settings), QuerySettings())  # type: ignore[arg-type]


@pytest.mark.parametrize("setting", ["http_port", "grpc_port", "otlp_http_port", "otlp_grpc_port"])
def test_start_names_the_setting_and_binds_nothing_when_a_port_is_taken(setting: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken, socket.create_server(("127.0.0.1", 0)) as free:
        port, free_port = taken.getsockname()[1], free.getsockname()[1]
        free.close()
        others = {name: free_port for name in ("http_port", "otlp_http_port") if name != setting}
        chosen = {setting: port, **dict(list(others.items())[:1])}
        with pytest.raises(ConfigError, match=rf"cannot listen on 127\.0\.0\.1:{port} \(server\.{setting}\): Address already in use"):
            asyncio.run(listeners_with(**chosen).start())
        socket.create_server(("127.0.0.1", free_port)).close()


def test_start_serves_ipv6_when_the_host_is_an_ipv6_address() -> None:
    with serving(host="::1") as served, socket.create_connection(("::1", served.ports.http), WAIT_SECONDS) as connection:
        connection.sendall(b"GET /api/echo HTTP/1.0\r\n\r\n")
        assert connection.recv(15) == b"HTTP/1.1 200 OK"


def test_answers_are_sent_at_once_when_connections_are_accepted() -> None:
    async def accept() -> int:
        accepted: asyncio.Future[int] = asyncio.get_running_loop().create_future()

        def connected(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            accepted.set_result(writer.get_extra_info("socket").getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))
            writer.close()

        with bind("127.0.0.1", 0, "http_port") as listening, socket.socket() as client:
            server = await asyncio.start_server(connected, sock=listening)
            client.connect(listening.getsockname())
            no_delay = await accepted
            server.close()
            await server.wait_closed()
        return no_delay

    assert asyncio.run(accept()) != 0


def test_stop_lets_a_push_finish_when_one_is_in_flight() -> None:
    with ThreadPoolExecutor(1) as pool:
        with serving() as served:
            served.receiver.gate.clear()
            push = pool.submit(served.push, b"\x0a\x00", content_type="application/x-protobuf")
            assert served.receiver.entered.acquire(timeout=WAIT_SECONDS)
            # Leaving the context opens the gate and stops the server: the push was there first.
        assert push.result(WAIT_SECONDS).status == 200
    with pytest.raises(OSError, match="refused"):
        socket.create_connection(("127.0.0.1", served.ports.otlp_http), WAIT_SECONDS)


def test_stop_drops_a_push_when_it_does_not_finish_in_time() -> None:
    receiver = RecordingReceiver()
    receiver.gate.clear()
    core = Core(receiver, RecordingReader(), FixedHealth(), CollectorRegistry(), recording_queries())
    listeners = Listeners(core, replace(FREE_PORTS, drain_seconds=0), QuerySettings())

    async def start_push_stop() -> bytes:
        ports = await listeners.start()
        reader, writer = await asyncio.open_connection("127.0.0.1", ports.otlp_http)
        writer.write(b"POST /v1/traces HTTP/1.1\r\nHost: x\r\nContent-Type: application/x-protobuf\r\nContent-Length: 2\r\n\r\n\x0a\x00")
        assert await asyncio.to_thread(receiver.entered.acquire, timeout=WAIT_SECONDS)
        await listeners.stop()
        answer = await reader.read()
        writer.close()
        return answer

    try:
        assert b" 200 " not in asyncio.run(start_push_stop())
    finally:
        receiver.gate.set()


PROGRAM = """
    import sys
    sys.path.insert(0, sys.argv[1])
    from prometheus_client import CollectorRegistry
    from serving import FREE_PORTS, FixedHealth, RecordingReader, RecordingReceiver, recording_queries
    from spanlake.model.settings import QuerySettings
    from spanlake.server.listeners import Core, Listeners, serve_until_signal
    receiver = RecordingReceiver()
    receiver.gate.clear()
    core = Core(receiver, RecordingReader(), FixedHealth(), CollectorRegistry(), recording_queries())
    serve_until_signal(Listeners(core, FREE_PORTS, QuerySettings()), lambda ports: print(ports.otlp_http, flush=True))
    print("stopped", flush=True)
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("push_hangs", [False, True])
def test_process_ends_when_signalled(number: signal.Signals, push_hangs: bool) -> None:
    command = [sys.executable, "-c", textwrap.dedent(PROGRAM), str(Path(__file__).parent)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        port = int(process.stdout.readline())
        with socket.create_connection(("127.0.0.1", port), WAIT_SECONDS) as connection:
            if push_hangs:
                connection.sendall(b"POST /v1/traces HTTP/1.1\r\nContent-Type: application/x-protobuf\r\nContent-Length: 2\r\n\r\n\x0a\x00")
            process.send_signal(number)
            if push_hangs:
                # The first signal closes the port and waits for the push; the second ends the process.
                eventually(lambda: is_closed(port))
                process.send_signal(number)
            process.wait(WAIT_SECONDS)
        assert process.stdout.read() == ("" if push_hangs else "stopped\n")
        assert process.returncode != 0 if push_hangs else process.returncode == 0


def is_closed(port: int) -> bool:
    with socket.socket() as connection:
        return connection.connect_ex(("127.0.0.1", port)) != 0

"""OTLP/gRPC → durable → flushed → compacted: spans per CPU second of the server process, its memory, and bytes per span stored.

Starts a real server on free ports with its defaults (fsync: always), sends spans with the load generator from another process as fast as
they are taken, and waits until everything is in blocks and no compaction is due.

    python bench/bench_ingest.py [spans]
"""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request

import psutil

SETTINGS = ("compaction.interval_seconds=2", "compaction.cpu_share=1", "ingest.cut_interval_seconds=8", "compaction.delete_grace_seconds=0")


def metric(port: int, name: str) -> float:
    """The sum of a metric's samples."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
        text = answer.read().decode()
    return sum(float(line.rsplit(" ", 1)[1]) for line in text.splitlines() if re.match(rf"{name}(\{{|\s)", line))


def ready(port: int) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/ready", timeout=10):
            return True
    except OSError:
        return False


def start(directory: str) -> tuple[subprocess.Popen[str], dict[str, int]]:
    """A server, ready, and its ports by name."""
    options = [option for setting in SETTINGS for option in ("--set", setting)]
    ports = ["--http-port", "0", "--grpc-port", "0", "--otlp-grpc-port", "0", "--otlp-http-port", "0"]
    command = [sys.executable, "-m", "spanlake", "serve", "--data", directory, *ports, *options]
    server = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=sys.stderr, text=True)
    assert server.stdout is not None
    found: dict[str, int] = {}
    patterns = {"grpc": r"OTLP/gRPC\s+\S+:(\d+)", "http": r"curl http://[^:/]+:(\d+)/"}
    while len(found) < len(patterns):
        line = server.stdout.readline()
        assert line, "the server did not start"
        found |= {name: int(match[1]) for name, pattern in patterns.items() if (match := re.search(pattern, line))}
    while not ready(found["http"]):
        time.sleep(0.1)
    return server, found


def main() -> None:
    spans = int(sys.argv[1]) if len(sys.argv) > 1 else 2_000_000
    with tempfile.TemporaryDirectory() as directory:
        server, ports = start(directory)
        process = psutil.Process(server.pid)
        before = process.cpu_times()
        peak = [0]
        done = threading.Event()

        def watch() -> None:
            while not done.wait(0.05):
                peak[0] = max(peak[0], process.memory_info().rss)

        threading.Thread(target=watch, daemon=True).start()
        begin = time.monotonic()
        load = [sys.executable, "-m", "spanlake", "load", "--endpoint", f"http://127.0.0.1:{ports['grpc']}", "--spans", str(spans)]
        subprocess.run([*load, "--seed", "1", "--connections", "4"], check=True, capture_output=True)
        sent = time.monotonic() - begin
        acknowledged = process.cpu_times()
        quiet = 0
        while quiet < 5:
            state = [metric(ports["http"], f"spanlake_{name}") for name in ("live_spans", "compactions_total", "blocks")]
            time.sleep(1)
            again = [metric(ports["http"], f"spanlake_{name}") for name in ("live_spans", "compactions_total", "blocks")]
            quiet = quiet + 1 if state == again and state[0] == 0 else 0
        after = process.cpu_times()
        done.set()
        received, stored = metric(ports["http"], "spanlake_spans_received_total"), metric(ports["http"], "spanlake_block_bytes")
        merged, blocks = metric(ports["http"], "spanlake_compacted_spans_total"), metric(ports["http"], "spanlake_blocks")
        server.terminate()
        server.wait(60)
    pushing = (acknowledged.user + acknowledged.system) - (before.user + before.system)
    cpu = (after.user + after.system) - (before.user + before.system)
    print(f"{received:,.0f} spans acknowledged in {sent:.1f} s ({received / sent:,.0f} spans/s)")
    print(f"server CPU until the last acknowledgement {pushing:.2f} s, in all {cpu:.2f} s (user {after.user - before.user:.2f})")
    print(f"{received / cpu:,.0f} spans per CPU second, durable and compacted ({merged:,.0f} spans rewritten by compaction)")
    print(f"peak memory {peak[0] / 1e6:,.0f} MB; {stored / received:.1f} bytes per span in {blocks:.0f} blocks")


if __name__ == "__main__":
    main()

"""How long a person waits for the command line: importing the package, printing help, loading the settings.

Budget: `import spanlake` at most 150 ms over a bare interpreter. Run with `make bench` or `python bench/bench_import.py`.
"""

from __future__ import annotations

import subprocess
import sys
import time

RUNS = 7
COMMANDS = {
    "bare interpreter": ("-c", "pass"),
    "import spanlake": ("-c", "import spanlake"),
    "spanlake --help": ("-m", "spanlake", "--help"),
    "spanlake config": ("-m", "spanlake", "config"),
}


def best_seconds(arguments: tuple[str, ...]) -> float:
    """The fastest of some runs: the others measure the machine's other work."""
    seconds = []
    for _ in range(RUNS):
        begin = time.perf_counter()
        subprocess.run([sys.executable, *arguments], check=True, stdout=subprocess.DEVNULL)
        seconds.append(time.perf_counter() - begin)
    return min(seconds)


def main() -> None:
    """Print one line per command."""
    for name, arguments in COMMANDS.items():
        print(f"{name:<18} {best_seconds(arguments) * 1000:6.0f} ms")


if __name__ == "__main__":
    main()

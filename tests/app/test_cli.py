"""The command-line frame: exit statuses, one-line errors, options that become settings."""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from spanlake import __version__
from spanlake.app.cli.main import EXIT_BROKEN_PIPE, EXIT_INTERRUPTED, build_parser, main, run_command
from spanlake.app.cli.options import add_settings_options, settings_from
from spanlake.app.cli.reference import cli_markdown
from spanlake.model.errors import InvalidInput


@pytest.fixture(autouse=True)
def _no_settings_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("SPANLAKE_")]:
        monkeypatch.delenv(name)


def raising(error: BaseException) -> Callable[[argparse.Namespace], int]:
    def run(_args: argparse.Namespace) -> int:
        raise error

    return run


@pytest.mark.parametrize(
    ("error", "status", "text"),
    [
        (InvalidInput("trace id 'x' is not hexadecimal"), 1, "spanlake: trace id 'x' is not hexadecimal\n"),
        (FileNotFoundError(2, "No such file or directory", "a.bin"), 1, "spanlake: [Errno 2] No such file or directory: 'a.bin'\n"),
        (KeyboardInterrupt(), EXIT_INTERRUPTED, ""),
    ],
)
def test_error_is_one_line_and_a_status(error: BaseException, status: int, text: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command(raising(error), argparse.Namespace(debug=False)) == status
    assert capsys.readouterr() == ("", text)


def test_error_has_a_traceback_when_debugging(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command(raising(InvalidInput("bad")), argparse.Namespace(debug=True)) == 1
    text = capsys.readouterr().err
    assert text.startswith("Traceback")
    assert text.endswith("\nspanlake: bad\n")


def test_defect_keeps_its_traceback() -> None:
    with pytest.raises(ZeroDivisionError):
        run_command(raising(ZeroDivisionError()), argparse.Namespace(debug=False))


@pytest.mark.parametrize(
    ("line", "status", "text"),
    [
        ("", 2, "usage: spanlake"),
        ("nonsense", 2, "invalid choice: 'nonsense'"),
        ("config --set novalue", 2, "'novalue' is not SETTING=VALUE"),
        ("config --http 1", 2, "unrecognized arguments: --http 1"),
        ("config --http-port many", 1, "spanlake: option --http-port: server.http_port is 'many'; expected a whole number, 0 to 65535\n"),
        ("config --set server.hots=x", 1, "spanlake: option --set: server.hots is not a setting; did you mean server.host?\n"),
        ("config --config /no/such/file", 1, "spanlake: file /no/such/file: cannot be read: No such file or directory\n"),
    ],
)
def test_bad_command_line_says_what_is_wrong(line: str, status: int, text: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert status_of(line) == status
    out, err = capsys.readouterr()
    assert out == ""
    assert text in err


def status_of(line: str) -> int:
    """argparse leaves with SystemExit, a command with its status; both end as the process's status."""
    try:
        return main(line.split())
    except SystemExit as leave:
        return int(leave.code or 0)


@pytest.mark.parametrize("line", ["--debug config --http-port x", "config --http-port x --debug"])
def test_debug_counts_in_front_of_and_behind_the_command(line: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(line.split()) == 1
    assert capsys.readouterr().err.startswith("Traceback")


def test_version_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    assert status_of("--version") == 0
    assert capsys.readouterr().out == f"spanlake {__version__}\n"


def test_config_prints_settings_with_their_sources(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "spanlake.yaml"
    file.write_text("server:\n  host: 0.0.0.0\n")
    monkeypatch.setenv("SPANLAKE_LOG_LEVEL", "debug")
    assert main(["config", "--config", str(file), "--http-port", "0", "--set", "wal.fsync=never"]) == 0
    text = capsys.readouterr().out
    for line in (
        f"  host: 0.0.0.0  # file {file}:2\n",
        "  http_port: 0  # option --http-port\n",
        "  fsync: never  # option --set\n",
        "  level: debug  # environment SPANLAKE_LOG_LEVEL\n",
        "data: ./data  # default\n",
    ):
        assert line in text
    assert yaml.safe_load(text)["wal"]["fsync"] == "never"


def test_last_option_wins_when_a_setting_is_given_twice() -> None:
    parser = argparse.ArgumentParser()
    add_settings_options(parser)
    last = parser.parse_args(["--set", "server.http_port=1", "--http-port", "2"])
    assert settings_from(last).settings.server.http_port == 2
    last = parser.parse_args(["--http-port", "2", "--set", "server.http_port=1"])
    assert settings_from(last).settings.server.http_port == 1
    assert settings_from(parser.parse_args(["--set", "data=s3://bucket/a=b"])).settings.data == "s3://bucket/a=b"


def test_reference_has_every_option_of_every_command() -> None:
    text = cli_markdown(build_parser())
    for option in ("--version", "--data DIR_OR_URL", "--set SETTING=VALUE", "--otlp-grpc-port PORT"):
        assert f"| `{option}` | " in text
    assert "## `spanlake config`" in text


def test_module_and_quiet_end_when_the_reader_goes_away() -> None:
    process = subprocess.Popen([sys.executable, "-m", "spanlake", "config"], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdout is not None
    process.stdout.close()
    assert process.wait(timeout=60) == EXIT_BROKEN_PIPE
    assert process.stderr is not None
    assert process.stderr.read() == b""
    process.stderr.close()

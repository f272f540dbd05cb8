"""Log lines: one entry is one line that a person or a program can read, whatever is in it."""

from __future__ import annotations

import io
import json
import logging
import re
import warnings
from collections.abc import Iterator, Mapping

import numpy as np
import pytest

from spanlake.app.logs import configure_logging
from spanlake.model.settings import LogSettings

TIME = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z"


@pytest.fixture(autouse=True)
def _loggers_as_before() -> Iterator[None]:
    root, ours = logging.getLogger(), logging.getLogger("spanlake")
    handlers, levels = root.handlers[:], (root.level, ours.level)
    yield
    root.handlers[:] = handlers
    root.setLevel(levels[0])
    ours.setLevel(levels[1])
    logging.captureWarnings(capture=False)


def written(settings: LogSettings, level: int, message: str, fields: Mapping[str, object]) -> str:
    stream = io.StringIO()
    configure_logging(settings, stream)
    logging.getLogger("spanlake.blocks").log(level, message, extra=fields)
    return stream.getvalue()


TEXT = LogSettings(format="text")
JSON = LogSettings(format="json")


@pytest.mark.parametrize(
    ("message", "fields", "line"),
    [
        ("block written", {"spans": 5, "seconds": 0.123456789}, "info    block written spans=5 seconds=0.123457"),
        (
            "quoted",
            {"path": "a b", "empty": "", "pair": "a=b", "quote": 'a"b'},
            r'info    quoted path="a b" empty="" pair="a=b" quote="a\"b"',
        ),
        ("a\nb\x1b[31m\u2028c", {}, r"info    a\nb\x1b[31m\u2028c"),
        ("field", {"text": "a\nb\x7f\x9b"}, r'info    field text="a\nb\x7f\x9b"'),
        ("größe", {"ort": "Köln"}, "info    größe ort=Köln"),
    ],
)
def test_text_entry_is_one_line(message: str, fields: dict[str, object], line: str) -> None:
    text = written(TEXT, logging.INFO, message, fields)
    assert re.fullmatch(TIME, text.partition(" ")[0])
    assert text.partition(" ")[2] == line + "\n"


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"spans": np.int64(5), "share": np.float32(0.5)}, {"spans": 5, "share": 0.5}),
        ({"bad": float("nan"), "far": float("inf")}, {"bad": "nan", "far": "inf"}),
        ({"flag": True, "nothing": None, "ids": [1, 2]}, {"flag": True, "nothing": None, "ids": [1, 2]}),
        ({"level": 3, "time": 4}, {"level_": 3, "time_": 4}),
        ({"error": ValueError("x")}, {"error": "x"}),
        ({"text": "a\nb\ud800"}, {"text": "a\nb\ud800"}),
    ],
)
def test_json_entry_is_one_object(fields: dict[str, object], expected: dict[str, object]) -> None:
    text = written(JSON, logging.WARNING, "odd thing", fields)
    assert text.count("\n") == 1
    entry = json.loads(text)
    assert re.fullmatch(TIME, entry.pop("time"))
    assert entry == {"level": "warning", "logger": "spanlake.blocks", "message": "odd thing", **expected}


@pytest.mark.parametrize("settings", [TEXT, JSON])
def test_exception_comes_with_its_traceback(settings: LogSettings) -> None:
    stream = io.StringIO()
    configure_logging(settings, stream)
    try:
        raise ValueError("broken\nin two")
    except ValueError:
        logging.getLogger("spanlake").exception("flush failed")
    text = stream.getvalue()
    if settings.format == "json":
        assert "ValueError: broken\nin two" in json.loads(text)["exception"]
    else:
        first, *rest = text.rstrip("\n").split("\n")
        assert first.endswith("error   flush failed")
        assert all(line.startswith("  ") for line in rest)


@pytest.mark.parametrize(
    ("settings", "lines"),
    [
        (LogSettings(level="debug"), ["debug ours", "info ours", "info others", "error ours", "error others"]),
        (LogSettings(level="info"), ["info ours", "info others", "error ours", "error others"]),
        (LogSettings(level="error"), ["error ours", "error others"]),
    ],
)
def test_level_decides_what_is_written_and_debug_is_for_our_loggers_only(settings: LogSettings, lines: list[str]) -> None:
    stream = io.StringIO()
    configure_logging(settings, stream)
    for level in ("debug", "info", "error"):
        for name, whose in (("spanlake.x", "ours"), ("some.library", "others")):
            logging.getLogger(name).log(logging.getLevelNamesMapping()[level.upper()], "%s %s", level, whose)
    assert [" ".join(line.split()[2:]) for line in stream.getvalue().splitlines()] == lines


def test_other_loggers_and_warnings_are_written_too() -> None:
    stream = io.StringIO()
    configure_logging(JSON, stream)
    logging.getLogger("some.library").info("started", extra={"color_message": "\x1b[1mstarted"})
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        logging.captureWarnings(capture=True)
        warnings.warn("old call", stacklevel=1)
    started, warned = [json.loads(line) for line in stream.getvalue().splitlines()]
    assert (started["logger"], started["message"], "color_message" in started) == ("some.library", "started", False)
    assert "old call" in warned["message"]


def test_second_set_up_replaces_the_first() -> None:
    first, second = io.StringIO(), io.StringIO()
    configure_logging(TEXT, first)
    configure_logging(TEXT, second)
    logging.getLogger("spanlake").warning("once")
    assert (first.getvalue(), second.getvalue().count("once")) == ("", 1)

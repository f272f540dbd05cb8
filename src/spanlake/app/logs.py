"""The server's own logs: standard `logging`, written to standard error as text lines or JSON objects.

Code in any layer logs with the standard library and passes structured fields as `extra`:
`logger.info("block written", extra={"block": key, "spans": rows})`. Only this module knows how a line looks. Field names must not be
names of LogRecord attributes (`name`, `message`, `args`, `module`, …): `logging` refuses those.
"""

from __future__ import annotations

import json
import logging
import math
import numbers
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, TextIO

from spanlake.model.settings import LogSettings

# `color_message` is uvicorn's own copy of the message with terminal colours.
RECORD_ATTRIBUTES = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName", "color_message"}
LEVEL_NAMES = {logging.DEBUG: "debug", logging.INFO: "info", logging.WARNING: "warning", logging.ERROR: "error", logging.CRITICAL: "error"}
FIXED_KEYS = ("time", "level", "logger", "message", "exception")


def configure_logging(settings: LogSettings, stream: TextIO | None = None) -> None:
    """Send every logger of the process, warnings included, to `stream` (standard error). Calling it again replaces the former set-up.

    uvicorn must be given `log_config=None`, or it installs handlers of its own. Third-party loggers never go below info: with
    `level: debug` the event loop and the cloud libraries would drown ours.
    """
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(JsonFormatter() if settings.format == "json" else TextFormatter())
    level = logging.getLevelNamesMapping()[settings.level.upper()]
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(max(level, logging.INFO))
    logging.getLogger("spanlake").setLevel(level)
    logging.captureWarnings(capture=True)


class TextFormatter(logging.Formatter):
    """`2026-11-22T10:00:00.000Z info  message key=value`; a traceback follows, indented."""

    def format(self, record: logging.LogRecord) -> str:
        """One line, and the traceback if there is one."""
        fields = "".join(f" {name}={_text(value)}" for name, value in fields_of(record).items())
        lines = [f"{_time(record)} {_level(record):<7} {_one_line(record.getMessage())}{fields}"]
        lines += _traceback(self, record).splitlines()
        return "\n  ".join(lines)


class JsonFormatter(logging.Formatter):
    """One JSON object per line: time, level, logger, message, then the fields, then the traceback."""

    def format(self, record: logging.LogRecord) -> str:
        """One line. A field that has the name of a fixed key gets an underscore behind it."""
        entry: dict[str, Any] = {"time": _time(record), "level": _level(record), "logger": record.name, "message": record.getMessage()}
        entry |= {name + "_" * (name in FIXED_KEYS): _json_value(value) for name, value in fields_of(record).items()}
        trace = _traceback(self, record)
        return json.dumps(entry | ({"exception": trace} if trace else {}), default=str)


def fields_of(record: logging.LogRecord) -> Mapping[str, Any]:
    """What was passed as `extra`, in order."""
    return {name: value for name, value in vars(record).items() if name not in RECORD_ATTRIBUTES}


def _time(record: logging.LogRecord) -> str:
    return datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _level(record: logging.LogRecord) -> str:
    return LEVEL_NAMES.get(record.levelno, record.levelname.lower())


def _traceback(formatter: logging.Formatter, record: logging.LogRecord) -> str:
    parts = [formatter.formatException(record.exc_info)] if record.exc_info else []
    parts += [formatter.formatStack(record.stack_info)] if record.stack_info else []
    return "\n".join(parts)


def _one_line(text: str) -> str:
    """Line breaks and other control characters escaped: a message may quote a client, who must not write log lines of its own."""
    return text if text.isprintable() else "".join(one if one.isprintable() else one.encode("unicode_escape").decode() for one in text)


def _text(value: object) -> str:
    text = f"{value:.6g}" if isinstance(value, float) else str(value)
    plain = text and text.isprintable() and not any(one in ' "=' for one in text)
    return text if plain else _one_line(json.dumps(text, ensure_ascii=False))


def _json_value(value: object) -> object:
    """Numbers of any library as JSON numbers; not-a-number and the infinities, which JSON lacks, as text."""
    if isinstance(value, bool | str) or value is None:
        return value
    if isinstance(value, numbers.Integral):
        return int(value)
    if isinstance(value, numbers.Real):
        return float(value) if math.isfinite(value) else str(float(value))
    return value

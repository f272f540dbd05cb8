"""What all test folders share: the fixtures of tests/moto_server.py, and how Hypothesis chooses its examples.

A run of the tests is repeatable: the same code is tried with the same examples. SPANLAKE_EXPLORE=1 tries others; the fast checks try fewer.
"""

from __future__ import annotations

import os

import pytest
from hypothesis import settings

from moto_server import s3_server, s3_url

__all__ = ["s3_server", "s3_url"]

EXPLORES = bool(os.environ.get("SPANLAKE_EXPLORE"))
settings.register_profile("all", derandomize=not EXPLORES)
settings.register_profile("fast", derandomize=not EXPLORES, max_examples=25)


def pytest_configure(config: pytest.Config) -> None:
    settings.load_profile("fast" if config.getoption("markexpr") == "not slow" else "all")

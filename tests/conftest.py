"""What all test folders share: the fixtures of tests/moto_server.py, and fewer examples of Hypothesis in the fast checks."""

from __future__ import annotations

import pytest
from hypothesis import settings

from moto_server import s3_server, s3_url

__all__ = ["s3_server", "s3_url"]

settings.register_profile("fast", max_examples=25)


def pytest_configure(config: pytest.Config) -> None:
    if config.getoption("markexpr") == "not slow":
        settings.load_profile("fast")

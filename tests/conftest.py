"""Fixtures of tests/moto_server.py for every test folder."""

from __future__ import annotations

from moto_server import s3_server, s3_url

__all__ = ["s3_server", "s3_url"]

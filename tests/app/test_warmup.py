"""When kernels count as compiled."""

from __future__ import annotations

from pathlib import Path

import pytest

from spanlake.app.warmup import is_warm, warm_kernels
from spanlake.model.kernel import cache_directory


def test_kernels_are_warm_when_this_installation_has_run_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SPANLAKE_KERNEL_CACHE", str(tmp_path))
    for mark in ("complete", "complete-0123456789abcdef"):  # of another installation, whose kernels Numba does not find
        (cache_directory() / mark).touch()
    assert not is_warm()
    warm_kernels()
    assert is_warm()

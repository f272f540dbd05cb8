"""Makes the modules and fixtures that test folders share visible here."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

from moto_server import s3_server, s3_url

__all__ = ["s3_server", "s3_url"]

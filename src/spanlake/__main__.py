"""`python -m spanlake`: the same as the `spanlake` command."""

from __future__ import annotations

import sys

from spanlake.app.cli.main import main

sys.exit(main())

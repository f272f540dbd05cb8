"""What differs between two traces: every change (`patch.py`), or what it comes to (`summary.py`). Pure functions of two encoded traces.

The three formats carry the names that Tempo 3.1 gave them: wire-contract section 1.3, docs/http-api.md.
"""

from spanlake.query.trace_diff.formats import FORMATS, PATCH, diff_traces

__all__ = ["FORMATS", "PATCH", "diff_traces"]

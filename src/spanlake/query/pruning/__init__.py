"""Showing a trace with summaries in place of many similar spans: which spans are similar (`groups.py`), and what stands for them
(`summaries.py`).

The attributes of summaries are those of the OpenTelemetry Collector's span pruning processor, which Grafana shows.
"""

from spanlake.query.pruning.summaries import Pruned, prune

__all__ = ["Pruned", "prune"]

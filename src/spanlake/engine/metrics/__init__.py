"""Metrics: spans of batches counted into series over time.

grid = range_grid(window, step_ns)     the points; instant_grid(window) has one
observe(plan, batch, grid)             what a batch of whole traces says; reads `metrics_needs(plan)`; on any thread
total = Total(plan, grid, bounds)      adds up what batches say, in any order
total.finish()                         the series of the answer
"""

from spanlake.engine.metrics.grid import Grid, instant_grid, range_grid
from spanlake.engine.metrics.total import Bounds, MetricsPartial, Total, observe

__all__ = ["Bounds", "Grid", "MetricsPartial", "Total", "instant_grid", "observe", "range_grid"]

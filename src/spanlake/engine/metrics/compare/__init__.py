"""compare(): the values of every attribute, counted for the spans of a selection and for the others.

observe_compare(plan, batch, fields, grid)    what a batch says
CompareTotal(plan, grid, bounds)              adds that up, and gives the series
"""

from spanlake.engine.metrics.compare.observe import ComparePartial, observe_compare
from spanlake.engine.metrics.compare.total import CompareTotal

__all__ = ["ComparePartial", "CompareTotal", "observe_compare"]

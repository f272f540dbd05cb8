"""Aggregates of values by group: `observe` values into a state, `merge` states, `finish` to values.

A group is a number; a state has one entry per group, so states of any split of the rows merge to the state of all of them. Searches
group by spanset, metrics will by series and step.
"""

from spanlake.engine.aggregates.numbers import NumberState, finish, merge, observe

__all__ = ["NumberState", "finish", "merge", "observe"]

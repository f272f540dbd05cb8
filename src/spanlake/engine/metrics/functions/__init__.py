"""First-stage functions, one file each: `observe` spans into tables of cells, `finish` tables to the points of series.

Tables merge by their `LAYOUTS`, whatever the function, so that any split of the spans into tasks, in any order, gives the same answer.
"""

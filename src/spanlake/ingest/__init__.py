"""From an accepted payload to a committed block: limits, log, live spans, cuts, flushes."""

"""Parameters of the query API, as clients write them. A parameter that is empty is absent."""

from spanlake.server.parameters.basic import parse_time_ns, parse_time_range, parse_trace_id

__all__ = ["parse_time_ns", "parse_time_range", "parse_trace_id"]

"""The TraceQL language: text to checked syntax tree and back. Pure Python, no numpy, no I/O.

    query = parse(text)          the tree as written, or QueryError with line and column
    check(query)                 QueryError if types or values cannot work
    query = fold(query)          constants computed, for planning
    format_query(query)          canonical text; parses to the same tree
    parse_leniently(text)        the usable part of unfinished text, and its problems
    parse_reference(text)        one attribute or intrinsic

The nodes are in `traceql.ast`, the names and types of intrinsics in `traceql.vocabulary`. The language is described in docs/traceql.md.
"""

from spanlake.traceql.check import check
from spanlake.traceql.fold import fold
from spanlake.traceql.format import format_field, format_query, format_reference, format_scalar
from spanlake.traceql.lenient import parse_leniently
from spanlake.traceql.parser import DEPTH_MAX, QUERY_BYTES_MAX, STAGES_MAX, TOKENS_MAX, parse, parse_reference
from spanlake.traceql.regex import regex_problem

__all__ = [
    "DEPTH_MAX",
    "QUERY_BYTES_MAX",
    "STAGES_MAX",
    "TOKENS_MAX",
    "check",
    "fold",
    "format_field",
    "format_query",
    "format_reference",
    "format_scalar",
    "parse",
    "parse_leniently",
    "parse_reference",
    "regex_problem",
]

"""The engine: plans evaluated over batches of whole traces, as array arithmetic. It has never heard of storage or of wire formats.

    find_traces(plan, batch, window=…)                      which traces of a batch are found; reads `needs(plan).find`
    evaluate_search(plan, batch, spss=…, window=…, limit=…) their spansets and attributes; reads `needs(plan).answer`
    merge(partials), finish(partial, limit)                 partial results of batches to the result of the search

`find_traces` over everything, then `evaluate_search` over the traces that made the limit, reads the attributes of an answer only for those;
`evaluate_search` alone gives the same result. The spans of a trace must be in one batch.
"""

from spanlake.engine.search import SearchPartial, TracesFound, evaluate_search, find_traces, finish, merge, newest
from spanlake.engine.values.texts import regex_problem

__all__ = ["SearchPartial", "TracesFound", "evaluate_search", "find_traces", "finish", "merge", "newest", "regex_problem"]

"""How large the answer of a search may become while it is made: spans, and an estimate of the memory that they take."""

from __future__ import annotations

from collections.abc import Iterable

from spanlake.model.errors import TooLarge
from spanlake.model.results import Attributes, TraceFound
from spanlake.model.settings import QuerySettings

SPAN_BYTES, TRACE_BYTES, ATTRIBUTE_BYTES = 1200, 1500, 750
"""Memory that each takes at the peak, when the answer is encoded; measured with tracemalloc."""

REMEDY = "ask for a lower limit, fewer spans per spanset (spss) or a shorter time range"


class AnswerSize:
    """What was added so far."""

    def __init__(self, settings: QuerySettings) -> None:
        self._settings = settings
        self._spans = 0
        self._bytes = 0

    def add(self, traces: Iterable[TraceFound]) -> None:
        """TooLarge when that is more than an answer may have."""
        # A Python loop over the spans of an answer, which the first bound keeps few.
        for trace in traces:
            self._bytes += TRACE_BYTES
            for spanset in trace.spansets:
                self._spans += len(spanset.spans)
                self._bytes += SPAN_BYTES * len(spanset.spans) + sum(bytes_of(span.attributes) for span in spanset.spans)
            self._check()

    def _check(self) -> None:
        spans_max, bytes_max = self._settings.answer_spans_max, self._settings.answer_bytes_max
        if self._spans > spans_max:
            raise TooLarge(f"the answer has more than {spans_max} spans (query.answer_spans_max): {REMEDY}")
        if self._bytes > bytes_max:
            raise TooLarge(f"the answer takes more than {bytes_max} bytes (query.answer_bytes_max): {REMEDY}, or select fewer attributes")


def bytes_of(attributes: Attributes) -> int:
    """Roughly the memory that attributes of one span take."""
    return sum(ATTRIBUTE_BYTES + (len(shown.value) if isinstance(shown.value, str) else 0) for _, shown in attributes)

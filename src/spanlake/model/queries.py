"""What the query API asks and is answered, apart from trace by id: searches, names and values of tags. No wire format, no storage."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from spanlake.model.results import TraceFound
from spanlake.model.trace import TimeRange

SEARCH_LIMIT_DEFAULT = 20


@dataclass(frozen=True, slots=True)
class SearchQuery:
    """A TraceQL search. Traces qualify when they overlap `window`; None is always. `spss`: spans per spanset, 0 is the default."""

    text: str
    window: TimeRange | None = None
    limit: int = SEARCH_LIMIT_DEFAULT
    spss: int = 0


@dataclass(frozen=True, slots=True)
class Inspected:
    """What a query looked at. `jobs`: pieces of work that were done, of `jobs_total` that seemed needed at first."""

    traces: int = 0
    spans: int = 0
    bytes: int = 0
    blocks: int = 0
    blocks_skipped: int = 0
    block_bytes: int = 0
    row_groups: int = 0
    row_groups_skipped: int = 0
    split_traces: int = 0
    jobs: int = 0
    jobs_total: int = 0


@dataclass(frozen=True, slots=True)
class SearchAnswer:
    """The newest traces first; ties by id."""

    traces: tuple[TraceFound, ...]
    inspected: Inspected


@dataclass(frozen=True, slots=True)
class Progress:
    """Who wants to know how far a query is. When `is_due` says so, `tell` hears of the figures so far."""

    is_due: Callable[[], bool]
    tell: Callable[[Inspected], None]


@dataclass(frozen=True, slots=True)
class SearchProgress:
    """Who wants to see an answer grow. When `is_due` says so, `tell` hears of traces that are certainly in the answer, newest first, and of
    the figures so far. It hears of a trace once, and of traces of the answer in its order, unless the search had to begin again."""

    is_due: Callable[[], bool]
    tell: Callable[[SearchAnswer], None]


@dataclass(frozen=True, slots=True)
class TagNamesQuery:
    """Attribute keys by scope. `scope`: one of `TAG_SCOPES`, None for all; `filter`: TraceQL, perhaps unfinished.

    `window` chooses blocks, not spans; `limit` is per scope, 0 is none.
    """

    scope: str | None = None
    filter: str = ""
    window: TimeRange | None = None
    limit: int = 0


@dataclass(frozen=True, slots=True)
class TagValuesQuery:
    """The values of one attribute or intrinsic, named as in TraceQL."""

    tag: str
    filter: str = ""
    window: TimeRange | None = None
    limit: int = 0


TAG_SCOPES = ("resource", "span", "event", "link", "instrumentation", "intrinsic", "trace")
"""Scopes of tags, in the order of answers. `intrinsic` has names of its own, `trace` has none."""


@dataclass(frozen=True, slots=True)
class TagNamesAnswer:
    """Sorted names by scope, in the order of TAG_SCOPES; scopes without any are left out."""

    scopes: tuple[tuple[str, tuple[str, ...]], ...]
    inspected: Inspected


@dataclass(frozen=True, slots=True, order=True)
class TagValue:
    """A value as text; type is string, int, float, bool, duration or keyword and says how TraceQL writes it."""

    type: str
    value: str


@dataclass(frozen=True, slots=True)
class TagValuesAnswer:
    """Distinct values, sorted."""

    values: tuple[TagValue, ...]
    inspected: Inspected

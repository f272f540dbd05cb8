"""The nodes of metrics plans. Leaves turn spans into series; a tree of arithmetic and second stages makes the answer of their series.
compare() is a plan of its own.

Frozen nodes in closed unions, as in `plan.nodes`; the engine matches on them.
"""

from __future__ import annotations

from dataclasses import dataclass

from spanlake.traceql.ast import FieldFunction, Operator, Ranking, TimeWindow
from spanlake.traceql.plan.nodes import Expression, FirstOf, Source, Stage

# ---- leaves: spans to series ----


@dataclass(frozen=True, slots=True)
class LabelField:
    """A field under the key that labels have for it."""

    key: str
    operand: Source | FirstOf


@dataclass(frozen=True, slots=True)
class CountSpans:
    """The number of spans, or their number per second."""

    per_second: bool


@dataclass(frozen=True, slots=True)
class ReduceField:
    """min, max, sum or avg of a field. Histograms are a node of their own."""

    function: FieldFunction
    argument: Source | FirstOf


@dataclass(frozen=True, slots=True)
class Histogram:
    """The number of spans per power of two of a field."""

    argument: Source | FirstOf


@dataclass(frozen=True, slots=True)
class Quantiles:
    """Quantiles of a field, 0 to 1, one series each."""

    argument: Source | FirstOf
    quantiles: tuple[float, ...]


Function = CountSpans | ReduceField | Histogram | Quantiles


@dataclass(frozen=True, slots=True)
class Leaf:
    """The spans that `stages` leave, as in a search, into series by the values of `by`.

    `name`: of the function, the label of series without others. `loaded`: the fields that exemplars show.
    """

    stages: tuple[Stage, ...]
    function: Function
    by: tuple[LabelField, ...]
    name: str
    loaded: tuple[LabelField, ...]


# ---- series to series ----


@dataclass(frozen=True, slots=True)
class KeepRanked:
    """topk, bottomk: per point the `limit` greatest, or least."""

    ranking: Ranking
    limit: int


@dataclass(frozen=True, slots=True)
class KeepWhere:
    """The points for which `point operator threshold` holds; durations are seconds."""

    operator: Operator
    threshold: float


Then = KeepRanked | KeepWhere


@dataclass(frozen=True, slots=True)
class LeafSeries:
    """The series of a leaf, by its number."""

    leaf: int
    then: tuple[Then, ...] = ()


@dataclass(frozen=True, slots=True)
class Number:
    """A constant; None for one that has no value, such as 1 / 0."""

    value: float | None


@dataclass(frozen=True, slots=True)
class Combine:
    """Arithmetic point by point."""

    operator: Operator
    left: Tree | Number
    right: Tree | Number
    then: tuple[Then, ...] = ()


Tree = LeafSeries | Combine


@dataclass(frozen=True, slots=True)
class MetricsHints:
    """What `with( )` says of metrics. `exemplars`: how many at most, None where it does not say; `extrapolate`: spans count as many as
    their sampling stands for."""

    exemplars: int | None = None
    extrapolate: bool = False


@dataclass(frozen=True, slots=True)
class SeriesPlan:
    """Different leaves, and what is made of them."""

    leaves: tuple[Leaf, ...]
    tree: Tree
    hints: MetricsHints


@dataclass(frozen=True, slots=True)
class ComparePlan:
    """The `top` most frequent values of every attribute among the spans that `stages` leave and for which `selection` is true (and that
    start in `window`), and among the others that they leave."""

    stages: tuple[Stage, ...]
    selection: Expression
    top: int
    window: TimeWindow | None
    hints: MetricsHints


MetricsPlan = SeriesPlan | ComparePlan

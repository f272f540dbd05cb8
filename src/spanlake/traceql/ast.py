"""The syntax tree of TraceQL: frozen nodes in closed unions.

A tree says what was written: constants are not folded, `!= nil` is an ordinary comparison, and only parentheses that change nothing are
gone. Every node knows its `place` in the source, which is no part of its equality, so that a tree equals the tree of its printed form.
Nothing here knows tokens, types or storage.

    Query      root, hints
    root       Pipeline (a search) | MetricsExpression
    Pipeline   stages: SpansetExpression | ScalarFilter | GroupBy | Coalesce | Select
    Fields     inside `{ }`, by() and aggregates: Literal | Attribute | Intrinsic | Unary | Binary | Logical
    Scalars    one number per spanset: Literal | Count | Reduction | ScalarPipeline | ScalarNegation | ScalarBinary

Chains of `&&` or of `||` are one node with many operands, because generated queries join thousands of them; all other nesting is bounded
by the parser (64 levels unless told otherwise), so recursive functions over a parsed tree are safe.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import StrEnum
from typing import assert_never

from spanlake.traceql.vocabulary import IntrinsicName, Scope, ValueType


@dataclass(frozen=True, slots=True)
class Place:
    """A part of the source text, as code point offsets [start, end)."""

    start: int
    end: int


NOWHERE = Place(0, 0)


class Operator(StrEnum):
    """Binary operators on values. Scalar filters take the six ordering ones, metrics arithmetic the first four."""

    ADD = "+"
    SUBTRACT = "-"
    MULTIPLY = "*"
    DIVIDE = "/"
    MODULO = "%"
    POWER = "^"
    EQUAL = "="
    NOT_EQUAL = "!="
    LESS = "<"
    LESS_EQUAL = "<="
    GREATER = ">"
    GREATER_EQUAL = ">="
    MATCH = "=~"
    NOT_MATCH = "!~"


ARITHMETIC = frozenset({Operator.ADD, Operator.SUBTRACT, Operator.MULTIPLY, Operator.DIVIDE, Operator.MODULO, Operator.POWER})
EQUALITY = frozenset({Operator.EQUAL, Operator.NOT_EQUAL})
ORDERING = frozenset({Operator.LESS, Operator.LESS_EQUAL, Operator.GREATER, Operator.GREATER_EQUAL})
REGEX = frozenset({Operator.MATCH, Operator.NOT_MATCH})
COMPARISON = EQUALITY | ORDERING
METRICS_ARITHMETIC = frozenset({Operator.ADD, Operator.SUBTRACT, Operator.MULTIPLY, Operator.DIVIDE})


class UnaryOperator(StrEnum):
    """Prefix operators on values."""

    NEGATE = "-"
    NOT = "!"


class LogicalOperator(StrEnum):
    """Joins conditions, and spansets. Both have the same precedence and group from left to right."""

    AND = "&&"
    OR = "||"


# ---- fields: one value per span ----


@dataclass(frozen=True, slots=True)
class Literal:
    """A constant: `value` is an int (INT, DURATION in ns), float, bool, str (STRING, STATUS, KIND) or None (NIL)."""

    type: ValueType
    value: int | float | bool | str | None
    place: Place = field(default=NOWHERE, compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class Attribute:
    """`span.x` and its like; with `of_parent` (`parent.x`, `parent.span.x`, `parent.resource.x`) that of the parent span."""

    scope: Scope
    name: str
    of_parent: bool = False
    place: Place = field(default=NOWHERE, compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class Intrinsic:
    """A built-in field."""

    name: IntrinsicName
    place: Place = field(default=NOWHERE, compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class Unary:
    operator: UnaryOperator
    operand: FieldExpression
    place: Place = field(default=NOWHERE, compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class Binary:
    operator: Operator
    left: FieldExpression
    right: FieldExpression
    place: Place = field(default=NOWHERE, compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class Logical:
    """Two or more operands joined by one operator; the first is never a Logical of the same operator (it would be part of the chain)."""

    operator: LogicalOperator
    operands: tuple[FieldExpression, ...]
    place: Place = field(default=NOWHERE, compare=False, repr=False)


FieldReference = Attribute | Intrinsic
FieldExpression = Literal | FieldReference | Unary | Binary | Logical

# ---- spansets: spans of one trace ----


class Relation(StrEnum):
    """How a span on the right relates to one on the left of a structural operator."""

    CHILD = ">"
    PARENT = "<"
    DESCENDANT = ">>"
    ANCESTOR = "<<"
    SIBLING = "~"


class RelationMode(StrEnum):
    """RIGHT: right spans with such a left span. NEGATED: right spans without one. UNION: the spans of both sides that are so related."""

    RIGHT = ""
    NEGATED = "!"
    UNION = "&"


@dataclass(frozen=True, slots=True)
class SpansetFilter:
    """`{ condition }`; `{ }` is `{ true }`."""

    condition: FieldExpression
    place: Place = field(default=NOWHERE, compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class SpansetRelation:
    """A structural operator, for example `left >> right`."""

    relation: Relation
    mode: RelationMode
    left: SpansetExpression
    right: SpansetExpression
    place: Place = field(default=NOWHERE, compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class SpansetLogical:
    """Two or more spansets joined by one operator; the first is never a SpansetLogical of the same operator."""

    operator: LogicalOperator
    operands: tuple[SpansetExpression, ...]
    place: Place = field(default=NOWHERE, compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class WrappedPipeline:
    """`(pipeline)` as an operand of a spanset operator; the pipeline is more than one plain spanset expression.

    An expression with one of these is the only stage of a search.
    """

    pipeline: Pipeline
    place: Place = field(default=NOWHERE, compare=False, repr=False)


SpansetExpression = SpansetFilter | SpansetRelation | SpansetLogical | WrappedPipeline

# ---- scalars: one value per spanset ----


class Reducer(StrEnum):
    """Aggregates of a field over the spans of a spanset."""

    MIN = "min"
    MAX = "max"
    AVG = "avg"
    SUM = "sum"


@dataclass(frozen=True, slots=True)
class Count:
    """`count()`: the number of spans."""

    place: Place = field(default=NOWHERE, compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class Reduction:
    """`min(argument)` and its like."""

    reducer: Reducer
    argument: FieldExpression
    place: Place = field(default=NOWHERE, compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class ScalarPipeline:
    """`(pipeline | result)`: the scalar of what the pipeline leaves of the spanset."""

    pipeline: Pipeline
    result: ScalarExpression
    place: Place = field(default=NOWHERE, compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class ScalarNegation:
    """Minus before anything but a number, which takes the sign into its Literal."""

    operand: ScalarExpression
    place: Place = field(default=NOWHERE, compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class ScalarBinary:
    """Arithmetic."""

    operator: Operator
    left: ScalarExpression
    right: ScalarExpression
    place: Place = field(default=NOWHERE, compare=False, repr=False)


Aggregate = Count | Reduction
ScalarExpression = Literal | Aggregate | ScalarPipeline | ScalarNegation | ScalarBinary

# ---- pipelines ----


@dataclass(frozen=True, slots=True)
class ScalarFilter:
    """Keeps the spansets for which the comparison holds."""

    operator: Operator
    left: ScalarExpression
    right: ScalarExpression
    place: Place = field(default=NOWHERE, compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class GroupBy:
    """Splits every spanset by the values of the expressions (one or more)."""

    expressions: tuple[FieldExpression, ...]
    place: Place = field(default=NOWHERE, compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class Coalesce:
    """Merges the spansets of a trace into one."""

    place: Place = field(default=NOWHERE, compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class Select:
    """Asks for fields in the answer."""

    fields: tuple[FieldReference, ...]
    place: Place = field(default=NOWHERE, compare=False, repr=False)


Stage = SpansetExpression | ScalarFilter | GroupBy | Coalesce | Select


@dataclass(frozen=True, slots=True)
class Pipeline:
    """One or more stages, the first of them no Coalesce."""

    stages: tuple[Stage, ...]
    place: Place = field(default=NOWHERE, compare=False, repr=False)


# ---- metrics ----


class SpanCounter(StrEnum):
    """First-stage functions that count spans."""

    RATE = "rate"
    COUNT_OVER_TIME = "count_over_time"


class FieldFunction(StrEnum):
    """First-stage functions of one field."""

    MIN_OVER_TIME = "min_over_time"
    MAX_OVER_TIME = "max_over_time"
    AVG_OVER_TIME = "avg_over_time"
    SUM_OVER_TIME = "sum_over_time"
    HISTOGRAM_OVER_TIME = "histogram_over_time"


class Ranking(StrEnum):
    """Second-stage functions that keep some series per point."""

    TOPK = "topk"
    BOTTOMK = "bottomk"


@dataclass(frozen=True, slots=True)
class CountOverTime:
    """`rate()` or `count_over_time()`."""

    function: SpanCounter
    by: tuple[FieldReference, ...] = ()
    place: Place = field(default=NOWHERE, compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class FieldOverTime:
    """`max_over_time(argument)` and its like."""

    function: FieldFunction
    argument: FieldReference
    by: tuple[FieldReference, ...] = ()
    place: Place = field(default=NOWHERE, compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class QuantileOverTime:
    """`quantile_over_time(argument, quantiles…)`."""

    argument: FieldReference
    quantiles: tuple[float, ...]
    by: tuple[FieldReference, ...] = ()
    place: Place = field(default=NOWHERE, compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class TimeWindow:
    """start_ns < span start <= end_ns, Unix nanoseconds."""

    start_ns: int
    end_ns: int


COMPARE_TOP_DEFAULT = 10


@dataclass(frozen=True, slots=True)
class Compare:
    """`compare({selection}, top, start, end)`: how the selected spans differ from the others, in `top` values per attribute."""

    selection: SpansetFilter
    top: int = COMPARE_TOP_DEFAULT
    window: TimeWindow | None = None
    place: Place = field(default=NOWHERE, compare=False, repr=False)


MetricsFunction = CountOverTime | FieldOverTime | QuantileOverTime | Compare


@dataclass(frozen=True, slots=True)
class Rank:
    """`topk(limit)` or `bottomk(limit)`."""

    ranking: Ranking
    limit: int
    place: Place = field(default=NOWHERE, compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class PointFilter:
    """Keeps the points for which `point operator threshold` holds; a DURATION threshold is compared in seconds."""

    operator: Operator
    threshold: Literal
    place: Place = field(default=NOWHERE, compare=False, repr=False)


SecondStage = Rank | PointFilter


@dataclass(frozen=True, slots=True)
class MetricsPipeline:
    """Spans into series, then second stages from left to right."""

    pipeline: Pipeline
    function: MetricsFunction
    second_stages: tuple[SecondStage, ...] = ()
    place: Place = field(default=NOWHERE, compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class MetricsMath:
    """Pointwise arithmetic; at least one side is metrics, the other may be a constant scalar.

    Only the outermost one has second stages.
    """

    operator: Operator
    left: MetricsExpression | ScalarExpression
    right: MetricsExpression | ScalarExpression
    second_stages: tuple[SecondStage, ...] = ()
    place: Place = field(default=NOWHERE, compare=False, repr=False)


MetricsExpression = MetricsPipeline | MetricsMath

# ---- queries ----


@dataclass(frozen=True, slots=True)
class Hint:
    """`name = value` of `with( )`. Unknown names and values of the wrong type are for the reader to ignore."""

    name: str
    value: Literal
    place: Place = field(default=NOWHERE, compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class Query:
    """A whole query. `source` is the text that places refer to; for a repeated hint the last one counts."""

    root: Pipeline | MetricsExpression
    hints: tuple[Hint, ...] = ()
    source: str = field(default="", compare=False, repr=False)


Node = (
    FieldExpression
    | SpansetExpression
    | ScalarExpression
    | ScalarFilter
    | GroupBy
    | Coalesce
    | Select
    | Pipeline
    | MetricsFunction
    | SecondStage
    | MetricsExpression
    | Hint
    | Query
)


def children(node: Node) -> tuple[Node, ...]:
    """The nodes directly below, in the order in which they are written."""
    match node:
        case Literal() | Attribute() | Intrinsic() | Count() | Coalesce() | Rank():
            return ()
        case Unary() | ScalarNegation():
            return (node.operand,)
        case Binary() | SpansetRelation() | ScalarBinary() | ScalarFilter():
            return (node.left, node.right)
        case MetricsMath():
            return (node.left, node.right, *node.second_stages)
        case Logical() | SpansetLogical():
            return node.operands
        case SpansetFilter():
            return (node.condition,)
        case WrappedPipeline():
            return (node.pipeline,)
        case Reduction():
            return (node.argument,)
        case ScalarPipeline():
            return (node.pipeline, node.result)
        case GroupBy():
            return node.expressions
        case Select():
            return node.fields
        case Pipeline():
            return node.stages
        case CountOverTime():
            return node.by
        case FieldOverTime() | QuantileOverTime():
            return (node.argument, *node.by)
        case Compare():
            return (node.selection,)
        case PointFilter():
            return (node.threshold,)
        case MetricsPipeline():
            return (node.pipeline, node.function, *node.second_stages)
        case Hint():
            return (node.value,)
        case Query():
            return (node.root, *node.hints)
        case _:
            assert_never(node)


def walk(node: Node) -> Iterator[Node]:
    """The node and everything below it, parents first, in written order. Iterative: safe for trees of any depth."""
    waiting = [node]
    while waiting:
        current = waiting.pop()
        yield current
        waiting.extend(reversed(children(current)))

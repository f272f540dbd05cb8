"""The nodes of a search plan: what to compute, with names resolved to fields and canonical texts attached.

Apart from the syntax tree, because a plan says how: constants are on the right of comparisons, `= nil` is a test of presence, `.x` is the
first of two columns, and rules may have rewritten conditions. Frozen nodes in closed unions; the engine matches on them.
"""

from __future__ import annotations

from dataclasses import dataclass

from spanlake.model.scan import Field, NumberType
from spanlake.traceql.ast import LogicalOperator, Operator, Reducer, Relation, RelationMode
from spanlake.traceql.vocabulary import ValueType

# ---- operands: a value per span, or none ----


@dataclass(frozen=True, slots=True)
class Constant:
    """A literal: int (INT, DURATION in ns, STATUS and KIND as OTLP codes), float, bool, str, or None (NIL)."""

    type: ValueType
    value: int | float | bool | str | None


@dataclass(frozen=True, slots=True)
class Column:
    """A field of the span, of its parent span, or of the event or link that is being tried.

    `type` is what numbers of a fixed column mean; None for attributes, whose values know. `default`: what a missing value reads as.
    """

    field: Field
    of_parent: bool = False
    type: NumberType | None = None
    default: str | None = None


@dataclass(frozen=True, slots=True)
class TraceId:
    """The id of the trace."""


@dataclass(frozen=True, slots=True)
class TimeSinceStart:
    """From the start of the span to the event that is being tried."""


@dataclass(frozen=True, slots=True)
class FirstOf:
    """The value of the first column that has one."""

    columns: tuple[Column, ...]


@dataclass(frozen=True, slots=True)
class Arithmetic:
    operator: Operator
    left: Expression
    right: Expression


@dataclass(frozen=True, slots=True)
class Negative:
    operand: Expression


Source = Column | TraceId | TimeSinceStart
Operand = Constant | Source | FirstOf | Arithmetic | Negative

# ---- conditions: true or false for every span ----


@dataclass(frozen=True, slots=True)
class Truth:
    value: bool


@dataclass(frozen=True, slots=True)
class CompareConstant:
    """`operand operator constant`; the operator orders or equates, the constant is not nil."""

    operator: Operator
    operand: Expression
    constant: Constant


@dataclass(frozen=True, slots=True)
class Compare:
    operator: Operator
    left: Expression
    right: Expression


@dataclass(frozen=True, slots=True)
class OneOf:
    """Whether the operand equals one of the strings: what the rule `one_of` makes of long chains."""

    operand: Expression
    texts: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Matches:
    """`operand =~ pattern`, negated `operand !~ pattern`."""

    operand: Expression
    pattern: str
    negated: bool


@dataclass(frozen=True, slots=True)
class Present:
    """`operand != nil`; negated `operand = nil`."""

    operand: Expression
    negated: bool


@dataclass(frozen=True, slots=True)
class Not:
    """True where the operand is false; where it is neither, the negation has no value, which counts as false."""

    operand: Expression


@dataclass(frozen=True, slots=True)
class AllOf:
    operands: tuple[Expression, ...]


@dataclass(frozen=True, slots=True)
class AnyOf:
    operands: tuple[Expression, ...]


Test = CompareConstant | OneOf | Matches
Condition = Truth | Test | Compare | Present | Not | AllOf | AnyOf
Expression = Operand | Condition

# ---- spansets ----


@dataclass(frozen=True, slots=True)
class Filter:
    condition: Expression


@dataclass(frozen=True, slots=True)
class Relate:
    relation: Relation
    mode: RelationMode
    left: Spansets
    right: Spansets


@dataclass(frozen=True, slots=True)
class Combine:
    operator: LogicalOperator
    operands: tuple[Spansets, ...]


@dataclass(frozen=True, slots=True)
class Wrapped:
    """The spans that a pipeline of its own leaves; its groups and attributes are forgotten."""

    stages: tuple[Stage, ...]


Spansets = Filter | Relate | Combine | Wrapped

# ---- scalars ----


@dataclass(frozen=True, slots=True)
class CountSpans:
    key: str


@dataclass(frozen=True, slots=True)
class Reduce:
    reducer: Reducer
    argument: Expression
    key: str


@dataclass(frozen=True, slots=True)
class ScalarOf:
    """The scalar of what is left of the spanset after these stages."""

    stages: tuple[Stage, ...]
    result: Scalar


@dataclass(frozen=True, slots=True)
class ScalarNegative:
    operand: Scalar


@dataclass(frozen=True, slots=True)
class ScalarArithmetic:
    operator: Operator
    left: Scalar
    right: Scalar


Scalar = Constant | CountSpans | Reduce | ScalarOf | ScalarNegative | ScalarArithmetic

# ---- stages ----


@dataclass(frozen=True, slots=True)
class ScalarFilter:
    """Keeps the spansets for which the comparison holds, and attaches every aggregate in it under its key."""

    operator: Operator
    left: Scalar
    right: Scalar


@dataclass(frozen=True, slots=True)
class GroupKey:
    """What spans are grouped by, and under which key the value is attached."""

    key: str
    expression: Expression


@dataclass(frozen=True, slots=True)
class Group:
    keys: tuple[GroupKey, ...]


@dataclass(frozen=True, slots=True)
class Merge:
    """coalesce()."""


Stage = Spansets | ScalarFilter | Group | Merge

# ---- the plan ----


@dataclass(frozen=True, slots=True)
class Shown:
    """A field that found spans show under `key` (None: as the name of the span).

    With `tests`, only where one of them holds, and of an array only the elements for which one holds; without, always. Of several events or
    links, the value of the last that has one to show.
    """

    key: str | None
    source: Source
    tests: tuple[Test, ...] | None


@dataclass(frozen=True, slots=True)
class SearchPlan:
    """A search over whole traces, one after the other: `stages` from left to right, starting with one spanset of all spans per trace."""

    stages: tuple[Stage, ...]
    shown: tuple[Shown, ...]

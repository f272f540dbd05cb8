"""The words of TraceQL: value types, scopes, intrinsics, enumeration values and reserved names.

Pure tables, shared by lexer, parser, checks and formatter; they know nothing of syntax. The value of every enumeration member is its
canonical text, the one that `format` prints and that answers use as attribute keys and metric labels.
"""

from __future__ import annotations

from enum import StrEnum

INT_MIN, INT_MAX = -(1 << 63), (1 << 63) - 1


class ValueType(StrEnum):
    """The type of a value. Where it is not known before a span is seen (any attribute), the type is None."""

    NIL = "nil"
    INT = "int"
    FLOAT = "float"
    STRING = "string"
    BOOL = "bool"
    DURATION = "duration"
    STATUS = "status"
    KIND = "kind"


NUMERIC = frozenset({ValueType.INT, ValueType.FLOAT, ValueType.DURATION})


class Scope(StrEnum):
    """Where an attribute lives; NONE is `.x`: the span's, else the resource's."""

    NONE = ""
    SPAN = "span"
    RESOURCE = "resource"
    EVENT = "event"
    LINK = "link"
    INSTRUMENTATION = "instrumentation"


class IntrinsicName(StrEnum):
    """The built-in fields of spans, traces, events, links and instrumentation scopes."""

    DURATION = "duration"
    NAME = "name"
    STATUS = "status"
    STATUS_MESSAGE = "statusMessage"
    KIND = "kind"
    ROOT_NAME = "rootName"
    ROOT_SERVICE_NAME = "rootServiceName"
    TRACE_DURATION = "traceDuration"
    NESTED_SET_LEFT = "nestedSetLeft"
    NESTED_SET_RIGHT = "nestedSetRight"
    NESTED_SET_PARENT = "nestedSetParent"
    TRACE_ID = "trace:id"
    SPAN_ID = "span:id"
    SPAN_PARENT_ID = "span:parentID"
    SPAN_CHILD_COUNT = "span:childCount"
    EVENT_NAME = "event:name"
    EVENT_TIME_SINCE_START = "event:timeSinceStart"
    LINK_TRACE_ID = "link:traceID"
    LINK_SPAN_ID = "link:spanID"
    INSTRUMENTATION_NAME = "instrumentation:name"
    INSTRUMENTATION_VERSION = "instrumentation:version"


_I = IntrinsicName

INTRINSIC_TYPES: dict[IntrinsicName, ValueType | None] = {
    _I.DURATION: ValueType.DURATION,
    _I.NAME: ValueType.STRING,
    _I.STATUS: ValueType.STATUS,
    _I.STATUS_MESSAGE: ValueType.STRING,
    _I.KIND: ValueType.KIND,
    _I.ROOT_NAME: ValueType.STRING,
    _I.ROOT_SERVICE_NAME: ValueType.STRING,
    _I.TRACE_DURATION: ValueType.DURATION,
    _I.NESTED_SET_LEFT: ValueType.INT,
    _I.NESTED_SET_RIGHT: ValueType.INT,
    _I.NESTED_SET_PARENT: ValueType.INT,
    _I.TRACE_ID: ValueType.STRING,
    _I.SPAN_ID: ValueType.STRING,
    _I.SPAN_PARENT_ID: ValueType.STRING,
    _I.SPAN_CHILD_COUNT: ValueType.INT,
    _I.EVENT_NAME: ValueType.STRING,
    _I.EVENT_TIME_SINCE_START: ValueType.DURATION,
    _I.LINK_TRACE_ID: ValueType.STRING,
    _I.LINK_SPAN_ID: ValueType.STRING,
    _I.INSTRUMENTATION_NAME: None,
    _I.INSTRUMENTATION_VERSION: None,
}

ID_INTRINSICS = frozenset({_I.TRACE_ID, _I.SPAN_ID, _I.SPAN_PARENT_ID, _I.LINK_TRACE_ID, _I.LINK_SPAN_ID})

# Every way to write an intrinsic. The colon forms of old intrinsics are the same intrinsic.
INTRINSIC_SPELLINGS: dict[str, IntrinsicName] = {
    **{name.value: name for name in IntrinsicName},
    "trace:duration": _I.TRACE_DURATION,
    "trace:rootName": _I.ROOT_NAME,
    "trace:rootService": _I.ROOT_SERVICE_NAME,
    "span:duration": _I.DURATION,
    "span:name": _I.NAME,
    "span:kind": _I.KIND,
    "span:status": _I.STATUS,
    "span:statusMessage": _I.STATUS_MESSAGE,
}

STATUS_VALUES = ("unset", "ok", "error")
KIND_VALUES = ("unspecified", "internal", "server", "client", "producer", "consumer")

# Words that are values, with what they mean.
WORD_VALUES: dict[str, tuple[ValueType, int | bool | str | None]] = {
    "nil": (ValueType.NIL, None),
    "true": (ValueType.BOOL, True),
    "false": (ValueType.BOOL, False),
    "minInt": (ValueType.INT, INT_MIN),
    "maxInt": (ValueType.INT, INT_MAX),
    **{word: (ValueType.STATUS, word) for word in STATUS_VALUES},
    **{word: (ValueType.KIND, word) for word in KIND_VALUES},
}

AGGREGATE_WORDS = ("count", "min", "max", "avg", "sum")
STAGE_WORDS = ("by", "coalesce", "select")
METRICS_WORDS = (
    "rate",
    "count_over_time",
    "min_over_time",
    "max_over_time",
    "avg_over_time",
    "sum_over_time",
    "quantile_over_time",
    "histogram_over_time",
    "compare",
)
SECOND_STAGE_WORDS = ("topk", "bottomk")

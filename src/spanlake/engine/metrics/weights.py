"""How many spans a span stands for, by the sampling threshold in its tracestate. For the hint `extrapolate`."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from spanlake.engine.frame import Frame
from spanlake.engine.values.texts import compacted
from spanlake.model.scan import Texts
from spanlake.model.spans import sampling_weight
from spanlake.traceql.plan.metrics.needs import TRACE_STATE
from spanlake.traceql.plan.nodes import Column

_PARTS = 1 << 30
"""Weights are multiples of 2^-30, so that up to 2^23 spans add up to the same number in any order."""


def span_weights(frame: Frame) -> NDArray[np.float64]:
    """Per span; 1 where nothing is said."""
    result = np.ones(frame.rows)
    for part in frame.column(Column(TRACE_STATE)).parts:
        if isinstance(part, Texts) and len(part.dictionary):
            texts = compacted(part)
            weights = np.array([sampling_weight(text) or 1.0 for text in texts.dictionary.to_pylist()])
            weights = np.round(weights * _PARTS) / _PARTS
            result = np.where(texts.valid, weights.take(texts.codes, mode="clip"), result)
    return result

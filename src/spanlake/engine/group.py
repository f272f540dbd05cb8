"""by(): every spanset falls apart into one per value, or per combination of values, of the expressions."""

from __future__ import annotations

import numpy as np

from spanlake.engine.frame import Frame
from spanlake.engine.spansets import Annotation, Spansets, annotated, is_all
from spanlake.engine.tries import span_values
from spanlake.engine.values.identity import combined_codes, dense_codes, value_codes
from spanlake.engine.values.parts import offsets_of, take
from spanlake.traceql.plan.nodes import Group


def grouped(frame: Frame, stage: Group, spansets: Spansets) -> Spansets:
    """Groups of a set stand in the order in which their first spans do; spans without a value make a group too."""
    if not len(spansets):
        return spansets
    rows = None if is_all(spansets, frame.rows) else spansets.rows
    columns = [span_values(frame, key.expression, rows) for key in stage.keys]
    sets = spansets.set_of_member()
    codes = combined_codes([sets, *(value_codes(values) for values in columns)])
    first, group = dense_codes(codes)
    by_appearance = np.argsort(first)
    rank = np.empty(len(first), np.int64)
    rank[by_appearance] = np.arange(len(first))
    of_member = rank[group]
    order = np.argsort(of_member, kind="stable")
    leaders = first[by_appearance]
    inherited = tuple(Annotation(one.key, take(one.values, sets[leaders])) for one in spansets.annotations)
    added = [Annotation(key.key, take(values, leaders)) for key, values in zip(stage.keys, columns, strict=True)]
    groups = Spansets(spansets.rows[order], offsets_of(np.bincount(of_member)), spansets.owner[sets[leaders]], inherited)
    return annotated(groups, added)

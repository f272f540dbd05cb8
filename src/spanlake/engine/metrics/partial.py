"""What some batches say of one leaf, and how such partial results become one, within bounds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from spanlake.engine.metrics.cells import Cells, Layout, merged, renumbered
from spanlake.engine.metrics.exemplars import Candidate, best_of
from spanlake.engine.metrics.labels import label_order
from spanlake.engine.values.parts import Rows
from spanlake.model.results import Attributes

_BYTES_PER_SERIES = 1000  # labels are Python objects


@dataclass(frozen=True, slots=True)
class LeafPartial:
    """Tables whose keys number the series. `cut_from`: this series and all behind it in the order of labels were left out; all before it
    are here, and complete."""

    series: tuple[Attributes, ...]
    tables: tuple[Cells, ...]
    exemplars: tuple[Candidate, ...] = ()
    cut_from: Attributes | None = None

    @property
    def nbytes(self) -> int:
        return sum(table.nbytes for table in self.tables) + _BYTES_PER_SERIES * len(self.series)


def labelled(series: Sequence[Attributes], numbers: Rows, tables: Sequence[Cells], layouts: Sequence[Layout], points: int) -> LeafPartial:
    """Tables over local groups as a partial result: group numbers[i] has the labels series[i], which may repeat."""
    unique = {labels: number for number, labels in enumerate(dict.fromkeys(series))}
    moved = np.full(int(numbers.max(initial=-1)) + 1, -1)
    moved[numbers] = [unique[labels] for labels in series]
    return LeafPartial(
        tuple(unique), tuple(renumbered(table, layout, points << layout.bits, moved) for table, layout in zip(tables, layouts, strict=True))
    )


def merge_leaves(parts: Sequence[LeafPartial], layouts: Sequence[Layout], points: int, *, exemplars_max: int) -> LeafPartial:
    """The partial result of the spans of all."""
    if len(parts) == 1:
        return parts[0]
    unique: dict[Attributes, int] = {}
    tables: list[list[Cells]] = [[] for _ in layouts]
    for part in parts:
        numbers = np.array([unique.setdefault(labels, len(unique)) for labels in part.series], np.int64)
        for into, table, layout in zip(tables, part.tables, layouts, strict=True):
            into.append(renumbered(table, layout, points << layout.bits, numbers))
    exemplars = best_of((one for part in parts for one in part.exemplars), exemplars_max)
    joined = tuple(merged(some, layout) for some, layout in zip(tables, layouts, strict=True))
    whole = LeafPartial(tuple(unique), joined, exemplars)
    cuts = [part.cut_from for part in parts if part.cut_from is not None]
    return _before(whole, min(cuts, key=label_order), layouts, points) if cuts else whole


def in_order(partial: LeafPartial, layouts: Sequence[Layout], points: int, series_max: int) -> LeafPartial:
    """The first `series_max` series in the order of labels, numbered so."""
    order = sorted(range(len(partial.series)), key=lambda number: label_order(partial.series[number]))
    cut_from = partial.series[order[series_max]] if series_max < len(order) else partial.cut_from
    return _chosen(replace(partial, cut_from=cut_from), np.array(order[:series_max], np.int64), layouts, points)


def _before(partial: LeafPartial, cut_from: Attributes, layouts: Sequence[Layout], points: int) -> LeafPartial:
    """Only the series before that one: others may be incomplete."""
    last = label_order(cut_from)
    kept = [number for number, labels in enumerate(partial.series) if label_order(labels) < last]
    return _chosen(replace(partial, cut_from=cut_from), np.array(kept, np.int64), layouts, points)


def _chosen(partial: LeafPartial, chosen: Rows, layouts: Sequence[Layout], points: int) -> LeafPartial:
    """Some of the series, in that order."""
    numbers = np.full(len(partial.series), -1)
    numbers[chosen] = np.arange(len(chosen))
    tables = tuple(renumbered(table, layout, points << layout.bits, numbers) for table, layout in zip(partial.tables, layouts, strict=True))
    series = tuple(partial.series[number] for number in chosen.tolist())
    exemplars = partial.exemplars
    if len(series) < len(partial.series):
        known = frozenset(series)
        exemplars = tuple(one for one in exemplars if one.series in known)
    return replace(partial, series=series, tables=tables, exemplars=exemplars)

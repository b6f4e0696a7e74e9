"""What each group of a branch may take within a margin, options that can be in no best answer left out.

An option is a column with one column of every group it switches on. Of those only the undominated ones are kept: what
another option of the group beats in cost and in every limit is in no answer that could not take the other instead, and
has the larger excess, so that the other is within the margin wherever it is. Sites are added one by one and what is
beaten goes at once, which leaves tens of options where a full product has tens of thousands.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from edgeprune.search.bounds import BranchBounds, Priced
from edgeprune.search.dominance import undominated

__all__ = ["Choices", "Options"]

_Array = NDArray[np.float64]
_Indices = NDArray[np.int64]

COMPARED_FROM = 12
"""Fewer options are not worth comparing."""
CHUNK = 50_000
"""Pairs added up at once."""


class Options(NamedTuple):
    """What one group may take, least excess first."""

    columns: _Indices
    """[options, columns] -1 where an option has fewer."""
    excess: _Array
    paid: _Array
    """[options, limits]"""
    cost: _Array

    def first(self, count: int) -> "Options":
        """The first of them."""
        return Options(self.columns[:count], self.excess[:count], self.paid[:count], self.cost[:count])

    def at(self, places: _Indices) -> "Options":
        """Some of them."""
        return Options(self.columns[places], self.excess[places], self.paid[places], self.cost[places])


class Choices:
    """The options of a branch's groups within margins that grow; a group is looked at again where it gained some."""

    def __init__(self, bounds: BranchBounds, priced: Priced, cost: _Array) -> None:
        """Take the prices of a branch; nothing is listed yet."""
        self._bounds, self._priced, self._cost = bounds, priced, cost
        self._kept: dict[int, tuple[int, float, Options]] = {}
        self.work = 0
        """Options made."""

    def within(self, margin: float) -> list[Options]:
        """Of every group; some may lie beyond the margin."""
        owner, excess = self._bounds.layout.owner, self._priced.excess
        counts = np.bincount(owner[(excess <= margin) & (owner >= 0)], minlength=int(owner.max()) + 1).tolist()
        for row in self._priced.groups:
            kept = self._kept.get(row)
            # A wider margin may hold more options though no more columns, where columns are combined.
            if kept is None or kept[0] != counts[row] or (margin > kept[1] and row in self._bounds.layout.nested_rows):
                self._kept[row] = counts[row], margin, self._options(row, margin)
        return [self._kept[row][2] for row in self._priced.groups]

    def _options(self, row: int, margin: float) -> Options:
        excess, paid = self._priced.excess, self._bounds.coefficients
        members = self._bounds.layout.members(row)
        members = members[excess[members] <= margin]
        if row in self._bounds.layout.nested_rows:
            found = _stacked([self._of_column(column, margin) for column in members.tolist()])
        else:
            found = Options(members[:, None], excess[members], paid[:, members].T, self._cost[members])
        if len(found.excess) == 1:
            return found
        found = _unbeaten(found)
        # Of equal ones the lightest first: where no limit has a price, it is what meets them.
        return found.at(np.lexsort((found.paid.sum(axis=1), found.excess)))

    def _of_column(self, column: int, margin: float) -> Options:
        """A column with every choice of the groups it switches on."""
        excess, paid, cost = self._priced.excess, self._bounds.coefficients, self._cost
        found = Options(np.array([[column]]), excess[[column]], paid[:, [column]].T, cost[[column]])
        for inner in self._bounds.layout.switched_by(column):
            more = excess[inner] - excess[column]
            inner, more = inner[found.excess[0] + more <= margin], more[found.excess[0] + more <= margin]
            if len(inner) == 1:
                columns = np.column_stack([found.columns, np.full(len(found.excess), inner[0])])
                found = Options(columns, found.excess + more, found.paid + paid[:, inner].T, found.cost + cost[inner])
                continue
            rows = max(1, CHUNK // max(1, len(inner)))
            parts = []
            for start in range(0, len(found.excess), rows):
                some = found.at(np.arange(start, min(start + rows, len(found.excess))))
                first, second = np.nonzero(some.excess[:, None] + more <= margin)
                near = inner[second]
                self.work += len(near)
                made = Options(
                    np.column_stack([some.columns[first], near]),
                    some.excess[first] + more[second],
                    some.paid[first] + paid[:, near].T,
                    some.cost[first] + cost[near],
                )
                parts.append(_unbeaten(made))
            found = parts[0] if len(parts) == 1 else _unbeaten(_stacked(parts))
            found = found.at(np.argsort(found.excess, kind="stable"))
        return found


def _stacked(parts: list[Options]) -> Options:
    """One after the other; what has fewer columns is filled up."""
    if len(parts) == 1:
        return parts[0]
    width = max(part.columns.shape[1] for part in parts)
    columns = np.full((sum(len(part.excess) for part in parts), width), -1)
    start = 0
    for part in parts:
        columns[start : start + len(part.excess), : part.columns.shape[1]] = part.columns
        start += len(part.excess)
    return Options(
        columns,
        np.concatenate([part.excess for part in parts]),
        np.concatenate([part.paid for part in parts]),
        np.concatenate([part.cost for part in parts]),
    )


def _unbeaten(options: Options) -> Options:
    if len(options.excess) < COMPARED_FROM:
        return options
    return options.at(np.array(undominated(np.column_stack([options.cost, options.paid]))))

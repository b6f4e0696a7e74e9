"""Lower bounds of every branch at once, from prices of the limits.

With a price for every limit (the duals of one branch's relaxation), the limits leave the constraints and join the
costs; what remains falls apart into groups, each of which takes its cheapest column. So one pass over the columns
bounds all branches (Lagrangian relaxation, Geoffrion 1974: with the best prices of a branch the bound equals its
linear relaxation, because groups have integral vertices), and most branches never need a relaxation of their own.

    L(branch) = cost of its column + sum over groups it leaves on of their cheapest column - prices @ limits

The *excess* of a column is what the bound rises by when that column is taken. Excesses of different groups add up, so
an answer costs L + the excesses of its columns + prices @ what it leaves of the limits.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from edgeprune.search.layout import Layout
from edgeprune.search.program import Program

__all__ = ["BranchBounds", "Priced"]

_Array = NDArray[np.float64]


class Priced(NamedTuple):
    """One branch at some prices."""

    bound: float
    excess: _Array
    """[columns] of groups the branch leaves on; infinity where another column of the group is fixed."""
    groups: tuple[int, ...]
    """Rows of the groups that are on, without those a column switches on."""


class BranchBounds:
    """The groups of a program and its limits, laid out for one pass."""

    def __init__(self, program: Program, layout: Layout | None = None) -> None:
        """Take the limits; the layout is that of another program over the same groups and branches, where there is one.

        Args:
            program: what is bounded.
            layout: of its groups; None makes it.
        """
        if layout is None:
            layout = Layout(program.groups, program.branch, len(program.cost))
        self.layout = layout
        self.limits = program.limits
        self.coefficients = program.coefficients
        """[limits, columns]"""
        self.is_loosened = program.is_loosened
        """[limits] whether the slack loosens it."""

    def at(self, cost: _Array, prices: _Array) -> _Array:
        """Bounds [len(branch)] for costs [columns] and prices [limits] (not negative), in the order of `branch`."""
        layout = self.layout
        weighted = cost + prices @ self.coefficients
        values = self._values(weighted)
        total = values[layout.outer.rows].sum() - prices @ self.limits
        bounds = weighted[layout.branch] + total
        np.subtract.at(bounds, layout.off_branches, values[layout.off_rows])
        return np.asarray(bounds)

    def priced(self, cost: _Array, prices: _Array, fixed: tuple[int, ...]) -> Priced:
        """One branch in which the columns `fixed` are taken, the first of them of the program's branch."""
        layout, outer, inner = self.layout, self.layout.outer, self.layout.inner
        weighted = cost + prices @ self.coefficients
        if len(fixed) > 1:
            weighted[layout.barred(fixed)] = np.inf
        values, excess = self._values(weighted), np.zeros(len(cost))
        excess[outer.columns] = weighted[outer.columns] - values[layout.group_of[outer.columns]]
        # What a group costs that a column switches on is in that column; its own columns count from there.
        switches = np.zeros(layout.row_count)
        switches[layout.switch_rows] = excess[layout.switch_columns]
        groups = layout.group_of[inner.columns]
        excess[inner.columns] = weighted[inner.columns] - values[groups] + switches[groups]
        on = outer.rows[layout.is_on[layout.position[fixed[0]]]].tolist()
        bound = float(weighted[fixed[0]] + values[on].sum() - prices @ self.limits)
        # What the branch's own column switches on is in its cost already.
        own = layout.switch_rows[layout.switch_columns == fixed[0]].tolist()
        return Priced(bound, excess, (*on, *own))

    def _values(self, weighted: _Array) -> _Array:
        """[rows] of the cheapest column of each group; what a column switches on is added to its own `weighted`."""
        layout = self.layout
        values = np.zeros(layout.row_count)
        values[layout.inner.rows] = layout.inner.cheapest(weighted)
        np.add.at(weighted, layout.switch_columns, values[layout.switch_rows])
        values[layout.outer.rows] = layout.outer.cheapest(weighted)
        return values

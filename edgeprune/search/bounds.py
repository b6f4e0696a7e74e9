"""Lower bounds of every branch at once, from prices of the limits.

With a price for every limit (the duals of one branch's relaxation), the limits leave the constraints and join the
costs; what remains falls apart into groups, each of which takes its cheapest column. So one pass over the columns
bounds all branches (Lagrangian relaxation, Geoffrion 1974: with the best prices of a branch the bound equals its
linear relaxation, because groups have integral vertices), and most branches never need a relaxation of their own.

    L(branch) = cost of its column + sum over groups it leaves on of their cheapest column - prices @ limits
"""

import numpy as np
from numpy.typing import NDArray

from edgeprune.search.program import Program

__all__ = ["BranchBounds"]

_Array = NDArray[np.float64]


class BranchBounds:
    """The groups of a program, laid out for one pass."""

    def __init__(self, program: Program) -> None:
        """Sort the entries of the group rows into members, what turns a group off, what switches it on."""
        rows, count = program.rows, len(program.cost)
        lengths = np.diff(rows.starts)
        row_of = np.repeat(np.arange(len(lengths)), lengths)
        columns, values = np.array(rows.indices, dtype=np.int64), np.array(rows.values)
        is_group = np.array([low == high for low, high in zip(rows.lower, rows.upper, strict=True)])
        self.limit_rows = np.flatnonzero(~is_group)
        self._limit_bounds = np.array(rows.upper)[self.limit_rows]
        self._coefficients = np.zeros((len(self.limit_rows), count + 1))
        in_limit = ~is_group[row_of]
        limit_of = np.cumsum(~is_group) - 1
        self._coefficients[limit_of[row_of[in_limit]], columns[in_limit]] = values[in_limit]

        positive = is_group[row_of] & (values > 0.0)
        entries, first = np.unique(columns[positive], return_index=True)
        group_of = np.full(count, -1)
        group_of[entries] = row_of[positive][first]
        self.group_of = group_of
        """Row of the group that each column belongs to."""
        is_member = positive & (row_of == group_of[np.minimum(columns, count - 1)])
        switched = is_group[row_of] & (values < 0.0)
        self._switch_rows, self._switch_columns = row_of[switched], columns[switched]
        branch_row = group_of[program.branch[0]] if program.branch else -1
        is_inner = np.zeros(len(lengths), dtype=bool)
        is_inner[self._switch_rows] = True
        self._inner = _Members(row_of, columns, is_member & is_inner[row_of])
        outer = is_member & ~is_inner[row_of] & (row_of != branch_row)
        self._outer = _Members(row_of, columns, outer)
        # For each branch: the outer groups it turns off.
        self._branch = np.array(program.branch, dtype=np.int64)
        position = np.full(count, -1)
        position[self._branch] = np.arange(len(self._branch))
        off = positive & ~is_member & (position[np.minimum(columns, count - 1)] >= 0)
        self._off_rows, self._off_branches = row_of[off], position[columns[off]]
        self._row_count = len(lengths)

    def at(self, cost: _Array, prices: _Array) -> _Array:
        """Bounds [len(branch)] for costs [columns] and prices [limits] (not negative), in the order of `branch`."""
        weighted = cost + prices @ self._coefficients[:, :-1]
        values = np.zeros(self._row_count)
        self._inner.cheapest(weighted, values)
        np.add.at(weighted, self._switch_columns, values[self._switch_rows])
        self._outer.cheapest(weighted, values)
        total = values[self._outer.rows].sum() - prices @ self._limit_bounds
        bounds = weighted[self._branch] + total
        np.subtract.at(bounds, self._off_branches, values[self._off_rows])
        return np.asarray(bounds)


class _Members:
    """Columns of some groups, those of a group side by side."""

    def __init__(self, row_of: NDArray[np.int64], columns: NDArray[np.int64], chosen: NDArray[np.bool_]) -> None:
        self._columns = columns[chosen]
        self.rows, self._starts = np.unique(row_of[chosen], return_index=True)

    def cheapest(self, weighted: _Array, values: _Array) -> None:
        """Write the cheapest column's value of every group to its place in `values`."""
        if len(self.rows):
            values[self.rows] = np.minimum.reduceat(weighted[self._columns], self._starts)

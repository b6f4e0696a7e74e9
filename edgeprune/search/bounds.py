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
    """The groups of a program, laid out for one pass."""

    def __init__(self, program: Program) -> None:
        """Sort the entries of the group rows into members, what turns a group off, what switches it on."""
        rows, count = program.rows, len(program.cost)
        lengths = np.diff(rows.starts)
        row_of = np.repeat(np.arange(len(lengths)), lengths)
        columns, values = np.array(rows.indices, dtype=np.int64), np.array(rows.values)
        is_group = np.array(rows.lower) == np.array(rows.upper)
        self.limit_rows = np.flatnonzero(~is_group)
        self.limits = np.array(rows.upper)[self.limit_rows]
        """Of the limit rows; another program that differs in these alone may put its own here."""
        coefficients = np.zeros((len(self.limit_rows), count + 1))
        in_limit = ~is_group[row_of]
        limit_of = np.cumsum(~is_group) - 1
        coefficients[limit_of[row_of[in_limit]], columns[in_limit]] = values[in_limit]
        self.coefficients = coefficients[:, :-1]
        """[limits, columns]"""
        self.is_loosened = coefficients[:, -1] < 0.0
        """[limits] whether the slack loosens it."""

        positive = is_group[row_of] & (values > 0.0)
        entries, first = np.unique(columns[positive], return_index=True)
        group_of = np.full(count, -1)
        group_of[entries] = row_of[positive][first]
        self.group_of = group_of
        """Row of the group that each column belongs to."""
        is_member = positive & (row_of == group_of[np.minimum(columns, count - 1)])
        switched = is_group[row_of] & (values < 0.0)
        self._switch_rows, self._switch_columns = row_of[switched], columns[switched]
        # Groups that a column switches on belong with that column's group.
        owner = np.arange(len(lengths))
        owner[self._switch_rows] = group_of[self._switch_columns]
        self.owner = np.where(group_of >= 0, owner[np.maximum(group_of, 0)], -1)
        """Row of the group that each column belongs to, or of the one that switches its own group on."""
        branch_row = group_of[program.branch[0]] if program.branch else -1
        is_inner = np.zeros(len(lengths), dtype=bool)
        is_inner[self._switch_rows] = True
        self._inner = _Members(row_of, columns, is_member & is_inner[row_of])
        self.outer = _Members(row_of, columns, is_member & ~is_inner[row_of] & (row_of != branch_row))
        # For each branch: the outer groups it turns off.
        self._branch = np.array(program.branch, dtype=np.int64)
        position = np.full(count, -1)
        position[self._branch] = np.arange(len(self._branch))
        off = positive & ~is_member & (position[np.minimum(columns, count - 1)] >= 0)
        self._off_rows, self._off_branches = row_of[off], position[columns[off]]
        self._position = position
        self._row_count = len(lengths)
        self._switched: dict[int, list[NDArray[np.int64]]] = {}
        for row, column in zip(self._switch_rows.tolist(), self._switch_columns.tolist(), strict=True):
            self._switched.setdefault(column, []).append(self._inner.of(row))

    def at(self, cost: _Array, prices: _Array) -> _Array:
        """Bounds [len(branch)] for costs [columns] and prices [limits] (not negative), in the order of `branch`."""
        weighted = cost + prices @ self.coefficients
        values = np.zeros(self._row_count)
        self._inner.cheapest(weighted, values)
        np.add.at(weighted, self._switch_columns, values[self._switch_rows])
        self.outer.cheapest(weighted, values)
        total = values[self.outer.rows].sum() - prices @ self.limits
        bounds = weighted[self._branch] + total
        np.subtract.at(bounds, self._off_branches, values[self._off_rows])
        return np.asarray(bounds)

    def priced(self, cost: _Array, prices: _Array, fixed: tuple[int, ...]) -> Priced:
        """One branch in which the columns `fixed` are taken, the first of them of the program's branch."""
        weighted = cost + prices @ self.coefficients
        for column in fixed[1:]:
            kept = weighted[column]
            weighted[self.members(int(self.group_of[column]))] = np.inf
            weighted[column] = kept
        values, excess = np.zeros(self._row_count), np.zeros(len(cost))
        self._inner.cheapest(weighted, values)
        np.add.at(weighted, self._switch_columns, values[self._switch_rows])
        self.outer.cheapest(weighted, values)
        excess[self.outer.columns] = weighted[self.outer.columns] - values[self.group_of[self.outer.columns]]
        # What a group costs that a column switches on is in that column; its own columns count from there.
        switches = np.zeros(self._row_count)
        switches[self._switch_rows] = excess[self._switch_columns]
        groups = self.group_of[self._inner.columns]
        excess[self._inner.columns] = weighted[self._inner.columns] - values[groups] + switches[groups]
        off = set(self._off_rows[self._off_branches == self._position[fixed[0]]].tolist())
        on = [row for row in self.outer.rows.tolist() if row not in off]
        bound = float(weighted[fixed[0]] + values[on].sum() - prices @ self.limits)
        # What the branch's own column switches on is in its cost already.
        own = self._switch_rows[self._switch_columns == fixed[0]].tolist()
        return Priced(bound, excess, (*on, *own))

    def members(self, row: int) -> NDArray[np.int64]:
        """Columns of one group."""
        return self.outer.of(row) if row in self.outer else self._inner.of(row)

    def switched_by(self, column: int) -> list[NDArray[np.int64]]:
        """Columns of each group that a column switches on."""
        return self._switched.get(column, [])


class _Members:
    """Columns of some groups, those of a group side by side."""

    def __init__(self, row_of: NDArray[np.int64], columns: NDArray[np.int64], chosen: NDArray[np.bool_]) -> None:
        self.columns = columns[chosen]
        self.rows, self._starts = np.unique(row_of[chosen], return_index=True)
        self._place = {int(row): place for place, row in enumerate(self.rows)}
        self._ends = np.append(self._starts[1:], len(self.columns))

    def __contains__(self, row: int) -> bool:
        """Whether it is one of these groups."""
        return row in self._place

    def of(self, row: int) -> NDArray[np.int64]:
        """Columns of one group."""
        place = self._place[row]
        return self.columns[self._starts[place] : self._ends[place]]

    def cheapest(self, weighted: _Array, values: _Array) -> None:
        """Write the cheapest column's value of every group to its place in `values`."""
        if len(self.rows):
            values[self.rows] = np.minimum.reduceat(weighted[self.columns], self._starts)

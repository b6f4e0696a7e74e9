"""The groups of a program for one pass over its columns: members side by side, and what turns groups on and off.

Made once for all programs over the same groups, whatever they make least and limit.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from edgeprune.search.program import GroupRows

__all__ = ["Choice", "Layout", "Members"]

_Array = NDArray[np.float64]
_Indices = NDArray[np.int64]


class Choice(NamedTuple):
    """A column of every group, also of those that a branch turns off or nothing switches on."""

    outer: _Indices
    """[groups that no column switches on]"""
    inner: _Indices
    """[groups that a column switches on]"""


class Members:
    """Columns of some groups, those of a group side by side."""

    def __init__(self, row_of: _Indices, columns: _Indices, chosen: NDArray[np.bool_]) -> None:
        """Take the chosen ones of some entries, which are sorted by row."""
        self.columns = columns[chosen]
        self.rows, self._starts = np.unique(row_of[chosen], return_index=True)
        self.place = {int(row): place for place, row in enumerate(self.rows)}
        self._ends = np.append(self._starts[1:], len(self.columns))
        self._group = np.repeat(np.arange(len(self.rows)), self._ends - self._starts)

    def __contains__(self, row: int) -> bool:
        """Whether it is one of these groups."""
        return row in self.place

    def of(self, row: int) -> _Indices:
        """Columns of one group."""
        place = self.place[row]
        return self.columns[self._starts[place] : self._ends[place]]

    def cheapest(self, weighted: _Array) -> _Array:
        """[groups] the value of the cheapest column of each, of `weighted` [columns]."""
        if not len(self.rows):
            return np.zeros(0)
        return np.asarray(np.minimum.reduceat(weighted[self.columns], self._starts))

    def chosen(self, weighted: _Array, cheapest: _Array) -> _Indices:
        """[groups] the first cheapest column of each."""
        at = np.flatnonzero(weighted[self.columns] == cheapest[self._group])
        first = np.searchsorted(self._group[at], np.arange(len(self.rows)))
        return np.asarray(self.columns[at[first]])


class Layout:
    """Groups, and the branches of a program over them."""

    def __init__(self, groups: GroupRows, branch: tuple[int, ...], count: int) -> None:
        """Sort the entries of the rows into members, what turns a group off, what switches it on.

        Args:
            groups: one row each.
            branch: columns of one group.
            count: of all columns.
        """
        lengths = np.diff(groups.starts)
        rows = np.repeat(np.arange(len(lengths)), lengths)
        columns, values = np.array(groups.indices, dtype=np.int64), np.array(groups.values)
        positive = values > 0.0
        entries, first = np.unique(columns[positive], return_index=True)
        self.group_of = np.full(count, -1)
        """Row of the group that each column belongs to."""
        self.group_of[entries] = rows[positive][first]
        is_member = positive & (rows == self.group_of[columns])
        switched = values < 0.0
        self.switch_rows, self.switch_columns = rows[switched], columns[switched]
        # Groups that a column switches on belong with that column's group.
        owner = np.arange(len(lengths))
        owner[self.switch_rows] = self.group_of[self.switch_columns]
        self.owner = np.where(self.group_of >= 0, owner[np.maximum(self.group_of, 0)], -1)
        """Row of the group that each column belongs to, or of the one that switches its own group on."""
        branch_row = self.group_of[branch[0]] if branch else -1
        is_inner = np.zeros(len(lengths), dtype=bool)
        is_inner[self.switch_rows] = True
        self.inner = Members(rows, columns, is_member & is_inner[rows])
        self.outer = Members(rows, columns, is_member & ~is_inner[rows] & (rows != branch_row))
        self.branch = np.array(branch, dtype=np.int64)
        self.position = np.full(count, -1)
        """Of each column in the branch; -1 elsewhere."""
        self.position[self.branch] = np.arange(len(self.branch))
        off = positive & ~is_member & (self.position[columns] >= 0)
        self.off_rows, self.off_branches = rows[off], self.position[columns[off]]
        self.row_count = len(lengths)
        self.is_on = np.ones((len(branch), len(self.outer.rows)), dtype=bool)
        """[branches, outer groups]"""
        for row, place in zip(self.off_rows.tolist(), self.off_branches.tolist(), strict=True):
            if row in self.outer:
                self.is_on[place, self.outer.place[row]] = False
        self._switched: dict[int, list[_Indices]] = {}
        for row, column in zip(self.switch_rows.tolist(), self.switch_columns.tolist(), strict=True):
            self._switched.setdefault(column, []).append(self.inner.of(row))
        self.nested_rows = frozenset(self.group_of[self.switch_columns].tolist())
        """Rows of the groups of which some column switches others on."""
        order = np.argsort(self.switch_rows, kind="stable")  # as the inner groups stand
        self._switch = self.switch_columns[order]
        self._switch_place = np.array(
            [self.outer.place.get(int(self.group_of[column]), -1) for column in self._switch], dtype=np.int64
        )

    def members(self, row: int) -> _Indices:
        """Columns of one group."""
        return self.outer.of(row) if row in self.outer else self.inner.of(row)

    def switched_by(self, column: int) -> list[_Indices]:
        """Columns of each group that a column switches on."""
        return self._switched.get(column, [])

    def barred(self, fixed: tuple[int, ...]) -> _Indices:
        """Columns that cannot be taken where those of `fixed` behind the first are."""
        parts = [self.members(int(self.group_of[column])) for column in fixed[1:]]
        return np.concatenate([part[part != column] for part, column in zip(parts, fixed[1:], strict=True)])

    def choice(self, weighted: _Array) -> Choice:
        """The cheapest column of every group, with what it switches on; `weighted` [columns] is written to."""
        cheapest = self.inner.cheapest(weighted)
        inner = self.inner.chosen(weighted, cheapest) if len(cheapest) else np.zeros(0, dtype=np.int64)
        np.add.at(weighted, self._switch, cheapest)
        return Choice(self.outer.chosen(weighted, self.outer.cheapest(weighted)), inner)

    def with_fixed(self, choice: Choice, fixed: tuple[int, ...]) -> Choice:
        """The same with the columns of `fixed` behind the first."""
        if len(fixed) == 1:
            return choice
        outer = choice.outer.copy()
        for column in fixed[1:]:
            outer[self.outer.place[int(self.group_of[column])]] = column
        return Choice(outer, choice.inner)

    def taken(self, column: int, choice: Choice) -> _Indices:
        """What an allocation of the branch `column` takes."""
        on = self.is_on[self.position[column]]
        place = self._switch_place
        by_outer = (choice.outer[np.maximum(place, 0)] == self._switch) & on[np.maximum(place, 0)]
        inner_on = np.where(place >= 0, by_outer, self._switch == column)
        return np.concatenate([np.full(1, column), choice.outer[on], choice.inner[inner_on]])

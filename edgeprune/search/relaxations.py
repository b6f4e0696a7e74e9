"""The relaxations of one program's branches, and what they tell of the other branches."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from edgeprune.search.bounds import BranchBounds
from edgeprune.search.dual import Pool, best_prices
from edgeprune.search.layout import Layout
from edgeprune.search.program import Program

__all__ = ["Relaxations", "Relaxed"]

INFEASIBLE_ABOVE = 1e-6
"""A combination of limits, largest factor one, that misses by this much refutes another branch; limits are near one."""

_Array = NDArray[np.float64]


class Relaxed(NamedTuple):
    """One relaxation of a program whose branches are tried one by one."""

    prices: _Array
    """[limits] not negative, each limit scaled as in the program."""
    values: _Array
    """[columns]"""


class Relaxations:
    """The relaxations of one program."""

    def __init__(
        self, program: Program, *, is_exact: bool = False, layout: Layout | None = None, pool: Pool | None = None
    ) -> None:
        """Lay the program out.

        Args:
            program: what is relaxed.
            is_exact: whether no gap may be left.
            layout: of the program's groups; None makes it.
            pool: allocations of programs over the same groups, to start from and to add to.
        """
        self.bounds = BranchBounds(program, layout)
        self._program = program
        self._is_exact = is_exact
        self._pool = Pool() if pool is None else pool
        self._ray: _Array | None = None

    def relax(self, fixed: tuple[int, ...]) -> Relaxed | None:
        """The relaxation in which some columns are taken; None when nothing is feasible."""
        found = best_prices(
            self.bounds,
            self._program.cost,
            fixed,
            self._pool,
            has_slack=self._program.slack_upper > 0.0,
            is_exact=self._is_exact,
        )
        if found.values is None:
            self._ray = found.prices
            self._pool.note_ray(self.bounds, found.prices)
            return None
        prices = found.prices
        # The slack costs one, so prices of what it loosens that add up to more would bound nothing.
        loosened = self.bounds.is_loosened
        prices[loosened] /= max(1.0, float(prices[loosened].sum()))
        self._pool.note(self.bounds, prices)
        return Relaxed(prices, found.values)

    def bound(self, fixed: tuple[int, ...]) -> float:
        """A bound of the same from prices that are known, in far less time."""
        known, cost = self._pool.prices(self.bounds), self._program.cost
        return max((self.bounds.priced(cost, prices, fixed).bound for prices in known), default=-np.inf)

    def misses(self) -> _Array | None:
        """After a relaxation that is infeasible: infinity for each branch that the same prices show to be so too."""
        return None if self._ray is None else self._missed(self._ray)

    def known_misses(self) -> list[_Array]:
        """The same of prices that showed it for other programs."""
        return [self._missed(ray) for ray in self._pool.rays(self.bounds)]

    def _missed(self, ray: _Array) -> _Array:
        missed = self.bounds.at(np.zeros(len(self._program.cost)), ray)
        return np.where(missed > INFEASIBLE_ABOVE, np.inf, -np.inf)

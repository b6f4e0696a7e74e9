"""The best prices of a branch's limits, by cutting planes over whole allocations.

At prices L the limits join the costs and every group takes its cheapest column (`bounds`): one pass gives an allocation
x and the value c(x) + L (A x - b), which no allocation of the branch costs less than. As a function of the prices it
is the least of such planes, one for each allocation, so the best prices are those of a linear program with a variable
a limit and a row a known allocation, to which passes at its answers add rows until they agree (Kelley 1960; the dual of
Dantzig and Wolfe 1960). It has as many variables as there are limits, where the relaxation itself has one a column,
and the rows of earlier programs over the same groups serve again: what was paid for one budget starts the next.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from edgeprune.search.bounds import BranchBounds
from edgeprune.search.highs import Planes
from edgeprune.search.layout import Choice

__all__ = ["Pool", "Priced", "best_prices"]

_Array = NDArray[np.float64]
_Indices = NDArray[np.int64]

POOL = 24
"""Allocations kept for later programs."""
PRICES = 8
"""Prices kept for later programs, of each kind of limits."""
MOST_PASSES = 300
"""Passes for one branch; what is reached then is a bound too."""
FIRST_PRICE = 100.0
"""Largest price that is tried at first, in parts of the bound for the whole of a limit's resource."""
WIDER = 30.0
MOST_PRICE = 1e9
INFEASIBLE_ABOVE = 2e-9
"""Prices that show limits, scaled to one, to be missed by this much with nothing else charged refute a branch."""
TOLERANCE = 1e-7
"""Of the bound, or of the least objective that counts; sharper where no gap is to be left."""
EXACT_TOLERANCE = 1e-10
ABSOLUTE = 1e-6
"""Objectives are scaled as if none were smaller."""
FARTHEST = 10.0
"""Costs are scaled again where the scale is this far from the one wanted."""
UNUSED = 1e-7
"""Shares of an allocation in the relaxation below this are none."""


class Pool:
    """Allocations and prices that relaxations ended at, the latest first."""

    def __init__(self) -> None:
        """None yet."""
        self.choices: list[Choice] = []
        self._prices: dict[bytes, list[_Array]] = {}
        self._rays: dict[bytes, list[_Array]] = {}

    def prices(self, bounds: BranchBounds) -> list[_Array]:
        """Of programs with as many limits that are loosened alike: any prices that are not negative bound."""
        return self._prices.get(bounds.is_loosened.tobytes(), [])

    def note(self, bounds: BranchBounds, prices: _Array) -> None:
        """Keep these before the others."""
        self._prices[bounds.is_loosened.tobytes()] = [prices, *self.prices(bounds)][:PRICES]

    def rays(self, bounds: BranchBounds) -> list[_Array]:
        """The same of prices that showed limits to be missed whatever is taken."""
        return self._rays.get(bounds.is_loosened.tobytes(), [])

    def note_ray(self, bounds: BranchBounds, prices: _Array) -> None:
        """Keep these before the others."""
        self._rays[bounds.is_loosened.tobytes()] = [prices, *self.rays(bounds)][:PRICES]

    def add(self, choices: list[Choice]) -> None:
        """Keep these before the others."""
        known = [(choice.outer.tobytes(), choice.inner.tobytes()) for choice in choices]
        others = [kept for kept in self.choices if (kept.outer.tobytes(), kept.inner.tobytes()) not in known]
        self.choices = [*choices, *others][:POOL]


class Priced(NamedTuple):
    """The relaxation of a branch."""

    prices: _Array
    """[limits] not negative; where it is infeasible, those that show it with nothing else charged, the largest one."""
    values: _Array | None
    """[columns] the mixture of allocations that the relaxation takes; None where it is infeasible."""


def best_prices(
    bounds: BranchBounds, cost: _Array, fixed: tuple[int, ...], pool: Pool, *, has_slack: bool, is_exact: bool
) -> Priced:
    """The prices with the largest bound, and the relaxation they belong to.

    Args:
        bounds: groups and limits of the program.
        cost: [columns] of the program.
        fixed: columns that the branch takes, the first of them of the program's branch.
        pool: allocations to start from; those the relaxation ends at are added.
        has_slack: whether a slack at a cost of one loosens some limits, which bounds their prices.
        is_exact: whether no gap may be left.
    """
    search = _Search(bounds, cost, fixed, has_slack=has_slack, is_exact=is_exact)
    search.know(pool.choices)
    found = search.run()
    pool.add(search.used)
    return found


class _Search:
    """One branch."""

    def __init__(
        self, bounds: BranchBounds, cost: _Array, fixed: tuple[int, ...], *, has_slack: bool, is_exact: bool
    ) -> None:
        self._bounds, self._cost, self._fixed = bounds, cost, fixed
        self._has_slack = has_slack
        self._wanted = 1e3 if is_exact else 1.0
        self._tolerance = EXACT_TOLERANCE if is_exact else TOLERANCE
        self._barred = bounds.layout.barred(fixed) if len(fixed) > 1 else None
        self._held = ~bounds.is_loosened if has_slack else np.ones(len(bounds.limits), dtype=bool)
        self._choices: list[Choice] = []
        self._costs: list[float] = []
        self._missed: list[_Array] = []
        self._most = FIRST_PRICE
        self._scale = 1.0
        self._bound, self._prices = -np.inf, np.zeros(len(bounds.limits))
        self.used: list[Choice] = []
        """Allocations that the relaxation mixes."""

    def know(self, choices: list[Choice]) -> None:
        """Take allocations of other programs, as far as they are of this branch."""
        for choice in choices:
            self._note(self._bounds.layout.with_fixed(choice, self._fixed))

    def run(self) -> Priced:
        """Pass after pass until the planes agree with the bound."""
        if not self._choices:
            self._pass(self._prices)
        planes = self._planes()
        for _ in range(MOST_PASSES):
            top, prices = planes.best()
            prices, top = prices / self._scale, top / self._scale
            is_new = self._pass(prices)
            is_widest = self._is_widest(prices)
            if is_widest and (ray := self._refuting(prices)) is not None:
                return Priced(ray, None)
            if not is_new or top - self._bound <= self._tolerance * self._size:
                if not is_widest or self._most >= MOST_PRICE:
                    break
                self._most *= WIDER
                planes = self._planes()
            elif self._is_out_of_scale():
                planes = self._planes()
            else:
                planes.add(self._costs[-1] * self._scale, self._missed[-1])
        return Priced(self._prices, self._values(planes))

    @property
    def _size(self) -> float:
        return max(abs(self._bound), ABSOLUTE)

    def _is_out_of_scale(self) -> bool:
        if self._has_slack:
            return False
        return not 1.0 / FARTHEST < self._wanted_scale / self._scale < FARTHEST

    @property
    def _wanted_scale(self) -> float:
        return max(1.0, self._wanted / self._size)

    def _planes(self) -> Planes:
        """All that are known, costs scaled to the bound: a whole recipe may lose less than HiGHS tells from none."""
        if not self._has_slack and self._bound > -np.inf:
            self._scale = self._wanted_scale
        loosened = np.flatnonzero(~self._held)
        planes = Planes(len(self._prices), most=self._most, loosened=loosened)
        for cost, missed in zip(self._costs, self._missed, strict=True):
            planes.add(cost * self._scale, missed)
        return planes

    def _pass(self, prices: _Array) -> bool:
        """The allocation that is cheapest at some prices; whether it is a new one."""
        weighted = self._cost + prices @ self._bounds.coefficients
        if self._barred is not None:
            weighted[self._barred] = np.inf
        choice = self._bounds.layout.choice(weighted)
        self._note(choice)
        cost, missed = self._costs[-1], self._missed[-1]
        bound = cost + float(prices @ missed)
        if bound > self._bound:
            self._bound, self._prices = bound, prices
        known = zip(self._costs[:-1], self._missed[:-1], strict=True)
        return not any(cost == other and np.array_equal(missed, one) for other, one in known)

    def _note(self, choice: Choice) -> None:
        taken = self._bounds.layout.taken(self._fixed[0], choice)
        self._choices.append(choice)
        self._costs.append(float(self._cost[taken].sum()))
        self._missed.append(self._bounds.coefficients[:, taken].sum(axis=1) - self._bounds.limits)

    def _is_widest(self, prices: _Array) -> bool:
        return bool((prices[self._held] * self._scale >= self._most * (1.0 - 1e-9)).any())

    def _refuting(self, prices: _Array) -> _Array | None:
        """These prices of what is held, if by them alone all there is in the branch misses the limits."""
        held = np.where(self._held, prices, 0.0) / prices[self._held].max()
        weighted = held @ self._bounds.coefficients
        if self._barred is not None:
            weighted[self._barred] = np.inf
        taken = self._bounds.layout.taken(self._fixed[0], self._bounds.layout.choice(weighted))
        missed = self._bounds.coefficients[:, taken].sum(axis=1) - self._bounds.limits
        return held if float(held @ missed) > INFEASIBLE_ABOVE else None

    def _values(self, planes: Planes) -> _Array:
        values = np.zeros(len(self._cost))
        shares = planes.shares()
        for at in np.flatnonzero(shares > UNUSED).tolist():
            choice = self._choices[at]
            self.used.append(choice)
            values[self._bounds.layout.taken(self._fixed[0], choice)] += shares[at]
        return values

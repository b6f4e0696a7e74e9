"""Every allocation whose cost lies within a margin of a branch's bound: what closes the gap the relaxation leaves.

An answer costs the bound + the excesses of its columns + what it leaves of priced limits (`bounds`), so all answers
within a margin are made of columns whose excesses add up to no more. There are few of those: of hundreds of groups all
but a handful take their cheapest column. They are listed group by group, as in dynamic programming over a core
(Balas and Zemel 1980; Pisinger 1995), partial ones left out where other prices show that the limits cannot be met
from there within the margin. Nothing is rounded, so what is listed is exact: no answer costs less than both the best
one found and the bound + margin. Work is counted in partial allocations, never timed, so that the answer is a function
of the program alone.
"""

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from edgeprune.search.bounds import BranchBounds, Priced

__all__ = ["Closed", "close"]

FIRST_COUNT = 3_000
"""Partial allocations expected of the first margin."""
GROWTH = 4
"""How many times as many are expected of each next one."""
SURPLUS = 40
"""How many times as many may be made in all, group by group."""
FIRST_COLUMNS = 120
"""Columns of the first margin, where no answer tells how far to look."""
LAST_COLUMNS = 400
"""Columns of the largest margin."""
MOST = 3_000
"""Options of one group; a narrower margin has fewer."""
BINS = 200
"""Steps of excess in which partial allocations are counted before they are made."""
FACTORS = (0.25, 0.6, 0.85, 1.18, 1.6, 4.0)
"""Other prices: each price alone times one of these, and all of them times the middle ones."""
TINY = 1e-6
"""Limits below this count as this."""
WITHIN = 1e-12
"""Of a limit, which is scaled to one: sums of the same numbers in another order."""

_Array = NDArray[np.float64]
_Indices = NDArray[np.int64]


class Closed(NamedTuple):
    """What listing showed."""

    taken: tuple[int, ...]
    """Columns of the best allocation that beats what was known; empty where none does."""
    slack: float
    objective: float
    """Its cost, infinity where there is none."""
    bound: float
    """No allocation of the branch costs less than this and than the best."""
    work: int
    """Partial allocations made."""


class _Options(NamedTuple):
    """What one group may take, least excess first."""

    columns: list[tuple[int, ...]]
    excess: _Array
    paid: _Array
    """[options, limits]"""
    cost: _Array


def close(
    bounds: BranchBounds,
    cost: _Array,
    fixed: tuple[int, ...],
    prices: _Array,
    *,
    cutoff: float,
    tolerance: float = 0.0,
    work_limit: int,
) -> Closed:
    """List the allocations of a branch in growing margins, until none is left below the best or the work is spent.

    Args:
        bounds: the groups of the program.
        cost: [columns] of the program.
        fixed: columns the branch takes, the first of them of the program's branch.
        prices: [limits] not negative, those of the branch's relaxation.
        cutoff: only what costs less is of interest; infinity where nothing is known.
        tolerance: how far below the best the bound may stay.
        work_limit: partial allocations that may be made.
    """
    priced = bounds.priced(cost, prices, fixed)
    excesses = _excesses(bounds, priced)
    best = Closed((), 0.0, math.inf, priced.bound, 0)
    first = _nth(excesses, FIRST_COLUMNS)
    # Beyond the largest sum there is nothing; with many columns the margin ends where too many of them are within.
    widest = float(excesses.sum()) if len(excesses) <= LAST_COLUMNS else float(excesses[LAST_COLUMNS - 1])
    known, margin, work, expected, near = cutoff, -1.0, 0, FIRST_COUNT, FIRST_COLUMNS
    others, choices = _other_prices(bounds, prices, abs(priced.bound)), _Choices(bounds, priced, cost)
    while work < work_limit and best.bound < known - tolerance and margin < widest:
        wanted = known - tolerance - priced.bound if known < math.inf else max(first, GROWTH * margin)
        reach = min(wanted, widest, _nth(excesses, near))
        near *= 2
        if reach <= margin and near <= len(excesses):
            continue
        options = choices.within(reach)
        while max((int(np.searchsorted(each.excess, reach, side="right")) for each in options), default=0) > MOST:
            reach *= 0.5
        if reach <= margin:
            break
        margin = min(reach, max(_margin(options, reach, expected), 2.0 * margin))
        lister = _Lister(bounds, options, [prices, *others], margin)
        start = cost[fixed[0]], bounds.coefficients[:, fixed[0]]
        allowed = min(SURPLUS * expected, work_limit - work)
        # Only an allocation that is known tells what is of no interest.
        below = min(known, priced.bound + margin) if known < math.inf else math.inf
        taken, slack, objective = lister.run(*start, below=below, work_limit=allowed)
        work += lister.work
        if objective < known:
            known = objective
            best = best._replace(taken=(fixed[0], *taken), slack=slack, objective=objective)
        if not lister.is_complete:
            break
        is_all = len(excesses) <= LAST_COLUMNS and margin >= widest
        best = best._replace(bound=known if is_all else min(known, priced.bound + margin))
        expected *= GROWTH
    return best._replace(work=work)


def _nth(excesses: _Array, count: int) -> float:
    """The excess within which so many columns are; infinity where there are not so many."""
    return float(excesses[count - 1]) if len(excesses) >= count else math.inf


def _excesses(bounds: BranchBounds, priced: Priced) -> _Array:
    """Of all columns that are not taken at the bound, the smallest first."""
    parts = [np.zeros(0)]
    for row in priced.groups:
        columns = bounds.members(row)
        parts.append(priced.excess[columns])
        parts += [priced.excess[inner] for column in columns.tolist() for inner in bounds.switched_by(column)]
    found = np.concatenate(parts)
    return np.sort(found[np.isfinite(found) & (found > 0.0)])


def _other_prices(bounds: BranchBounds, prices: _Array, scale: float) -> list[_Array]:
    """Prices near those of the bound; an allocation is of no interest where any of them shows it to cost too much."""
    found = []
    loosened = bounds.is_loosened
    for place in np.flatnonzero(prices > 0.0).tolist():
        for factor in FACTORS:
            other = prices.copy()
            other[place] *= factor
            found.append(other)
    found += [prices * factor for factor in FACTORS[1:-1]]
    # What a limit without a price, or a slack, would cost that is missed: any prices that are not negative bound.
    for place, limit in enumerate(bounds.limits.tolist()):
        other = np.where(loosened, 0.0, prices)
        other[place] = 1.0 if loosened[place] else max(10.0 * prices[place], scale / max(abs(limit), TINY))
        found.append(other)
    total = float(prices[loosened].sum())
    if total > 0.0:
        found.append(np.where(loosened, prices / total, prices))
    # The slack costs one: prices of what it loosens add up to no more, or the bound is none.
    return [other for other in found if other[loosened].sum() <= 1.0 + WITHIN]


class _Choices:
    """The options of a branch's groups within margins that grow; a group is looked at again where it gained some."""

    def __init__(self, bounds: BranchBounds, priced: Priced, cost: _Array) -> None:
        self._bounds, self._priced, self._cost = bounds, priced, cost
        self._kept: dict[int, tuple[int, float, _Options]] = {}

    def within(self, margin: float) -> list[_Options]:
        """Of every group; some may lie beyond the margin."""
        owner, excess = self._bounds.owner, self._priced.excess
        counts = np.bincount(owner[(excess <= margin) & (owner >= 0)], minlength=int(owner.max()) + 1).tolist()
        for row in self._priced.groups:
            kept = self._kept.get(row)
            if kept is None or kept[0] != counts[row] or (margin > kept[1] and _is_nested(kept[2])):
                options = _options(self._bounds, self._priced, self._cost, row, margin)
                self._kept[row] = counts[row], margin, options
        return [self._kept[row][2] for row in self._priced.groups]


def _is_nested(options: _Options) -> bool:
    """Whether a wider margin may hold more of them though no more columns: where one switches groups on."""
    return len(options.columns) > 1 and any(len(each) > 1 for each in options.columns)


def _options(bounds: BranchBounds, priced: Priced, cost: _Array, row: int, margin: float) -> _Options:
    """The columns of a group within a margin, each with every choice of the groups it switches on."""
    excess, paid = priced.excess, bounds.coefficients
    members = bounds.members(row)
    members = members[excess[members] <= margin]
    if len(members) == 1 and not bounds.switched_by(int(members[0])):
        return _Options([(int(members[0]),)], excess[members], paid[:, members].T, cost[members])
    columns: list[tuple[int, ...]] = []
    parts: list[tuple[_Array, _Array, _Array]] = []
    for column in members.tolist():
        sums, pays, costs = excess[[column]], paid[:, [column]].T, cost[[column]]
        chosen: list[tuple[int, ...]] = [(column,)]
        for inner in bounds.switched_by(column):
            more = excess[inner] - excess[column]
            first, second = np.nonzero(sums[:, None] + more <= margin)
            near = inner[second]
            sums, pays, costs = sums[first] + more[second], pays[first] + paid[:, near].T, costs[first] + cost[near]
            chosen = [(*chosen[at], each) for at, each in zip(first.tolist(), near.tolist(), strict=True)]
        columns += chosen
        parts.append((sums, pays, costs))
    sums, pays, costs = (np.concatenate(each) for each in zip(*parts, strict=True))
    # Of equal ones the lightest first: where no limit has a price, it is what meets them.
    order = np.lexsort((pays.sum(axis=1), sums))
    return _Options([columns[at] for at in order.tolist()], sums[order], pays[order], costs[order])


def _margin(options: list[_Options], reach: float, count: int) -> float:
    """The largest margin, at most `reach`, of which so many partial allocations are expected."""
    if reach <= 0.0:
        return 0.0
    ways = np.zeros(BINS)
    ways[0] = 1.0
    for group in options:
        places = (group.excess / reach * (BINS - 1)).astype(np.int64)
        if len(places) < 2:
            continue
        more = np.zeros(BINS)
        for place, each in zip(*np.unique(places[places < BINS], return_counts=True), strict=True):
            more[place:] += each * ways[: BINS - place]
        ways = more
    within = np.flatnonzero(np.cumsum(ways) <= count)
    return reach * float((within[-1] + 1 if len(within) else 1) / (BINS - 1))


class _Lister:
    """Partial allocations, group by group; what all of them share is kept once."""

    def __init__(self, bounds: BranchBounds, options: list[_Options], prices: list[_Array], margin: float) -> None:
        self._bounds = bounds
        self._margin = margin
        counts = [int(np.searchsorted(group.excess, margin, side="right")) for group in options]
        cut = [
            _Options(group.columns[:count], group.excess[:count], group.paid[:count], group.cost[:count])
            for group, count in zip(options, counts, strict=True)
        ]
        self._single = [group for group in cut if len(group.excess) == 1]
        # What moves the limits most comes first: the rest tells best whether they can still be met.
        several = [group for group in cut if len(group.excess) > 1]
        self._options = sorted(several, key=lambda group: -float(np.abs(group.paid - group.paid[0]).max(initial=0.0)))
        self._prices = np.array(prices).reshape(len(prices), len(bounds.limits))
        least = [(group.cost[:, None] + group.paid @ self._prices.T).min(axis=0) for group in self._options]
        rest = np.cumsum(np.array([np.zeros(len(prices)), *least[::-1]]), axis=0)[::-1]
        self._rest = rest - self._prices @ bounds.limits
        """[groups + 1, prices] the least that the groups from there on cost at each of the prices."""
        self.is_complete = True
        """False once partial allocations were left out for being too many."""
        self.work = 0

    def run(self, cost: float, paid: _Array, *, below: float, work_limit: int) -> tuple[tuple[int, ...], float, float]:
        """The best allocation below a cost: columns, slack and objective, which is infinity where there is none.

        Where there are too many partial ones, those are carried on that may cost least.
        """
        held = max(1, work_limit // max(1, len(self._options)))
        excess = np.array([sum(float(group.excess[0]) for group in self._single)])
        costs = np.array([cost + sum(float(group.cost[0]) for group in self._single)])
        pays = np.array([sum((group.paid[0] for group in self._single), paid)])
        node = np.full(1, -1)
        parents: list[_Indices] = []
        taken: list[tuple[_Indices, int]] = []
        count = 0
        for place, group in enumerate(self._options):
            parts = [(excess + group.excess[0], costs + group.cost[0], pays + group.paid[0], node)]
            for option in range(1, len(group.excess)):
                able = np.flatnonzero(excess + group.excess[option] <= self._margin)
                if not len(able):
                    break
                parts.append(
                    (
                        excess[able] + group.excess[option],
                        costs[able] + group.cost[option],
                        pays[able] + group.paid[option],
                        np.arange(count, count + len(able)),
                    )
                )
                parents.append(node[able])
                taken.append((np.full(len(able), place), option))
                count += len(able)
            excess, costs, pays, node = (np.concatenate(each) for each in zip(*parts, strict=True))
            least = costs + (pays @ self._prices.T + self._rest[place + 1]).max(axis=1)
            kept = np.flatnonzero(least <= below + WITHIN)
            self.work += len(excess)
            if len(kept) > held:
                self.is_complete = False
                kept = kept[np.sort(np.argsort(least[kept], kind="stable")[:held])]
            excess, costs, pays, node = excess[kept], costs[kept], pays[kept], node[kept]
            if not len(excess):
                return (), 0.0, math.inf
        return self._best(costs, pays, node, parents, taken)

    def _best(
        self,
        costs: _Array,
        pays: _Array,
        node: _Indices,
        parents: list[_Indices],
        taken: list[tuple[_Indices, int]],
    ) -> tuple[tuple[int, ...], float, float]:
        missed = pays - self._bounds.limits
        loosened = self._bounds.is_loosened
        slack = np.maximum(0.0, missed[:, loosened].max(axis=1, initial=0.0))
        is_within = (missed[:, ~loosened] <= WITHIN).all(axis=1)
        objective = np.where(is_within, costs + slack, math.inf)
        at = int(np.argmin(objective))
        chosen = [0] * len(self._options)
        before = np.concatenate([np.zeros(0, dtype=np.int64), *parents])
        groups = np.concatenate([np.zeros(0, dtype=np.int64), *(places for places, _ in taken)])
        options = np.repeat([option for _, option in taken], [len(places) for places, _ in taken])
        step = int(node[at])
        while step >= 0:
            chosen[groups[step]] = int(options[step])
            step = int(before[step])
        picked = [group.columns[option] for group, option in zip(self._options, chosen, strict=True)]
        columns = [one for each in (*(group.columns[0] for group in self._single), *picked) for one in each]
        return tuple(columns), float(slack[at]), float(objective[at])

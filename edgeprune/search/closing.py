"""Every allocation whose cost lies within a margin of a branch's bound: what closes the gap the relaxation leaves.

An answer costs the bound + the excesses of its columns + what it leaves of priced limits (`bounds`), so all answers
within a margin are made of columns whose excesses add up to no more. There are few of those: of hundreds of groups all
but a handful take their cheapest column. They are listed group by group, as in dynamic programming over a core
(Balas and Zemel 1980; Pisinger 1995), partial ones left out where other prices show that the limits cannot be met
from there within the margin. Nothing is rounded, so what is listed is exact: no answer costs less than both the best
one found and the bound + margin. Work is counted in partial allocations, never timed, so that the answer is a function
of the program alone.
"""

import itertools
import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from edgeprune.search.bounds import BranchBounds, Priced
from edgeprune.search.group_options import Choices, Options
from edgeprune.search.listing import WITHIN, Lister

__all__ = ["Closed", "close"]

FIRST_COUNT = 3_000
"""Partial allocations expected of the first margin."""
GROWTH = 4
"""How many times as many are expected of each next one."""
SURPLUS = 40
"""How many times as many may be made in all, group by group."""
FIRST_COLUMNS = 120
"""Columns of the first margin, where no answer tells how far to look."""
MOST = 3_000
"""Options of one group; a narrower margin has fewer."""
PROBE_WORK = 8_000
"""Partial allocations made to find any allocation of a branch, where none is within the margin."""
HOLLOW = 20
"""A margin of which fewer partial allocations were made than are expected, by this factor, holds nothing."""
BINS = 200
"""Steps of excess in which partial allocations are counted before they are made."""
FACTORS = (0.25, 0.6, 0.85, 1.18, 1.6, 4.0)
"""Other prices: each price alone times one of these, and all of them times the middle ones."""
PAIRED = (0.0, 0.3, 0.6, 0.85, 1.18, 1.6, 3.0)
"""The prices of two limits times each pair of these, where two have prices."""
PAIRED_COARSELY = (0.3, 0.75, 1.3, 3.0)
"""Where more than two have."""
MOST_PAIRED = 4
"""Limits with a price whose pairs are tried."""
TINY = 1e-6
"""Limits below this count as this."""

_Array = NDArray[np.float64]


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


def close(
    bounds: BranchBounds,
    cost: _Array,
    fixed: tuple[int, ...],
    prices: _Array,
    *,
    cutoff: float,
    tolerance: float = 0.0,
    work_limit: int,
    may_split: bool = False,
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
        may_split: whether to stop where other prices refute a margin nearly at once: the relaxation mixes what no
            allocation can, and branches that cannot mix it have bounds of their own.
    """
    priced = bounds.priced(cost, prices, fixed)
    excesses = _excesses(bounds, priced)
    best = Closed((), 0.0, math.inf, priced.bound, 0)
    first = _nth(excesses, FIRST_COLUMNS)
    widest = float(excesses.sum())  # beyond it there is nothing
    known, margin, work, expected, near = cutoff, -1.0, 0, FIRST_COUNT, FIRST_COLUMNS
    others, choices = _other_prices(bounds, prices, abs(priced.bound)), Choices(bounds, priced, cost)
    while work + choices.work < work_limit and best.bound < known - tolerance and margin < widest:
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
        start = cost[fixed[0]], bounds.coefficients[:, fixed[0]]
        lister = Lister(bounds, options, [prices, *others], margin)
        allowed = min(SURPLUS * expected, work_limit - work - choices.work)
        found = lister.run(*start, below=min(known, priced.bound + margin), work_limit=allowed)
        work += lister.work
        if not found[0] and not best.taken:
            # None that costs so little: a few of those that cost more, so that there is something to beat.
            probe = Lister(bounds, options, [prices, *others], reach)
            found = probe.run(*start, below=known, work_limit=PROBE_WORK)
            work += probe.work
        taken, slack, objective = found
        if objective < known:
            known = objective
            best = best._replace(taken=(fixed[0], *taken), slack=slack, objective=objective)
        if not lister.is_complete:
            break
        best = best._replace(bound=known if margin >= widest else min(known, priced.bound + margin))
        if not taken and HOLLOW * lister.work < expected:
            if may_split:
                break
            expected *= GROWTH
        expected *= GROWTH
    return best._replace(work=work + choices.work)


def _nth(excesses: _Array, count: int) -> float:
    """The excess within which so many columns are; infinity where there are not so many."""
    return float(excesses[count - 1]) if len(excesses) >= count else math.inf


def _excesses(bounds: BranchBounds, priced: Priced) -> _Array:
    """Of all columns that are not taken at the bound, the smallest first."""
    layout, on = bounds.layout, list(priced.groups)
    is_on = np.zeros(layout.row_count + 1, dtype=bool)  # the last one for columns of no group
    is_on[on] = True
    found = priced.excess[is_on[layout.group_of] | is_on[layout.owner]]
    return np.sort(found[np.isfinite(found) & (found > 0.0)])


def _other_prices(bounds: BranchBounds, prices: _Array, scale: float) -> list[_Array]:
    """Prices near those of the bound; an allocation is of no interest where any of them shows it to cost too much."""
    found = []
    loosened = bounds.is_loosened
    priced = np.flatnonzero(prices > 0.0).tolist()
    for place in priced:
        for factor in FACTORS:
            other = prices.copy()
            other[place] *= factor
            found.append(other)
    # Two limits that both bind are bounded well where both prices move: a thousandth of the work was seen.
    factors = PAIRED if len(priced) == 2 else PAIRED_COARSELY
    for first, second in itertools.combinations(priced[:MOST_PAIRED], 2):
        for one, two in itertools.product(factors, factors):
            other = prices.copy()
            other[first] *= one
            other[second] *= two
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


def _margin(options: list[Options], reach: float, count: int) -> float:
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

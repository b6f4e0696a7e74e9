"""Solves a search's program exactly: linear relaxations, and everything near their bounds listed for the rest.

A program whose columns include a *branch* (exactly one of a few columns is taken, here the depth options) is solved
branch by branch. A branch goes through these steps and no further than needed:

    relax   its linear relaxation; the prices of the limits found there bound all other branches too (`bounds`)
    close   every allocation near the bound is listed (`closing`), with little work at first
    split   into one branch for each column of the group that the relaxation mixes most coarsely (embedding and head
            have few and large options, so half of one and half of another makes a bound that nothing reaches)
    close   with all the work that is left, in a branch split often enough

It ends when no bound lies below the best answer by more than the gap, or when the work allowed is spent: work is
counted, so that a busy machine answers the same, and what is not proved is told as the gap that is left.
"""

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from edgeprune.errors import DeviceError
from edgeprune.search.closing import close
from edgeprune.search.dual import Pool
from edgeprune.search.layout import Layout
from edgeprune.search.program import INFINITY, Program, Solution
from edgeprune.search.relaxations import Relaxations, Relaxed

__all__ = ["ABSOLUTE_GAP", "Outcome", "Solving", "solve"]

ABSOLUTE_GAP = 1e-6
"""Nats per token: far below what predicted losses are good for. With a gap of zero asked for, a thousandth of it."""
FRACTIONAL = 1e-6
"""Values of the relaxation this far from 0 and 1 are a mixture."""
SPLITS = 2
"""How often a branch may be split before it is closed as it is."""
FIRST_WORK = 120_000
"""Partial allocations of a branch's first closing: a few hundredths of a second."""
UNSPLIT_WORK = 20_000
"""Of a branch not split yet whose relaxation mixes large options: its bound is often far from any answer."""
WORK_LIMIT = 800_000
"""Partial allocations of one program: about a fifth of a second."""
EXACT_FACTOR = 3
"""How much more where no gap is to be left."""
MISSED_DIVISOR = 2
"""How much less where a common slack is made least: by how much limits are missed, or the memory."""
NEAR = 0.02
"""Of the best answer: a bound this near it is closed without a split."""
RELAXATION_WORK = 8_000
"""What a relaxation counts as, which takes about as long as that many partial allocations."""
WITHIN = 1e-9
"""A common slack below this is none."""

_Array = NDArray[np.float64]


class Outcome(NamedTuple):
    """An answer, and what was proved."""

    solution: Solution | None
    """None where nothing below the cutoff was found."""
    bound: float
    """Nothing feasible has an objective below this and below the solution's; infinity where nothing is feasible."""


@dataclass
class _Branch:
    """What is known of one branch."""

    fixed: tuple[int, ...]
    """Columns that are taken: one of the program's branch, and one for each split."""
    bound: float = -math.inf
    """No answer of the branch lies below."""
    prices: _Array | None = None
    """Of the limits in its relaxation; None before that."""
    mixed: tuple[int, ...] = ()
    """Columns of the group to split at; empty where the relaxation mixes none."""
    is_bounded: bool = False
    """By prices of other branches and programs."""
    is_probed: bool = False
    """Closed with next to none."""
    is_tried: bool = False
    """Closed with little work."""
    is_done: bool = False

    @property
    def may_split(self) -> bool:
        """Whether its relaxation mixes large options that it may be split at."""
        return bool(self.mixed) and len(self.fixed) <= SPLITS


def solve(program: Program, *, gap: float) -> Solution | None:
    """Solve to a relative gap; None when nothing is feasible.

    Raises:
        DeviceError: the work allowed was spent before an answer was found or refuted.
    """
    return Solving(program, gap=gap).finish().solution


class Solving:
    """A program that is being solved: its relaxation first, so that several can be tried in the order of promise."""

    def __init__(self, program: Program, *, gap: float, layout: Layout | None = None, pool: Pool | None = None) -> None:
        """Relax the most promising branches until one is no worse than the bounds of all others.

        Args:
            program: what to solve.
            gap: relative gap to prove.
            layout: of the program's groups; None makes it.
            pool: allocations of programs over the same groups, to start from and to add to.
        """
        self._work = _Work(program, Relaxations(program, is_exact=gap == 0.0, layout=layout, pool=pool), gap=gap)
        self._program = program
        while (branch := self._work.next_branch()) is not None and branch.prices is None:
            self._work.relax(branch)

    @property
    def bound(self) -> float:
        """Nothing feasible has an objective below this; infinity where nothing is feasible."""
        return min((branch.bound for branch in self._work.branches), default=math.inf)

    @property
    def work_left(self) -> int:
        """Of the work allowed."""
        return self._work.left

    @property
    def work(self) -> int:
        """Done so far, counted in partial allocations."""
        return self._work.spent

    def finish(self, *, below: float = math.inf, known: tuple[int, ...] = (), work_limit: int | None = None) -> Outcome:
        """Solve for what lies below a value that is known.

        Args:
            below: the value.
            known: columns of an allocation that may be within the limits, to start from; empty where there is none.
            work_limit: partial allocations that may be made; None is what a program may.

        Raises:
            DeviceError: the work allowed was spent before an answer was found or refuted, with nothing known.
        """
        work = self._work
        work.cutoff = below
        work.left = work.left if work_limit is None else min(work.left, work_limit)
        if known:
            work.consider(np.array(known, dtype=np.int64))
        self._run()
        if work.best is None and below == math.inf and self.bound < math.inf:
            work.left = work.allowance - work.spent  # an answer of any kind is worth what a program may take
            self._run()
        best, bound = work.best, self.bound
        if best is None and below == math.inf and bound < math.inf:
            best = _any_within(self._program)
        if best is None:
            return Outcome(None, bound)
        distance = max(0.0, best.objective - bound)
        return Outcome(best._replace(gap=distance / max(abs(best.objective), work.absolute_gap)), bound)

    def _run(self) -> None:
        work = self._work
        while work.left > 0 and (branch := work.next_branch()) is not None:
            if branch.prices is None:
                work.relax(branch)
            elif branch.mixed and len(branch.fixed) == 1 and not branch.is_probed:
                branch.is_probed = True
                work.close(branch, UNSPLIT_WORK)
                branch.is_tried = not work.is_near(branch)
            elif not branch.is_tried:
                branch.is_tried = True
                work.close(branch, FIRST_WORK)
            elif branch.may_split:
                work.split(branch)
            else:
                branch.is_done = True
                work.close(branch, work.left)


def _any_within(program: Program) -> Solution | None:
    """Some answer where none was found near the bound: what misses the limits least, if that is by nothing."""
    missed = program._replace(
        cost=program.cost * 1e-6, slack_upper=INFINITY, is_loosened=np.ones(len(program.limits), dtype=bool)
    )
    found = None if program.is_loosened.any() else solve(missed, gap=1e-3)
    if found is not None and found.slack <= WITHIN:
        return Solution(found.taken, 0.0, float(program.cost[found.taken].sum()), math.inf)
    if found is not None and found.slack * (1.0 - found.gap) > WITHIN:
        return None  # what misses them least is proved to miss them
    raise DeviceError(
        "The search spent the work it may without an answer and without a proof that there is none; loosen the budget "
        "a little, or fix some choices with --lock."
    )


class _Work:
    """One program while it is solved."""

    def __init__(self, program: Program, relaxations: Relaxations, *, gap: float) -> None:
        self.branches = [_Branch((column,)) for column in program.branch]
        self.best: Solution | None = None
        self.left = WORK_LIMIT if gap > 0.0 else EXACT_FACTOR * WORK_LIMIT
        if program.slack_upper > 0.0:
            self.left //= MISSED_DIVISOR
        self.allowance = self.left
        self.spent = 0
        # A slack is no loss: whether it is none must be told from next to none.
        self.absolute_gap = ABSOLUTE_GAP if gap > 0.0 and not program.slack_upper else 1e-3 * ABSOLUTE_GAP
        self.cutoff = math.inf
        self._program = program
        self._gap = gap
        self._relaxations = relaxations
        self._bounds = relaxations.bounds
        self._update(self._bounds.at(program.cost, np.zeros(len(self._bounds.limits))))
        for missed in relaxations.known_misses():
            self._update(missed)
        for branch in self.branches:
            branch.is_done = branch.bound == math.inf

    def next_branch(self) -> _Branch | None:
        """The branch to work on; None when the best answer is good enough for all."""
        candidates = [branch for branch in self.branches if not branch.is_done and not self._is_refuted(branch)]
        # Answers before proofs: a good answer refutes branches for nothing. What may be split is not tried yet, unless
        # so much was spent on such branches that any answer is welcome.
        is_late = self._known == math.inf and self.left < self.allowance // 2

        def order(branch: _Branch) -> tuple[bool, float]:
            return branch.is_tried and (is_late or not branch.may_split), branch.bound

        return min(candidates, key=order, default=None)

    def is_near(self, branch: _Branch) -> bool:
        """Whether the best answer is so near a branch's bound that nothing is gained by a split."""
        return self._known < math.inf and self._known - branch.bound <= NEAR * abs(self._known)

    def consider(self, taken: NDArray[np.int64]) -> None:
        """Take an allocation that is known as an answer, if it is one and better than what is known."""
        missed = self._bounds.coefficients[:, taken].sum(axis=1) - self._bounds.limits
        loosened = self._bounds.is_loosened
        slack = float(missed[loosened].max(initial=0.0)) if self._program.slack_upper > 0.0 else 0.0
        objective = float(self._program.cost[taken].sum()) + slack
        if (missed[~loosened] <= WITHIN).all() and taken[0] in self._program.branch and objective < self._known:
            self.best = Solution(taken, slack, objective, math.inf)

    def relax(self, branch: _Branch) -> None:
        """Solve the linear relaxation of a branch, and let its prices bound the others.

        At first prices that are known bound it: where that is enough to leave it, no relaxation is solved.
        """
        if not branch.is_bounded:
            branch.is_bounded = True
            branch.bound = max(branch.bound, self._relaxations.bound(branch.fixed))
            return
        self._spend(RELAXATION_WORK)
        found = self._relaxations.relax(branch.fixed)
        if found is None:
            branch.bound, branch.is_done = math.inf, True
            misses = self._relaxations.misses()
            if misses is not None:
                self._update(misses)
            return
        branch.prices = found.prices
        branch.bound = max(branch.bound, self._bounds.priced(self._program.cost, found.prices, branch.fixed).bound)
        branch.mixed = self._mixed(found)
        self._update(self._bounds.at(self._program.cost, found.prices))

    def close(self, branch: _Branch, work_limit: int) -> None:
        """List what lies near the bound of a branch."""
        assert branch.prices is not None  # relaxed before
        found = close(
            self._bounds,
            self._program.cost,
            branch.fixed,
            branch.prices,
            cutoff=self._known,
            # Half of it, so that rounding does not leave the branch a hair outside.
            tolerance=0.0 if self._known == math.inf else 0.5 * self._allowed,
            work_limit=min(work_limit, self.left),
            may_split=branch.may_split and not branch.is_done,
        )
        self._spend(found.work)
        branch.bound = max(branch.bound, found.bound)
        if found.objective < self._known:
            self.best = Solution(np.array(found.taken, dtype=np.int64), found.slack, found.objective, math.inf)

    def split(self, branch: _Branch) -> None:
        """Replace a branch by one for each column of the group its relaxation mixes."""
        assert branch.prices is not None
        self.branches.remove(branch)
        priced = self._bounds.priced(self._program.cost, branch.prices, branch.fixed)
        for column in branch.mixed:
            bound = max(branch.bound, priced.bound + float(priced.excess[column]))
            self.branches.append(_Branch((*branch.fixed, column), bound))

    def _spend(self, work: int) -> None:
        self.left -= work
        self.spent += work

    @property
    def _known(self) -> float:
        return self.cutoff if self.best is None else self.best.objective

    def _is_refuted(self, branch: _Branch) -> bool:
        if self.best is not None and self._program.slack_upper > 0.0 and self.best.slack <= WITHIN:
            return True  # nothing is missed by less than nothing
        if self._known == math.inf:
            return branch.bound == math.inf
        return self._known - branch.bound <= self._allowed

    @property
    def _allowed(self) -> float:
        return max(self.absolute_gap, self._gap * abs(self._known))

    def _mixed(self, found: Relaxed) -> tuple[int, ...]:
        """All columns of the fractional group whose columns in use differ most in cost, or in what a limit charges."""
        values = found.values
        fractional = np.flatnonzero((values > FRACTIONAL) & (values < 1.0 - FRACTIONAL))
        groups = self._bounds.layout.group_of[fractional]
        charged = np.vstack([self._program.cost, found.prices[:, None] * self._bounds.coefficients])[:, fractional]
        widest, spread = -1, -1.0
        for group in np.unique(groups[np.isin(groups, self._bounds.layout.outer.rows)]):
            width = float(np.ptp(charged[:, groups == group], axis=1).max())
            if width > spread:
                widest, spread = int(group), width
        return tuple(self._bounds.layout.members(widest).tolist()) if widest >= 0 else ()

    def _update(self, bounds: _Array) -> None:
        """Raise the bounds of all branches to those of the program's branches they belong to."""
        of_column = dict(zip(self._program.branch, bounds.tolist(), strict=True))
        for branch in self.branches:
            branch.bound = max(branch.bound, of_column[branch.fixed[0]])

"""HiGHS, asked so that its answer is exact, quick and the same every time; only `relaxation` imports highspy besides.

A program whose columns include a *branch* (exactly one of a few columns is taken, here the depth options) is solved
branch by branch, the one with the lowest bound first. A branch goes through these steps and no further than needed:

    relax   its linear relaxation; the prices of the limits found there bound all other branches too (`bounds`)
    core    the integer program over the columns whose reduced cost is small (Balas and Zemel 1980; Pisinger 1995 for
            multiple choice): a column of reduced cost d is in no answer better than the relaxation + d
    split   into one branch for each column of the group that the relaxation mixes most coarsely (embedding and head
            have few and large options, so half of one and half of another makes a bound that nothing reaches)
    prove   in a branch split often enough: the core widened to all columns that can beat the best answer

It ends when no bound lies below the best answer by more than the gap.
"""

import math
from dataclasses import dataclass
from typing import Any

import highspy
import numpy as np
from numpy.typing import NDArray

from edgeprune.errors import DeviceError
from edgeprune.search.bounds import BranchBounds
from edgeprune.search.program import Program, Rows, Solution

__all__ = ["INFINITY", "Program", "Rows", "Solution", "solve"]

INFINITY: float = highspy.kHighsInf
MAX_NODES = 2_000
"""Nodes of one search tree; a limit in nodes and not in seconds, so that a busy machine answers the same."""
TIME_LIMIT_S = 60.0
"""Only a safety net."""
ABSOLUTE_GAP = 1e-6
"""Nats per token: far below what predicted losses are good for. With a gap of zero asked for, a thousandth of it."""
CORE_PER_ROW = 1.0
"""Columns of the first core, for each row of the program."""
INFEASIBLE_ABOVE = 1e-6
"""A combination of limits, largest factor one, that misses by this much refutes a branch; limits are scaled to one."""
FRACTIONAL = 1e-6
"""Values of the relaxation this far from 0 and 1 are a mixture."""
SPLITS = 2
"""How often a branch may be split before it is proved as it is."""

_Array = NDArray[np.float64]


@dataclass
class _Branch:
    """What is known of one branch."""

    fixed: tuple[int, ...]
    """Columns that are taken: one of the program's branch, and one for each split."""
    bound: float = -math.inf
    """No answer of the branch lies below."""
    relaxed: float = -math.inf
    """Value of its relaxation, which reduced costs count from."""
    reduced: _Array | None = None
    """Reduced cost of every x in its relaxation; None before that."""
    mixed: tuple[int, ...] = ()
    """Columns of the group to split at; empty where the relaxation mixes none."""
    has_core: bool = False
    is_closed: bool = False


def solve(program: Program, *, gap: float, seed: int) -> Solution | None:
    """Solve to a relative gap; None when nothing is feasible.

    Raises:
        DeviceError: the solver stopped without an answer.
    """
    work = _Work(program, gap=gap, seed=seed)
    while (branch := work.next_branch()) is not None:
        if branch.reduced is None:
            work.relax(branch)
        elif not branch.has_core:
            work.solve_core(branch)
        elif branch.mixed and len(branch.fixed) <= SPLITS:
            work.split(branch)
        else:
            work.prove(branch)
    best = work.best
    if best is None:
        return None
    distance = max(0.0, best.objective - min(branch.bound for branch in work.branches))
    return best._replace(gap=distance / max(abs(best.objective), work.absolute_gap))


class _Work:
    """One program while it is solved; costs are scaled so that HiGHS' absolute tolerances are small beside them."""

    def __init__(self, program: Program, *, gap: float, seed: int) -> None:
        self.branches = [_Branch((column,)) for column in program.branch]
        self.best: Solution | None = None
        self.absolute_gap = ABSOLUTE_GAP if gap > 0.0 else 1e-3 * ABSOLUTE_GAP
        self._program = program
        self._gap = gap
        self._seed = seed
        self._matrix = _Matrix(program)
        self._bounds = BranchBounds(program)
        self._scale = 1.0
        self._fixed: tuple[int, ...] = ()
        self._relaxation = _solver(seed)
        self._relaxation.passModel(self._matrix.lp(program.cost, 1.0))
        self._update(self._bounds.at(program.cost, np.zeros(len(self._bounds.limit_rows))))

    def next_branch(self) -> _Branch | None:
        """The branch to work on; None when the best answer is good enough for all."""
        candidates = [branch for branch in self.branches if not branch.is_closed and not self._is_refuted(branch)]
        # Answers before proofs: a good answer refutes branches for nothing.
        return min(candidates, key=lambda branch: (branch.has_core, branch.bound), default=None)

    def relax(self, branch: _Branch) -> None:
        """Solve the linear relaxation of a branch, and let its prices bound the others."""
        solver, count = self._relaxation, len(self._program.cost)
        for columns, lower in ((self._fixed, 0.0), (branch.fixed, 1.0)):
            for column in columns:
                solver.changeColBounds(column, lower, 1.0)
        self._fixed = branch.fixed
        solver.run()
        if _is_infeasible(solver):
            branch.bound, branch.is_closed = math.inf, True
            self._refute_others()
            return
        self._rescale(float(solver.getInfo().objective_function_value))
        solution = solver.getSolution()
        branch.relaxed = float(solver.getInfo().objective_function_value) / self._scale
        branch.bound = max(branch.bound, branch.relaxed)
        branch.reduced = np.asarray(solution.col_dual)[:count] / self._scale
        branch.mixed = self._mixed(np.asarray(solution.col_value)[:count])
        self._update(self._bounds.at(self._program.cost, self._prices(np.asarray(solution.row_dual)) / self._scale))

    def solve_core(self, branch: _Branch) -> None:
        """Search the columns a good answer is made of."""
        assert branch.reduced is not None  # relaxed before
        branch.has_core = True
        first = min(len(branch.reduced) - 1, int(CORE_PER_ROW * len(self._program.rows.lower)))
        width = float(np.partition(branch.reduced, first)[first])
        self._search(branch, max(width, self.absolute_gap))

    def split(self, branch: _Branch) -> None:
        """Replace a branch by one for each column of the group its relaxation mixes."""
        assert branch.reduced is not None
        self.branches.remove(branch)
        for column in branch.mixed:
            bound = max(branch.bound, branch.relaxed + float(branch.reduced[column]))
            self.branches.append(_Branch((*branch.fixed, column), bound))

    def prove(self, branch: _Branch) -> None:
        """Search every column that can beat the best answer."""
        branch.is_closed = True
        self._search(branch, math.inf if self.best is None else self.best.objective - branch.relaxed)

    def _is_refuted(self, branch: _Branch) -> bool:
        if self.best is None:
            return branch.bound == math.inf
        allowed = max(self.absolute_gap, self._gap * abs(self.best.objective))
        return self.best.objective - branch.bound <= allowed

    def _search(self, branch: _Branch, width: float) -> None:
        assert branch.reduced is not None
        core = branch.reduced <= width
        for column in branch.fixed:
            core[self._bounds.group_of == self._bounds.group_of[column]] = False
        core[list(branch.fixed)] = True
        solver = _solver(self._seed, gap=self._gap, absolute_gap=self.absolute_gap * self._scale)
        kept = np.flatnonzero(core)
        lp = self._matrix.lp(self._program.cost * self._scale, self._scale, kept, taken=branch.fixed)
        solver.passModel(lp)
        # Nodes that cannot beat the best answer so far are cut off.
        cutoff = math.inf if self.best is None else self.best.objective
        solver.setOptionValue("objective_bound", cutoff * self._scale)
        solver.run()
        info = solver.getInfo()
        if _is_infeasible(solver):
            bound = cutoff
        else:
            bound = float(info.mip_dual_bound) / self._scale
            if info.primal_solution_status == int(highspy.SolutionStatus.kSolutionStatusFeasible):
                values = np.asarray(solver.getSolution().col_value)
                objective = float(info.objective_function_value) / self._scale
                if self.best is None or objective < self.best.objective:
                    self.best = Solution(kept[values[:-1] > 0.5], float(values[-1]), objective, math.inf)
            elif self.best is None:
                status = solver.modelStatusToString(solver.getModelStatus())
                raise DeviceError(
                    f"The solver stopped without an answer ({status}); loosen the budget, or run where there is more "
                    "time."
                )
        # What takes a column outside of the core loses at least its width more than the relaxation.
        outside = math.inf if bool(np.all(branch.reduced <= width)) else branch.relaxed + width
        branch.bound = max(branch.bound, min(bound, outside))

    def _mixed(self, values: _Array) -> tuple[int, ...]:
        """All columns of the fractional group whose columns in use differ most in cost."""
        fractional = np.flatnonzero((values > FRACTIONAL) & (values < 1.0 - FRACTIONAL))
        widest, spread = -1, -1.0
        for group in np.unique(self._bounds.group_of[fractional]):
            cost = self._program.cost[fractional[self._bounds.group_of[fractional] == group]]
            if np.ptp(cost) > spread:
                widest, spread = int(group), float(np.ptp(cost))
        return tuple(np.flatnonzero(self._bounds.group_of == widest).tolist()) if widest >= 0 else ()

    def _refute_others(self) -> None:
        """The prices that show that the limits cannot hold in one branch show it in others too."""
        _, has_ray, ray = self._relaxation.getDualRay()
        prices = self._prices(np.asarray(ray)) if has_ray else np.zeros(0)
        largest = prices.max(initial=0.0)
        if largest > 0.0:
            misses = self._bounds.at(np.zeros(len(self._program.cost)), prices / largest)
            self._update(np.where(misses > INFEASIBLE_ABOVE, math.inf, -math.inf))

    def _update(self, bounds: _Array) -> None:
        """Raise the bounds of all branches to those of the program's branches they belong to."""
        of_column = dict(zip(self._program.branch, bounds.tolist(), strict=True))
        for branch in self.branches:
            branch.bound = max(branch.bound, of_column[branch.fixed[0]])

    def _prices(self, duals: _Array) -> _Array:
        """Prices of the limits from the duals of all rows; that of a row `<=` is not positive when minimising."""
        return np.maximum(0.0, -duals[self._bounds.limit_rows])

    def _rescale(self, bound: float) -> None:
        """Scale costs to a bound near one: HiGHS' tolerances are 1e-7 to 1e-6, a whole recipe may lose 1e-5 nats.

        With a gap of zero the bound is scaled to a thousand, so that the proof reaches a billionth of the loss.
        """
        wanted = 1.0 if self._gap > 0.0 else 1e3
        if self._scale != 1.0 or self._program.slack_upper > 0.0 or not 0.0 < abs(bound) < 0.1 * wanted:
            return
        self._scale = wanted / max(abs(bound), ABSOLUTE_GAP)
        count = len(self._program.cost)
        self._relaxation.changeColsCost(count, np.arange(count, dtype=np.int32), self._program.cost * self._scale)
        self._relaxation.run()


class _Matrix:
    """The rows of a program as arrays, from which programs over some of the columns are cut."""

    def __init__(self, program: Program) -> None:
        rows = program.rows
        self._count = len(program.cost)
        self._slack_upper = program.slack_upper
        self._row_of = np.repeat(np.arange(len(rows.lower)), np.diff(rows.starts))
        self._indices, self._values = np.array(rows.indices, dtype=np.int64), np.array(rows.values)
        self._lower, self._upper = np.array(rows.lower), np.array(rows.upper)

    def lp(
        self, cost: _Array, slack_cost: float, kept: NDArray[np.int64] | None = None, *, taken: tuple[int, ...] = ()
    ) -> Any:
        """HiGHS' record over the columns kept, the slack last; an integer program when some are taken."""
        kept = np.arange(self._count) if kept is None else kept
        place = np.full(self._count + 1, -1)
        place[kept] = np.arange(len(kept))
        place[self._count] = len(kept)
        used = place[self._indices] >= 0
        lp = highspy.HighsLp()
        lp.num_col_, lp.num_row_ = len(kept) + 1, len(self._lower)
        lp.col_cost_ = np.append(cost[kept], slack_cost)
        lp.col_lower_ = np.append(np.isin(kept, taken).astype(np.float64), 0.0)
        lp.col_upper_ = np.append(np.ones(len(kept)), self._slack_upper)
        lp.row_lower_, lp.row_upper_ = self._lower, self._upper
        counts = np.bincount(self._row_of[used], minlength=len(self._lower))
        lp.a_matrix_.format_ = highspy.MatrixFormat.kRowwise
        lp.a_matrix_.start_ = np.append(0, np.cumsum(counts)).astype(np.int32)
        lp.a_matrix_.index_ = place[self._indices[used]].astype(np.int32)
        lp.a_matrix_.value_ = self._values[used]
        if taken:
            lp.integrality_ = [*[highspy.HighsVarType.kInteger] * len(kept), highspy.HighsVarType.kContinuous]
        return lp


def _solver(seed: int, *, gap: float = 0.0, absolute_gap: float = ABSOLUTE_GAP) -> Any:
    solver = highspy.Highs()
    # One thread and a fixed seed: the same inputs give the same recipe.
    for option, value in {
        "output_flag": False,
        "threads": 1,
        "random_seed": seed % 2**31,
        "time_limit": TIME_LIMIT_S,
        "mip_max_nodes": MAX_NODES,
        "mip_rel_gap": gap,
        "mip_abs_gap": absolute_gap,
        # Half of what limits are tightened by: a recipe exactly at a limit then misses the row clearly, where the whole
        # would let HiGHS find it, differ with itself in the sixteenth digit, and end with "Solve error".
        "mip_feasibility_tolerance": 5e-7,
        # Fixing columns by reduced cost, which a restart is for, has been done by the core.
        "mip_allow_restart": False,
    }.items():
        solver.setOptionValue(option, value)
    return solver


def _is_infeasible(solver: Any) -> bool:
    """Whether nothing is feasible, or nothing below the cutoff."""
    statuses = highspy.HighsModelStatus
    return solver.getModelStatus() in (
        statuses.kInfeasible,
        statuses.kUnboundedOrInfeasible,
        statuses.kObjectiveBound,
    )

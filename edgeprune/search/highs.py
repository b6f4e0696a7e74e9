"""HiGHS, asked so that its answer is exact, quick and the same every time: the one file that imports highspy.

A program whose columns include a *branch* (exactly one of a few columns is taken, here the depth options) is solved
branch by branch: the linear relaxation of each gives a bound within milliseconds, then integer programs are solved
in the order of their bounds until no bound can beat the best answer.

Each integer program is solved over a *core*: the columns whose reduced cost in the relaxation is small (Balas and
Zemel 1980; Pisinger 1995 for multiple choice). A column of reduced cost d cannot be part of an answer better than the
relaxation's bound + d, so an answer within the core's width of the bound is an answer of the whole program; otherwise
the core is widened until it is. With a few limits over hundreds of choices the core holds a twentieth of the columns.
"""

import math
from typing import Any, NamedTuple

import highspy
import numpy as np
from numpy.typing import NDArray

from edgeprune.errors import DeviceError

__all__ = ["INFINITY", "Program", "Rows", "Solution", "solve"]

INFINITY: float = highspy.kHighsInf
MAX_NODES = 2_000
"""Nodes of one branch's search tree; a limit in nodes and not in seconds, so that a busy machine answers the same."""
TIME_LIMIT_S = 60.0
"""Only a safety net."""
ABSOLUTE_GAP = 1e-6
"""Nats per token: far below what predicted losses are good for. With a gap of zero asked for, a thousandth of it."""
CORE_PER_ROW = 1.5
"""Columns of the first core, for each row of the program."""

_Array = NDArray[np.float64]


class Rows:
    """Rows `lower <= coefficients @ x <= upper`, compressed row-wise."""

    def __init__(self) -> None:
        """No rows yet."""
        self.starts: list[int] = [0]
        self.indices: list[int] = []
        self.values: list[float] = []
        self.lower: list[float] = []
        self.upper: list[float] = []

    def add(self, indices: list[int], values: list[float], lower: float, upper: float) -> None:
        """Append one row."""
        self.indices += indices
        self.values += values
        self.starts.append(len(self.indices))
        self.lower.append(lower)
        self.upper.append(upper)

    def copy(self) -> "Rows":
        """The same rows, free to grow."""
        other = Rows()
        other.starts, other.indices, other.values = self.starts[:], self.indices[:], self.values[:]
        other.lower, other.upper = self.lower[:], self.upper[:]
        return other


class Program(NamedTuple):
    """Minimise cost @ x + s: x binary, s continuous in [0, slack_upper] and last."""

    cost: _Array
    slack_upper: float
    rows: Rows
    branch: tuple[int, ...]
    """Columns of which exactly one is taken, each solved for apart."""


class Solution(NamedTuple):
    """The best x found, s, and the relative gap to the best possible objective that was proved."""

    taken: NDArray[np.int64]
    slack: float
    objective: float
    gap: float


class _Relaxed(NamedTuple):
    """The linear relaxation of one branch."""

    bound: float
    column: int
    reduced: _Array
    """Reduced cost of every x; zero where the relaxation uses the column."""


def solve(program: Program, *, gap: float, seed: int) -> Solution | None:
    """Solve to a relative gap; None when nothing is feasible.

    Raises:
        DeviceError: the solver stopped without an answer.
    """
    work = _Work(program, gap=gap, seed=seed)
    relaxed = sorted(work.relax(), key=lambda entry: (entry.bound, entry.column))
    best: Solution | None = None
    bounds = {entry.column: entry.bound for entry in relaxed}
    # A good answer first, from whichever branch has it; then the proof of the branches that could still beat it.
    for entry in relaxed:
        if best is None or not work.is_good(best, bounds[entry.column]):
            best, bounds[entry.column] = work.solve_core(entry, best)
    for entry in relaxed:
        if best is None or not work.is_good(best, bounds[entry.column]):
            best, bounds[entry.column] = work.prove(entry, best)
    if best is None:
        return None
    distance = max(0.0, best.objective - min(bounds.values()))
    return best._replace(gap=distance / max(abs(best.objective), work.absolute_gap))


class _Work:
    """One program inside HiGHS, its costs scaled so that the solver's absolute tolerances are small beside them."""

    def __init__(self, program: Program, *, gap: float, seed: int) -> None:
        self.program = program
        self.gap = gap
        self.absolute_gap = ABSOLUTE_GAP if gap > 0.0 else 1e-3 * ABSOLUTE_GAP
        self._count = len(program.cost)
        self._scale = 1.0
        self._solver = _solver(program, gap=gap, seed=seed)
        self._free = np.setdiff1d(np.arange(self._count, dtype=np.int32), program.branch).astype(np.int32)

    def is_good(self, best: Solution, bound: float) -> bool:
        """Whether an answer is good enough where none lies below the bound."""
        return best.objective - bound <= max(self.absolute_gap, self.gap * abs(best.objective))

    def relax(self) -> list[_Relaxed]:
        """Bounds and reduced costs of every branch that is feasible."""
        solver, found = self._solver, list[_Relaxed]()
        solver.setOptionValue("solve_relaxation", True)
        for column in self.program.branch:
            _choose(solver, self.program.branch, column)
            solver.run()
            if not _is_infeasible(solver):
                if not found:
                    self._rescale(float(solver.getInfo().objective_function_value))
                bound = float(solver.getInfo().objective_function_value) / self._scale
                reduced = np.asarray(solver.getSolution().col_dual)[: self._count] / self._scale
                found.append(_Relaxed(bound, column, reduced))
        solver.setOptionValue("solve_relaxation", False)
        return found

    def solve_core(self, entry: _Relaxed, best: Solution | None) -> tuple[Solution | None, float]:
        """The best answer so far, with the first core of a branch searched, and a bound of all the branch's answers."""
        ordered = np.sort(entry.reduced[self._free])
        first = min(len(ordered) - 1, int(CORE_PER_ROW * len(self.program.rows.lower)))
        return self._search(entry, best, max(float(ordered[first]), self.absolute_gap))

    def prove(self, entry: _Relaxed, best: Solution | None) -> tuple[Solution | None, float]:
        """The same, with all columns searched that can beat the best answer so far."""
        return self._search(entry, best, math.inf if best is None else best.objective - entry.bound)

    def _search(self, entry: _Relaxed, best: Solution | None, width: float) -> tuple[Solution | None, float]:
        solver, free = self._solver, self._free
        _choose(solver, self.program.branch, entry.column)
        upper = np.where(entry.reduced[free] <= width, 1.0, 0.0)
        solver.changeColsBounds(len(free), free, np.zeros(len(free)), upper)
        # Nodes that cannot beat the best answer so far are cut off.
        cutoff = math.inf if best is None else best.objective
        solver.setOptionValue("objective_bound", cutoff * self._scale)
        solver.run()
        found = self._read()
        if found is None and best is None and not _is_infeasible(solver):
            status = solver.modelStatusToString(solver.getModelStatus())
            raise DeviceError(
                f"The solver stopped without an answer ({status}); loosen the budget, or run where there is more time."
            )
        bound = cutoff if _is_infeasible(solver) else float(solver.getInfo().mip_dual_bound) / self._scale
        # What takes a column outside of the core loses at least its width more than the relaxation.
        bound = max(entry.bound, min(bound, math.inf if upper.all() else entry.bound + width))
        is_better = found is not None and (best is None or found.objective < best.objective)
        return (found if is_better else best), bound

    def _rescale(self, bound: float) -> None:
        """Costs scaled to a bound near one: HiGHS' tolerances are 1e-7 to 1e-6, a whole recipe may lose 1e-5 nats."""
        if self.program.slack_upper > 0.0 or not 0.0 < abs(bound) < 0.1:
            return
        self._scale = 1.0 / max(abs(bound), ABSOLUTE_GAP)
        indices = np.arange(self._count, dtype=np.int32)
        self._solver.changeColsCost(self._count, indices, self.program.cost * self._scale)
        self._solver.setOptionValue("mip_abs_gap", self.absolute_gap * self._scale)
        self._solver.run()

    def _read(self) -> Solution | None:
        """The answer the solver holds; None when it holds none."""
        solver = self._solver
        info = solver.getInfo()
        if _is_infeasible(solver) or info.primal_solution_status != int(highspy.SolutionStatus.kSolutionStatusFeasible):
            return None
        values = np.asarray(solver.getSolution().col_value)
        taken = np.flatnonzero(values[: self._count] > 0.5)
        objective = float(info.objective_function_value) / self._scale
        return Solution(taken, float(values[self._count]), objective, math.inf)


def _solver(program: Program, *, gap: float, seed: int) -> Any:
    count, rows = len(program.cost), program.rows
    lp = highspy.HighsLp()
    lp.num_col_, lp.num_row_ = count + 1, len(rows.lower)
    lp.col_cost_ = np.append(program.cost, 1.0)
    lp.col_lower_ = np.zeros(count + 1)
    lp.col_upper_ = np.append(np.ones(count), program.slack_upper)
    lp.row_lower_, lp.row_upper_ = np.array(rows.lower), np.array(rows.upper)
    lp.a_matrix_.format_ = highspy.MatrixFormat.kRowwise
    lp.a_matrix_.start_ = np.array(rows.starts, dtype=np.int32)
    lp.a_matrix_.index_ = np.array(rows.indices, dtype=np.int32)
    lp.a_matrix_.value_ = np.array(rows.values)
    lp.integrality_ = [*[highspy.HighsVarType.kInteger] * count, highspy.HighsVarType.kContinuous]
    solver = highspy.Highs()
    # One thread and a fixed seed: the same inputs give the same recipe.
    for option, value in {
        "output_flag": False,
        "threads": 1,
        "random_seed": seed % 2**31,
        "time_limit": TIME_LIMIT_S,
        "mip_max_nodes": MAX_NODES,
        "mip_rel_gap": gap,
        "mip_abs_gap": ABSOLUTE_GAP,
        # Fixing columns by reduced cost, which a restart is for, has been done by the core.
        "mip_allow_restart": False,
    }.items():
        solver.setOptionValue(option, value)
    solver.passModel(lp)
    return solver


def _choose(solver: Any, branch: tuple[int, ...], column: int) -> None:
    for other in branch:
        fixed = 1.0 if other == column else 0.0
        solver.changeColBounds(other, fixed, fixed)


def _is_infeasible(solver: Any) -> bool:
    """Whether nothing is feasible, or nothing below the cutoff."""
    statuses = highspy.HighsModelStatus
    return solver.getModelStatus() in (
        statuses.kInfeasible, statuses.kUnboundedOrInfeasible, statuses.kObjectiveBound
    )  # fmt: skip

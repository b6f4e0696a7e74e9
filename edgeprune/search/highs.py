"""HiGHS, asked so that its answer is exact, quick and the same every time: the one file that imports highspy.

A program whose columns include a *branch* (exactly one of a few columns is taken, here the depth options) is solved
branch by branch: the linear relaxation of each gives a bound within milliseconds, then integer programs are solved
in the order of their bounds until no bound can beat the best answer. On the 16-block model that is 0.1 s for 17
relaxations and usually one integer program of 0.5 s; the joint program takes 4 s and more.
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
"""Nats per token: far below what predicted losses are good for."""

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


def solve(program: Program, *, gap: float, seed: int) -> Solution | None:
    """Solve to a relative gap; None when nothing is feasible.

    Raises:
        DeviceError: the solver stopped without an answer.
    """
    solver = _solver(program, gap=gap, seed=seed)
    solver.setOptionValue("solve_relaxation", True)
    bounds = []
    for column in program.branch:
        _choose(solver, program.branch, column)
        solver.run()
        if not _is_infeasible(solver):
            bounds.append((float(solver.getInfo().objective_function_value), column))
    bounds.sort()
    solver.setOptionValue("solve_relaxation", False)
    best: Solution | None = None
    proved = math.inf
    for bound, column in bounds:
        if best is not None and bound >= best.objective - max(ABSOLUTE_GAP, gap * abs(best.objective)):
            proved = min(proved, bound)
            break
        _choose(solver, program.branch, column)
        solver.run()
        found = _read(solver, len(program.cost))
        if found is None:
            continue
        proved = min(proved, max(bound, float(solver.getInfo().mip_dual_bound)))
        if best is None or found.objective < best.objective:
            best = found
    if best is None:
        return None
    distance = max(0.0, best.objective - proved)
    return best._replace(gap=distance / max(abs(best.objective), ABSOLUTE_GAP))


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
    }.items():
        solver.setOptionValue(option, value)
    solver.passModel(lp)
    return solver


def _choose(solver: Any, branch: tuple[int, ...], column: int) -> None:
    for other in branch:
        fixed = 1.0 if other == column else 0.0
        solver.changeColBounds(other, fixed, fixed)


def _is_infeasible(solver: Any) -> bool:
    statuses = highspy.HighsModelStatus
    return solver.getModelStatus() in (statuses.kInfeasible, statuses.kUnboundedOrInfeasible)


def _read(solver: Any, count: int) -> Solution | None:
    if _is_infeasible(solver):
        return None
    info = solver.getInfo()
    if info.primal_solution_status != int(highspy.SolutionStatus.kSolutionStatusFeasible):
        status = solver.modelStatusToString(solver.getModelStatus())
        raise DeviceError(
            f"The solver stopped without an answer ({status}); loosen the budget, or run where there is more time."
        )
    values = np.asarray(solver.getSolution().col_value)
    taken = np.flatnonzero(values[:count] > 0.5)
    return Solution(taken, float(values[count]), float(info.objective_function_value), math.inf)

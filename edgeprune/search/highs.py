"""Linear relaxations of a search's program and the prices of its limits; the only module that imports highspy.

The dual of a limit's row is what one unit more of it would save of the objective (linear programming duality). HiGHS
gives row duals of a minimisation as the change of the objective per unit of the bound, so a limit from above has a
dual of at most zero; its price is the negative.
"""

from typing import Any, NamedTuple

import highspy
import numpy as np
from numpy.typing import NDArray

from edgeprune.search.bounds import BranchBounds
from edgeprune.search.program import LimitRow, Program

__all__ = ["Relaxation", "Relaxations", "Relaxed", "relax"]

COST_SCALE = 1e3
"""Costs times this are well above HiGHS' tolerance of 1e-7: a whole recipe may lose a thousandth of a nat."""
INFEASIBLE_ABOVE = 1e-6
"""A combination of limits, largest factor one, that misses by this much refutes a branch; limits are scaled to one."""
ABSOLUTE_GAP = 1e-6
"""Objectives are scaled as if none were smaller."""

FARTHEST = 10.0
"""Costs are scaled again where the scale is this far from the one wanted."""

_Array = NDArray[np.float64]


class Relaxed(NamedTuple):
    """One relaxation of a program whose branches are tried one by one."""

    prices: _Array
    """[limits] not negative, each limit scaled as in the program."""
    values: _Array
    """[columns]"""


class Relaxations:
    """The relaxations of one program, each started from the one before."""

    def __init__(self, program: Program, *, seed: int, like: "Relaxations | None" = None) -> None:
        """Hand the program over once.

        Args:
            program: what is relaxed.
            seed: of HiGHS.
            like: of a program with the same rows and other figures in them: the first relaxation starts where its
                last one ended.
        """
        self.bounds = BranchBounds(program)
        self._program = program
        self._wanted = 1.0
        self._scale = 1.0
        self._fixed: tuple[int, ...] = ()
        self._solver = _solver(seed)
        self._solver.passModel(_relaxed(program, 1.0, np.zeros(len(program.cost)), np.ones(len(program.cost))))
        if like is not None and like._solver.getBasis().valid:
            self._solver.setBasis(like._solver.getBasis())

    def take(self, program: Program, *, is_exact: bool) -> None:
        """Turn to a program that differs in the bounds of its limits alone.

        Args:
            program: the one to relax from now on.
            is_exact: whether no gap may be left.
        """
        self._wanted = 1e3 if is_exact else 1.0
        upper = np.array(program.rows.upper)[self.bounds.limit_rows]
        for row, before, after in zip(self.bounds.limit_rows, self.bounds.limits, upper, strict=True):
            if before != after:
                self._solver.changeRowBounds(int(row), -highspy.kHighsInf, float(after))
        self.bounds.limits = upper
        self._program = program

    def relax(self, fixed: tuple[int, ...]) -> Relaxed | None:
        """The relaxation in which some columns are taken; None when nothing is feasible."""
        for columns, lower in ((self._fixed, 0.0), (fixed, 1.0)):
            for column in columns:
                self._solver.changeColBounds(column, lower, 1.0)
        self._fixed = fixed
        self._solver.run()
        if self._solver.getModelStatus() in (
            highspy.HighsModelStatus.kInfeasible,
            highspy.HighsModelStatus.kUnboundedOrInfeasible,
        ):
            return None
        self._rescale(float(self._solver.getInfo().objective_function_value))
        solution = self._solver.getSolution()
        values = np.asarray(solution.col_value)[: len(self._program.cost)]
        prices = self._prices(np.asarray(solution.row_dual)) / self._scale
        # The slack costs one, so prices of what it loosens that add up to more would bound nothing.
        loosened = self.bounds.is_loosened
        prices[loosened] /= max(1.0, float(prices[loosened].sum()))
        return Relaxed(prices, values)

    def misses(self) -> _Array | None:
        """After a relaxation that is infeasible: infinity for each branch that the same prices show to be so too."""
        _, has_ray, ray = self._solver.getDualRay()
        prices = self._prices(np.asarray(ray)) if has_ray else np.zeros(0)
        largest = prices.max(initial=0.0)
        if largest <= 0.0:
            return None
        missed = self.bounds.at(np.zeros(len(self._program.cost)), prices / largest)
        return np.where(missed > INFEASIBLE_ABOVE, np.inf, -np.inf)

    def _prices(self, duals: _Array) -> _Array:
        """Prices of the limits from the duals of all rows; that of a row `<=` is not positive when minimising."""
        return np.maximum(0.0, -duals[self.bounds.limit_rows])

    def _rescale(self, scaled: float) -> None:
        """Scale costs to a bound near one: HiGHS' tolerances are 1e-7 to 1e-6, a whole recipe may lose 1e-5 nats.

        Where no gap is left the bound is scaled to a thousand, so that the proof reaches a billionth of the loss.
        """
        if self._program.slack_upper > 0.0 or not scaled:
            return
        wanted = max(1.0, self._wanted / max(abs(scaled / self._scale), ABSOLUTE_GAP))
        if 0.1 < wanted / self._scale < FARTHEST:
            return
        self._scale = wanted
        count = len(self._program.cost)
        self._solver.changeColsCost(count, np.arange(count, dtype=np.int32), self._program.cost * self._scale)
        self._solver.run()


class Relaxation(NamedTuple):
    """Its objective, and for every limit row what one unit (in the row's own units, not scaled) would save."""

    bound: float
    prices: _Array


def relax(
    program: Program, limit_rows: list[LimitRow], *, column: int, is_open: NDArray[np.bool_]
) -> Relaxation | None:
    """Solve the relaxation in which a branch column is taken; None when nothing is feasible.

    Args:
        program: costs and rows; its last rows are the limits.
        limit_rows: those limits, in their own units.
        column: the branch column that is taken.
        is_open: [columns] which columns may be used at all.
    """
    upper = np.where(is_open, 1.0, 0.0)
    lower = np.zeros(len(program.cost))
    upper[np.array(program.branch, dtype=np.int64)] = 0.0
    lower[column] = upper[column] = 1.0
    solver = _solver(0)
    solver.passModel(_relaxed(program, COST_SCALE, lower, upper))
    solver.run()
    if solver.getModelStatus() != highspy.HighsModelStatus.kOptimal:
        return None
    duals = np.asarray(solver.getSolution().row_dual)[len(program.rows.lower) - len(limit_rows) :]
    references = np.array([row.reference for row in limit_rows])
    prices = np.maximum(0.0, -duals) / COST_SCALE / references if limit_rows else np.zeros(0)
    return Relaxation(float(solver.getInfo().objective_function_value) / COST_SCALE, prices)


def _relaxed(program: Program, scale: float, lower: _Array, upper: _Array) -> Any:
    """HiGHS' record of a program without integrality, costs times a scale, the slack last."""
    count, rows = len(program.cost), program.rows
    lp = highspy.HighsLp()
    lp.num_col_, lp.num_row_ = count + 1, len(rows.lower)
    lp.col_cost_ = np.append(program.cost, 1.0) * scale
    lp.col_lower_, lp.col_upper_ = np.append(lower, 0.0), np.append(upper, program.slack_upper)
    lp.row_lower_, lp.row_upper_ = np.array(rows.lower), np.array(rows.upper)
    lp.a_matrix_.format_ = highspy.MatrixFormat.kRowwise
    lp.a_matrix_.start_ = np.array(rows.starts, dtype=np.int32)
    lp.a_matrix_.index_ = np.array(rows.indices, dtype=np.int32)
    lp.a_matrix_.value_ = np.array(rows.values)
    return lp


def _solver(seed: int) -> Any:
    solver = highspy.Highs()
    # One thread and a fixed seed: the same inputs give the same recipe.
    for option, value in {"output_flag": False, "threads": 1, "random_seed": seed % 2**31}.items():
        solver.setOptionValue(option, value)
    return solver

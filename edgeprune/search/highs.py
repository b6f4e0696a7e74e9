"""Linear programs of a search: planes that bound prices, and the prices at an optimum; alone imports highspy.

The dual of a limit's row is what one unit more of it would save of the objective (linear programming duality). HiGHS
gives row duals of a minimisation as the change of the objective per unit of the bound, so a limit from above has a
dual of at most zero; its price is the negative.
"""

from typing import Any, NamedTuple

import highspy
import numpy as np
from numpy.typing import NDArray

from edgeprune.search.program import LimitRow, Program

__all__ = ["Planes", "Relaxation", "relax"]

COST_SCALE = 1e3
"""Costs times this are well above HiGHS' tolerance of 1e-7: a whole recipe may lose a thousandth of a nat."""
SHARPEST = 1e-10
"""The smallest tolerance HiGHS takes."""

_Array = NDArray[np.float64]


class Planes:
    """Prices under planes: the largest t with t <= cost + prices @ missed for each plane, as linear program."""

    def __init__(self, limits: int, *, most: float, loosened: NDArray[np.int64]) -> None:
        """No planes yet.

        Args:
            limits: prices wanted.
            most: no price is larger.
            loosened: those that add up to one at most.
        """
        self._solver = _solver(0)
        for option in ("primal_feasibility_tolerance", "dual_feasibility_tolerance"):
            self._solver.setOptionValue(option, SHARPEST)
        self._solver.setOptionValue("presolve", "off")
        for _ in range(limits):
            self._solver.addVar(0.0, most)
        self._solver.addVar(-highspy.kHighsInf, highspy.kHighsInf)
        self._solver.changeColCost(limits, -1.0)
        self._columns = np.arange(limits + 1, dtype=np.int32)
        self._first = 0
        if len(loosened):
            places = loosened.astype(np.int32)
            self._solver.addRow(-highspy.kHighsInf, 1.0, len(places), places, np.ones(len(places)))
            self._first = 1

    def add(self, cost: float, missed: _Array) -> None:
        """One more plane."""
        values = np.append(-missed, 1.0)
        self._solver.addRow(-highspy.kHighsInf, cost, len(values), self._columns, values)

    def best(self) -> tuple[float, _Array]:
        """The largest t, and its prices."""
        self._solver.run()
        found = np.array(self._solver.getSolution().col_value)
        return float(found[-1]), np.maximum(0.0, found[:-1])

    def shares(self) -> _Array:
        """[planes] what of each holds t down; they add up to one."""
        return np.asarray(np.maximum(0.0, -np.array(self._solver.getSolution().row_dual)[self._first :]))


class Relaxation(NamedTuple):
    """Its objective, and for every limit row what one unit (in the row's own units, not scaled) would save."""

    bound: float
    prices: _Array


def relax(
    program: Program, limit_rows: list[LimitRow], *, column: int, is_open: NDArray[np.bool_]
) -> Relaxation | None:
    """Solve the relaxation in which a branch column is taken; None when nothing is feasible.

    Args:
        program: costs, groups and limits.
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
    duals = np.asarray(solver.getSolution().row_dual)[len(program.groups.targets) :]
    references = np.array([row.reference for row in limit_rows])
    prices = np.maximum(0.0, -duals) / COST_SCALE / references if limit_rows else np.zeros(0)
    return Relaxation(float(solver.getInfo().objective_function_value) / COST_SCALE, prices)


def _relaxed(program: Program, scale: float, lower: _Array, upper: _Array) -> Any:
    """HiGHS' record of a program without integrality, costs times a scale, the slack last."""
    count, groups = len(program.cost), program.groups
    starts, indices, values = [np.array(groups.starts)], [np.array(groups.indices)], [np.array(groups.values)]
    for coefficients, is_loosened in zip(program.coefficients, program.is_loosened.tolist(), strict=True):
        used = np.flatnonzero(coefficients)
        indices.append(np.append(used, count) if is_loosened else used)
        values.append(np.append(coefficients[used], -1.0) if is_loosened else coefficients[used])
        starts.append(starts[-1][-1:] + len(indices[-1]))
    lp = highspy.HighsLp()
    lp.num_col_, lp.num_row_ = count + 1, len(groups.targets) + len(program.limits)
    lp.col_cost_ = np.append(program.cost, 1.0) * scale
    lp.col_lower_, lp.col_upper_ = np.append(lower, 0.0), np.append(upper, program.slack_upper)
    lp.row_lower_ = np.append(groups.targets, np.full(len(program.limits), -highspy.kHighsInf))
    lp.row_upper_ = np.append(groups.targets, program.limits)
    lp.a_matrix_.format_ = highspy.MatrixFormat.kRowwise
    lp.a_matrix_.start_ = np.concatenate(starts).astype(np.int32)
    lp.a_matrix_.index_ = np.concatenate(indices).astype(np.int32)
    lp.a_matrix_.value_ = np.concatenate(values)
    return lp


def _solver(seed: int) -> Any:
    solver = highspy.Highs()
    # One thread and a fixed seed: the same inputs give the same recipe.
    for option, value in {"output_flag": False, "threads": 1, "random_seed": seed % 2**31}.items():
        solver.setOptionValue(option, value)
    return solver

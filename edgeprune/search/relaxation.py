"""The linear relaxation of one branch of the search's program, and the prices of its limits.

The dual of a limit's row is what one unit more of it would save of the objective (linear programming duality). HiGHS
gives row duals of a minimisation as the change of the objective per unit of the bound, so a limit from above has a
dual of at most zero; its price is the negative.
"""

from typing import NamedTuple

import highspy
import numpy as np
from numpy.typing import NDArray

from edgeprune.search.allocate import LimitRow
from edgeprune.search.program import Program

__all__ = ["Relaxation", "relax"]

_Array = NDArray[np.float64]
COST_SCALE = 1e3
"""Costs times this are well above HiGHS' tolerance of 1e-7: a whole recipe may lose a thousandth of a nat."""


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
    count, rows = len(program.cost), program.rows
    upper = np.where(is_open, 1.0, 0.0)
    lower = np.zeros(count)
    branch = np.array(program.branch, dtype=np.int64)
    upper[branch] = 0.0
    lower[column] = upper[column] = 1.0
    lp = highspy.HighsLp()
    lp.num_col_, lp.num_row_ = count + 1, len(rows.lower)
    lp.col_cost_ = np.append(program.cost, 1.0) * COST_SCALE
    lp.col_lower_, lp.col_upper_ = np.append(lower, 0.0), np.append(upper, program.slack_upper)
    lp.row_lower_, lp.row_upper_ = np.array(rows.lower), np.array(rows.upper)
    lp.a_matrix_.format_ = highspy.MatrixFormat.kRowwise
    lp.a_matrix_.start_ = np.array(rows.starts, dtype=np.int32)
    lp.a_matrix_.index_ = np.array(rows.indices, dtype=np.int32)
    lp.a_matrix_.value_ = np.array(rows.values)
    solver = highspy.Highs()
    solver.setOptionValue("output_flag", False)
    solver.setOptionValue("threads", 1)
    solver.passModel(lp)
    solver.run()
    if solver.getModelStatus() != highspy.HighsModelStatus.kOptimal:
        return None
    duals = np.asarray(solver.getSolution().row_dual)[len(rows.lower) - len(limit_rows) :]
    references = np.array([row.reference for row in limit_rows])
    prices = np.maximum(0.0, -duals) / COST_SCALE / references if limit_rows else np.zeros(0)
    return Relaxation(float(solver.getInfo().objective_function_value) / COST_SCALE, prices)

"""Random integer programs shaped as a search's: depth, tables, blocks of sites, and MLPs whose width is chosen."""

import highspy
import numpy as np
from numpy.typing import NDArray

from edgeprune.search.program import GroupRows, Program

__all__ = ["joint_optimum", "nested_program", "random_program"]


def random_program(seed: int, *, blocks: int = 8, limits: int = 2, tightness: float = 0.5) -> Program:
    """Costs fall as sizes grow; the limits lie at `tightness` between the smallest and the largest total."""
    rng = np.random.default_rng(seed)
    cost: list[float] = []
    sizes: list[NDArray[np.float64]] = []
    rows = GroupRows()

    def add_group(options: int, scale: float, off: tuple[int, ...] = (), switch: int | None = None) -> list[int]:
        columns = list(range(len(cost), len(cost) + options))
        shares = np.sort(rng.uniform(0.05, 1.0, options))
        cost.extend(scale * rng.uniform(0.5, 1.5) * (1.0 / shares - 1.0))
        sizes.extend(scale * shares[:, None] * rng.uniform(0.6, 1.4, (options, limits)))
        target = 0.0 if switch is not None else 1.0
        switched = [] if switch is None else [switch]
        values = [1.0] * (options + len(off)) + [-1.0] * len(switched)
        rows.add([*columns, *off, *switched], values, target)
        return columns

    depth = add_group(4, 0.0)
    for column in depth[1:]:
        cost[column] = 0.3 * blocks * column / 4
    dropping = {block: tuple(column for column in depth[1:] if block < 2 * column) for block in range(blocks)}
    add_group(5, 0.6 * blocks)
    for block in range(blocks):
        off = dropping[block]
        for _ in range(2):
            add_group(6, 1.0, off)
        for width, switch in zip((1.0, 0.5), add_group(2, 0.2, off), strict=True):
            for _ in range(2):
                add_group(5, width, switch=switch)
    totals = np.array(sizes)
    groups = [rows.indices[start:end] for start, end in zip(rows.starts, rows.starts[1:], strict=False)]
    largest = np.array([totals[group].max(axis=0) for group in groups]).sum(axis=0)
    limit = np.full(limits, tightness * 0.6)
    return Program(
        np.array(cost), 0.0, rows, (totals / largest).T.copy(), limit, np.zeros(limits, dtype=bool), tuple(depth)
    )


def nested_program(seed: int, *, blocks: int = 3, options: int = 6, tightness: float = 0.3) -> Program:
    """Few blocks whose sites all follow a width, and charges as unsteady as measured times: much lies near a bound."""
    rng = np.random.default_rng(seed)
    cost: list[float] = []
    charges: list[float] = []
    rows = GroupRows()

    def add_group(count: int, scale: float, off: tuple[int, ...] = (), switch: int | None = None) -> list[int]:
        columns = list(range(len(cost), len(cost) + count))
        shares = np.sort(rng.uniform(0.05, 1.0, count))
        cost.extend(scale * shares * rng.lognormal(0.0, 0.4, count))
        charges.extend(scale * (1.0 / shares - 1.0) * rng.lognormal(0.0, 0.4, count))
        switched = [] if switch is None else [switch]
        target = 0.0 if switched else 1.0
        values = [1.0] * (count + len(off)) + [-1.0] * len(switched)
        rows.add([*columns, *off, *switched], values, target)
        return columns

    depth = add_group(2, 0.0)
    charges[depth[1]] = 4.0 * blocks
    add_group(6, 2.0)
    for block in range(blocks):
        off = (depth[1],) if block == 1 else ()
        for sites, widths in ((4, (1.0, 0.5)), (3, (1.0, 0.7, 0.4))):
            for width, switch in zip(widths, add_group(len(widths), 0.2, off), strict=True):
                for _ in range(sites):
                    add_group(options, width, switch=switch)
    groups = [rows.indices[start:end] for start, end in zip(rows.starts, rows.starts[1:], strict=False)]
    charged = np.array(charges)
    largest = sum(float(charged[group].max()) for group in groups)
    limit = np.array([tightness * 0.2])
    return Program(np.array(cost), 0.0, rows, charged[None, :] / largest, limit, np.zeros(1, dtype=bool), tuple(depth))


def joint_optimum(program: Program) -> float | None:
    """The optimum of the whole program as HiGHS alone finds it; None when nothing is feasible."""
    groups, count = program.groups, len(program.cost)
    loosening = -program.is_loosened.astype(float)
    limits = np.column_stack([program.coefficients, loosening])
    lp = highspy.HighsLp()
    lp.num_col_, lp.num_row_ = count + 1, len(groups.targets) + len(limits)
    lp.col_cost_ = np.append(program.cost, 1.0)
    lp.col_lower_ = np.zeros(count + 1)
    lp.col_upper_ = np.append(np.ones(count), program.slack_upper)
    lp.row_lower_ = np.append(groups.targets, np.full(len(limits), -highspy.kHighsInf))
    lp.row_upper_ = np.append(groups.targets, program.limits)
    lp.a_matrix_.format_ = highspy.MatrixFormat.kRowwise
    ends = groups.starts[-1] + (count + 1) * np.arange(1, len(limits) + 1)
    lp.a_matrix_.start_ = np.append(groups.starts, ends).astype(np.int32)
    lp.a_matrix_.index_ = np.append(groups.indices, np.tile(np.arange(count + 1), len(limits))).astype(np.int32)
    lp.a_matrix_.value_ = np.append(groups.values, limits)
    lp.integrality_ = [*[highspy.HighsVarType.kInteger] * count, highspy.HighsVarType.kContinuous]
    solver = highspy.Highs()
    for option, value in {"output_flag": False, "threads": 1, "mip_rel_gap": 0.0, "mip_abs_gap": 1e-9}.items():
        solver.setOptionValue(option, value)
    solver.passModel(lp)
    solver.run()
    if solver.getModelStatus() == highspy.HighsModelStatus.kInfeasible:
        return None
    assert solver.getModelStatus() == highspy.HighsModelStatus.kOptimal
    return float(solver.getInfo().objective_function_value)

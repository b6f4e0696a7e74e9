"""The branch-wise solver against the whole program solved jointly, and its bounds against relaxations."""

import numpy as np
import pytest

from edgeprune.search.bounds import BranchBounds
from edgeprune.search.branches import solve
from edgeprune.search.program import INFINITY, Program
from tests.unit.search.programs import joint_optimum, random_program


@pytest.mark.parametrize("tightness", [0.1, 0.25, 0.5, 0.9])
@pytest.mark.parametrize("seed", range(5))
def test_the_answer_is_the_optimum_of_the_whole_program(seed: int, tightness: float) -> None:
    program = random_program(seed, limits=1 + seed % 3, tightness=tightness)
    expected = joint_optimum(program)
    found = solve(program, gap=0.0)
    if expected is None:
        assert found is None
        return
    assert found is not None
    assert found.objective == pytest.approx(expected, abs=1e-6)
    assert found.objective == pytest.approx(program.cost[found.taken].sum(), abs=1e-9)
    assert found.gap <= 1e-8 / found.objective
    assert_within(program, found.taken)


def test_small_costs_are_solved_as_exactly_as_large_ones() -> None:
    program = random_program(3, tightness=0.4)
    small = program._replace(cost=program.cost * 1e-6)
    large, tiny = solve(program, gap=1e-3), solve(small, gap=1e-3)
    assert large is not None
    assert tiny is not None
    assert tiny.objective * 1e6 == pytest.approx(large.objective, rel=2e-3)


def test_a_gap_asked_for_is_kept_and_told() -> None:
    program = random_program(1, tightness=0.3)
    optimum = joint_optimum(program)
    assert optimum is not None
    for gap in (1e-2, 1e-4):
        found = solve(program, gap=gap)
        assert found is not None
        assert found.gap <= gap
        assert optimum - 1e-6 <= found.objective <= optimum + found.gap * found.objective + 1e-6


def test_a_common_slack_is_the_least_that_makes_the_limits_hold() -> None:
    program = random_program(2, limits=2, tightness=0.01)
    loosened = program._replace(
        cost=program.cost * 1e-6, slack_upper=INFINITY, is_loosened=np.ones_like(program.is_loosened)
    )
    assert solve(program, gap=1e-4) is None
    found, expected = solve(loosened, gap=1e-6), joint_optimum(loosened)
    assert found is not None
    assert expected is not None
    assert found.slack > 0.0
    assert found.objective == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("seed", range(4))
def test_prices_of_one_branch_bound_every_branch(seed: int) -> None:
    program = random_program(seed, tightness=0.3)
    bounds = BranchBounds(program)
    relaxed = {column: relaxation(program, column) for column in program.branch}
    for position, column in enumerate(program.branch):
        value, duals = relaxed[column]
        if duals is None:
            continue
        found = bounds.at(program.cost, np.maximum(0.0, -duals))
        assert found[position] == pytest.approx(value, abs=1e-6)
        for bound, other in zip(found, program.branch, strict=True):
            assert bound <= relaxed[other][0] + 1e-6


def relaxation(program: Program, column: int) -> tuple[float, np.ndarray | None]:
    """Value and duals of the limits of the linear relaxation with one branch taken; infinity when infeasible."""
    import scipy.optimize
    import scipy.sparse

    groups, count = program.groups, len(program.cost)
    matrix = scipy.sparse.csr_array((groups.values, groups.indices, groups.starts), shape=(len(groups.targets), count))
    fixed = [(1.0, 1.0) if index == column else (0.0, 1.0) for index in range(count)]
    result = scipy.optimize.linprog(
        program.cost,
        A_ub=program.coefficients,
        b_ub=program.limits,
        A_eq=matrix,
        b_eq=np.array(groups.targets),
        bounds=fixed,
    )
    return (float("inf"), None) if result.status == 2 else (float(result.fun), result.ineqlin.marginals)


def assert_within(program: Program, taken: np.ndarray) -> None:
    chosen = np.zeros(len(program.cost))
    chosen[taken] = 1.0
    groups = program.groups
    for target, start, end in zip(groups.targets, groups.starts, groups.starts[1:], strict=False):
        total = np.dot(groups.values[start:end], chosen[groups.indices[start:end]])
        assert total == pytest.approx(target, abs=1e-6)
    assert (program.coefficients @ chosen <= program.limits + 1e-6).all()

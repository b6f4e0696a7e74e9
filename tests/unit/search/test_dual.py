"""Prices by cutting planes against the linear relaxation that scipy solves, cold and from allocations kept before."""

import numpy as np
import pytest

from edgeprune.search.bounds import BranchBounds
from edgeprune.search.dual import Pool, best_prices
from edgeprune.search.program import Program
from tests.unit.search.programs import nested_program, random_program
from tests.unit.search.test_branches import relaxation


def priced(program: Program, column: int, pool: Pool) -> tuple[float, np.ndarray | None]:
    """The bound at the best prices, and the mixture; infinity where the limits are refuted."""
    bounds = BranchBounds(program)
    found = best_prices(bounds, program.cost, (column,), pool, has_slack=False, is_exact=False)
    if found.values is None:
        missed = bounds.priced(np.zeros(len(program.cost)), found.prices, (column,)).bound
        assert missed > 0.0  # the prices prove it
        return float("inf"), None
    return bounds.priced(program.cost, found.prices, (column,)).bound, found.values


@pytest.mark.parametrize("tightness", [0.02, 0.2, 0.5, 0.9])
@pytest.mark.parametrize("limits", [1, 2, 3, 5])
def test_the_bound_is_that_of_the_linear_relaxation(limits: int, tightness: float) -> None:
    pool = Pool()
    program = random_program(limits, limits=limits, tightness=tightness)
    for column in program.branch:
        expected, _ = relaxation(program, column)
        for start in (Pool(), pool):
            assert priced(program, column, start)[0] == pytest.approx(expected, rel=1e-6, abs=1e-9)


@pytest.mark.parametrize("seed", range(3))
def test_sites_that_follow_a_width_are_relaxed_to_the_same_bound(seed: int) -> None:
    program = nested_program(seed, tightness=0.2)
    for column in program.branch:
        expected, _ = relaxation(program, column)
        assert priced(program, column, Pool())[0] == pytest.approx(expected, rel=1e-6)


def test_the_mixture_is_a_solution_of_the_relaxation() -> None:
    program = random_program(4, limits=3, tightness=0.3)
    column = program.branch[0]
    bound, values = priced(program, column, Pool())
    assert values is not None
    assert program.cost @ values == pytest.approx(bound, rel=1e-6)
    assert (program.coefficients @ values <= program.limits + 1e-6).all()
    for start, end in zip(program.groups.starts[1:], program.groups.starts[2:], strict=False):
        row, signs = program.groups.indices[start:end], program.groups.values[start:end]
        assert np.dot(signs, values[row]) == pytest.approx(program.groups.targets[program.groups.starts.index(start)])
    mixed = np.flatnonzero((values > 1e-6) & (values < 1.0 - 1e-6))
    assert 0 < len(mixed) <= 6 * len(program.limits)


def test_tiny_costs_are_priced_as_sharply_as_large_ones() -> None:
    program = random_program(2, limits=2, tightness=0.3)
    small = program._replace(cost=program.cost * 1e-6)
    for column in program.branch:
        large, tiny = priced(program, column, Pool())[0], priced(small, column, Pool())[0]
        assert tiny == pytest.approx(large * 1e-6, rel=1e-4)

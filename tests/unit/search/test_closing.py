"""Listing what lies near a bound: exact against HiGHS, honest about what a work limit leaves unproved."""

import math

import numpy as np
import pytest

from edgeprune.search import branches
from edgeprune.search.bounds import BranchBounds
from edgeprune.search.branches import Solving, solve
from edgeprune.search.closing import close
from edgeprune.search.dual import Pool
from edgeprune.search.relaxations import Relaxations
from tests.unit.search.programs import joint_optimum, nested_program, random_program


@pytest.mark.parametrize("seed", range(4))
def test_no_allocation_costs_less_than_the_bound_and_the_best(seed: int) -> None:
    program = random_program(seed, limits=2, tightness=0.4)
    optimum = joint_optimum(program)
    assert optimum is not None
    bounds = BranchBounds(program)
    lowest = math.inf
    for column in program.branch:
        found = Relaxations(program).relax((column,))
        if found is None:
            continue
        for work_limit in (10, 1_000, 100_000):
            closed = close(
                bounds, program.cost, (column,), found.prices, cutoff=math.inf, work_limit=work_limit
            )  # fmt: skip
            assert min(closed.bound, closed.objective) <= closed.objective
            if closed.taken:
                assert closed.objective == pytest.approx(program.cost[list(closed.taken)].sum())
                assert closed.objective >= optimum - 1e-9
        lowest = min(lowest, closed.bound, closed.objective)
    assert lowest <= optimum + 1e-9


def test_a_work_limit_leaves_a_gap_that_holds(monkeypatch: pytest.MonkeyPatch) -> None:
    program = random_program(1, limits=3, tightness=0.3)
    optimum = joint_optimum(program)
    assert optimum is not None
    monkeypatch.setattr(branches, "FIRST_WORK", 20)
    monkeypatch.setattr(branches, "WORK_LIMIT", branches.RELAXATION_WORK * 6 + 40)
    found = solve(program, gap=0.0)
    assert found is not None
    assert found.objective * (1.0 - found.gap) <= optimum + 1e-9
    assert found.objective >= optimum - 1e-9


def test_what_is_no_better_than_what_is_known_is_not_returned() -> None:
    program = random_program(2, limits=2, tightness=0.4)
    best = solve(program, gap=0.0)
    assert best is not None
    outcome = Solving(program, gap=0.0).finish(below=best.objective)
    assert outcome.solution is None
    assert outcome.bound >= best.objective - 1e-8
    better = Solving(program, gap=0.0).finish(below=best.objective * 1.1)
    assert better.solution is not None
    assert better.solution.objective == pytest.approx(best.objective)


def test_allocations_kept_from_other_limits_change_no_answer() -> None:
    tight, loose = (random_program(3, limits=2, tightness=tightness) for tightness in (0.35, 0.6))
    pool = Pool()
    Solving(loose, gap=0.0, pool=pool).finish()
    assert pool.choices
    again = Solving(tight, gap=0.0, pool=pool).finish().solution
    fresh = solve(tight, gap=0.0)
    assert again is not None
    assert fresh is not None
    assert np.array_equal(np.sort(again.taken), np.sort(fresh.taken))


@pytest.mark.parametrize("tightness", [0.1, 0.4])
@pytest.mark.parametrize("seed", range(3))
def test_sites_that_all_follow_a_width_are_solved_to_the_optimum(seed: int, tightness: float) -> None:
    program = nested_program(seed, tightness=tightness)
    expected, found = joint_optimum(program), solve(program, gap=0.0)
    assert expected is not None
    assert found is not None
    assert found.objective == pytest.approx(expected, abs=1e-6)
    assert found.gap <= 1e-6


@pytest.mark.parametrize("work_limit", [1_000, 20_000])
def test_no_more_is_made_than_the_work_allows(work_limit: int) -> None:
    program = nested_program(0, options=24)
    bounds = BranchBounds(program)
    column = program.branch[0]
    relaxed = Relaxations(program).relax((column,))
    assert relaxed is not None
    closed = close(bounds, program.cost, (column,), relaxed.prices, cutoff=math.inf, work_limit=work_limit)
    # What is carried on at the end is as much again, and groups are made of whole chunks.
    assert closed.work <= 3 * work_limit + 100_000

"""Every objective is solved to a proved gap, whatever kernel times a device's own measurements happen to give."""

import math
import random

import pytest
from msgspec.structs import replace

from edgeprune.predict.cost import CostModel
from edgeprune.predict.quality import QualityModel
from edgeprune.schema.budget import Budget, Objective
from edgeprune.schema.device import DeviceProfile
from edgeprune.search import allocate
from edgeprune.search.allocate import RELATIVE_GAP, Allocator
from edgeprune.search.branches import WORK_LIMIT, Solving
from edgeprune.search.choose import choose
from edgeprune.search.problem import Limits, Problem
from edgeprune.search.space import build_space
from tests.unit.search.builders import make_device, make_scores, make_spec, make_workload


def unsteady(device: DeviceProfile, seed: int) -> DeviceProfile:
    """The device with every time of its table off by a factor of its own, as a busy machine measures."""
    draw = random.Random(seed)
    times = tuple(replace(entry, time_s=entry.time_s * math.exp(draw.gauss(0.0, 0.4))) for entry in device.kernel_times)
    return replace(device, kernel_times=times)


def small_problem(seed: int, budget: Budget) -> Problem:
    """Three small blocks with all kinds of choices: few groups of very many combinations, far from their bound."""
    spec = make_spec(blocks=3, hidden=128, heads=8, kv_heads=4, intermediate=352)
    scores, arrays = make_scores(
        spec,
        seed=seed,
        channel_counts=(88, 176, 264),
        group_counts=(1, 2, 3),
        depth=[(0,), (1,), (2,), (1, 2)],
        vocabulary=[256, 384],
    )
    return Problem(
        spec=spec,
        scores=scores,
        cost_model=CostModel(unsteady(make_device(), seed), spec, make_workload(spec)),
        quality_model=QualityModel(spec, scores, arrays),
        budget=budget,
        context_tokens=128,
        seed=0,
    )


@pytest.mark.parametrize("objective", ["latency", "memory"])
@pytest.mark.parametrize("seed", range(3))
def test_an_objective_under_a_limit_on_loss_is_solved_to_its_gap(seed: int, objective: Objective) -> None:
    problem = small_problem(seed, Budget(max_loss=0.2, first_token_s=10.0, objective=objective))
    space = build_space(problem)
    found = choose(problem, space, Allocator(space, floor_bytes=problem.cost_model.floor_bytes))
    assert found is not None
    assert found.optimality_gap is not None
    assert found.optimality_gap <= RELATIVE_GAP
    assert found.relative_loss <= 0.2
    # The whole model stays in the cache, so there is no share of cached weights to step over.
    assert found.basis == "exact"


@pytest.mark.parametrize("seed", range(3))
def test_an_objective_takes_a_small_part_of_the_work_allowed(seed: int) -> None:
    problem = small_problem(seed, Budget(max_loss=0.2, objective="latency"))
    space = build_space(problem)
    allocator = Allocator(space, floor_bytes=None)
    limits = Limits(loss_nats=0.2 * problem.quality_model.dense_loss_nats, cached_fraction=1.0)
    program, _ = allocator.program(limits, "latency")
    solving = Solving(program, gap=RELATIVE_GAP)
    assert solving.finish().solution is not None
    assert solving.work_left > 0.25 * WORK_LIMIT


def test_a_limit_that_no_recipe_can_exceed_is_no_row() -> None:
    problem = small_problem(0, Budget())
    space = build_space(problem)
    allocator = Allocator(space, floor_bytes=60_000_000)
    limits = Limits(memory_bytes=1e12, disk_bytes=1e12, first_token_s=1e6, latency_s=1e-3, cached_fraction=1.0)
    names = [row.name for row in allocator.program(limits, "loss")[1]]
    assert set(names) <= {"latency"}


def test_memory_is_made_least_also_where_no_floor_is_known_and_little_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(allocate, "MEMORY_REFERENCE_BYTES", 1e8)  # many times what any recipe takes
    problem = small_problem(0, Budget(max_loss=0.2, objective="memory"))
    space = build_space(problem)
    limits = Limits(loss_nats=0.2 * problem.quality_model.dense_loss_nats)
    answers = [Allocator(space, floor_bytes=floor).least_memory(limits) for floor in (None, 60_000_000)]
    peaks = []
    for answer in answers:
        assert answer is not None
        prices = [space.fixed, *(column.price for column in answer.taken if column.price is not None)]
        peaks.append(
            max(sum(price.loading_high_bytes for price in prices), sum(price.running_high_bytes for price in prices))
        )
    assert peaks[0] == pytest.approx(peaks[1], rel=1e-2)

"""The solver against brute force, and against what its answers must be."""

import random

import pytest

from edgeprune.predict.cost import CostModel
from edgeprune.predict.quality import QualityModel
from edgeprune.schema.budget import Budget
from edgeprune.schema.recipe import Drops
from edgeprune.search.allocate import Allocator
from edgeprune.search.ladders import rank_ladder
from edgeprune.search.problem import Limits, Problem
from edgeprune.search.space import Column, Space, build_space, to_recipe
from edgeprune.shapes import break_even_rank
from tests.unit.search.builders import make_device, make_scores, make_spec, make_workload

DEPTH: list[tuple[int, ...] | Drops] = [(1,), (0, 1), Drops(attention=(2,)), Drops(blocks=(1,), mlp=(0,))]


def tiny_problem(seed: int) -> Problem:
    """Three blocks of two sites, few options: small enough to try everything."""
    spec = make_spec(blocks=3, hidden=32, heads=2, kv_heads=1, intermediate=64, vocab=128, is_gated=False)
    kept = ("up", "down") if seed % 2 else ("q", "o")
    blocks = tuple(
        type(block)(
            **{name: getattr(block, name) for name in block.__struct_fields__}
            | {"sites": tuple(site for site in block.sites if site.role in kept)}
        )
        for block in spec.blocks
    )
    spec = type(spec)(**{name: getattr(spec, name) for name in spec.__struct_fields__} | {"blocks": blocks})
    kernels = ("fp32", "int8_b32_a4", "int4_b32_a4")
    counts = (32,) if seed % 2 else ()
    scores, arrays = make_scores(
        spec, kernels=kernels, seed=seed, channel_counts=counts, depth=DEPTH, vocabulary=[64], methods=()
    )
    return Problem(
        spec=spec,
        scores=scores,
        cost_model=CostModel(make_device(kernels=kernels), spec, make_workload(spec)),
        quality_model=QualityModel(spec, scores, arrays),
        budget=Budget(),
        context_tokens=64,
        seed=0,
    )


def every_allocation(space: Space) -> list[tuple[Column, ...]]:
    """All ways to take exactly one column of every group that is on."""
    members = [
        [position for position, column in enumerate(space.columns) if column.group == group]
        for group in range(len(space.groups))
    ]
    found: list[list[int]] = [[]]
    for group, options in zip(space.groups, members, strict=True):
        grown = []
        for taken in found:
            is_on = group.switch in taken if group.switch is not None else not set(group.off) & set(taken)
            grown += [[*taken, option] for option in options] if is_on else [taken]
        found = grown
    return [tuple(space.columns[position] for position in taken) for taken in found]


def totals(space: Space, taken: tuple[Column, ...]) -> tuple[float, float, float, float]:
    """Loss, disk, memory without the floor, and seconds with nothing cached."""
    prices = [space.fixed, *(column.price for column in taken if column.price is not None)]
    memory = max(sum(price.loading_high_bytes for price in prices), sum(price.running_high_bytes for price in prices))
    return (
        sum(column.loss_nats for column in taken),
        float(sum(price.disk_bytes for price in prices)),
        memory,
        sum(price.decode_high_s(0.0) or 0.0 for price in prices),
    )


@pytest.mark.parametrize("seed", range(6))
def test_the_answer_equals_brute_force_under_every_kind_of_limit(seed: int) -> None:
    problem = tiny_problem(seed)
    space = build_space(problem)
    everything = [totals(space, taken) for taken in every_allocation(space)]
    assert len(everything) > 300
    allocator = Allocator(space, floor_bytes=60_000_000)
    draw = random.Random(seed)
    ranges = [(min(column), max(column)) for column in zip(*everything, strict=True)]
    for _ in range(6):
        loss, disk, memory, time_s = (low + draw.random() * (high - low) for low, high in ranges)
        limits = Limits(
            disk_bytes=disk if draw.random() < 0.7 else None,
            memory_bytes=60_000_000 + memory if draw.random() < 0.7 else None,
            latency_s=time_s if draw.random() < 0.7 else None,
            loss_nats=loss if draw.random() < 0.3 else None,
        )
        feasible = [
            entry
            for entry in everything
            if (limits.disk_bytes is None or entry[1] <= limits.disk_bytes)
            and (limits.memory_bytes is None or entry[2] + 60_000_000 <= limits.memory_bytes)
            and (limits.latency_s is None or entry[3] <= limits.latency_s)
            and (limits.loss_nats is None or entry[0] <= limits.loss_nats)
        ]
        answer = allocator.least_loss(limits)
        if not feasible:
            assert answer is None
            continue
        assert answer is not None
        best = min(entry[0] for entry in feasible)
        # Ties are broken by time, which may weigh up to a ten-thousandth of a nat.
        assert totals(space, answer.taken)[0] == pytest.approx(best, abs=2e-4, rel=2e-4)


def test_what_the_solver_adds_up_is_what_the_recipe_costs() -> None:
    spec = make_spec(blocks=3)
    scores, arrays = make_scores(spec, channel_counts=(64, 128), depth=DEPTH, vocabulary=[256])
    problem = Problem(
        spec=spec,
        scores=scores,
        cost_model=CostModel(make_device(), spec, make_workload(spec)),
        quality_model=QualityModel(spec, scores, arrays),
        budget=Budget(),
        context_tokens=64,
        seed=0,
    )
    space = build_space(problem)
    allocator = Allocator(space, floor_bytes=60_000_000)
    smallest = allocator.nearest(Limits(disk_bytes=1.0))
    assert smallest is not None
    bottom = totals(space, smallest.taken)[1]
    seen = set()
    for share in (1.001, 1.05, 1.15, 1.3, 1.6, 2.5):
        answer = allocator.least_loss(Limits(disk_bytes=share * bottom))
        assert answer is not None
        recipe = to_recipe(problem, answer.taken)
        seen.add(recipe.drops)
        cost = problem.cost_model.cost(recipe)
        assert cost.disk_bytes == totals(space, answer.taken)[1]
        assert cost.model_memory_bytes.high == pytest.approx(totals(space, answer.taken)[2])
        assert problem.quality_model.loss_increase_nats(recipe) == pytest.approx(totals(space, answer.taken)[0])
    assert any(drops.attention or drops.mlp for drops in seen)


def test_the_nearest_allocation_has_the_least_worst_violation() -> None:
    problem = tiny_problem(2)
    space = build_space(problem)
    everything = [totals(space, taken) for taken in every_allocation(space)]
    disk, loss = min(entry[1] for entry in everything) * 1.05, 0.01
    worst = min(max(entry[1] / disk - 1.0, entry[0] / loss - 1.0, 0.0) for entry in everything)
    answer = Allocator(space, floor_bytes=0).nearest(Limits(disk_bytes=disk, loss_nats=loss))
    assert answer is not None
    assert answer.violation == pytest.approx(worst, rel=1e-3)


def test_least_memory_is_the_least_peak_within_the_loss() -> None:
    problem = tiny_problem(0)
    space = build_space(problem)
    everything = [totals(space, taken) for taken in every_allocation(space)]
    answer = Allocator(space, floor_bytes=60_000_000).least_memory(Limits(loss_nats=0.05))
    assert answer is not None
    found = totals(space, answer.taken)
    assert found[0] <= 0.05 + 1e-6
    best = min(entry[2] for entry in everything if entry[0] <= 0.05)
    # The gap is relative to the total peak, floor included.
    assert found[2] <= best + 1e-3 * 60_000_000


def test_equal_inputs_give_equal_recipes() -> None:
    recipes = []
    for _ in range(2):
        problem = tiny_problem(1)
        space = build_space(problem)
        answer = Allocator(space, floor_bytes=0).least_loss(Limits(disk_bytes=60_000))
        assert answer is not None
        recipes.append(to_recipe(problem, answer.taken))
    assert recipes[0] == recipes[1]


def test_of_kernels_with_equal_loss_the_faster_is_offered() -> None:
    spec = make_spec()
    scores, arrays = make_scores(spec)
    problem = Problem(
        spec=spec,
        scores=scores,
        cost_model=CostModel(make_device(), spec, make_workload(spec)),
        quality_model=QualityModel(spec, scores, arrays),
        budget=Budget(),
        context_tokens=64,
        seed=0,
    )
    kernels = {column.site.kernel for column in build_space(problem).columns if column.site is not None}
    assert "int8_b32_a4" in kernels
    assert "int8_b32_a0" not in kernels


def test_ranks_save_parameters_in_steps_of_32() -> None:
    assert rank_ladder(256, 704) == [32, 64, 96, 128, 160]
    assert max(rank_ladder(4096, 11008)) <= break_even_rank(4096, 11008)
    assert len(rank_ladder(4096, 11008)) <= 16
    assert rank_ladder(64, 64) == [8, 16, 24]

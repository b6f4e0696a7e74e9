"""Whole searches on small models: limits hold, infeasible budgets are explained, devices differ."""

import time

import pytest

from edgeprune.errors import UsageError
from edgeprune.predict.cost import CostModel
from edgeprune.predict.quality import QualityModel
from edgeprune.schema.budget import Budget
from edgeprune.schema.candidate import SearchResult
from edgeprune.schema.device import DeviceProfile
from edgeprune.schema.model import ModelSpec
from edgeprune.search.allocate import Allocator
from edgeprune.search.baselines import PLAIN_INT4, plain_recipe
from edgeprune.search.problem import Limits, Problem
from edgeprune.search.solve import search
from edgeprune.search.space import build_space
from edgeprune.shapes import edit_shapes
from tests.unit.search.builders import make_device, make_scores, make_spec, make_workload

SPEC = make_spec(blocks=3)


def solve(budget: Budget, *, spec: ModelSpec = SPEC, device: DeviceProfile | None = None) -> SearchResult:
    scores, arrays = make_scores(spec, channel_counts=(96, 128), depth=[(1,), (1, 2)], vocabulary=[256, 384])
    workload = make_workload(spec)
    return search(
        spec,
        scores,
        arrays,
        cost_model=CostModel(device or make_device(), spec, workload),
        quality_model=QualityModel(spec, scores, arrays),
        budget=budget,
        workload=workload,
        device_name="bench",
        seed=0,
    )


@pytest.mark.parametrize(
    "budget",
    [
        Budget(disk_bytes=150_000),
        Budget(memory_bytes=64_500_000, disk_bytes=160_000),
        Budget(latency_s=1.6e-4),
        Budget(max_loss=0.01),
        Budget(memory_bytes=66_000_000, disk_bytes=200_000, latency_s=2.2e-4, max_loss=0.05),
    ],
)
def test_the_choice_meets_every_limit_and_fits_the_model(budget: Budget) -> None:
    result = solve(budget)
    assert result.chosen is not None, result.infeasible
    assert result.predicted == "met"
    cost = result.chosen.cost
    assert budget.disk_bytes is None or cost.disk_bytes <= budget.disk_bytes
    assert budget.memory_bytes is None or (cost.peak_rss_bytes.high or 0.0) <= budget.memory_bytes
    assert budget.latency_s is None or (cost.decode_s.high or 0.0) <= budget.latency_s
    assert budget.max_loss is None or result.chosen.relative_loss <= budget.max_loss + 1e-9
    edit_shapes(SPEC, result.chosen.recipe)
    assert result.chosen.optimality_gap is not None
    assert result.chosen.optimality_gap < 1e-3


def test_at_plain_int4s_size_the_choice_loses_no_more_than_plain_int4() -> None:
    int4 = plain_recipe(SPEC, PLAIN_INT4, context_tokens=128, seed=0)
    scores, arrays = make_scores(SPEC)
    cost = CostModel(make_device(), SPEC, make_workload(SPEC)).cost(int4)
    result = solve(Budget(disk_bytes=cost.disk_bytes))
    plain_loss = QualityModel(SPEC, scores, arrays).loss_increase_nats(int4)
    assert result.chosen is not None
    assert plain_loss is not None
    assert result.chosen.loss_increase_nats <= plain_loss


def test_the_front_falls_from_small_and_bad_to_large_and_good() -> None:
    result = solve(Budget(disk_bytes=150_000))
    sizes = [entry.cost.disk_bytes for entry in result.front]
    losses = [entry.loss_increase_nats for entry in result.front]
    assert len(result.front) >= 5
    assert sizes == sorted(sizes)
    assert losses == sorted(losses, reverse=True)
    assert [entry.label for entry in result.baselines] == ["int8", "int4"]
    assert result.dense.loss_increase_nats == 0.0


def test_with_only_a_loss_limit_the_least_memory_is_taken() -> None:
    tight, loose = solve(Budget(max_loss=0.001)).chosen, solve(Budget(max_loss=0.1)).chosen
    assert tight is not None
    assert loose is not None
    assert (loose.cost.peak_rss_bytes.high or 0.0) < (tight.cost.peak_rss_bytes.high or 0.0)


def test_memory_below_the_floor_says_so_and_names_a_budget_that_works() -> None:
    result = solve(Budget(memory_bytes=12_000_000))
    assert result.chosen is None
    assert result.predicted == "not_met"
    assert result.infeasible is not None
    assert result.infeasible.binding == ("memory",)
    assert "memory 12.0 MB: not even the floor fits" in result.infeasible.message
    assert "60.0 MB on bench" in result.infeasible.message
    assert "--memory" in result.infeasible.message
    assert result.infeasible.nearest is not None
    assert solve(result.infeasible.nearest).predicted == "met"


def test_memory_above_the_floor_names_what_the_smallest_recipe_needs() -> None:
    result = solve(Budget(memory_bytes=61_000_000))
    assert result.infeasible is not None
    assert "even the smallest recipe needs" in result.infeasible.message
    assert "of which 60.0 MB is the floor" in result.infeasible.message


def test_limits_that_exclude_each_other_bind_together() -> None:
    result = solve(Budget(disk_bytes=110_000, max_loss=0.0001))
    assert result.infeasible is not None
    assert result.infeasible.binding == ("disk", "loss")
    assert "cannot be met together" in result.infeasible.message
    nearest = result.infeasible.nearest
    assert nearest is not None
    assert (nearest.disk_bytes or 0) > 110_000
    assert solve(nearest).predicted == "met"


def test_latency_no_recipe_reaches_is_explained() -> None:
    result = solve(Budget(latency_s=1e-6))
    assert result.infeasible is not None
    assert "latency 1.00 us: even the fastest recipe needs" in result.infeasible.message
    assert result.infeasible.nearest is not None
    assert solve(result.infeasible.nearest).predicted == "met"


def test_two_kernel_tables_give_two_recipes() -> None:
    budget = Budget(latency_s=2e-4)
    int4_is_fast = make_device(seconds_per_byte={"int4_b32_a4": 0.3, "int8_b32_a4": 4.0})
    int8_is_fast = make_device(seconds_per_byte={"int4_b32_a4": 9.0, "int4_b128_a4": 9.0, "int8_b32_a4": 0.3})
    kernels = []
    for device in (int4_is_fast, int8_is_fast):
        chosen = solve(budget, device=device).chosen
        assert chosen is not None
        kernels.append([edit.kernel for edit in chosen.recipe.sites])
    assert kernels[0] != kernels[1]
    assert "int4_b32_a4" in kernels[0]
    assert "int4_b32_a4" not in kernels[1]
    assert "int8_b32_a4" in kernels[1]


def test_a_kernel_the_device_never_timed_is_not_chosen() -> None:
    device = make_device(kernels=("fp32", "fp16"))
    result = solve(Budget(disk_bytes=400_000), device=device)
    assert result.chosen is not None
    assert {edit.kernel for edit in result.chosen.recipe.sites} <= {"fp32", "fp16"}


def test_what_a_data_sheet_cannot_tell_is_unmeasured() -> None:
    result = solve(Budget(memory_bytes=400_000_000, disk_bytes=150_000), device=make_device(is_datasheet=True))
    assert result.chosen is not None
    assert result.predicted == "unmeasured"


def test_another_budget_is_solved_in_under_a_second() -> None:
    scores, arrays = make_scores(SPEC, channel_counts=(96, 128), depth=[(1,)], vocabulary=[256])
    problem = Problem(
        spec=SPEC,
        scores=scores,
        cost_model=CostModel(make_device(), SPEC, make_workload(SPEC)),
        quality_model=QualityModel(SPEC, scores, arrays),
        budget=Budget(),
        context_tokens=128,
        seed=0,
    )
    started = time.process_time()
    allocator = Allocator(build_space(problem), floor_bytes=60_000_000)
    assert allocator.least_loss(Limits(disk_bytes=150_000)) is not None
    assert time.process_time() - started < 1.0


def test_scores_of_another_model_are_refused() -> None:
    scores, arrays = make_scores(SPEC)
    other = type(SPEC)(**{name: getattr(SPEC, name) for name in SPEC.__struct_fields__} | {"model_hash": "9" * 64})
    workload = make_workload(other)
    with pytest.raises(UsageError, match="calibrate this model again"):
        search(
            other,
            scores,
            arrays,
            cost_model=CostModel(make_device(), other, workload),
            quality_model=QualityModel(other, scores, arrays),
            budget=Budget(),
            workload=workload,
            device_name="bench",
            seed=0,
        )

"""Every limit and objective against brute force on spaces small enough to try everything."""

import dataclasses
import random

import pytest
from msgspec.structs import replace

from edgeprune.predict.accuracy import AccuracyModel
from edgeprune.predict.cost import CostModel
from edgeprune.predict.quality import QualityModel
from edgeprune.schema.budget import Budget
from edgeprune.schema.candidate import SearchResult
from edgeprune.schema.device import AcceleratorInfo
from edgeprune.search.allocate import Allocator
from edgeprune.search.choose import choose
from edgeprune.search.general import general_loss
from edgeprune.search.problem import Limits, Problem
from edgeprune.search.solve import search
from edgeprune.search.space import Column, Space, build_space
from tests.unit.search.builders import make_device, make_scores, make_spec, make_workload
from tests.unit.search.test_allocate import every_allocation, tiny_problem, totals


def with_general(problem: Problem, seed: int, *, budget: Budget) -> Problem:
    """The problem with another model's losses as those on general text, and a device with an accelerator."""
    scores, arrays = make_scores(
        problem.spec,
        kernels=problem.scores.kernels,
        seed=seed + 100,
        channel_counts=problem.scores.channel_counts[0] if problem.scores.channel_counts else (),
        depth=[option.drop_blocks for option in problem.scores.depth],
        vocabulary=[option.kept_count for option in problem.scores.vocabulary],
        methods=(),
    )
    gpu = AcceleratorInfo(
        name="gpu", kind="cuda", total_bytes=None, free_bytes=None, is_unified=None, copy_bandwidth_bytes_per_s=None
    )
    device = replace(make_device(kernels=problem.scores.kernels), accelerators=(gpu,))
    return dataclasses.replace(
        problem,
        general_model=QualityModel(problem.spec, scores, arrays),
        cost_model=CostModel(device, problem.spec, make_workload(problem.spec)),
        budget=budget,
    )


def wider_totals(problem: Problem, space: Space, taken: tuple[Column, ...]) -> dict[str, float]:
    """Everything that can be limited, with nothing cached."""
    loss, disk, memory, time_s = totals(space, taken)
    prices = [space.fixed, *(column.price for column in taken if column.price is not None)]
    assert problem.general_model is not None
    prompt_s = sum(price.prefill_high_s(0.0) or 0.0 for price in prices)
    return {
        "loss_nats": loss,
        "disk_bytes": disk,
        "memory_bytes": memory + 60_000_000,
        "latency_s": time_s,
        "first_token_s": prompt_s,
        "request_s": prompt_s + 64 * time_s,
        "device_memory_bytes": sum(price.device_bytes for price in prices),
        "general_nats": sum(general_loss(problem.general_model, column) or 0.0 for column in taken),
        "accuracy_nats": loss,
    }


@pytest.mark.parametrize("seed", range(4))
def test_the_least_of_each_objective_under_random_limits_is_what_brute_force_finds(seed: int) -> None:
    problem = with_general(tiny_problem(seed), seed, budget=Budget(max_general_loss=1.0))
    space = build_space(problem)
    everything = [wider_totals(problem, space, taken) for taken in every_allocation(space)]
    allocator = Allocator(space, floor_bytes=60_000_000)
    draw = random.Random(seed)
    answered = 0
    for _ in range(8):
        # A recipe drawn at random and a little room, so that most draws are feasible but not trivial.
        middle = draw.choice(everything)
        names = draw.sample(sorted(middle.keys() - {"request_s"}), k=3)
        bounds = {name: middle[name] * draw.uniform(0.97, 1.15) for name in names}
        limits = Limits(**bounds)
        feasible = [entry for entry in everything if all(entry[name] <= bound for name, bound in bounds.items())]
        for solve, objective, slack in (
            (allocator.least_loss, "loss_nats", 3e-4),
            (allocator.least_memory, "memory_bytes", 1e-3 * 60_000_000),
            (allocator.least_latency, "latency_s", 2e-3 * max(entry["latency_s"] for entry in everything)),
            (
                lambda bound: allocator.least("request", bound).finish().allocation,
                "request_s",
                2e-3 * max(entry["request_s"] for entry in everything),
            ),
        ):
            answer = solve(limits)
            if not feasible:
                assert answer is None
                continue
            assert answer is not None
            found = wider_totals(problem, space, answer.taken)
            assert all(found[name] <= bound * (1 + 1e-9) + 1e-12 for name, bound in bounds.items())
            assert found[objective] <= min(entry[objective] for entry in feasible) + slack
            answered += 1
    assert answered > 6


def test_a_method_worse_on_the_domain_and_better_elsewhere_is_offered_when_general_text_is_limited() -> None:
    spec = make_spec(blocks=2)
    scores, arrays = make_scores(spec)
    swapped = {
        key.replace("lowrank", "-").replace("laser", "lowrank").replace("-", "laser"): value
        for key, value in arrays.items()
    }
    problem = Problem(
        spec=spec,
        scores=scores,
        cost_model=CostModel(make_device(), spec, make_workload(spec)),
        quality_model=QualityModel(spec, scores, arrays),
        general_model=QualityModel(spec, scores, swapped),
        budget=Budget(),
        context_tokens=64,
        seed=0,
    )

    def methods(budget: Budget) -> set[str]:
        columns = build_space(dataclasses.replace(problem, budget=budget)).columns
        return {column.site.method for column in columns if column.site is not None and column.site.rank is not None}

    assert methods(Budget()) == {"lowrank"}
    assert methods(Budget(max_general_loss=0.5)) == {"lowrank", "laser"}


def solve_tiny(budget: Budget) -> tuple[Problem, object]:
    problem = dataclasses.replace(tiny_problem(1), budget=budget)
    space = build_space(problem)
    return problem, choose(problem, space, Allocator(space, floor_bytes=60_000_000))


def test_the_objective_decides_which_of_the_recipes_within_the_loss_is_taken() -> None:
    budgets = {name: Budget(max_loss=0.05, disk_bytes=10**9, objective=name) for name in ("loss", "memory", "latency")}
    found = {name: solve_tiny(budget)[1] for name, budget in budgets.items()}
    cost = {name: entry.cost for name, entry in found.items()}  # type: ignore[attr-defined]
    assert cost["memory"].peak_rss_bytes.high < cost["loss"].peak_rss_bytes.high
    assert cost["latency"].decode_s.high <= min(cost["loss"].decode_s.high, cost["memory"].decode_s.high)
    assert all(entry.relative_loss <= 0.05 + 1e-9 for entry in found.values())  # type: ignore[attr-defined]


@pytest.mark.parametrize("decode_tokens", [1, 4096])
def test_a_request_is_its_prompt_and_its_tokens(decode_tokens: int) -> None:
    """One kernel is quick for a prompt, the other for a token: which is taken follows the mix."""
    problem = tiny_problem(1)
    spec, kernels = problem.spec, ("fp32", "int8_b32_a4", "int4_b32_a4")
    device = make_device(kernels=kernels)
    slow = {"int4_b32_a4": range(2, 10_000), "fp32": range(1, 2)}
    times = tuple(
        replace(time, time_s=time.time_s * (9.0 if time.rows in slow.get(time.kernel, ()) else 1.0))
        for time in device.kernel_times
    )
    workload = replace(make_workload(spec), context_tokens=128 + decode_tokens, decode_tokens=decode_tokens)
    cost_model = CostModel(replace(device, kernel_times=times), spec, workload)
    budget = Budget(max_loss=100.0, objective="request")
    asked = dataclasses.replace(problem, cost_model=cost_model, budget=budget, decode_tokens=decode_tokens)
    space = build_space(asked)
    entry = choose(asked, space, Allocator(space, floor_bytes=60_000_000))
    assert entry is not None
    cost, generated = entry.cost, {edit.kernel for edit in entry.recipe.sites}
    assert cost.request_s.value == pytest.approx(cost.prefill_s.value + decode_tokens * cost.decode_s.value)
    assert ("int4_b32_a4" in generated) == (decode_tokens > 1)


def test_an_objective_of_memory_still_holds_every_limit() -> None:
    _, entry = solve_tiny(Budget(max_loss=0.05, latency_s=1.5e-4, objective="memory"))
    assert entry is not None
    assert entry.cost.decode_s.high <= 1.5e-4  # type: ignore[attr-defined]
    _, none = solve_tiny(Budget(max_loss=0.05, memory_bytes=60_500_000, objective="memory"))
    assert none is None


def solve_with_accuracy(min_accuracy: float, disk_bytes: int | None = None) -> SearchResult:
    problem = tiny_problem(1)
    scores, arrays = make_scores(
        problem.spec,
        kernels=problem.scores.kernels,
        seed=1,
        channel_counts=(32,),
        depth=[(1,), (0, 1)],
        vocabulary=[64],
        methods=(),
    )
    return search(
        problem.spec,
        scores,
        arrays,
        cost_model=problem.cost_model,
        quality_model=problem.quality_model,
        # 0.9 at no loss, falling by 0.1 for each tenth of a nat.
        accuracy_model=AccuracyModel([0.0, 0.1, 0.4], [0.9, 0.8, 0.5]),
        budget=Budget(min_accuracy=min_accuracy, disk_bytes=disk_bytes),
        workload=make_workload(problem.spec),
        device_name="bench",
        seed=0,
    )


def test_a_least_accuracy_allows_the_loss_at_which_it_is_expected() -> None:
    strict, loose = solve_with_accuracy(0.85), solve_with_accuracy(0.6)
    for result, allowed in ((strict, 0.05), (loose, 0.3)):
        assert result.chosen is not None
        assert result.chosen.loss_increase_nats <= allowed + 1e-9
        assert result.chosen.accuracy == pytest.approx(0.9 - result.chosen.loss_increase_nats, abs=1e-9)
        assert result.predicted == "met"
        assert not result.notes
    # With quality alone limited the least memory is taken, so a lower accuracy buys a smaller model.
    assert loose.chosen is not None
    assert strict.chosen is not None
    assert (loose.chosen.cost.peak_rss_bytes.high or 0.0) < (strict.chosen.cost.peak_rss_bytes.high or 0.0)


def test_an_accuracy_no_built_recipe_reached_is_infeasible_and_says_so() -> None:
    result = solve_with_accuracy(0.95, disk_bytes=10**9)
    assert result.chosen is None
    assert result.infeasible is not None
    assert result.infeasible.binding == ("accuracy",)
    assert "accuracy 95.0 %: no recipe that was built and asked reached it" in result.infeasible.message
    offer = result.infeasible.concessions[0]
    assert offer.message.startswith("--min-accuracy 0.95 -> 0.9")
    assert solve_with_accuracy(offer.budget.min_accuracy or 0.0, disk_bytes=10**9).predicted == "met"


def test_a_loss_of_nothing_is_met_by_what_loses_nothing() -> None:
    _, entry = solve_tiny(Budget(max_loss=0.0))
    assert entry is not None
    assert entry.relative_loss == 0.0  # type: ignore[attr-defined]

"""Explanations: prices are what limits really cost, margins add up, and what is said not to fit does not fit."""

import dataclasses

import msgspec
import pytest

from edgeprune.predict.cost import CostModel
from edgeprune.predict.quality import QualityModel
from edgeprune.schema.budget import Budget
from edgeprune.schema.candidate import Candidate
from edgeprune.schema.explanation import Choice, Explanation
from edgeprune.schema.lock import parse_locks
from edgeprune.schema.recipe import KeepTokens, Recipe, SiteEdit
from edgeprune.search.allocate import Allocator
from edgeprune.search.candidates import candidate
from edgeprune.search.choose import choose
from edgeprune.search.explanation import explain_recipe
from edgeprune.search.problem import Problem
from edgeprune.search.space import build_space
from tests.unit.search.builders import make_device, make_scores, make_spec, make_workload

SPEC = make_spec(blocks=3)
DISK = 150_000


def make_problem(budget: Budget, *locks: str, methods: tuple[str, ...] = ("lowrank", "laser")) -> Problem:
    scores, arrays = make_scores(
        SPEC, channel_counts=(96, 128), depth=[(1,), (2,), (1, 2)], vocabulary=[256, 384], methods=methods
    )
    return Problem(
        spec=SPEC,
        scores=scores,
        cost_model=CostModel(make_device(), SPEC, make_workload(SPEC)),
        quality_model=QualityModel(SPEC, scores, arrays),
        budget=budget,
        context_tokens=128,
        seed=0,
        locks=parse_locks(locks),
    )


def best_of(problem: Problem) -> Candidate:
    space = build_space(problem)
    found = choose(problem, space, Allocator(space, floor_bytes=problem.cost_model.floor_bytes))
    assert found is not None
    return found


def explained(problem: Problem, recipe: Recipe | None = None) -> Explanation:
    optimum = best_of(problem)
    return explain_recipe(
        problem,
        optimum.recipe if recipe is None else recipe,
        optimum=optimum,
        source="recipe.toml",
        device_name="bench",
    )


def site_choices(explanation: Explanation) -> list[Choice]:
    return [choice for block in explanation.blocks for choice in block.sites]


def swapped(recipe: Recipe, edit: SiteEdit) -> Recipe:
    others = [other for other in recipe.sites if other.name != edit.name]
    return msgspec.structs.replace(recipe, sites=(*others, edit))


@pytest.fixture(scope="module")
def plain() -> Explanation:
    return explained(make_problem(Budget(disk_bytes=DISK)))


def test_a_price_is_what_one_byte_more_saves(plain: Explanation) -> None:
    (limit,) = plain.limits
    assert limit.quantity == "disk"
    assert limit.nats_per_unit is not None
    assert plain.bound_nats is not None
    more = explained(make_problem(Budget(disk_bytes=DISK + 10)))
    assert more.bound_nats is not None
    assert plain.recipe.drop_blocks == more.recipe.drop_blocks
    assert plain.bound_nats - more.bound_nats == pytest.approx(10 * limit.nats_per_unit, rel=0.02)


def test_the_bound_holds_and_is_close(plain: Explanation) -> None:
    assert plain.bound_nats is not None
    assert plain.loss_increase_nats == pytest.approx(plain.optimum_nats)
    assert plain.bound_nats <= plain.optimum_nats + 2e-4  # the tie of 1e-4 is in the bound
    assert plain.bound_nats > 0.8 * plain.optimum_nats


def test_a_margin_is_the_loss_and_the_bytes_at_the_going_price(plain: Explanation) -> None:
    price = plain.limits[0].nats_per_unit
    assert price is not None
    checked = 0
    for choice in site_choices(plain):
        for option in choice.alternatives:
            assert option.loss_nats is not None
            assert choice.chosen.loss_nats is not None
            expected = option.loss_nats - choice.chosen.loss_nats
            expected += price * ((option.disk_bytes or 0) - (choice.chosen.disk_bytes or 0))
            assert option.margin_nats == pytest.approx(expected, abs=1e-4)
            checked += 1
    assert checked > 100


def test_what_would_lose_less_does_not_fit_and_says_so(plain: Explanation) -> None:
    problem = make_problem(Budget(disk_bytes=DISK))
    seen = set()
    for choice in site_choices(plain):
        for option in choice.alternatives:
            less = (choice.chosen.loss_nats or 0.0) - (option.loss_nats or 0.0)
            if option.standing != "open" or less < 1e-5 or option.kernel is None:
                continue
            edit = SiteEdit(name=choice.name, kernel=option.kernel, rank=option.rank, method=option.method or "lowrank")
            cost = problem.cost_model.cost(swapped(plain.recipe, edit))
            assert cost.disk_bytes > DISK, "the optimum would not be one"
            is_better = option.margin_nats is not None and option.margin_nats < -1e-7
            assert ("misses disk by" in option.reason) == is_better
            assert is_better or "too dear" in option.reason
            seen.add(is_better)
    assert seen


def test_what_is_called_beaten_is_beaten(plain: Explanation) -> None:
    beaten = [
        (choice, option)
        for choice in site_choices(plain)
        for option in choice.alternatives
        if option.standing == "beaten"
    ]
    assert beaten
    for choice, option in beaten:
        others = [other for other in (choice.chosen, *choice.alternatives) if other.label != option.label]
        assert any(
            (other.loss_nats or 0.0) <= (option.loss_nats or 0.0)
            and (other.disk_bytes or 0) <= (option.disk_bytes or 0)
            and (other.memory_bytes or 0.0) <= (option.memory_bytes or 0.0)
            for other in others
        )


@pytest.mark.parametrize("drop", [(1,), (1, 2), ()])
def test_another_set_of_blocks_costs_at_least_its_margin(plain: Explanation, drop: tuple[int, ...]) -> None:
    options = {option.drop_blocks: option for option in plain.depth.alternatives}
    if drop == plain.recipe.drop_blocks:
        assert plain.depth.chosen.drop_blocks == drop
        return
    locks = [f"block.{index}={'drop' if index in drop else 'keep'}" for index in range(3)]
    other = best_of(make_problem(Budget(disk_bytes=DISK), *locks))
    margin = options[drop].margin_nats
    assert margin is not None
    assert plain.bound_nats is not None
    assert other.loss_increase_nats - plain.bound_nats >= margin - 2e-4


def test_where_nothing_binds_prices_are_zero_and_the_least_loss_is_taken() -> None:
    explanation = explained(make_problem(Budget(disk_bytes=10**9)))
    assert explanation.limits[0].nats_per_unit == 0.0
    assert any("no limit binds" in line for line in explanation.summary)
    for choice in site_choices(explanation):
        losses = [option.loss_nats for option in choice.alternatives if option.loss_nats is not None]
        assert min(losses) >= (choice.chosen.loss_nats or 0.0) - 1e-9


def test_an_edited_recipe_is_told_apart_and_its_departures_add_up() -> None:
    problem = make_problem(Budget(disk_bytes=DISK))
    optimum = best_of(problem)
    kept = [block.index for block in SPEC.blocks if block.index not in optimum.recipe.drop_blocks]
    edit = SiteEdit(name=f"blocks.{kept[0]}.q", kernel="fp32", rank=21, method="laser")
    recipe = msgspec.structs.replace(swapped(optimum.recipe, edit), keep_tokens=KeepTokens(kept_count=300))
    explanation = explained(problem, recipe)
    written = candidate(problem, recipe, "written")
    assert written is not None
    assert explanation.is_edited
    assert [entry.name for entry in explanation.departures] == ["tables", edit.name]
    assert explanation.departures[1].written == "fp32 rank 21 laser"
    losses = [entry.loss_nats for entry in explanation.departures]
    sizes = [entry.disk_bytes for entry in explanation.departures]
    assert None not in losses
    more = written.loss_increase_nats - optimum.loss_increase_nats
    assert sum(loss or 0.0 for loss in losses) == pytest.approx(more)
    assert sum(size or 0 for size in sizes) == written.cost.disk_bytes - optimum.cost.disk_bytes
    assert explanation.loss_increase_nats == pytest.approx(written.loss_increase_nats)
    assert explanation.optimum_nats == pytest.approx(optimum.loss_increase_nats)
    assert "2 departures" in explanation.summary[0]
    own = next(choice for choice in site_choices(explanation) if choice.name == edit.name)
    assert own.chosen.label == "fp32 rank 21 laser"


def test_a_block_dropped_by_hand_counts_with_everything_in_it() -> None:
    problem = make_problem(Budget(disk_bytes=DISK), "depth=none")
    optimum = best_of(problem)
    recipe = msgspec.structs.replace(
        optimum.recipe,
        drop_blocks=(2,),
        sites=tuple(edit for edit in optimum.recipe.sites if not edit.name.startswith("blocks.2.")),
        keep_channels=tuple(entry for entry in optimum.recipe.keep_channels if entry.block != 2),
    )
    written = candidate(problem, recipe, "written")
    assert written is not None
    explanation = explained(problem, recipe)
    (departure,) = explanation.departures
    assert (departure.name, departure.written, departure.optimal) == ("depth", "drop 2", "drop none")
    assert departure.loss_nats == pytest.approx(written.loss_increase_nats - optimum.loss_increase_nats)
    assert departure.disk_bytes == written.cost.disk_bytes - optimum.cost.disk_bytes
    assert explanation.blocks[2].is_dropped
    assert explanation.blocks[2].width is None


def test_what_was_never_scored_is_none_and_not_nothing() -> None:
    problem = make_problem(Budget(disk_bytes=DISK), methods=("lowrank",))
    optimum = best_of(problem)
    edit = SiteEdit(name="blocks.0.q", kernel="int8_b256_a4")
    explanation = explained(problem, swapped(optimum.recipe, edit))
    assert explanation.predicted == "unmeasured"
    assert explanation.relative_loss is None
    assert explanation.loss_increase_nats is None
    assert explanation.blocks[0].loss_nats is None
    own = next(choice for choice in site_choices(explanation) if choice.name == edit.name)
    assert own.chosen.standing == "unscored"
    assert own.chosen.loss_nats is None
    assert all(option.margin_nats is None for option in own.alternatives)
    assert explanation.limits[0].predicted == problem.cost_model.cost(swapped(optimum.recipe, edit)).disk_bytes


def test_locked_options_stay_visible_and_are_not_the_next_best() -> None:
    problem = make_problem(Budget(disk_bytes=DISK), "blocks.0.*=int4", "block.0=keep")
    explanation = explained(problem)
    for choice in explanation.blocks[0].sites:
        assert [str(lock) for lock in choice.locks] == ["blocks.0.*=int4"]
        assert "held by `blocks.0.*=int4`" in choice.sentence
        for option in choice.alternatives:
            assert (option.standing == "locked") == (not (option.kernel or "").startswith("int4"))
    assert explanation.locks == problem.locks


@pytest.mark.parametrize(
    ("budget", "binding"),
    [
        (Budget(latency_s=1.4e-4), {"latency"}),
        (Budget(memory_bytes=64_600_000, disk_bytes=400_000), {"memory"}),
        (Budget(max_loss=0.01), {"memory"}),
        (Budget(max_loss=0.01, objective="latency"), {"latency"}),
    ],
)
def test_every_kind_of_limit_has_its_price(budget: Budget, binding: set[str]) -> None:
    explanation = explained(make_problem(budget))
    priced = {entry.quantity for entry in explanation.limits if entry.nats_per_unit}
    assert priced == binding
    known = [
        choice.alternatives[0].margin_nats
        for choice in site_choices(explanation)
        if choice.alternatives and choice.alternatives[0].standing == "open"
    ]
    below = [margin for margin in known if margin is not None and margin < -2e-4]
    assert len(below) <= 2, "the choice of an optimum is the cheapest but where options are split"


def test_blocks_that_a_limit_forces_out_are_not_called_a_matter_of_fractions() -> None:
    explanation = explained(make_problem(Budget(latency_s=1.5e-4)))
    assert explanation.depth.chosen.drop_blocks
    whole = next(option for option in explanation.depth.alternatives if option.drop_blocks == ())
    assert whole.loss_nats == 0.0, "it loses least by itself, so only the limit speaks against it"
    assert whole.standing == "infeasible"
    assert "keeps the limits" in whole.reason
    index = explanation.depth.chosen.drop_blocks[0]
    assert "fractions" not in explanation.blocks[index].sentence


def test_a_looser_relaxation_never_makes_limits_worth_more() -> None:
    problem = make_problem(Budget(disk_bytes=DISK))
    tight, loose = explained(problem), explained(dataclasses.replace(problem, budget=Budget(disk_bytes=2 * DISK)))
    first, second = tight.limits[0].nats_per_unit, loose.limits[0].nats_per_unit
    assert first is not None
    assert second is not None
    assert first > second


def test_without_prices_loss_and_limits_alone_are_compared(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows that the relaxation cannot meet have no duals: nothing is made up in their place."""
    monkeypatch.setattr("edgeprune.search.going_prices.relax", lambda *_, **__: None)
    explanation = explained(make_problem(Budget(disk_bytes=DISK)))
    assert explanation.bound_nats is None
    assert explanation.limits[0].nats_per_unit is None
    assert any("No prices" in line for line in explanation.summary)
    for choice in site_choices(explanation):
        for option in choice.alternatives:
            assert option.margin_nats is None
            assert option.priced_nats is None
            fits = (option.disk_bytes or 0) - (choice.chosen.disk_bytes or 0) <= DISK - (
                explanation.limits[0].predicted or 0.0
            )
            if option.standing == "open":
                assert ("misses disk" in option.reason) != fits

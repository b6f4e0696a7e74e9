"""Key-value groups on the menu of a search: chosen where they pay, locked, and explained."""

import dataclasses
import itertools

import msgspec
import pytest

from edgeprune.cli.explain_text import block_text
from edgeprune.errors import UsageError
from edgeprune.predict.cost import CostModel
from edgeprune.predict.quality import QualityModel
from edgeprune.schema.budget import Budget
from edgeprune.schema.candidate import Candidate
from edgeprune.schema.explanation import Explanation
from edgeprune.schema.lock import parse_locks
from edgeprune.schema.recipe import Drops, KeepGroups, Recipe, SiteEdit
from edgeprune.search.allocate import Allocator
from edgeprune.search.choose import choose
from edgeprune.search.explanation import explain_recipe
from edgeprune.search.problem import Problem
from edgeprune.search.space import build_space
from edgeprune.shapes import edit_shapes
from tests.unit.search.builders import make_device, make_scores, make_spec, make_workload

SPEC = make_spec(blocks=3, heads=8, kv_heads=4, hidden=64)
DISK = Budget(disk_bytes=140_000)


def make_problem(budget: Budget, *locks: str, counts: tuple[int, ...] = (1, 2, 3)) -> Problem:
    scores, arrays = make_scores(
        SPEC, channel_counts=(96, 128), group_counts=counts, depth=[(1,), Drops(attention=(2,))], vocabulary=[256, 384]
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
    written = optimum.recipe if recipe is None else recipe
    return explain_recipe(problem, written, optimum=optimum, source="recipe.toml", device_name="bench")


def kept(recipe: Recipe) -> dict[int, int]:
    return {entry.block: entry.kept_count for entry in recipe.keep_groups}


def test_the_choice_is_the_best_of_all() -> None:
    spec = make_spec(blocks=1)
    kernels = ("fp32", "int4_b32_a4")
    scores, arrays = make_scores(spec, kernels=kernels, group_counts=(1,), methods=())
    arrays["group_loss/0"] = arrays["group_loss/0"] / 50  # between what rounding the larger and the smaller sites costs
    cost_model, quality = CostModel(make_device(), spec, make_workload(spec)), QualityModel(spec, scores, arrays)
    recipes = [
        Recipe(
            model_hash=spec.model_hash,
            context_tokens=128,
            table_kernel=table,
            keep_groups=(KeepGroups(block=0, kept_count=1),) if is_cut else (),
            sites=tuple(
                SiteEdit(name=site.name, kernel=kernel)
                for site, kernel in zip(spec.blocks[0].sites, chosen, strict=True)
            ),
        )
        for is_cut in (False, True)
        for table in kernels
        for chosen in itertools.product(kernels, repeat=7)
    ]
    figures = [(quality.loss_increase_nats(recipe), cost_model.cost(recipe)) for recipe in recipes]
    seen = set()
    for budget in (Budget(disk_bytes=size) for size in (130_000, 160_000, 190_000, 220_000, 240_000)):
        problem = Problem(
            spec=spec,
            scores=scores,
            cost_model=cost_model,
            quality_model=quality,
            budget=budget,
            context_tokens=128,
            seed=0,
        )
        best = min(loss for loss, cost in figures if loss is not None and cost.disk_bytes <= (budget.disk_bytes or 0))
        chosen = best_of(problem)
        assert chosen.cost.disk_bytes <= (budget.disk_bytes or 0)
        assert chosen.loss_increase_nats == pytest.approx(best, rel=1e-3)
        seen.add(bool(chosen.recipe.keep_groups))
    assert seen == {False, True}, "one of the budgets must call for fewer groups and one must not"


def test_what_the_search_prices_is_what_the_recipe_costs() -> None:
    problem = make_problem(DISK, "block.0=groups=2", "block.1=groups=1", "depth=none")
    space = build_space(problem)
    allocator = Allocator(space, floor_bytes=problem.cost_model.floor_bytes)
    found = choose(problem, space, allocator)
    assert found is not None
    assert kept(found.recipe)[0] == 2
    assert kept(found.recipe)[1] == 1
    shapes = edit_shapes(SPEC, found.recipe)
    assert [block.num_kv_heads for block in shapes.blocks[:2]] == [2, 1]
    assert found.cost == problem.cost_model.cost(found.recipe)
    assert found.loss_increase_nats == problem.quality_model.loss_increase_nats(found.recipe)


def test_a_tight_budget_gives_up_groups_and_a_wide_one_does_not() -> None:
    assert not kept(best_of(make_problem(Budget(disk_bytes=10_000_000))).recipe)
    assert kept(best_of(make_problem(DISK, "*.q=fp32", "*.o=fp32", "depth=none")).recipe)


def test_scores_without_groups_offer_none() -> None:
    space = build_space(make_problem(DISK, counts=()))
    assert not any(column.groups for column in space.columns)
    assert any(column.groups for column in build_space(make_problem(DISK)).columns)


def test_dense_keeps_every_group_and_bounds_hold() -> None:
    tight = ("*.q=fp32", "*.o=fp32", "depth=none")
    assert 0 not in kept(best_of(make_problem(DISK, *tight, "block.0=dense")).recipe)
    assert 1 not in kept(best_of(make_problem(DISK, *tight, "blocks.1.q=dense")).recipe)
    bounded = best_of(make_problem(DISK, *tight, "blocks.*=groups>=2")).recipe
    assert min(kept(bounded).values(), default=4) >= 2
    assert kept(best_of(make_problem(DISK, "block.1=groups=3", "block.1=keep")).recipe)[1] == 3


@pytest.mark.parametrize(
    ("locks", "words"),
    [
        (("block.0=groups=0",), "leaves no option for the groups of block 0; without it there is 1 groups"),
        (("block.0=groups=1", "block.0=groups=2"), "together leave no option for the groups"),
        (("blocks.0.up=groups=1",), "groups=1 is for whole blocks"),
        (("vocabulary=groups=1",), "vocabulary takes none or tokens=N"),
    ],
)
def test_locks_that_cannot_hold_are_refused(locks: tuple[str, ...], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        build_space(make_problem(DISK, *locks))


def test_an_explanation_names_the_groups_of_every_block_that_attends() -> None:
    explanation = explained(make_problem(DISK, "block.0=groups=2", "*.q=fp32", "depth=none"))
    first = explanation.blocks[0]
    assert first.groups is not None
    assert first.groups.name == "block.0 groups"
    assert first.groups.chosen.label == "2 of 4 groups"
    assert first.groups.chosen.kept_count == 2
    assert {option.label for option in first.groups.alternatives} == {"all 4 groups", "3 of 4 groups", "1 of 4 groups"}
    assert {option.standing for option in first.groups.alternatives} == {"locked"}
    assert "held by `block.0=groups=2`" in first.groups.sentence
    assert "groups*" in block_text(first, is_full=False)
    assert "block.0 groups: 2 of 4 groups" in block_text(first, is_full=True)
    assert not explanation.is_edited
    # The parts of a block add up to it, each counted once.
    shapes = [choice.chosen for choice in (first.width, first.groups) if choice is not None]
    assert first.disk_bytes == sum(choice.disk_bytes or 0 for choice in shapes)


def test_margins_of_groups_are_losses_and_resources_at_the_going_prices() -> None:
    explanation = explained(make_problem(DISK))
    (limit,) = explanation.limits
    for block in explanation.blocks:
        if block.groups is None:
            continue
        chosen = block.groups.chosen
        for option in block.groups.alternatives:
            if option.standing != "open" or option.margin_nats is None:
                continue
            bytes_more = (option.disk_bytes or 0) - (chosen.disk_bytes or 0)
            loss_more = (option.loss_nats or 0.0) - (chosen.loss_nats or 0.0)
            expected = loss_more + bytes_more * (limit.nats_per_unit or 0.0)
            assert option.margin_nats == pytest.approx(expected, rel=1e-3)  # ties are broken by a little time


def test_groups_changed_by_hand_are_a_departure() -> None:
    problem = make_problem(DISK, "depth=none")
    best = best_of(problem).recipe
    count = 1 if kept(best).get(2) != 1 else 3
    others = tuple(entry for entry in best.keep_groups if entry.block != 2)
    sites = tuple(replaced for replaced in best.sites if not replaced.name.startswith("blocks.2."))
    edited = msgspec.structs.replace(best, keep_groups=(*others, KeepGroups(block=2, kept_count=count)), sites=sites)
    explanation = explained(problem, edited)
    assert explanation.is_edited
    named = {entry.name: entry for entry in explanation.departures}
    assert named["block.2 groups"].written == f"{count} of 4 groups"


def test_an_attention_dropped_alone_has_no_groups_to_explain() -> None:
    problem = make_problem(DISK)
    recipe = Recipe(model_hash=SPEC.model_hash, context_tokens=128, drop_attention=(2,))
    explanation = explained(problem, recipe)
    assert explanation.blocks[2].groups is None
    assert explanation.blocks[2].width is not None
    assert explanation.blocks[0].groups is not None


def test_groups_that_were_not_scored_on_general_text_are_no_option_where_that_is_limited() -> None:
    scores, arrays = make_scores(SPEC, channel_counts=(96, 128), group_counts=(1, 2, 3))
    without = {key: losses for key, losses in arrays.items() if not key.startswith("group_loss/")}
    limited = Budget(disk_bytes=DISK.disk_bytes, max_general_loss=0.5)
    for beside, is_offered in ((arrays, True), (without, False)):
        problem = dataclasses.replace(make_problem(limited), general_model=QualityModel(SPEC, scores, beside))
        fewer = [column for column in build_space(problem).columns if column.groups and column.groups[1] is not None]
        assert bool(fewer) == is_offered
        for column in fewer:
            assert column.groups is not None
            assert column.general_nats == arrays[f"group_loss/{column.groups[0]}"][(column.groups[1] or 0) - 1]

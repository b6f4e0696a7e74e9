"""The columns of a search: the same whatever was priced before, and without what others beat."""

import dataclasses

from edgeprune.predict.cost import CostModel
from edgeprune.predict.price import Price
from edgeprune.predict.quality import QualityModel
from edgeprune.schema.budget import Budget
from edgeprune.schema.model import SiteSpec
from edgeprune.schema.recipe import KeepChannels, KeepTokens, Recipe, SiteEdit
from edgeprune.search.problem import Problem
from edgeprune.search.resources import compared
from edgeprune.search.space import Column, build_menu, build_space, without_dominated
from tests.unit.search.builders import make_device, make_scores, make_spec, make_workload

SPEC = make_spec(blocks=3)


class Forgetful(CostModel):
    """Makes every price anew and keeps none."""

    def site_price(self, site: SiteSpec, *, kernel: str, rank: int | None) -> Price:
        return dataclasses.replace(super().site_price(site, kernel=kernel, rank=rank))


def make_problem(cost_model: CostModel) -> Problem:
    scores, arrays = make_scores(SPEC, channel_counts=(96, 128), depth=[(1,), (1, 2)], vocabulary=[256, 384])
    return Problem(
        spec=SPEC,
        scores=scores,
        cost_model=cost_model,
        quality_model=QualityModel(SPEC, scores, arrays),
        budget=Budget(),
        context_tokens=128,
        seed=0,
    )


def test_the_columns_do_not_depend_on_which_prices_are_kept_alive() -> None:
    workload = make_workload(SPEC)
    kept = build_space(make_problem(CostModel(make_device(), SPEC, workload)))
    made_anew = build_space(make_problem(Forgetful(make_device(), SPEC, workload)))
    assert made_anew.columns == kept.columns
    assert made_anew.groups == kept.groups


def test_only_what_nothing_beats_is_left_of_each_group() -> None:
    problem = make_problem(CostModel(make_device(), SPEC, make_workload(SPEC)))
    menu, space = build_menu(problem, ()), build_space(problem)
    assert len(menu.columns) > len(space.columns)
    assert len(menu.groups) == len(space.groups)
    group_count = 0
    for group in range(len(menu.groups)):
        options = [column for column in menu.columns if column.group == group]
        if any(column.price is None or column.channels is not None for column in options):
            continue
        left = [column for column in space.columns if column.group == group]
        kept = without_dominated(options, resources=compared(problem.budget))
        assert [strip(column) for column in kept] == [strip(column) for column in left]
        group_count += 1
    assert group_count > 10


def strip(column: Column) -> tuple[object, ...]:
    return column.loss_nats, column.price, column.tables, column.site


def test_the_whole_menu_adds_what_a_recipe_makes_and_nothing_else() -> None:
    problem = make_problem(CostModel(make_device(), SPEC, make_workload(SPEC)))
    edit = SiteEdit(name="blocks.1.down", kernel="int8_b32_a4", rank=37, method="laser")
    recipe = Recipe(
        model_hash=SPEC.model_hash,
        context_tokens=128,
        keep_channels=(KeepChannels(block=1, kept_count=100),),
        keep_tokens=KeepTokens(kept_count=300),
        sites=(edit,),
    )
    plain, whole = build_menu(problem, ()), build_menu(problem, [recipe])
    added = {label(column) for column in whole.columns} - {label(column) for column in plain.columns}
    assert (("blocks.1.down", 37), None, None) in added
    assert (None, (1, 100), None) in added
    assert (None, None, 300) in added
    assert {site[0] for site, _, _ in added if site is not None and site[1] == 37} == {"blocks.1.down"}


def label(column: Column) -> tuple[tuple[str, int | None] | None, tuple[int, int | None] | None, int | None]:
    site = None if column.site is None else (column.site.name, column.site.rank)
    return site, column.channels, None if column.tables is None else column.tables[0]

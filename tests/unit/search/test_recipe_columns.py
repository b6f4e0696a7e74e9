"""Which columns a recipe takes, and a search that may not take them again."""

import pytest
from msgspec.structs import replace

from edgeprune.schema.budget import Budget
from edgeprune.schema.recipe import Recipe
from edgeprune.search.allocate import Allocator
from edgeprune.search.choose import choose
from edgeprune.search.recipe_columns import columns_of
from edgeprune.search.space import build_space, to_recipe
from tests.unit.search.test_allocate import every_allocation, tiny_problem, totals


@pytest.mark.parametrize("seed", range(2))
def test_every_allocation_is_found_again_from_its_recipe(seed: int) -> None:
    problem = tiny_problem(seed)
    space = build_space(problem)
    position = {id(column): at for at, column in enumerate(space.columns)}
    for taken in every_allocation(space)[::97]:
        found = columns_of(space, to_recipe(problem, taken))
        assert found is not None
        assert set(found) == {position[id(column)] for column in taken}


def test_a_recipe_with_a_choice_that_is_not_offered_has_no_columns() -> None:
    problem = tiny_problem(0)
    space = build_space(problem)
    recipe = to_recipe(problem, every_allocation(space)[0])
    assert columns_of(space, replace(recipe, table_kernel="int4_b128_a4")) is None


@pytest.mark.parametrize("seed", range(2))
def test_without_what_is_known_the_next_best_comes_out_in_order(seed: int) -> None:
    problem = tiny_problem(seed)
    space = build_space(problem)
    allocator = Allocator(space, floor_bytes=60_000_000)
    sums = [totals(space, taken)[:2] for taken in every_allocation(space)]
    allowed = sorted(disk for _, disk in sums)[len(sums) // 3]
    expected = sorted(loss for loss, disk in sums if disk <= allowed)
    problem = type(problem)(**{**vars(problem), "budget": Budget(disk_bytes=int(allowed))})
    excluded: list[tuple[int, ...]] = []
    recipes: list[Recipe] = []
    for rank in range(5):
        found = choose(problem, space, allocator, excluded=tuple(excluded))
        assert found is not None
        columns = columns_of(space, found.recipe)
        assert columns is not None
        # Ties in loss are broken by time, which weighs a ten-thousandth of a nat at most.
        assert sum(space.columns[at].loss_nats for at in columns) == pytest.approx(expected[rank], abs=2e-4)
        excluded.append(columns)
        recipes.append(found.recipe)
    assert len(set(map(repr, recipes))) == 5

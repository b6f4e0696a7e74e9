"""Recipes whose sites share right factors: what fits is counted once, what does not is refused with the entry."""

import pytest
from msgspec.structs import replace

from edgeprune.errors import RecipeError
from edgeprune.predict.packed import priced_sites
from edgeprune.schema.model import SiteForm
from edgeprune.schema.recipe import Recipe, SiteEdit
from edgeprune.shapes import edit_shapes, site_parameter_count
from edgeprune.sharing import groups_of_one_factor
from tests.unit.search.builders import make_spec

SPEC = make_spec(blocks=2)


def recipe(*edits: tuple[str, int | None, SiteForm], **fields: object) -> Recipe:
    sites = tuple(SiteEdit(name=f"blocks.0.{role}", rank=rank, form=form) for role, rank, form in edits)
    return Recipe(model_hash=SPEC.model_hash, context_tokens=64, sites=sites, **fields)  # type: ignore[arg-type]


def names(recipe_: Recipe) -> list[tuple[str, ...]]:
    groups = groups_of_one_factor(edit_shapes(SPEC, recipe_).blocks[0].sites)
    return [tuple(site.role for site in group) for group in groups if len(group) > 1]


def test_a_shared_right_factor_is_counted_once() -> None:
    edited = edit_shapes(SPEC, recipe(("q", 8, "factors"), ("k", 8, "shared"), ("v", 8, "shared")))
    q, k, v = (edited.blocks[0].sites[at] for at in range(3))
    assert site_parameter_count(q) == 8 * (q.in_features + q.out_features)
    assert site_parameter_count(k) == 8 * k.out_features
    assert SPEC.parameter_count - edited.parameter_count == (
        sum(site.in_features * site.out_features for site in (q, k, v))
        - 8 * (q.in_features + q.out_features + k.out_features + v.out_features)
    )


@pytest.mark.parametrize(
    ("edits", "groups"),
    [
        ([("q", 8, "factors"), ("k", 8, "shared"), ("v", 8, "shared")], [("q", "k", "v")]),
        ([("q", 8, "factors"), ("k", 8, "factors"), ("v", 8, "shared")], [("k", "v")]),
        ([("k", 8, "factors"), ("v", 8, "shared")], [("k", "v")]),
        ([("q", 8, "factors"), ("k", None, "factors"), ("v", 8, "shared")], [("q", "v")]),
        ([("gate", 8, "factors"), ("up", 8, "shared")], [("gate", "up")]),
        ([("q", 8, "factors"), ("k", 9, "factors")], []),
    ],
)
def test_it_is_that_of_the_nearest_site_before(
    edits: list[tuple[str, int | None, SiteForm]], groups: list[tuple[str, ...]]
) -> None:
    assert names(recipe(*edits)) == groups


def test_a_rank_above_one_sites_outputs_is_one_of_all() -> None:
    k = SPEC.site("blocks.0.k")
    assert k.out_features < k.in_features
    rank = k.out_features + 1
    edited = edit_shapes(SPEC, recipe(("q", rank, "factors"), ("k", rank, "shared")))
    assert edited.site("blocks.0.k").rank == rank
    with pytest.raises(RecipeError, match=r"blocks\.0\.k: rank \d+ is not below the full rank"):
        edit_shapes(SPEC, recipe(("k", rank, "factors")))


@pytest.mark.parametrize(
    ("edits", "message"),
    [
        ([("k", 8, "shared")], "blocks.0.k: form shared takes the right factor .* and none of q stores one"),
        ([("q", 8, "shared")], "nothing before it reads its input"),
        ([("o", 8, "shared")], "nothing before it reads its input"),
        ([("q", 8, "pivot"), ("k", 8, "shared")], "none of q stores one"),
        ([("q", 8, "factors"), ("up", 8, "shared")], "none of gate stores one"),
        ([("q", 8, "factors"), ("k", 9, "shared")], "blocks.0.k: it shares .* of blocks.0.q, whose rank is 8; write 8"),
        ([("q", 8, "factors"), ("k", None, "shared")], "form shared stores a rank"),
    ],
)
def test_what_does_not_fit_is_refused(edits: list[tuple[str, int | None, SiteForm]], message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        edit_shapes(SPEC, recipe(*edits))


@pytest.mark.parametrize("field", ["kernel", "method"])
def test_sites_that_share_are_made_and_stored_alike(field: str) -> None:
    given = recipe(("gate", 8, "factors"), ("up", 8, "shared"))
    gate, up = given.sites
    other = replace(up, **{field: {"kernel": "int8_b32_a4", "method": "laser"}[field]})
    with pytest.raises(RecipeError, match=rf"whose {field} is \w+; write \w+ here too"):
        edit_shapes(SPEC, replace(given, sites=(gate, other)))


def test_what_stands_in_one_product_is_priced_as_one() -> None:
    attention: list[tuple[str, int | None, SiteForm]] = [("q", 8, "factors"), ("k", 8, "shared"), ("v", 8, "shared")]
    given = recipe(*attention, ("gate", 8, "factors"), ("up", 8, "shared"))
    block = edit_shapes(SPEC, given).blocks[0]
    priced = {entry.site.role: entry for entry in priced_sites(block, hidden_size=SPEC.hidden_size)}
    assert set(priced) == {"q", "o", "gate", "up", "down"}
    assert priced["q"].site.out_features == sum(site.out_features for site in block.sites[:3])
    # In floats gate and up are products of their own, on one product of the right factor.
    assert priced["up"].site.form == "shared"
    total = sum(site_parameter_count(entry.site) for entry in priced.values())
    assert total == sum(map(site_parameter_count, block.sites))

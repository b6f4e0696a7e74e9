"""Recipes that keep few values a head: v and o together, as much of every head, or refused with the entry."""

import pytest

from edgeprune.errors import RecipeError
from edgeprune.schema.model import SiteForm
from edgeprune.schema.recipe import KeepGroups, Recipe, SiteEdit
from edgeprune.shapes import edit_shapes, site_parameter_count
from tests.unit.search.builders import make_spec

SPEC = make_spec(blocks=2)
BLOCK = SPEC.blocks[0]
KEPT = BLOCK.head_dim // 2
ROWS, COLUMNS = KEPT * BLOCK.num_kv_heads, KEPT * BLOCK.num_heads


def recipe(*edits: tuple[str, int, SiteForm], method: str = "lowrank", **fields: object) -> Recipe:
    sites = tuple(
        SiteEdit(name=f"blocks.0.{role}", rank=rank, form=form, method=method)  # type: ignore[arg-type]
        for role, rank, form in edits
    )
    return Recipe(model_hash=SPEC.model_hash, context_tokens=64, sites=sites, **fields)  # type: ignore[arg-type]


def test_half_of_every_head_is_half_of_both_matrices() -> None:
    edited = edit_shapes(SPEC, recipe(("v", ROWS, "head_rows"), ("o", COLUMNS, "head_columns")))
    for name in ("blocks.0.v", "blocks.0.o"):
        dense, site = SPEC.site(name), edited.site(name)
        assert 2 * site_parameter_count(site) == site_parameter_count(dense)
        assert (site.in_features, site.out_features) == (dense.in_features, dense.out_features)


def test_heads_that_left_do_not_count() -> None:
    groups = (KeepGroups(block=0, kept_count=1),)
    heads = BLOCK.num_heads // BLOCK.num_kv_heads
    found = recipe(("v", KEPT, "head_rows"), ("o", KEPT * heads, "head_columns"), keep_groups=groups)
    assert edit_shapes(SPEC, found).site("blocks.0.o").rank == KEPT * heads


@pytest.mark.parametrize(
    ("found", "says", "where"),
    [
        (recipe(("v", ROWS, "head_rows")), "needs blocks.0.o in the form head_columns", "form"),
        (recipe(("o", COLUMNS, "head_columns")), "needs blocks.0.v in the form head_rows", "form"),
        (recipe(("q", ROWS, "head_rows"), ("o", COLUMNS, "head_columns")), "head_rows is for v alone", "form"),
        (
            recipe(("v", ROWS + 1, "head_rows"), ("o", COLUMNS, "head_columns")),
            f"does not divide into {BLOCK.num_kv_heads} heads",
            "rank",
        ),
        (
            recipe(("v", ROWS, "head_rows"), ("o", COLUMNS - BLOCK.num_heads, "head_columns")),
            f"write {COLUMNS} here",
            "rank",
        ),
        (
            recipe(("v", ROWS, "head_rows"), ("o", COLUMNS, "head_columns"), method="laser"),
            "made by the method lowrank",
            "method",
        ),
        (
            recipe(("v", SPEC.site("blocks.0.v").out_features, "head_rows"), ("o", COLUMNS, "head_columns")),
            "is not below the full rank",
            "rank",
        ),
    ],
)
def test_what_does_not_fit_is_refused_with_its_entry(found: Recipe, says: str, where: str) -> None:
    with pytest.raises(RecipeError, match=says) as refusal:
        edit_shapes(SPEC, found)
    assert refusal.value.entry[0] == "sites"
    assert refusal.value.entry[-1] == where

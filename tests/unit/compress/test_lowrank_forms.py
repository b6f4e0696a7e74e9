"""The technique `lowrank` and the form it stores: for as many parameters, more rank and less predicted loss."""

import pytest

from edgeprune.compress.techniques import lowrank
from edgeprune.compress.techniques.ranks import rank_recipe
from edgeprune.compress.techniques.request import Request, rank_options, size
from edgeprune.schema.recipe import Recipe
from edgeprune.shapes import break_even_rank
from tests.unit.search.builders import make_scores, make_spec

SPEC = make_spec(blocks=3)


def _request(kept: float) -> Request:
    scores, arrays = make_scores(SPEC)
    empty = Recipe(model_hash=SPEC.model_hash, technique="lowrank", context_tokens=64)
    target = round(kept * SPEC.parameter_count)
    return Request(spec=SPEC, scores=scores, arrays=arrays, target=target, empty=empty)


def _loss(request: Request, recipe: Recipe) -> float:
    edits = {edit.name: edit.rank for edit in recipe.sites}
    known = [(name, rank) for name, rank in edits.items() if rank is not None]
    return float(sum(request.arrays[f"rank_loss/lowrank/{name}"][rank] for name, rank in known))


@pytest.mark.parametrize("kept", [0.9, 0.8, 0.7])
def test_the_pivot_form_loses_less_in_as_many_parameters(kept: float) -> None:
    request = _request(kept)
    factors = rank_recipe(request, "lowrank", form="factors")
    pivot = lowrank.plan(request)
    assert {edit.form for edit in pivot.sites} == {"pivot"}
    assert size(request, pivot) <= request.target + 0.01 * SPEC.parameter_count
    assert _loss(request, pivot) < _loss(request, factors)


def test_ranks_on_offer_end_where_a_form_stops_to_pay() -> None:
    for site in (site for block in SPEC.blocks for site in block.sites):
        limit = break_even_rank(site.in_features, site.out_features)
        assert max(rank_options(site, "factors")) <= limit < max(rank_options(site, "pivot"))
        assert max(rank_options(site, "pivot")) < min(site.in_features, site.out_features)

"""The joint technique's search: a number of parameters is the limit, ranks are stored in the pivot form."""

import pytest
from msgspec.structs import replace

from edgeprune.predict.general import general_quality_model
from edgeprune.predict.parameters import PARAMETER_BYTES, ParameterCost
from edgeprune.predict.quality import QualityModel
from edgeprune.schema.budget import Budget
from edgeprune.schema.recipe import Drops
from edgeprune.search.ladders import rank_ladder
from edgeprune.search.solve import search
from edgeprune.shapes import edit_shapes
from tests.unit.search.builders import make_scores, make_spec, make_workload


def test_ranks_stand_closer_where_a_step_is_wanted() -> None:
    assert rank_ladder(256, 256, 8) == list(range(8, 121, 8))
    assert rank_ladder(256, 256, 8, "pivot") == list(range(8, 249, 8))
    fine = rank_ladder(4096, 11008, 8, "pivot")
    assert len(fine) <= 32
    assert all(rank % 8 == 0 for rank in fine)
    assert fine[-1] > 0.9 * 4096


@pytest.mark.parametrize("kept", [0.9, 0.6, 0.35])
def test_the_number_of_parameters_is_held_and_used(kept: float) -> None:
    spec = make_spec()
    scores, arrays = make_scores(
        spec,
        channel_counts=(64, 96, 128, 160),
        group_counts=(1,),
        depth=((1,), Drops(attention=(1,))),
        vocabulary=(256, 384),
    )
    repaired = replace(scores.depth[0], repair_rank=8, loss_increase_nats=0.001)
    scores = replace(scores, depth=(*scores.depth, repaired))
    limit = round(kept * spec.parameter_count)
    result = search(
        spec,
        scores,
        arrays,
        cost_model=ParameterCost(spec),
        quality_model=QualityModel(spec, scores, arrays),
        general_model=general_quality_model(spec, scores, arrays),
        budget=Budget(disk_bytes=PARAMETER_BYTES * limit),
        workload=make_workload(spec),
        device_name="any device",
        seed=0,
        rank_step=8,
        rank_form="pivot",
    )
    assert result.chosen is not None
    recipe = result.chosen.recipe
    stored = edit_shapes(spec, recipe).parameter_count
    assert stored <= limit
    # Below what a nearly free block leaves, all that is allowed is used.
    assert kept > 0.7 or stored >= 0.97 * limit
    assert result.chosen.cost.parameter_count == stored
    assert [(entry.block, entry.rank) for entry in recipe.repairs] == [(1, 8)]
    assert {edit.kernel for edit in recipe.sites} <= {"fp32"}
    assert {edit.form for edit in recipe.sites if edit.rank is not None} <= {"pivot"}

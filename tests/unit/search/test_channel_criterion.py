"""A recipe keeps the channels whose losses the search priced."""

import msgspec.structs
import pytest

from edgeprune.predict.cost import CostModel
from edgeprune.predict.quality import QualityModel
from edgeprune.schema.budget import Budget
from edgeprune.schema.recipe import ChannelCriterion
from edgeprune.search.problem import Problem
from edgeprune.search.space import build_space, to_recipe
from tests.unit.search.builders import make_device, make_scores, make_spec, make_workload


@pytest.mark.parametrize("criterion", ["output", "obs"])
def test_narrowed_blocks_follow_the_criterion_of_the_scores(criterion: ChannelCriterion) -> None:
    spec = make_spec(blocks=2, hidden=32, heads=2, kv_heads=1, intermediate=64, vocab=128, is_gated=False)
    scores, arrays = make_scores(spec, kernels=("fp32",), seed=1, channel_counts=(32,), depth=(), vocabulary=[64])
    scores = msgspec.structs.replace(scores, channel_criterion=criterion)
    problem = Problem(
        spec=spec,
        scores=scores,
        cost_model=CostModel(make_device(kernels=("fp32",)), spec, make_workload(spec)),
        quality_model=QualityModel(spec, scores, arrays),
        budget=Budget(),
        context_tokens=64,
        seed=0,
    )
    columns = build_space(problem).columns
    narrow = [column for column in columns if column.channels is not None and column.channels[1] == 32]
    recipe = to_recipe(problem, narrow)
    assert [entry.criterion for entry in recipe.keep_channels] == [criterion] * 2
    assert all(entry.compensate for entry in recipe.keep_channels)

"""The bound from headers: never above what a recipe costs, and enough to refuse what cannot fit."""

import pytest

from edgeprune.pipeline.least import cannot_meet, least_cost
from edgeprune.pipeline.settings import KERNELS
from edgeprune.pipeline.solve import solve_request
from edgeprune.predict.cost import CostModel
from edgeprune.schema.budget import Budget, BudgetRequest, Limit
from edgeprune.schema.recipe import KeepChannels, KeepTokens, Recipe, SiteEdit
from tests.unit.search.builders import make_device, make_scores, make_spec, make_workload


def smallest(blocks: int) -> Recipe:
    """About the smallest recipe a search could choose."""
    spec = make_spec(blocks=blocks, vocab=2048)
    dropped = tuple(range(1, 1 + min(blocks // 2, blocks - 2)))
    kept = [block for block in spec.blocks if block.index not in dropped]
    return Recipe(
        model_hash=spec.model_hash,
        context_tokens=128,
        drop_blocks=dropped,
        keep_tokens=KeepTokens(kept_count=256),
        keep_channels=tuple(KeepChannels(block=block.index, kept_count=32) for block in kept),
        table_kernel="int4_b128_a4",
        sites=tuple(SiteEdit(name=site.name, kernel="int4_b128_a4", rank=8) for block in kept for site in block.sites),
    )


@pytest.mark.parametrize("blocks", [2, 3, 5, 8])
@pytest.mark.parametrize("is_datasheet", [False, True])
def test_no_recipe_costs_less(blocks: int, is_datasheet: bool) -> None:
    spec = make_spec(blocks=blocks, vocab=2048)
    model = CostModel(make_device(is_datasheet=is_datasheet), spec, make_workload(spec))
    least, cost = least_cost(model), model.cost(smallest(blocks))
    assert least["disk"] is not None
    assert least["disk"] <= cost.disk_bytes
    assert least["latency"] is not None
    assert cost.decode_s.value is not None
    assert least["latency"] <= cost.decode_s.value
    if is_datasheet:
        assert least["memory"] is None
    else:
        assert least["memory"] is not None
        assert cost.peak_rss_bytes.value is not None
        assert 60_000_000 < least["memory"] <= cost.peak_rss_bytes.value


def test_the_bound_is_near_enough_to_refuse_a_tenth_of_the_dense_model() -> None:
    spec = make_spec(blocks=8, vocab=2048)
    model = CostModel(make_device(), spec, make_workload(spec))
    dense = model.cost(Recipe(model_hash=spec.model_hash, context_tokens=128))
    least = least_cost(model)
    assert cannot_meet(least, Budget(disk_bytes=dense.disk_bytes // 25)) == ("disk",)
    assert cannot_meet(least, Budget(memory_bytes=60_000_000, disk_bytes=dense.disk_bytes)) == ("memory",)
    assert cannot_meet(least, Budget(memory_bytes=200_000_000, disk_bytes=dense.disk_bytes)) == ()


@pytest.mark.parametrize("kilobytes", [40, 60, 80, 120])
def test_what_a_search_finds_is_never_refused(kilobytes: int) -> None:
    spec = make_spec(blocks=4)
    scores, arrays = make_scores(
        spec, kernels=KERNELS[:2], channel_counts=(64, 96), depth=[(1,), (1, 2)], vocabulary=[256]
    )
    result = solve_request(
        BudgetRequest(disk=Limit(absolute=1e3 * kilobytes)),
        device=make_device(),
        spec=spec,
        scores=scores,
        arrays=arrays,
        workload=make_workload(spec),
        seed=0,
    )
    least = least_cost(CostModel(make_device(), spec, make_workload(spec)))
    if result.chosen is not None:
        assert cannot_meet(least, result.budget) == ()

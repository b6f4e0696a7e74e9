"""Concessions: every one that is offered, conceded, gives a budget the search meets."""

import pytest
from msgspec.structs import replace

from edgeprune.predict.cost import CostModel
from edgeprune.predict.quality import QualityModel
from edgeprune.schema.budget import Budget
from edgeprune.schema.candidate import Concession, SearchResult
from edgeprune.schema.lock import Lock
from edgeprune.search.baselines import plain_recipe
from edgeprune.search.solve import search
from edgeprune.shapes import with_kv_bits
from tests.unit.search.builders import make_device, make_scores, make_spec, make_workload

SPEC = make_spec(blocks=3)
WORKLOAD = make_workload(SPEC)


def cost_at(tokens: int) -> CostModel | None:
    if tokens < 32:
        return None
    workload = type(WORKLOAD)(context_tokens=tokens, prefill_chunk_tokens=32, decode_tokens=16)
    return CostModel(make_device(), SPEC, workload)


def solve(
    budget: Budget, *, locks: tuple[Lock, ...] = (), context: int = WORKLOAD.context_tokens, kv_bits: int = 32
) -> SearchResult:
    scores, arrays = make_scores(SPEC, channel_counts=(96, 128), depth=[(1,), (1, 2)], vocabulary=[256, 384])
    cost_model = cost_at(context)
    assert cost_model is not None
    return search(
        replace(SPEC, blocks=with_kv_bits(SPEC.blocks, kv_bits)),
        scores,
        arrays,
        cost_model=cost_model,
        cost_model_at=cost_at,
        quality_model=QualityModel(SPEC, scores, arrays),
        budget=budget,
        workload=type(WORKLOAD)(context_tokens=context, prefill_chunk_tokens=32, decode_tokens=16),
        device_name="bench",
        seed=0,
        locks=locks,
    )


def conceded(concession: Concession) -> SearchResult:
    context = concession.context_tokens
    return solve(concession.budget, locks=concession.locks, context=context, kv_bits=concession.kv_bits)


INT8 = (Lock(pattern="*", action="int8"),)
DENSE_INT8 = (*INT8, Lock(pattern="*", action="dense"))


def check_offers(result: SearchResult) -> list[Concession]:
    """Solve again with each concession; gives them."""
    assert result.chosen is None
    assert result.infeasible is not None
    for concession in result.infeasible.concessions:
        assert conceded(concession).predicted == "met", concession.message
        assert concession.message in result.infeasible.message
        assert "\n" not in concession.message
    return list(result.infeasible.concessions)


@pytest.mark.parametrize(
    ("budget", "locks", "kinds"),
    [
        (Budget(disk_bytes=110_000, max_loss=0.0001), (), ["limit", "limit"]),
        # Memory no recipe reaches at this context: loosening the loss does not help.
        (Budget(memory_bytes=63_200_000, max_loss=0.001), (), ["limit"]),
        (Budget(latency_s=1.4e-4, max_loss=0.002), (), ["limit", "limit"]),
        (Budget(disk_bytes=150_000, max_loss=0.05), INT8, ["limit", "limit", "lock"]),
        (Budget(memory_bytes=63_200_000), (), []),
    ],
)
def test_each_concession_is_met_when_searched_for_alone(
    budget: Budget, locks: tuple[Lock, ...], kinds: list[str]
) -> None:
    assert [concession.kind for concession in check_offers(solve(budget, locks=locks))] == kinds


def test_a_shorter_context_is_offered_where_it_makes_room() -> None:
    small = solve(Budget(max_loss=0.001), context=64).chosen
    assert small is not None
    assert small.cost.peak_rss_bytes.high is not None
    budget = Budget(memory_bytes=int(small.cost.peak_rss_bytes.high) + 1000, max_loss=0.001)
    offers = check_offers(solve(budget, context=256))
    shorter = [concession for concession in offers if concession.kind == "context"]
    assert [concession.context_tokens for concession in shorter] == [64]
    assert shorter[0].message.startswith("context 256 -> 64: loss +")
    assert shorter[0].budget == budget


def test_a_loosened_limit_moves_alone() -> None:
    budget = Budget(disk_bytes=110_000, max_loss=0.0001)
    result = solve(budget)
    assert result.infeasible is not None
    moved = {concession.message.split()[0]: concession.budget for concession in result.infeasible.concessions}
    assert moved["--disk"].max_loss == budget.max_loss
    assert (moved["--disk"].disk_bytes or 0) > 110_000
    assert moved["--max-loss"].disk_bytes == 110_000
    assert (moved["--max-loss"].max_loss or 0.0) > 0.0001


def test_a_loosened_limit_is_close_to_the_least_that_helps() -> None:
    budget = Budget(disk_bytes=110_000, max_loss=0.0001)
    result = solve(budget)
    assert result.infeasible is not None
    (disk,) = [entry.budget for entry in result.infeasible.concessions if entry.message.startswith("--disk")]
    assert disk.disk_bytes is not None
    below = Budget(disk_bytes=int(disk.disk_bytes * 0.985), max_loss=0.0001)
    assert solve(below).chosen is None


def test_dropping_blocks_is_offered_with_what_it_costs() -> None:
    # Locks keep every site dense at 8 bits, so only fewer blocks reach the size, and the loss limit stands in the way.
    offers = check_offers(solve(Budget(disk_bytes=190_000, max_loss=0.01), locks=DENSE_INT8))
    loss = [concession for concession in offers if concession.message.startswith("--max-loss")]
    assert loss[0].message == "--max-loss 0.01 -> 0.0503: loss +5.0%, 1 block dropped"
    found = conceded(loss[0]).chosen
    assert found is not None
    assert found.recipe.drop_blocks == (1,)
    assert found.relative_loss == pytest.approx(loss[0].relative_loss, abs=1e-3)


def test_a_feasible_budget_has_no_concessions() -> None:
    result = solve(Budget(disk_bytes=300_000))
    assert result.infeasible is None
    assert [use.quantity for use in result.uses] == ["disk"]
    assert result.uses[0].predicted is not None
    assert result.uses[0].predicted <= 300_000


def test_an_8_bit_cache_is_offered_where_the_cache_is_what_is_too_large() -> None:
    cost_model = cost_at(4096)
    assert cost_model is not None
    cache = sum(cost_model.block_price(block).kv_cache_bytes for block in SPEC.blocks)
    kept = (Lock(pattern="depth", action="none"), *(Lock(pattern=f"block.{i}", action="groups=2") for i in range(3)))
    least = plain_recipe(SPEC, "int4_b128_a4", context_tokens=4096, seed=0)
    whole = cost_model.cost(least).peak_rss_bytes.high
    assert whole is not None
    # Half of the cache too little for any weights, while three quarters of it are to be had.
    assert cache > whole / 50
    result = solve(Budget(memory_bytes=int(whole - cache / 2)), locks=kept, context=4096)
    (offer,) = [entry for entry in check_offers(result) if entry.kind == "cache"]
    assert offer.message.startswith("KV int8 (--kv-bits 8): loss")
    assert offer.kv_bits == 8
    found = conceded(offer).chosen
    assert found is not None
    assert found.recipe.kv_bits == 8
    assert found.cost.kv_cache_bytes == cache // 4


def test_a_limit_on_loss_leaves_room_for_what_the_cache_loses() -> None:
    budget = Budget(max_loss=0.02, disk_bytes=10**9, objective="memory")
    without, with_cache = solve(budget).chosen, solve(budget, kv_bits=8).chosen
    assert without is not None
    assert with_cache is not None
    assert with_cache.relative_loss <= 0.02 + 1e-9
    weights = replace(with_cache.recipe, kv_bits=32)
    scores, arrays = make_scores(SPEC, channel_counts=(96, 128), depth=[(1,), (1, 2)], vocabulary=[256, 384])
    of_weights = QualityModel(SPEC, scores, arrays).loss_increase_nats(weights)
    assert with_cache.loss_increase_nats == pytest.approx(of_weights + 0.002)

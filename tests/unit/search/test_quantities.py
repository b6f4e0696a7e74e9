"""What a budget limits, told of a candidate: verdicts, uses and flags."""

import pytest
from msgspec.structs import replace

from edgeprune.schema.budget import Budget
from edgeprune.schema.candidate import Candidate
from edgeprune.schema.estimate import Cost, Estimate
from edgeprune.schema.recipe import Recipe
from edgeprune.search.loosen import loosened
from edgeprune.search.quantities import flags, limit_uses, predicted_verdict


def high(value: float | None) -> Estimate:
    return Estimate(value=value, low=value, high=value)


ENTRY = Candidate(
    label="recipe",
    recipe=Recipe(model_hash="0" * 64, technique="auto", context_tokens=64, seed=0),
    cost=Cost(
        disk_bytes=1000, weights_bytes=900, kv_cache_bytes=0, activation_bytes=0, resident_weights_bytes=high(900.0),
        model_memory_bytes=high(2000.0), peak_rss_bytes=high(5000.0), decode_s=high(0.01), prefill_s=high(0.5),
        parameter_count=1, device_memory_bytes=Estimate(value=700.0, low=700.0),
    ),
    loss_increase_nats=0.03,
    relative_loss=0.01,
    general_relative_loss=0.04,
    accuracy=0.6,
)  # fmt: skip


@pytest.mark.parametrize(
    ("budget", "verdict"),
    [
        (Budget(memory_bytes=5000, latency_s=0.01, first_token_s=0.5, disk_bytes=1000, max_loss=0.01), "met"),
        (Budget(max_general_loss=0.04, min_accuracy=0.6), "met"),
        (Budget(first_token_s=0.49), "not_met"),
        (Budget(max_general_loss=0.039), "not_met"),
        (Budget(min_accuracy=0.61), "not_met"),
        # Only what the tensors take is known: enough to refuse, never to promise.
        (Budget(device_memory_bytes=699), "not_met"),
        (Budget(device_memory_bytes=10**9), "unmeasured"),
    ],
)
def test_a_prediction_is_held_to_its_limit(budget: Budget, verdict: str) -> None:
    assert predicted_verdict(ENTRY, budget) == verdict


def test_what_is_not_predicted_is_unmeasured_whatever_the_limit() -> None:
    blind = replace(ENTRY, general_relative_loss=None, accuracy=None)
    assert predicted_verdict(blind, Budget(max_general_loss=9.0)) == "unmeasured"
    assert predicted_verdict(blind, Budget(min_accuracy=0.01)) == "unmeasured"
    (use,) = limit_uses(blind, Budget(min_accuracy=0.01))
    assert use.predicted is None


def test_flags_write_a_budget_that_reads_back_the_same() -> None:
    budget = Budget(
        memory_bytes=90_000_000, first_token_s=0.5, max_general_loss=0.05, min_accuracy=0.7, reserve_bytes=10_000_000,
        objective="memory", max_loss=0.02,
    )  # fmt: skip
    assert flags(budget) == (
        "--memory 100MB --first-token 500ms --max-loss 0.02 --max-general-loss 0.05 --min-accuracy 0.7 --reserve 10MB "
        "--objective memory"
    )


def test_loosening_moves_only_what_is_exceeded_and_frees_it_from_its_percentage() -> None:
    budget = Budget(
        memory_bytes=4000, memory_percent_of_dense=0.5, first_token_s=0.4, first_token_percent_of_dense=0.5,
        disk_bytes=2000, min_accuracy=0.7,
    )  # fmt: skip
    found = loosened(budget, ENTRY)
    assert predicted_verdict(ENTRY, found) == "met"
    assert (found.memory_percent_of_dense, found.first_token_percent_of_dense) == (None, None)
    assert found.disk_bytes == 2000
    assert found.min_accuracy == 0.6
    alone = loosened(budget, ENTRY, only=frozenset({"memory"}))
    assert (alone.first_token_s, alone.min_accuracy) == (0.4, 0.7)
    assert (alone.memory_bytes or 0) >= 5000

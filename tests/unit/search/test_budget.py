"""Budget arithmetic."""

import pytest
from msgspec.structs import replace

from edgeprune.errors import UsageError
from edgeprune.schema.budget import BudgetRequest, Limit
from edgeprune.schema.estimate import Cost, Estimate
from edgeprune.search.budget import resolve_budget


def cost(*, disk: int, memory: float | None, peak: float | None, decode: float | None = 2e-3) -> Cost:
    def estimate(value: float | None) -> Estimate:
        return Estimate(value=value)

    return Cost(
        disk_bytes=disk,
        weights_bytes=disk,
        kv_cache_bytes=0,
        activation_bytes=0,
        resident_weights_bytes=estimate(memory),
        model_memory_bytes=estimate(memory),
        peak_rss_bytes=estimate(peak),
        decode_s=estimate(decode),
        prefill_s=estimate(None),
        parameter_count=1,
    )


DENSE = cost(disk=56_000_000, memory=70e6, peak=130e6)
INT8 = cost(disk=16_000_000, memory=30e6, peak=90e6)


def resolve(request: BudgetRequest, **fields: object) -> object:
    options: dict[str, object] = {"floor_bytes": 60_000_000, "source_bytes": 28_000_000} | fields
    return resolve_budget(request, DENSE, INT8, **options)  # type: ignore[arg-type]


def test_percentages_are_of_what_the_dense_model_adds() -> None:
    budget = resolve_budget(
        BudgetRequest(
            memory=Limit(percent_of_dense=0.6),
            disk=Limit(percent_of_dense=0.5),
            latency=Limit(percent_of_dense=0.25),
            max_loss=0.02,
            reserve_bytes=1_000_000,
        ),
        DENSE,
        INT8,
        60_000_000,
        source_bytes=28_000_000,
    )
    assert budget.memory_bytes == 60_000_000 + 42_000_000 - 1_000_000
    assert budget.disk_bytes == 14_000_000
    assert budget.latency_s == pytest.approx(0.5e-3)
    assert budget.max_loss == 0.02
    assert budget.origin == "user"


def test_without_limits_the_default_is_measured_by_plain_int8() -> None:
    budget = resolve_budget(BudgetRequest(), DENSE, INT8, 60_000_000)
    assert budget.disk_bytes == 9_600_000
    assert budget.memory_bytes == 90_000_000
    assert budget.origin == "default"


def test_one_limit_leaves_the_others_free() -> None:
    budget = resolve_budget(BudgetRequest(max_loss=0.01), DENSE, INT8, 60_000_000)
    assert (budget.memory_bytes, budget.disk_bytes, budget.latency_s) == (None, None, None)


def test_a_memory_percentage_needs_a_floor() -> None:
    with pytest.raises(UsageError, match="needs the device's floor"):
        resolve(BudgetRequest(memory=Limit(percent_of_dense=0.6)), floor_bytes=None)


def test_a_latency_percentage_needs_a_prediction() -> None:
    slow = cost(disk=1, memory=1.0, peak=1.0, decode=None)
    with pytest.raises(UsageError, match="--latency as a percentage"):
        resolve_budget(BudgetRequest(latency=Limit(percent_of_dense=0.5)), slow, INT8, 0)


def test_a_reserve_must_leave_something_and_needs_a_limit() -> None:
    with pytest.raises(UsageError, match="leaves nothing"):
        resolve(BudgetRequest(memory=Limit(absolute=5e6), reserve_bytes=5_000_000))
    with pytest.raises(UsageError, match="give both"):
        resolve(BudgetRequest(disk=Limit(absolute=5e6), reserve_bytes=5_000_000))


def on_gpu(entry: Cost, device_bytes: float, prefill_s: float) -> Cost:
    return replace(
        entry, device_memory_bytes=Estimate(value=device_bytes, low=device_bytes), prefill_s=Estimate(value=prefill_s)
    )


def test_percentages_of_accelerator_memory_and_first_token_are_of_the_dense_models() -> None:
    request = BudgetRequest(
        device_memory=Limit(percent_of_dense=0.5),
        first_token=Limit(percent_of_dense=0.25),
        max_general_loss=0.05,
        min_accuracy=0.7,
    )
    budget = resolve_budget(request, on_gpu(DENSE, 8e9, 2.0), INT8, 0)
    assert budget.device_memory_bytes == 4_000_000_000
    assert budget.first_token_s == pytest.approx(0.5)
    assert (budget.device_memory_percent_of_dense, budget.first_token_percent_of_dense) == (0.5, 0.25)
    assert (budget.max_general_loss, budget.min_accuracy) == (0.05, 0.7)


def test_accelerator_memory_is_refused_where_there_is_no_accelerator() -> None:
    with pytest.raises(UsageError, match="this profile has none"):
        resolve_budget(BudgetRequest(device_memory=Limit(absolute=1e9)), DENSE, INT8, 0)


def test_an_objective_needs_a_loss_limit_and_latency_needs_times() -> None:
    with pytest.raises(UsageError, match="--objective memory needs --max-loss"):
        resolve_budget(BudgetRequest(disk=Limit(absolute=1e6), objective="memory"), DENSE, INT8, 0)
    untimed = cost(disk=1, memory=1.0, peak=1.0, decode=None)
    with pytest.raises(UsageError, match="--objective latency needs times"):
        resolve_budget(BudgetRequest(max_loss=0.1, objective="latency"), untimed, INT8, 0)
    assert resolve_budget(BudgetRequest(max_loss=0.1, objective="memory"), DENSE, INT8, 0).objective == "memory"

"""Limits on the accelerator, the first token, general text and accuracy."""

from typing import Any

import pytest

from edgeprune.schema.budget import Budget
from edgeprune.schema.measurement import AccuracyResult, BundleMeasurement, MemoryStage, TextResult
from edgeprune.validate.verdict import check_limits, measured_budget


def measured(label: str = "recipe", **changes: Any) -> BundleMeasurement:
    values: dict[str, Any] = {
        "label": label, "disk_bytes": 1000, "weights_bytes": 900, "memory": (stage("load", 300), stage("decode", 500)),
        "floor_bytes": 10, "peak_rss_bytes": 5000, "model_memory_bytes": 4990, "load_time_s": 0.1, "prefill": None,
        "time_to_first_token_s": 0.1, "decode": (), "decode_s": 0.01,
        "texts": (text("domain", 1.5), text("general", 2.2)),
        "accuracy": (answers("questions", 0.5, 30), answers("exact", 0.8, 10)), "greedy_matched_count": 8,
        "has_degenerate_loop": False,
    }  # fmt: skip
    return BundleMeasurement(**(values | changes))


def stage(name: str, device_bytes: int | None) -> MemoryStage:
    return MemoryStage(stage=name, peak_rss_bytes=1, rss_bytes=None, anonymous_bytes=None, device_bytes=device_bytes)


def text(name: str, bits: float) -> TextResult:
    return TextResult(name=name, bits_per_byte=bits, loss_nats=2.0, scored_token_count=10, scored_bytes=30)


def answers(name: str, accuracy: float, count: int) -> AccuracyResult:
    return AccuracyResult(name=name, accuracy=accuracy, low=0.0, high=1.0, question_count=count)


def verdict(budget: Budget, dense_general: float | None = 2.0, **changes: Any) -> str:
    (check,) = check_limits(budget, measured(**changes), 1.4, dense_general_bits_per_byte=dense_general)
    return check.verdict


@pytest.mark.parametrize(
    ("met", "missed"),
    [
        (Budget(device_memory_bytes=500), Budget(device_memory_bytes=499)),
        (Budget(first_token_s=0.1), Budget(first_token_s=0.099)),
        (Budget(max_general_loss=0.1001), Budget(max_general_loss=0.099)),
        # 15 of 30 and 8 of 10 are right: 23 of 40.
        (Budget(min_accuracy=0.575), Budget(min_accuracy=0.58)),
    ],
)
def test_each_limit_is_met_at_its_value_and_missed_just_beyond(met: Budget, missed: Budget) -> None:
    assert verdict(met) == "met"
    assert verdict(missed) == "not_met"


@pytest.mark.parametrize(
    ("budget", "missing"),
    [
        (Budget(device_memory_bytes=10**9), {"memory": (stage("load", None),)}),
        (Budget(first_token_s=9.0), {"time_to_first_token_s": None}),
        (Budget(max_general_loss=9.0), {"texts": (text("domain", 1.5),)}),
        (Budget(max_general_loss=9.0), {"dense_general": None}),
        (Budget(min_accuracy=0.01), {"accuracy": ()}),
        (Budget(min_accuracy=0.01), {"failures": ("questions exact: the process ran out of memory",)}),
    ],
)
def test_a_missing_measurement_is_never_met(budget: Budget, missing: dict[str, Any]) -> None:
    assert verdict(budget, **missing) == "unmeasured"


def test_percentages_are_of_the_measured_dense_bundle() -> None:
    asked = Budget(
        device_memory_bytes=1, first_token_s=9.0, device_memory_percent_of_dense=0.5, first_token_percent_of_dense=0.5
    )
    dense = measured("dense", memory=(stage("decode", 4000),), time_to_first_token_s=0.3)
    judged, _ = measured_budget(asked, {"dense": dense, "recipe": measured()})
    assert judged.device_memory_bytes == 2000
    assert judged.first_token_s == pytest.approx(0.15)

from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from edgeprune.schema.budget import Budget
from edgeprune.schema.measurement import AccuracyResult, BundleMeasurement, TextResult
from edgeprune.validate.bundle import read_manifest
from edgeprune.validate.verdict import check_limits, check_parity, dense_reference, measured_budget, overall


def measured(label: str = "recipe", **changes: Any) -> BundleMeasurement:
    values: dict[str, Any] = {
        "label": label, "disk_bytes": 1000, "weights_bytes": 900, "memory": (), "floor_bytes": 10,
        "peak_rss_bytes": 5000, "model_memory_bytes": 4990, "load_time_s": 0.1, "prefill": None,
        "time_to_first_token_s": 0.1, "decode": (), "decode_s": 0.01, "texts": (text("domain", 1.5),),
        "accuracy": (), "greedy_matched_count": 8, "has_degenerate_loop": False,
    }  # fmt: skip
    return BundleMeasurement(**(values | changes))


def text(name: str, bits: float, loss_nats: float = 2.0) -> TextResult:
    return TextResult(name=name, bits_per_byte=bits, loss_nats=loss_nats, scored_token_count=10, scored_bytes=30)


def verdicts(budget: Budget, **changes: Any) -> dict[str, str]:
    checks = check_limits(budget, measured(**changes), 1.4)
    return {check.quantity: check.verdict for check in checks}


def test_each_limit_is_checked_and_its_value_is_still_met() -> None:
    budget = Budget(memory_bytes=5000, latency_s=0.01, disk_bytes=1000, max_loss=0.1)
    assert verdicts(budget) == dict.fromkeys(("memory", "latency", "disk", "loss"), "met")


@pytest.mark.parametrize(
    "budget",
    [Budget(memory_bytes=4999), Budget(latency_s=0.0099), Budget(disk_bytes=999), Budget(max_loss=0.07)],
)
def test_a_limit_exceeded_by_little_is_not_met(budget: Budget) -> None:
    assert list(verdicts(budget).values()) == ["not_met"]


@pytest.mark.parametrize(
    ("budget", "missing"),
    [
        (Budget(memory_bytes=9999), {"peak_rss_bytes": None}),
        (Budget(latency_s=1.0), {"decode_s": None}),
        (Budget(max_loss=1.0), {"texts": ()}),
    ],
)
def test_a_missing_measurement_is_never_met(budget: Budget, missing: dict[str, Any]) -> None:
    assert list(verdicts(budget, **missing).values()) == ["unmeasured"]


def test_loss_without_the_dense_bundle_is_unmeasured() -> None:
    checks = check_limits(Budget(max_loss=0.5), measured(), None)
    assert [check.verdict for check in checks] == ["unmeasured"]


def test_the_dense_bundle_beside_counts_more_than_what_the_manifest_says(shared_bundle: Path) -> None:
    manifest = read_manifest(shared_bundle)
    told = replace(manifest, texts=(replace(manifest.texts[0], dense_bits_per_byte=1.3),))
    assert dense_reference(told, measured("dense")) == 1.5
    assert dense_reference(told, measured("dense", texts=())) is None
    assert dense_reference(told, None) == 1.3
    assert dense_reference(manifest, None) is None


def test_percentages_are_of_the_measured_dense_bundle() -> None:
    asked = Budget(
        memory_bytes=1, latency_s=1.0, memory_percent_of_dense=0.6, latency_percent_of_dense=0.5, reserve_bytes=100
    )
    dense = measured("dense", floor_bytes=1000, model_memory_bytes=5000, decode_s=0.2)
    budget, is_missing = measured_budget(asked, {"dense": dense})
    assert (budget.memory_bytes, budget.latency_s, is_missing) == (1000 + 3000 - 100, 0.1, False)
    assert measured_budget(asked, {"dense": replace(dense, model_memory_bytes=None)})[1]
    assert measured_budget(asked, {}) == (asked, False)


def test_not_met_weighs_more_than_unmeasured() -> None:
    budget = Budget(memory_bytes=1, latency_s=1.0)
    checks = check_limits(budget, measured(decode_s=None), None)
    assert overall(checks) == "not_met"
    assert overall(checks[1:]) == "unmeasured"
    assert overall(()) == "met"


def test_a_default_budget_is_taken_from_the_measured_int8_bundle() -> None:
    default = Budget(memory_bytes=1, disk_bytes=1, origin="default")
    int8 = {"int8": measured("int8", disk_bytes=2001, peak_rss_bytes=7000)}
    budget, is_missing = measured_budget(default, int8)
    assert (budget.disk_bytes, budget.memory_bytes, is_missing) == (1200, 7000, False)
    user = Budget(memory_bytes=1)
    assert measured_budget(user, int8) == (user, False)
    assert measured_budget(default, {}) == (default, False)


def test_a_default_memory_limit_that_failed_to_be_measured_is_never_met() -> None:
    default = Budget(memory_bytes=10**9, disk_bytes=1, origin="default")
    budget, is_missing = measured_budget(default, {"int8": measured("int8", peak_rss_bytes=None)})
    checks = check_limits(budget, measured(disk_bytes=600), None, is_memory_limit_missing=is_missing)
    assert {check.quantity: check.verdict for check in checks} == {"memory": "unmeasured", "disk": "met"}


def test_parity_with_torch_is_judged_where_torch_was_asked(shared_bundle: Path) -> None:
    manifest = read_manifest(shared_bundle)
    assert check_parity(manifest, measured()) == ()
    told = replace(
        manifest,
        texts=(replace(manifest.texts[0], reference_loss_nats=2.0),),
        choices=(replace(manifest.choices[0], reference_accuracy=0.6),),
    )
    quiz = AccuracyResult(name="quiz", accuracy=0.5, low=0.4, high=0.6, question_count=100)
    near = measured(texts=(text("domain", 1.5, 2.09),), accuracy=(quiz,))
    far = measured(texts=(text("domain", 1.5, 2.11),), accuracy=(replace(quiz, high=0.59),))
    assert [check.verdict for check in check_parity(told, near)] == ["met", "met"]
    assert [check.verdict for check in check_parity(told, far)] == ["not_met", "not_met"]
    assert [check.verdict for check in check_parity(told, measured(texts=()))] == ["unmeasured", "unmeasured"]

"""A plain bundle that makes a recipe needless is named, and only such a one."""

from typing import Any

from edgeprune.schema.budget import Budget
from edgeprune.schema.measurement import BundleMeasurement
from edgeprune.validate.plain import better_plain
from tests.unit.validate.test_verdict import measured, text

BUDGET = Budget(disk_bytes=1_000, memory_bytes=5_000)


def _found(budget: Budget = BUDGET, **others: BundleMeasurement) -> str | None:
    recipe = measured("recipe", texts=(text("domain", 1.5),))
    return better_plain(budget, {"recipe": recipe, **others}, judged="recipe", dense_bits_per_byte=1.4)


def _plain(label: str, bits: float, **changes: Any) -> BundleMeasurement:
    return measured(label, texts=(text("domain", bits),), **changes)


def test_the_one_of_least_loss_within_every_limit_is_told_with_both_figures() -> None:
    sentence = _found(
        dense=_plain("dense", 1.4, disk_bytes=1_001), int8=_plain("int8", 1.45), int4=_plain("int4", 1.49)
    )
    assert sentence is not None
    assert sentence.startswith("Plain int8 meets every limit too and loses less as measured: 1.4500")
    assert "the recipe has 1.5000" in sentence


def test_one_that_loses_as_much_or_breaks_a_limit_is_not() -> None:
    assert _found(int4=_plain("int4", 1.5)) is None
    assert _found(int4=_plain("int4", 1.4, disk_bytes=1_001)) is None
    assert _found(int4=_plain("int4", 1.4, peak_rss_bytes=None)) is None
    assert _found(int4=measured("int4", texts=())) is None


def test_without_limits_or_for_another_objective_nothing_is_said() -> None:
    assert _found(Budget(), dense=_plain("dense", 1.4)) is None
    least_memory = Budget(disk_bytes=1_000, max_loss=0.5, objective="memory")
    assert _found(least_memory, int4=_plain("int4", 1.45)) is None

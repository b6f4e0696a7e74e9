"""Corrections in predictions: each family's part is multiplied, ranges follow, and the record says so."""

import pytest
from msgspec.structs import replace

from edgeprune.predict.cost import CostModel
from edgeprune.predict.families import predicted_parts
from edgeprune.schema.correction import CorrectedQuantity, CorrectionFactor, Corrections
from edgeprune.schema.device import DeviceProfile
from edgeprune.schema.recipe import Recipe
from edgeprune.search.baselines import plain_recipe
from edgeprune.shapes import edit_shapes
from tests.unit.search.builders import make_device, make_spec, make_workload

SPEC = make_spec(blocks=3)
WORKLOAD = make_workload(SPEC)


def corrected(quantity: CorrectedQuantity, factors: dict[str, float], *, range_factor: float = 1.0) -> DeviceProfile:
    entries = tuple(
        CorrectionFactor(quantity=quantity, family=family, value=value, range_factor=range_factor, count=1)
        for family, value in factors.items()
    )
    return replace(make_device(), corrections=Corrections(factors=entries, residuals=(), updated_at="now"))


def plain(kernel: str) -> Recipe:
    return plain_recipe(SPEC, kernel, context_tokens=WORKLOAD.context_tokens, seed=0)


@pytest.mark.parametrize("quantity", ["decode", "prefill", "memory"])
@pytest.mark.parametrize("kernel", ["fp32", "int8_b32_a4", "int4_b32_a4"])
def test_the_parts_of_the_families_and_what_is_fixed_make_the_prediction(
    quantity: CorrectedQuantity, kernel: str
) -> None:
    edited = edit_shapes(SPEC, plain(kernel))
    found = predicted_parts(make_device(), edited, WORKLOAD, quantity)
    assert found is not None
    whole, parts = found
    family = "fp32" if kernel == "fp32" else kernel[:4]
    assert set(parts) == {family, "other"}
    if quantity == "memory":
        assert sum(parts.values()) < whole
    else:
        assert sum(parts.values()) == pytest.approx(whole)


def test_only_the_family_of_the_factor_is_multiplied() -> None:
    before, after = (
        CostModel(make_device(), SPEC, WORKLOAD),
        CostModel(corrected("decode", {"int4": 3.0}), SPEC, WORKLOAD),
    )
    edited = edit_shapes(SPEC, plain("int4_b32_a4"))
    found = predicted_parts(make_device(), edited, WORKLOAD, "decode")
    assert found is not None
    whole, parts = found
    assert after.edited_cost(edited).decode_s.value == pytest.approx(whole + 2.0 * parts["int4"])
    for kernel in ("fp32", "int8_b32_a4"):
        assert after.cost(plain(kernel)).decode_s.value == before.cost(plain(kernel)).decode_s.value
    assert after.cost(plain("int4_b32_a4")).prefill_s == before.cost(plain("int4_b32_a4")).prefill_s


def test_a_correction_of_memory_reaches_the_peak_the_solver_limits() -> None:
    before, after = (
        CostModel(make_device(), SPEC, WORKLOAD),
        CostModel(corrected("memory", {"fp32": 2.0}), SPEC, WORKLOAD),
    )
    prices = [model.price(plain("fp32")) for model in (before, after)]
    assert prices[1].loading_bytes.value > 1.8 * prices[0].loading_bytes.value
    cost = after.cost(plain("fp32"))
    assert cost.peak_rss_bytes.high == pytest.approx(
        60_000_000 + max(prices[1].loading_high_bytes, prices[1].running_high_bytes)
    )


def test_ranges_follow_and_the_basis_says_corrected() -> None:
    names = dict.fromkeys(("fp32", "int8", "int4", "other"), 1.0)
    plain_cost = CostModel(make_device(), SPEC, WORKLOAD).cost(plain("int8_b32_a4"))
    cost = CostModel(corrected("decode", names, range_factor=0.5), SPEC, WORKLOAD).cost(plain("int8_b32_a4"))
    assert cost.decode_s.value == pytest.approx(plain_cost.decode_s.value)
    assert cost.decode_s.high is not None
    assert cost.decode_s.low is not None
    assert plain_cost.decode_s.high is not None
    assert plain_cost.decode_s.low is not None
    assert cost.decode_s.high - cost.decode_s.low == pytest.approx(
        0.5 * (plain_cost.decode_s.high - plain_cost.decode_s.low)
    )
    assert cost.decode_s.basis == "corrected"
    assert cost.prefill_s.basis == "estimated"
    assert cost.model_memory_bytes.basis == "estimated"

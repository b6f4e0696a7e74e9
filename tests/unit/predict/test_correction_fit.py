"""Correction factors: shrunk towards one, exact where much was measured, wider where measurements contradict."""

import math

import pytest

from edgeprune.predict.correction_fit import NOISE, NOISE_WEIGHT, PRIOR_DATASHEET, PRIOR_MEASURED, fit_factors
from edgeprune.schema.correction import CorrectedQuantity, CorrectionFactor, ProfileResidual


def residual(
    parts: dict[str, float],
    measured: float,
    *,
    fixed: float = 0.0,
    number: int = 0,
    quantity: CorrectedQuantity = "decode",
) -> ProfileResidual:
    return ProfileResidual(
        bundle_hash=str(number),
        label="recipe",
        quantity=quantity,
        predicted=fixed + sum(parts.values()),
        measured=measured,
        parts=parts,
        measured_at="2026-01-01T00:00:00+00:00",
    )


def fitted(residuals: list[ProfileResidual], *, is_datasheet: bool = False) -> dict[str, CorrectionFactor]:
    return {factor.family: factor for factor in fit_factors(residuals, is_datasheet=is_datasheet)}


def noise_after(count: int, ratio: float) -> float:
    """Variance of one measurement after `count` equal ones: the free fit leaves (1 - share) log r of each."""
    usual = NOISE["decode"] ** 2
    free = sum(part**2 for part in PRIOR_DATASHEET["decode"])
    share = count * free / (count * free + usual)
    left = count * ((1.0 - share) * math.log(ratio)) ** 2
    return (NOISE_WEIGHT * usual + left) / (NOISE_WEIGHT + count - share)


@pytest.mark.parametrize("count", [1, 2, 7])
@pytest.mark.parametrize("ratio", [0.85, 1.0, 1.2])
def test_one_family_shrinks_by_the_textbook_share(count: int, ratio: float) -> None:
    common, own = PRIOR_MEASURED["decode"]
    prior = common**2 + own**2
    found = fitted([residual({"int4": 2.0}, 2.0 * ratio, number=number) for number in range(count)])
    share = count * prior / (count * prior + noise_after(count, ratio))
    assert math.log(found["int4"].value) == pytest.approx(share * math.log(ratio), abs=1e-9)
    assert found["int4"].count == count


def test_nothing_measured_corrects_nothing() -> None:
    assert fit_factors([], is_datasheet=True) == ()
    assert fit_factors([residual({}, 5.0, fixed=4.0, quantity="disk")], is_datasheet=True) == ()


def test_what_was_predicted_right_stays() -> None:
    found = fitted([residual({"int8": 1.0, "other": 2.0}, 3.0), residual({"fp32": 5.0}, 5.0, number=1)])
    assert {factor.value for factor in found.values()} == {1.0}


def test_many_recipes_tell_the_families_apart() -> None:
    truth = {"fp32": 1.1, "int8": 1.4, "int4": 0.8, "other": 1.2}
    mixes = [
        (1.0, 0.2, 0.1, 0.3),
        (0.1, 1.0, 0.2, 0.3),
        (0.1, 0.2, 1.0, 0.3),
        (0.2, 0.1, 0.2, 1.0),
        (0.5, 0.5, 0.5, 0.1),
    ]
    residuals = []
    for number, mix in enumerate(mixes * 40):
        parts = dict(zip(truth, mix, strict=True))
        residuals.append(residual(parts, sum(truth[name] * part for name, part in parts.items()), number=number))
    found = fitted(residuals, is_datasheet=True)
    for name, value in truth.items():
        assert found[name].value == pytest.approx(value, rel=0.01)


def test_the_first_measurement_corrects_a_data_sheet_nearly_whole_and_a_measured_profile_in_part() -> None:
    one = [residual({"int4": 1.0, "other": 0.5}, 1.8)]
    sheet, measured = fitted(one, is_datasheet=True), fitted(one, is_datasheet=False)

    def predicted(found: dict[str, CorrectionFactor]) -> float:
        return found["int4"].value + 0.5 * found["other"].value

    assert predicted(sheet) == pytest.approx(1.8, rel=0.05)
    assert 1.5 < predicted(measured) < predicted(sheet)


def test_a_measured_profile_far_off_is_held_for_no_better_than_a_data_sheet() -> None:
    far = [residual({"int4": 1.0, "other": 0.5}, 6.0)]
    assert fitted(far)["int4"].value == fitted(far, is_datasheet=True)["int4"].value
    assert fitted(far)["int4"].value > 3.0
    assert fitted(far)["int4"].range_factor > 1.0


def test_a_family_nobody_measured_takes_what_is_common_and_keeps_more_doubt() -> None:
    found = fitted([residual({"int8": 1.0}, 2.0)], is_datasheet=True)
    assert 1.0 < found["int4"].value < found["int8"].value <= 2.0
    common, own = PRIOR_DATASHEET["decode"]
    assert math.log(found["int4"].value) / math.log(found["int8"].value) == pytest.approx(
        common**2 / (common**2 + own**2), rel=1e-6
    )
    assert found["int8"].range_factor < found["int4"].range_factor < 1.0
    assert found["int4"].count == 0


def test_what_is_fixed_takes_no_part() -> None:
    residuals = [residual({"int4": 1.0}, 12.0, fixed=10.0, number=number, quantity="memory") for number in range(400)]
    assert fitted(residuals, is_datasheet=True)["int4"].value == pytest.approx(2.0, rel=0.02)


def test_contradicting_measurements_widen_the_range() -> None:
    agreeing = fitted([residual({"int4": 1.0}, ratio, number=int(100 * ratio)) for ratio in (1.19, 1.2, 1.21)])
    contradicting = fitted([residual({"int4": 1.0}, ratio, number=int(100 * ratio)) for ratio in (0.6, 1.2, 2.4)])
    assert agreeing["int4"].range_factor < 1.0 < contradicting["int4"].range_factor


def test_factors_stay_positive_and_finite_where_the_measurement_lies_below_what_is_fixed() -> None:
    found = fitted([residual({"int4": 1.0, "other": 0.2}, 5.0, fixed=10.0, quantity="memory")])
    assert all(0.04 < factor.value <= 1.0 for factor in found.values())

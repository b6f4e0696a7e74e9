"""The surrogate finds multipliers and interactions that are known, and says honestly how well it predicts."""

from itertools import pairwise

import numpy as np
import pytest

from edgeprune.predict.quality import QualityModel
from edgeprune.predict.residual import FAMILIES, Surrogate, fit_surrogate, spearman
from edgeprune.schema.recipe import Drops, KeepChannels, Recipe, SiteEdit
from edgeprune.schema.residuals import Evaluation, Residuals
from tests.unit.search.builders import make_scores, make_spec

TRUE = {"depth": 1.0, "channels": 0.6, "lowrank": 2.1, "int4": 1.3}


def samples(count: int, seed: int = 0) -> list[dict[str, float]]:
    rng = np.random.default_rng(seed)
    return [{family: float(rng.uniform(0.0, 0.3)) for family in TRUE} for _ in range(count)]


def linear(sums: dict[str, float]) -> float:
    return sum(TRUE[family] * value for family, value in sums.items())


def test_without_evaluations_losses_stay_as_scored() -> None:
    surrogate, record = fit_surrogate([], [])
    assert surrogate.total({"depth": 0.2, "int4": 0.1}) == pytest.approx(0.3)
    assert record.evaluation_count == 0
    assert record.spearman is None
    assert record.median_relative_error is None


def test_known_multipliers_are_found() -> None:
    sums = samples(24)
    surrogate, record = fit_surrogate(sums, [linear(one) for one in sums])
    for family, value in TRUE.items():
        assert surrogate.multipliers[family] == pytest.approx(value, abs=0.05)
    assert record.spearman is not None
    assert record.spearman > 0.99
    assert record.median_relative_error is not None
    assert record.median_relative_error < 0.02


def test_a_known_interaction_is_found_and_predicts_what_was_left_out() -> None:
    sums = samples(30)
    measured = [linear(one) + 4.0 * one["channels"] * one["lowrank"] for one in sums]
    surrogate, record = fit_surrogate(sums, measured)
    fresh = samples(20, seed=1)
    truth = [linear(one) + 4.0 * one["channels"] * one["lowrank"] for one in fresh]
    assert [surrogate.total(one) for one in fresh] == pytest.approx(truth, rel=0.1)
    pair = surrogate.interactions[("channels", "lowrank")]
    assert pair == max(surrogate.interactions.values())
    assert pair > 1.5
    assert record.median_relative_error is not None
    assert record.median_relative_error < 0.05


def test_the_error_told_is_that_of_evaluations_left_out() -> None:
    """Measurements without any relation to the prediction cannot be predicted, however well they are fitted."""
    rng = np.random.default_rng(3)
    sums = samples(12)
    _, record = fit_surrogate(sums, list(rng.uniform(0.05, 2.0, 12)))
    assert record.spearman is not None
    assert record.spearman < 0.7
    assert record.median_relative_error is not None
    assert record.median_relative_error > 0.2


def test_few_evaluations_are_not_trusted_beyond_what_they_tell() -> None:
    surrogate, _ = fit_surrogate([{"lowrank": 0.2}], [0.4])
    assert 1.0 < surrogate.multipliers["lowrank"] <= 2.0
    assert surrogate.total({"depth": 0.5}) == pytest.approx(0.5)
    assert not surrogate.interactions


def test_multipliers_never_fall_below_zero() -> None:
    sums = [{"lowrank": 0.2, "int8": value} for value in (0.0, 0.1, 0.2, 0.3)] * 3
    surrogate, _ = fit_surrogate(sums, [0.2 - 0.5 * one["int8"] + 0.2 for one in sums])
    assert surrogate.multipliers["int8"] >= 0.0
    assert surrogate.linearised({"lowrank": 0.2, "int8": 0.3})["int8"] > 0.0


def test_the_linearisation_is_exact_where_it_was_made_and_points_the_right_way() -> None:
    surrogate = Surrogate(
        multipliers=TRUE,
        interactions={("channels", "lowrank"): 4.0, ("lowrank", "lowrank"): 1.0, ("depth", "int4"): 0.5},
        largest={},
    )
    at = {"depth": 0.1, "channels": 0.2, "lowrank": 0.1, "int4": 0.05}
    weights = surrogate.linearised(at)
    assert sum(weights[family] * value for family, value in at.items()) == pytest.approx(surrogate.total(at))
    step = 1e-6

    def slope(family: str) -> float:
        moved = at | {family: at[family] + step}
        return (surrogate.total(moved) - surrogate.total(at)) / step

    ratios = [weights[family] / slope(family) for family in TRUE]
    assert ratios == pytest.approx([ratios[0]] * len(ratios), rel=1e-4)
    assert set(weights) == set(FAMILIES)


def test_beyond_what_was_measured_an_interaction_stays_and_no_edit_ever_makes_a_loss_smaller() -> None:
    """Measured losses that saturate must not make the surrogate turn around further out."""
    sums = [{"int4": value, "channels": value} for value in np.linspace(0.01, 0.1, 12)]
    for bend in (-4.0, 4.0):
        surrogate, _ = fit_surrogate(sums, [2.0 * s["int4"] + bend * s["int4"] ** 2 for s in sums])
        totals = [surrogate.total({"int4": value, "channels": value}) for value in np.linspace(0.0, 3.0, 50)]
        assert all(later > earlier for earlier, later in pairwise(totals))
        # From the last measured point on the total grows as its linear part does, not with the square.
        slope = surrogate.multipliers["int4"] + surrogate.multipliers["channels"]
        assert totals[-1] - totals[-2] == pytest.approx(slope * 3.0 / 49)


@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [
        ([1.0, 2.0, 3.0], [10.0, 20.0, 30.0], 1.0),
        ([1.0, 2.0, 3.0], [3.0, 2.0, 1.0], -1.0),
        ([1.0, 2.0, 2.0, 4.0], [1.0, 3.0, 2.0, 4.0], 0.9486832980505138),
        ([1.0, 1.0], [1.0, 2.0], None),
    ],
)
def test_rank_correlation(first: list[float], second: list[float], expected: float | None) -> None:
    found = spearman(np.array(first), np.array(second))
    assert found == (None if expected is None else pytest.approx(expected))


def evaluation(recipe: Recipe, measured: float) -> Evaluation:
    return Evaluation(
        key="k", recipe_hash="r", recipe=recipe, loss_increase_nats=measured, relative_loss=measured / 3.0,
        token_limit=4096, scored_tokens=4000,
    )  # fmt: skip


def test_the_quality_model_takes_what_was_measured_and_single_edits_add_up_to_it() -> None:
    spec = make_spec()
    scores, arrays = make_scores(spec, channel_counts=(64, 128))
    plain = QualityModel(spec, scores, arrays)
    recipes = [
        Recipe(
            model_hash=spec.model_hash,
            context_tokens=64,
            keep_channels=(KeepChannels(block=1, kept_count=kept),),
            sites=(SiteEdit(name="blocks.0.q", rank=rank, kernel="int4_b32_a4"),),
        )
        for kept in (64, 128)
        for rank in (8, 16, 24, 32)
    ]
    sums = [plain.family_losses(recipe) for recipe in recipes]
    measured = [0.5 * one["channels"] + 2.0 * one["lowrank"] + one["int4"] for one in sums if one is not None]
    _, fit = fit_surrogate([one for one in sums if one is not None], measured)
    done = tuple(evaluation(recipe, loss) for recipe, loss in zip(recipes, measured, strict=True))
    residuals = Residuals(model_hash=spec.model_hash, scores_hash="s", evaluations=done, fit=fit)
    for recipe, loss in zip(recipes, measured, strict=True):
        model = QualityModel(spec, scores, arrays, residuals, region=recipe)
        assert model.loss_increase_nats(recipe) == pytest.approx(loss, rel=0.1)
        edit = recipe.sites[0]
        assert edit.rank is not None
        parts = (
            model.channel_loss(1, recipe.keep_channels[0].kept_count),
            model.rank_loss(edit.name, edit.rank, "lowrank"),
            model.kernel_loss(edit.name, edit.kernel, form=edit.form),
        )
        assert sum(part for part in parts if part is not None) == pytest.approx(model.loss_increase_nats(recipe))
    assert plain.loss_increase_nats(recipes[0]) == pytest.approx(sum((sums[0] or {}).values()))


def test_an_excluded_family_has_no_price_but_recipes_with_it_do() -> None:
    spec = make_spec()
    scores, arrays = make_scores(spec, channel_counts=(64, 128), depth=[(1,)], vocabulary=[256])
    families = frozenset({"depth", "channels", "lowrank", "laser", "int4", "vocabulary", "tables"})
    model = QualityModel(spec, scores, arrays, excluded=families)
    assert model.depth_loss(Drops(blocks=(1,))) is None
    assert model.depth_loss(Drops()) == 0.0
    assert model.channel_loss(0, 64) is None
    assert model.channel_loss(0, 176) == 0.0
    assert model.best_rank_method("blocks.0.q", 8) is None
    assert model.kernel_loss("blocks.0.q", "int4_b32_a4") is None
    assert model.kernel_loss("blocks.0.q", "int8_b32_a4") is not None
    assert model.kernel_loss("table", "int8_b32_a4") is None
    assert model.kernel_loss("table", "fp32") == 0.0
    assert model.vocabulary_loss(256) is None
    assert model.loss_increase_nats(Recipe(model_hash=spec.model_hash, context_tokens=64, drop_blocks=(1,))) is not None

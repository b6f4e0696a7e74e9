"""The accuracy curve on points whose fit is known."""

import pytest

from edgeprune.predict.accuracy import AccuracyModel, accuracy_model, non_increasing
from edgeprune.schema.recipe import Recipe
from edgeprune.schema.residuals import Evaluation, Residuals


@pytest.mark.parametrize(
    ("values", "weights", "fitted"),
    [
        ([0.9, 0.8, 0.7], [1, 1, 1], [0.9, 0.8, 0.7]),
        ([0.7, 0.8, 0.9], [1, 1, 1], [0.8, 0.8, 0.8]),
        ([0.9, 0.6, 0.8, 0.5], [1, 1, 1, 1], [0.9, 0.7, 0.7, 0.5]),
        # Weighted: (0.6 * 3 + 0.8) / 4.
        ([0.6, 0.8], [3, 1], [0.65, 0.65]),
        # Pooling runs back over several blocks.
        ([0.5, 0.4, 0.9], [1, 1, 1], [0.6, 0.6, 0.6]),
    ],
)
def test_violators_are_pooled(values: list[float], weights: list[float], fitted: list[float]) -> None:
    assert non_increasing(values, weights) == pytest.approx(fitted)


def test_the_curve_is_linear_between_points_flat_before_and_silent_after() -> None:
    model = AccuracyModel([0.4, 0.0, 0.2], [0.5, 0.9, 0.7])
    assert model.accuracy(-0.1) == pytest.approx(0.9)
    assert model.accuracy(0.1) == pytest.approx(0.8)
    assert model.accuracy(0.4) == pytest.approx(0.5)
    assert model.accuracy(0.41) is None


def test_the_largest_loss_is_where_the_curve_crosses_the_accuracy() -> None:
    model = AccuracyModel([0.0, 0.2, 0.4], [0.9, 0.7, 0.5])
    assert model.largest_loss(0.8) == pytest.approx(0.1)
    assert model.largest_loss(0.7) == pytest.approx(0.2)
    assert model.largest_loss(0.1) == pytest.approx(0.4)
    assert model.largest_loss(0.95) is None


def test_equal_losses_count_as_their_mean() -> None:
    model = AccuracyModel([0.1, 0.1, 0.3], [0.8, 0.6, 0.2])
    assert model.accuracy(0.1) == pytest.approx(0.7)


def evaluation(loss: float, accuracy: float | None) -> Evaluation:
    recipe = Recipe(model_hash="0" * 64, technique="auto", context_tokens=64, seed=0)
    return Evaluation(
        key=str(loss), recipe_hash=str(loss), recipe=recipe, loss_increase_nats=loss, relative_loss=loss / 3,
        accuracy=accuracy, token_limit=1, scored_tokens=1,
    )  # fmt: skip


def test_too_few_measured_accuracies_make_no_model() -> None:
    assert accuracy_model(None) is None
    some = tuple(evaluation(loss, 0.5) for loss in (0.1, 0.2))
    unasked = evaluation(0.3, None)
    assert accuracy_model(Residuals(model_hash="0" * 64, scores_hash="0" * 64, evaluations=(*some, unasked))) is None
    model = accuracy_model(
        Residuals(model_hash="0" * 64, scores_hash="0" * 64, evaluations=(*some, evaluation(0.3, 0.2)))
    )
    assert model is not None
    assert model.accuracy(0.3) == pytest.approx(0.2)

"""The quality model of general text: the same predictions from the losses scored there.

Scores made before general text was scored have no such losses; then there is no model, and a limit on general text is
only judged when it is measured.
"""

from msgspec.structs import replace

from edgeprune.predict.quality import QualityModel
from edgeprune.schema.model import ModelSpec
from edgeprune.schema.recipe import Recipe
from edgeprune.schema.residuals import Residuals
from edgeprune.schema.scores import GENERAL_PREFIX, ScoreArrays, Scores

__all__ = ["general_quality_model", "general_scores"]


def general_quality_model(
    spec: ModelSpec,
    scores: Scores,
    arrays: ScoreArrays,
    residuals: Residuals | None = None,
    *,
    region: Recipe | None = None,
) -> QualityModel | None:
    """Losses of edits on general text, corrected by what built recipes lost there; None where they were not scored.

    Args:
        spec: the dense model.
        scores: what calibration scored.
        arrays: beside the scores.
        residuals: what building recipes taught; None takes the scores as they are.
        region: as for `QualityModel`.
    """
    found = general_scores(scores, arrays)
    there = None if residuals is None else replace(residuals, fit=residuals.general_fit)
    return None if found is None else QualityModel(spec, *found, there, region=region)


def general_scores(scores: Scores, arrays: ScoreArrays) -> tuple[Scores, ScoreArrays] | None:
    """Scores and arrays that hold the losses on general text in the domain's places.

    Options measured on the domain alone are left out, so that their loss elsewhere is unknown and not zero.
    """
    there = {
        key.removeprefix(GENERAL_PREFIX): losses for key, losses in arrays.items() if key.startswith(GENERAL_PREFIX)
    }
    dense = tuple(entry for entry in scores.dense_losses if entry.text.startswith("general"))
    if not there or not dense:
        return None
    depth = tuple(
        replace(option, loss_increase_nats=loss)
        for option in scores.depth
        if (loss := option.general_loss_increase_nats) is not None
    )
    vocabulary = tuple(
        replace(option, loss_increase_nats=loss)
        for option in scores.vocabulary
        if (loss := option.general_loss_increase_nats) is not None
    )
    cache = scores.cache
    if cache is not None:
        loss = cache.general_loss_increase_nats
        cache = None if loss is None else replace(cache, loss_increase_nats=loss)
    return replace(scores, dense_losses=dense, depth=depth, vocabulary=vocabulary, cache=cache), there

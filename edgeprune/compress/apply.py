"""`compress_model`: a recipe applied to a loaded model.

Takes the dense model, the recipe and the statistics of the dense model; gives a new model with the shapes that
`edit_shapes` predicts. The input stays as it was: modules and configuration are copied, tensors that no edit touches
are shared, and no tensor is written in place, so the copy costs only what the edits create.
"""

from collections.abc import Sequence
from pathlib import Path

import torch
from msgspec.structs import replace

from edgeprune.calibrate.statistics import CalibrationStats
from edgeprune.compress.bits import RoundWeights
from edgeprune.compress.blocks import DropBlocks
from edgeprune.compress.factorize import FactorSites
from edgeprune.compress.groups import DropGroups
from edgeprune.compress.narrow import NarrowChannels
from edgeprune.compress.outliers import check_outliers
from edgeprune.compress.passes import Pass, Work, check_shapes, copy_modules, run_passes
from edgeprune.compress.recover.weights import AdaptWeights, RecoverWeights
from edgeprune.compress.refit import RefitOutputs
from edgeprune.compress.tokens import TrimVocabulary
from edgeprune.intake.load import LoadedModel
from edgeprune.runtime.executor import Executor
from edgeprune.schema.events import Progress
from edgeprune.schema.model import ModelSpec
from edgeprune.schema.recipe import Recipe
from edgeprune.shapes import edit_shapes

__all__ = ["PASSES", "compress_model"]

PASSES: Sequence[Pass] = (
    AdaptWeights(),
    DropBlocks(),
    TrimVocabulary(),
    DropGroups(),
    NarrowChannels(),
    FactorSites(),
    RefitOutputs(),
    RecoverWeights(),
    RoundWeights(),
)
"""In the order they are applied; each reads statistics of the model the earlier ones left."""


@torch.no_grad()
def compress_model(
    loaded: LoadedModel,
    recipe: Recipe,
    stats: CalibrationStats,
    *,
    progress: Progress,
    executor: Executor | None = None,
    scratch: Path | None = None,
    texts: Path | None = None,
    trainings: Path | None = None,
) -> LoadedModel:
    """Apply a recipe.

    Args:
        loaded: the dense model; not changed.
        recipe: edits made for this model.
        stats: statistics of the dense model.
        progress: told after each pass.
        executor: with `scratch`, where much factoring is done; the result does not depend on it.
        scratch: folder for what passes between, removed afterwards.
        texts: folder of the calibration's texts, which a recovery trains on.
        trainings: folder a recovery is kept in until the caller removes it, so that it goes on after a kill.

    Raises:
        UsageError: the recipe does not fit the model.
        ModelError: a site's weights or statistics are not finite.
    """
    edit_shapes(loaded.spec, recipe)  # refuses before anything is copied
    check_outliers(recipe, stats, progress=progress)
    work = Work(
        loaded=copy_modules(loaded),
        stats=stats,
        dense=loaded.spec,
        applied=_without_edits(loaded.spec, recipe),
        progress=progress,
        executor=executor,
        scratch=scratch,
        teacher=loaded,
        texts=texts,
        trainings=trainings,
    )
    run_passes(work, PASSES, recipe)
    check_shapes(work.loaded, where="after compression")
    work.loaded.model.eval()
    return work.loaded


def _without_edits(spec: ModelSpec, recipe: Recipe) -> Recipe:
    empty = Recipe(model_hash=spec.model_hash, context_tokens=recipe.context_tokens)
    return replace(empty, technique=recipe.technique, seed=recipe.seed, schema_version=recipe.schema_version)

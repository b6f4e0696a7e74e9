"""What a recipe forgot: texts that lost more than the domain, channels and tokens that general text used.

Losses are the validation's own, so they are of report text on the device; contrast, coverage and inflation are
calibration's. Whatever was not measured is None.
"""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from edgeprune.schema.measurement import TextResult, ValidationReport
from edgeprune.schema.model import ModelSpec
from edgeprune.schema.recipe import Recipe
from edgeprune.schema.report import BlockContrast, Forgotten, TextChange
from edgeprune.schema.scores import ScoreArrays, Scores, VocabularyOption

__all__ = ["forgotten"]


def forgotten(
    validation: ValidationReport, spec: ModelSpec, recipe: Recipe, scores: Scores, arrays: ScoreArrays
) -> Forgotten:
    """What the measured recipe lost beside the dense model.

    Args:
        validation: with measurements labelled `dense` and `recipe`, as far as they were made.
        spec: shapes of the dense model.
        recipe: what was measured.
        scores: of the calibration, for tokens.
        arrays: beside them, for channels.
    """
    texts = {entry.label: {text.name: text for text in entry.texts} for entry in validation.measurements}
    option = _option(scores, recipe)
    kept_count = spec.vocab_size if recipe.keep_tokens is None else recipe.keep_tokens.kept_count
    widths = {block.index: block.intermediate_size for block in spec.blocks}
    return Forgotten(
        texts=_changes(texts.get("dense", {}), texts.get("recipe", {})),
        channels=tuple(
            _contrast(entry.block, entry.kept_count, arrays.get(f"channel_contrast/{entry.block}"))
            for entry in recipe.keep_channels
            if entry.kept_count < widths[entry.block]
        ),
        dropped_token_count=spec.vocab_size - kept_count,
        coverage=None if option is None else option.coverage,
        general_coverage=None if option is None else option.general_coverage,
        general_token_inflation=None if option is None else option.general_token_inflation,
    )


def _changes(dense: Mapping[str, TextResult], edited: Mapping[str, TextResult]) -> tuple[TextChange, ...]:
    return tuple(_change(name, dense.get(name), edited.get(name)) for name in dict.fromkeys([*dense, *edited]))


def _change(name: str, before: TextResult | None, after: TextResult | None) -> TextChange:
    relative, inflation = None, None
    if before is not None and after is not None:
        relative = after.bits_per_byte / before.bits_per_byte - 1.0 if before.bits_per_byte else None
        inflation = after.scored_token_count / before.scored_token_count if before.scored_token_count else None
    return TextChange(
        name=name,
        dense_bits_per_byte=None if before is None else before.bits_per_byte,
        bits_per_byte=None if after is None else after.bits_per_byte,
        relative=relative,
        token_inflation=inflation,
    )


def _contrast(block: int, kept_count: int, contrast: NDArray[np.float64] | None) -> BlockContrast:
    if contrast is None:
        return BlockContrast(block=block, kept_count=kept_count)
    kept, dropped = contrast[:kept_count], contrast[kept_count:]
    return BlockContrast(
        block=block,
        kept_count=kept_count,
        dropped_count=len(dropped),
        kept_contrast=float(np.median(kept)) if len(kept) else None,
        dropped_contrast=float(np.median(dropped)) if len(dropped) else None,
        general_count=int((dropped < 1.0).sum()),
    )


def _option(scores: Scores, recipe: Recipe) -> VocabularyOption | None:
    """What calibration measured of that vocabulary; None for another count, or where no token was dropped."""
    if recipe.keep_tokens is None:
        return None
    wanted = recipe.keep_tokens.kept_count
    return next((option for option in scores.vocabulary if option.kept_count == wanted), None)

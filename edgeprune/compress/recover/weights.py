"""The passes that train: the dense model before anything is cut, and what all cuts left, before the bits round it."""

from dataclasses import dataclass

from msgspec.structs import replace as edit_record

from edgeprune.compress.passes import Work, check_finite, copy_modules
from edgeprune.compress.recover.adapt import adapt, between
from edgeprune.compress.recover.data import RecoveryText, read_recovery_text
from edgeprune.compress.recover.recovery import recover
from edgeprune.errors import UsageError
from edgeprune.schema.recipe import Recipe

__all__ = ["AdaptWeights", "RecoverWeights"]


@dataclass(frozen=True)
class AdaptWeights:
    """The pass before all others, which work on the model it leaves."""

    name: str = "adaptation"
    reads_stats: bool = False
    changes_inputs: bool = True

    def part(self, applied: Recipe, recipe: Recipe) -> Recipe:
        """Adds what of the recovery is done to the dense model."""
        if recipe.recovery is None or not recipe.recovery.adapt_steps:
            return applied
        return edit_record(applied, recovery=edit_record(recipe.recovery, steps=0, block_steps=0))

    def apply(self, work: Work, recipe: Recipe) -> None:
        """Exchange the model, and what closed forms compare with.

        Raises:
            UsageError: there is no text to train on.
            ModelError: the training left values that are not finite.
        """
        assert recipe.recovery is not None
        text = _text(work, recipe)
        kept = None if work.trainings is None else work.trainings / "adaptation.safetensors"
        adapted = adapt(work.loaded, text, recipe.recovery, seed=recipe.seed, progress=work.progress, checkpoint=kept)
        check_finite("After the dense model was trained", *adapted.model.parameters())
        work.original, work.teacher, work.loaded = work.teacher, adapted, copy_modules(adapted)


@dataclass(frozen=True)
class RecoverWeights:
    """The pass."""

    name: str = "recovery"
    reads_stats: bool = False
    changes_inputs: bool = True

    def part(self, applied: Recipe, recipe: Recipe) -> Recipe:
        """Adds the recovery."""
        return edit_record(applied, recovery=recipe.recovery)

    def apply(self, work: Work, recipe: Recipe) -> None:
        """Train in place.

        Raises:
            UsageError: there is no text to train on.
            ModelError: the training left values that are not finite.
        """
        assert recipe.recovery is not None
        assert work.teacher is not None, "compress_model hands the dense model on"
        text = _text(work, recipe)
        if work.original is not None:
            work.teacher, work.original = between(work.original, work.teacher), None
        recover(
            work.loaded,
            work.teacher,
            text,
            recipe.recovery,
            seed=recipe.seed,
            progress=work.progress,
            checkpoint=None if work.trainings is None else work.trainings / "recovery.safetensors",
        )
        check_finite("After the recovery", *work.loaded.model.parameters())


def _text(work: Work, recipe: Recipe) -> RecoveryText:
    """The calibration's, in the tokens of the model as it is now."""
    if work.texts is None:
        raise UsageError(
            "recipe recovery: the model is trained on the calibration texts, and none are at hand; give --domain, "
            "or take recovery out of the recipe."
        )
    return read_recovery_text(work.texts, work.loaded, context_tokens=recipe.context_tokens)

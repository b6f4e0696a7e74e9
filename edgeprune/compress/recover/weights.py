"""The pass `recovery`: what the ranks and all edits before them left is trained, before the bits round it."""

from dataclasses import dataclass

from msgspec.structs import replace as edit_record

from edgeprune.compress.passes import Work, check_finite
from edgeprune.compress.recover.data import read_recovery_text
from edgeprune.compress.recover.recovery import recover
from edgeprune.errors import UsageError
from edgeprune.schema.recipe import Recipe

__all__ = ["RecoverWeights"]


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
        if work.teacher is None or work.texts is None:
            raise UsageError(
                "recipe recovery: the model is trained on the calibration texts, and none are at hand; give --domain, "
                "or take recovery out of the recipe."
            )
        text = read_recovery_text(work.texts, work.loaded, context_tokens=recipe.context_tokens)
        recover(
            work.loaded,
            work.teacher,
            text,
            recipe.recovery,
            seed=recipe.seed,
            progress=work.progress,
            checkpoint=work.checkpoint,
        )
        check_finite("After the recovery", *work.loaded.model.parameters())

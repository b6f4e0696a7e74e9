"""Activation outliers, measured, before a site may take dynamic int8 (see `edgeprune.calibrate.outliers`)."""

from edgeprune.calibrate.outliers import MOST_NOISE, noise_share
from edgeprune.calibrate.statistics import CalibrationStats
from edgeprune.errors import RecipeError
from edgeprune.schema.events import Event, Progress
from edgeprune.schema.kernel import parse_kernel
from edgeprune.schema.recipe import Recipe

__all__ = ["check_outliers"]


def check_outliers(recipe: Recipe, stats: CalibrationStats, *, progress: Progress) -> None:
    """Refuse dynamic int8 where outliers make it cost too much.

    Raises:
        RecipeError: it names the site, the cost, and the kernel to take.
    """
    unmeasured = []
    for position, edit in enumerate(recipe.sites):
        if parse_kernel(edit.kernel).kind != "dynamic_int8":
            continue
        share = noise_share(stats, edit.name, row=1)
        if share is None:
            unmeasured.append(edit.name)
        elif share > MOST_NOISE:
            blocks = noise_share(stats, edit.name, row=0)
            beside = "" if blocks is None else f", which costs {blocks:.2%}"
            raise RecipeError(
                f"recipe site {edit.name}: dynamic_int8 rounds all its inputs with one scale, and outliers make that "
                f"cost {share:.1%} of an ordinary one's variance on the calibration text (at most {MOST_NOISE:.0%} is "
                f"allowed); take int8_b32_a4, with a scale for every 32 inputs{beside}.",
                *("sites", position, "kernel"),
            )
    if unmeasured:
        message = f"outliers of the inputs of {len(unmeasured)} sites with dynamic_int8 were not measured"
        progress.emit(Event(kind="noted", stage="compress", message=message))

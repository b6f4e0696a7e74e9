"""Activation outliers, measured, before a site may take dynamic int8.

DynamicQuantizeLinear gives all inputs of a product one scale, so a few large ones leave few steps for the rest: with a
range of R standard deviations of an ordinary channel the rounding error is (R / 255)^2 / 12 of that channel's variance,
0.01 % at R = 10 and 5 % at R = 200. Calibration measures the error on its text (`CalibrationStats.activation_noise`,
row 1); ordinary is the channel of median variance, since the outliers' own power would hide what they cost the others.
MatMulNBits rounds blocks of 32 inputs, each with its own scale (row 0), and stands up to outliers. On the lab model the
share is under 0.3 % for all inputs but those of down: 0.3 to 20 %, over 5 % in 4 of 16 blocks, and 0.07 % at most with
blocks of 32.
"""

from edgeprune.calibrate.statistics import CalibrationStats, input_key
from edgeprune.errors import RecipeError
from edgeprune.schema.events import Event, Progress
from edgeprune.schema.kernel import parse_kernel
from edgeprune.schema.recipe import Recipe

__all__ = ["MOST_NOISE", "check_outliers", "noise_share"]

MOST_NOISE = 0.05
"""Share of an ordinary input's variance that rounding with one scale may cost."""


def noise_share(stats: CalibrationStats, site: str, *, row: int) -> float | None:
    """Rounding error of a site's inputs over the median of their variances; None where it was not measured.

    Args:
        stats: of the dense model.
        site: its name.
        row: of `activation_noise`: 0 for blocks of 32 inputs, 1 for one scale.
    """
    key = input_key(site)
    noise, gram = stats.activation_noise.get(key), stats.gram.get(key)
    if noise is None or gram is None or not bool(noise[row].any()):
        return None
    variances = gram.diagonal() - stats.mean[key].square()
    moving = variances[variances > 0.0]
    return float(noise[row].mean() / moving.median()) if len(moving) else None


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

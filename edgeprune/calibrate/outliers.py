"""Activation outliers, measured: which sites dynamic int8 is not for.

DynamicQuantizeLinear gives all inputs of a product one scale, so a few large ones leave few steps for the rest: with a
range of R standard deviations of an ordinary channel the rounding error is (R / 255)^2 / 12 of that channel's variance,
0.01 % at R = 10 and 5 % at R = 200. Calibration measures the error on its text (`CalibrationStats.activation_noise`,
row 1); ordinary is the channel of median variance, since the outliers' own power would hide what they cost the others.
MatMulNBits rounds blocks of 32 inputs, each with its own scale (row 0), and stands up to outliers. On the lab model the
share is under 0.3 % for all inputs but those of down: 0.3 to 20 %, over 5 % in 4 of 16 blocks, and 0.07 % at most with
blocks of 32.
"""

from edgeprune.calibrate.statistics import CalibrationStats, input_key

__all__ = ["MOST_NOISE", "has_outliers", "noise_share"]

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


def has_outliers(stats: CalibrationStats, site: str) -> bool:
    """Whether a site's inputs cannot share one scale, or were not measured."""
    share = noise_share(stats, site, row=1)
    return share is None or share > MOST_NOISE

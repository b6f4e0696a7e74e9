"""Fits correction factors to measured bundles, shrunk towards one.

A bundle's prediction is  fixed + sum over families of  c_f p_f ; its logarithm is measured with noise sigma. The
logarithms of the factors are Gaussian around zero, with a common part (a device that is slower than thought is so
everywhere) and a part of each family's own:

    log m = log(fixed + sum_f p_f exp(theta_f)) + e,   e ~ N(0, sigma^2),   theta ~ N(0, K)
    K = common^2 1 1^T + own^2 I

The most probable theta is found by Gauss-Newton (Rasmussen and Williams, Gaussian Processes for Machine Learning,
2006, eq. 2.25 and 2.26 give each linear step). With one family and n equal measurements of ratio r,
log c = n K / (n K + sigma^2) log r. Sigma is what is usual on shared machines, weighed against how far the measurements
scatter here: the mean of a scaled inverse chi-squared distribution that begins with `NOISE_WEIGHT` observations of the
usual (Gelman et al., Bayesian Data Analysis, 3rd edition, section 3.2). Ranges widen where measurements contradict each
other and narrow where many agree. Where they agree with each other but not with a measured profile, the profile is held
for no better than a data sheet (whichever prior makes the measurements more probable, Rasmussen and Williams eq. 2.30).
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from edgeprune.predict.corrected import FAMILIES
from edgeprune.schema.correction import CorrectedQuantity, CorrectionFactor, ProfileResidual

__all__ = ["fit_factors"]

NOISE: dict[CorrectedQuantity, float] = {"decode": 0.1, "prefill": 0.1, "memory": 0.03}
"""Usual standard deviation of the logarithm of one measurement: times wander by a tenth on machines others share."""
NOISE_WEIGHT = 4
"""Measurements that weigh as much as the usual noise."""
PRIOR_MEASURED: dict[CorrectedQuantity, tuple[float, float]] = {
    "decode": (0.1, 0.1), "prefill": (0.1, 0.1), "memory": (0.05, 0.05)
}  # fmt: skip
"""Common and own standard deviation of log factors for a profile that was measured."""
PRIOR_DATASHEET: dict[CorrectedQuantity, tuple[float, float]] = {
    "decode": (0.7, 0.3), "prefill": (0.7, 0.3), "memory": (0.2, 0.3)
}  # fmt: skip
"""The same for a data sheet, whose rooflines may be off by a factor of two and more."""
MOST_LOG = 3.0
"""Factors stay between 1/20 and 20: beyond that a measurement went wrong, not the profile."""
STEPS = 50

Array = NDArray[np.float64]


class _Fit(NamedTuple):
    theta: Array
    """[families]: logarithms of the factors."""
    covariance: Array
    """[families, families] of theta."""
    left: float
    """Sum of squares of what stays unexplained."""
    freedom: float
    """Measurements that the fit did not use up."""


def fit_factors(residuals: Sequence[ProfileResidual], *, is_datasheet: bool) -> tuple[CorrectionFactor, ...]:
    """Factors of every family for each quantity with at least one residual.

    Args:
        residuals: at most one per bundle and quantity; those of `disk` are left out.
        is_datasheet: whether the profile was read from a data sheet rather than measured.
    """
    priors = PRIOR_DATASHEET if is_datasheet else PRIOR_MEASURED
    factors: list[CorrectionFactor] = []
    for quantity, noise in NOISE.items():
        own = [entry for entry in residuals if entry.quantity == quantity]
        if own:
            factors += _fit(quantity, own, noise=noise, prior=priors[quantity])
    return tuple(factors)


def _fit(
    quantity: CorrectedQuantity, residuals: Sequence[ProfileResidual], *, noise: float, prior: tuple[float, float]
) -> list[CorrectionFactor]:
    parts = np.array([[entry.parts.get(family, 0.0) for family in FAMILIES] for entry in residuals])
    fixed = np.array([entry.predicted for entry in residuals]) - parts.sum(axis=1)
    fixed = np.maximum(fixed, 0.0)
    target = np.log([entry.measured for entry in residuals])
    narrow, wide = (_covariance(*entry) for entry in (prior, PRIOR_DATASHEET[quantity]))
    seen_noise = _noise(noise, _most_probable(parts, fixed, target, wide, noise))
    kernel = max((narrow, wide), key=lambda entry: _log_evidence(parts, fixed, target, entry, seen_noise))
    found = _most_probable(parts, fixed, target, kernel, seen_noise)
    before = np.sqrt(np.diag(narrow) + noise**2)
    after = np.sqrt(np.diag(found.covariance) + seen_noise**2)
    return [
        CorrectionFactor(
            quantity=quantity,
            family=family,
            value=math.exp(found.theta[index]),
            range_factor=float(after[index] / before[index]),
            count=int((parts[:, index] > 0.0).sum()),
        )
        for index, family in enumerate(FAMILIES)
    ]


def _noise(usual: float, found: _Fit) -> float:
    """Of one measurement, after seeing how far a fit that is free to follow the measurements stays from them."""
    return math.sqrt((NOISE_WEIGHT * usual**2 + found.left) / (NOISE_WEIGHT + found.freedom))


def _covariance(common: float, own: float) -> Array:
    return common**2 * np.ones((len(FAMILIES),) * 2) + own**2 * np.eye(len(FAMILIES))


def _log_evidence(parts: Array, fixed: Array, target: Array, kernel: Array, noise: float) -> float:
    """Log probability of the measurements, up to a constant, around the uncorrected prediction."""
    total = fixed + parts.sum(axis=1)
    slopes = parts / total[:, None]
    covered = slopes @ kernel @ slopes.T + noise**2 * np.eye(len(target))
    off = target - np.log(total)
    return float(-0.5 * off @ np.linalg.solve(covered, off) - 0.5 * np.linalg.slogdet(covered)[1])


def _most_probable(parts: Array, fixed: Array, target: Array, kernel: Array, noise: float) -> _Fit:
    """The fit by Gauss-Newton steps.

    Args:
        parts: [bundles, families] predicted by family.
        fixed: [bundles] predicted and not corrected.
        target: [bundles] log of the measurements.
        kernel: [families, families] prior covariance of theta.
        noise: standard deviation of the target.
    """
    theta = np.zeros(len(FAMILIES))
    slopes, gain = np.zeros_like(parts), np.zeros_like(parts.T)
    for _ in range(STEPS):
        each = parts * np.exp(theta)
        total = fixed + each.sum(axis=1)
        slopes = each / total[:, None]
        covered = slopes @ kernel @ slopes.T + noise**2 * np.eye(len(target))
        gain = np.linalg.solve(covered, slopes @ kernel).T
        moved = np.clip(gain @ (target - np.log(total) + slopes @ theta), -MOST_LOG, MOST_LOG)
        is_settled = bool(np.abs(moved - theta).max() < 1e-12)
        theta = moved
        if is_settled:
            break
    left = target - np.log(fixed + (parts * np.exp(theta)).sum(axis=1))
    freedom = len(target) - float(np.trace(slopes @ gain))
    return _Fit(theta, kernel - gain @ slopes @ kernel, float(left @ left), freedom)

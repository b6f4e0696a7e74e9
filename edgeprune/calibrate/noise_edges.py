"""Where the singular values of a weight stop telling signal from noise.

Takes the singular values s of a weight [m, n] and gives the number above two edges, both for noise of unknown level
sigma in every entry, with beta = min(m, n) / max(m, n):

    (1)  sigma = median(s) / sqrt(max(m, n) * mu(beta)),  mu = median of the Marchenko-Pastur distribution
    (2)  Marchenko-Pastur:  s > sigma (sqrt(m) + sqrt(n)), what noise alone does not reach
    (3)  Gavish and Donoho: s > lambda(beta) sqrt(max(m, n)) sigma, the hard threshold of least squared error, with
         lambda(beta) = sqrt(2 (beta + 1) + 8 beta / (beta + 1 + sqrt(beta^2 + 14 beta + 1)))

Sources: Marchenko and Pastur 1967; Gavish and Donoho, "The optimal hard threshold for singular values is 4/sqrt(3)"
(arXiv 1305.5870, eq. 11). The interquartile range of the singular values is no measure of sigma: on noise of 512 x 1408
with twenty directions in it, an edge built on it keeps hundreds.
"""

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

__all__ = ["NoiseEdges", "hard_threshold", "marchenko_pastur_median", "noise_edges", "noise_level"]

_GRID_POINTS = 20_001
"""Angles of the quadrature; the median is then right to seven digits."""


class NoiseEdges(NamedTuple):
    """Ranks that stay, 0 where nothing stands out."""

    marchenko_pastur: int
    gavish_donoho: int


def noise_edges(singular_values: NDArray[np.float64], shape: tuple[int, int]) -> NoiseEdges:
    """Ranks above both edges.

    Args:
        singular_values: [min(shape)] of the weight, in any order.
        shape: of the weight.
    """
    m, n = shape
    sigma = noise_level(singular_values, shape)
    edge = sigma * (math.sqrt(m) + math.sqrt(n))  # eq. (2)
    threshold = hard_threshold(min(m, n) / max(m, n)) * math.sqrt(max(m, n)) * sigma  # eq. (3)
    return NoiseEdges(int((singular_values > edge).sum()), int((singular_values > threshold).sum()))


def noise_level(singular_values: NDArray[np.float64], shape: tuple[int, int]) -> float:
    """Standard deviation of an entry, if at least half of the singular values are noise."""
    small, large = sorted(shape)
    assert len(singular_values) == small, (len(singular_values), shape)
    return float(np.median(singular_values)) / math.sqrt(large * marchenko_pastur_median(small / large))  # eq. (1)


def hard_threshold(beta: float) -> float:
    """Lambda of eq. (3); 4 / sqrt(3) for square matrices."""
    return math.sqrt(2 * (beta + 1) + 8 * beta / (beta + 1 + math.sqrt(beta**2 + 14 * beta + 1)))


def marchenko_pastur_median(beta: float) -> float:
    """Median of the eigenvalues of X X^T / columns, X of unit noise with rows / columns = beta in (0, 1]."""
    center, radius = 1 + beta, 2 * math.sqrt(beta)
    # x = center + radius cos(angle) takes the square roots out of the density sqrt((b - x)(x - a)) / (2 pi beta x).
    angles = np.linspace(math.pi, 0.0, _GRID_POINTS)
    values = center + radius * np.cos(angles)
    density = (radius * np.sin(angles)) ** 2 / np.maximum(values, np.finfo(float).tiny)
    if beta == 1.0:
        density[0] = 2 * radius  # the limit at the lower edge 0, where the quotient is 0 / 0
    mass = np.concatenate([[0.0], np.cumsum((density[1:] + density[:-1]) / 2)])
    return float(np.interp(mass[-1] / 2, mass, values))

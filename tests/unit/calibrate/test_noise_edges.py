import math

import numpy as np
import pytest

from edgeprune.calibrate.noise_edges import hard_threshold, marchenko_pastur_median, noise_edges, noise_level


def spectrum(shape: tuple[int, int], *, rank: int, noise: float, seed: int) -> np.ndarray:
    """Of noise with that many directions in it, each a few times as strong as the noise's strongest."""
    rng = np.random.default_rng(seed)
    edge = noise * (math.sqrt(shape[0]) + math.sqrt(shape[1]))
    left, _ = np.linalg.qr(rng.standard_normal((shape[0], rank)))
    right, _ = np.linalg.qr(rng.standard_normal((shape[1], rank)))
    signal = (left * np.linspace(2.0, 6.0, rank) * edge) @ right.T
    return np.linalg.svd(signal + noise * rng.standard_normal(shape), compute_uv=False)


@pytest.mark.parametrize("shape", [(512, 1408), (1408, 512), (300, 300)])
@pytest.mark.parametrize("noise", [0.02, 3.0])
def test_both_edges_keep_exactly_the_twenty_directions_in_the_noise(shape: tuple[int, int], noise: float) -> None:
    values = spectrum(shape, rank=20, noise=noise, seed=1)
    assert noise_edges(values, shape) == (20, 20)
    assert noise_level(values, shape) == pytest.approx(noise, rel=0.06)


def test_of_noise_alone_nothing_is_kept() -> None:
    values = np.linalg.svd(np.random.default_rng(2).standard_normal((200, 640)), compute_uv=False)
    edges = noise_edges(values, (200, 640))
    assert edges.marchenko_pastur <= 1, "the largest singular value fluctuates about the edge"
    assert edges.gavish_donoho == 0


def test_the_median_of_noise_is_the_distributions() -> None:
    assert marchenko_pastur_median(1.0) == pytest.approx(0.6528, abs=1e-3)
    rng = np.random.default_rng(3)
    for rows, columns in ((400, 800), (100, 2000)):
        values = np.linalg.svd(rng.standard_normal((rows, columns)), compute_uv=False) ** 2 / columns
        assert marchenko_pastur_median(rows / columns) == pytest.approx(float(np.median(values)), rel=0.02)


def test_the_threshold_of_a_square_matrix_is_four_over_the_root_of_three() -> None:
    assert hard_threshold(1.0) == pytest.approx(4 / math.sqrt(3), rel=1e-12)
    # Gavish and Donoho give 2.858 times the median of a square matrix's singular values.
    assert hard_threshold(1.0) / math.sqrt(marchenko_pastur_median(1.0)) == pytest.approx(2.858, abs=2e-3)

import numpy as np
import pytest
import torch
from torch import Tensor

from edgeprune.calibrate.eigen import leading_eigenvectors, output_spectrum


def problem(out_features: int, in_features: int, tokens: int) -> tuple[Tensor, Tensor]:
    """A weight [out, in] and the second moment of inputs that fall off over two decades."""
    generator = torch.Generator().manual_seed(out_features + in_features)
    W = torch.randn(out_features, in_features, generator=generator, dtype=torch.float64)
    mixing = torch.randn(in_features, in_features, generator=generator, dtype=torch.float64)
    mixing *= torch.logspace(0, -2, in_features, dtype=torch.float64)
    X = torch.randn(tokens, in_features, generator=generator, dtype=torch.float64) @ mixing.T
    return W, X.T @ X / tokens


@pytest.mark.parametrize("size", [1, 5, 32, 33, 100])
def test_leading_eigenvectors_are_those_of_the_full_decomposition(size: int) -> None:
    rng = np.random.default_rng(size)
    half = rng.standard_normal((size, size))
    matrix = half @ half.T
    count = (size + 1) // 2
    values, vectors = leading_eigenvectors(matrix, count)
    np.testing.assert_allclose(values, np.linalg.eigvalsh(matrix)[::-1], rtol=1e-9, atol=1e-9 * values[0])
    np.testing.assert_allclose(matrix @ vectors, vectors * values[:count], atol=1e-9 * values[0])
    np.testing.assert_allclose(vectors.T @ vectors, np.eye(count), atol=1e-12)
    assert leading_eigenvectors(matrix, 0)[1].shape == (size, 0)


@pytest.mark.parametrize("shape", [(48, 80), (80, 48), (64, 64), (40, 200), (200, 40)])
@pytest.mark.parametrize("tokens", [600, 30])
def test_the_spectrum_is_that_of_the_outputs_whatever_the_shape_and_the_data(
    shape: tuple[int, int], tokens: int
) -> None:
    W, S = problem(*shape, tokens)
    count = min(*shape, tokens) - 10
    values, directions, rows = output_spectrum(W, S, count)
    covariance = W @ S @ W.T
    expected = torch.linalg.eigvalsh((covariance + covariance.T) / 2).flip(0)[: min(shape)]
    scale = float(expected[0])
    torch.testing.assert_close(values, expected.clamp_min(0), rtol=1e-9, atol=1e-12 * scale)
    assert directions.shape == (shape[0], count)
    torch.testing.assert_close(rows, directions.T @ W, rtol=1e-6, atol=1e-7)
    torch.testing.assert_close(directions.T @ directions, torch.eye(count, dtype=torch.float64), rtol=0, atol=1e-7)
    captured = (directions.T @ covariance @ directions).diagonal()
    torch.testing.assert_close(captured, expected[:count], rtol=1e-6, atol=1e-12 * scale)


def test_inputs_that_change_in_place_are_not_taken_for_what_they_were() -> None:
    W, S = problem(40, 48, 600)
    before = output_spectrum(W, S, 4).values.clone()
    S.mul_(2.0)
    torch.testing.assert_close(output_spectrum(W, S, 4).values, 2.0 * before)
    for _ in range(3):  # new tensors, perhaps where others stood
        torch.testing.assert_close(output_spectrum(W, S / 2.0, 4).values, before)


def test_values_that_are_not_finite_are_refused() -> None:
    W, S = problem(64, 48, 200)
    for broken in (float("nan"), float("inf")):
        bad = S.clone()
        bad[3, 3] = broken
        with pytest.raises(torch.linalg.LinAlgError):  # type: ignore[attr-defined]
            output_spectrum(W, bad, 5)
        with pytest.raises(torch.linalg.LinAlgError):  # type: ignore[attr-defined]
            output_spectrum(W.T.contiguous(), torch.full((64, 64), broken, dtype=torch.float64), 5)

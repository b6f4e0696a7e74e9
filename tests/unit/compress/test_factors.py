"""Low rank and LASER on matrices whose answer is known."""

import pytest
import torch
from torch import Tensor

from edgeprune.calibrate.rank_scores import laser_losses, lowrank_losses
from edgeprune.calibrate.site_weights import output_error
from edgeprune.compress.factored import FactoredLinear
from edgeprune.compress.laser import factor_laser
from edgeprune.compress.ranks import balance, factor_lowrank


def _problem(out_features: int, in_features: int, *, seed: int = 0) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Weight, inputs [tokens, in] with uneven, correlated channels and a mean, their gram and mean."""
    generator = torch.Generator().manual_seed(seed)
    W = torch.randn(out_features, in_features, generator=generator, dtype=torch.float64)
    mixing = torch.randn(in_features, in_features, generator=generator, dtype=torch.float64)
    mixing *= torch.logspace(0, -2, in_features, dtype=torch.float64)
    X = torch.randn(4 * in_features, in_features, generator=generator, dtype=torch.float64) @ mixing.T
    X += torch.linspace(-1, 2, in_features, dtype=torch.float64)
    return W, X, X.T @ X / len(X), X.mean(0)


@pytest.mark.parametrize(("out_features", "in_features"), [(24, 40), (40, 24), (32, 32)])
@pytest.mark.parametrize("is_balanced", [False, True])
def test_a_rank_r_matrix_is_recovered_exactly(out_features: int, in_features: int, is_balanced: bool) -> None:
    W, _, gram, _ = _problem(out_features, in_features)
    low = W[:, :5] @ W[:5, :]
    factors = factor_lowrank(low, gram, 5, is_balanced=is_balanced)
    assert factors.right.shape == (5, in_features)
    assert factors.left.shape == (out_features, 5)
    torch.testing.assert_close(factors.left @ factors.right, low, rtol=1e-8, atol=1e-8)
    plain = factor_laser(low, 5)
    torch.testing.assert_close(plain.left @ plain.right, low, rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize(("out_features", "in_features"), [(24, 40), (40, 24), (32, 32)])
def test_it_equals_the_cholesky_whitened_svd(out_features: int, in_features: int) -> None:
    W, _, gram, _ = _problem(out_features, in_features)
    T = torch.linalg.cholesky(gram)
    U, sigma, V = torch.linalg.svd(W @ T, full_matrices=False)
    expected = torch.linalg.solve_triangular(T, (U[:, :9] * sigma[:9]) @ V[:9], upper=False, left=False)
    factors = factor_lowrank(W, gram, 9)
    torch.testing.assert_close(factors.left @ factors.right, expected, rtol=1e-6, atol=1e-6)


def test_the_input_side_gives_the_same_product_as_the_output_side() -> None:
    W, _, gram, _ = _problem(40, 24)
    covariance = W @ gram @ W.T
    V = torch.linalg.eigh((covariance + covariance.T) / 2).eigenvectors.flip(1)[:, :7]
    factors = factor_lowrank(W, gram, 7)
    torch.testing.assert_close(factors.left @ factors.right, V @ V.T @ W, rtol=1e-7, atol=1e-7)


@pytest.mark.parametrize(("out_features", "in_features"), [(24, 40), (40, 24)])
@pytest.mark.parametrize("rank", [1, 6, 20])
def test_the_scored_loss_tail_is_the_true_error(out_features: int, in_features: int, rank: int) -> None:
    W, X, gram, _ = _problem(out_features, in_features)
    factors = factor_lowrank(W, gram, rank)
    true = float(((X @ (W - factors.left @ factors.right).T) ** 2).sum(1).mean())
    losses = lowrank_losses(W, gram)
    assert len(losses) == min(out_features, in_features) + 1
    assert float(losses[rank]) == pytest.approx(true, rel=1e-4)
    assert float(losses[-1]) == 0.0
    plain = factor_laser(W, rank)
    plain_error = output_error(W - plain.left @ plain.right, gram)
    assert float(laser_losses(W, gram)[rank]) == pytest.approx(plain_error, rel=1e-4)
    assert float(losses[0]) == pytest.approx(float(((X @ W.T) ** 2).sum(1).mean()), rel=1e-9)


@pytest.mark.parametrize(("out_features", "in_features"), [(24, 40), (40, 24)])
def test_with_a_bias_the_error_is_never_worse_and_the_tail_still_predicts_it(
    out_features: int, in_features: int
) -> None:
    W, X, gram, mean = _problem(out_features, in_features)
    bias = torch.linspace(0, 1, out_features, dtype=torch.float64)
    without = factor_lowrank(W, gram, 6)
    aware = factor_lowrank(W, gram, 6, mean=mean, bias=bias)
    assert aware.bias is not None
    change = X @ (W - aware.left @ aware.right).T + bias - aware.bias
    error = float((change**2).sum(1).mean())
    assert error < output_error(W - without.left @ without.right, gram)
    assert float(lowrank_losses(W, gram - mean.outer(mean))[6]) == pytest.approx(error, rel=1e-4)


def test_plain_svd_never_beats_the_covariance_form_on_the_inputs_but_does_on_the_weight() -> None:
    W, _, gram, _ = _problem(32, 32)
    aware, plain = factor_lowrank(W, gram, 8), factor_laser(W, 8)
    aware_change, plain_change = W - aware.left @ aware.right, W - plain.left @ plain.right
    assert output_error(aware_change, gram) < output_error(plain_change, gram)
    assert float(plain_change.norm()) < float(aware_change.norm())
    sigma = torch.linalg.svdvals(W)
    assert float(plain_change.norm()) == pytest.approx(float(sigma[8:].norm()), rel=1e-9)


@pytest.mark.parametrize(("out_features", "in_features"), [(12, 20), (20, 12)])
def test_directions_the_data_never_excite_are_filled_from_the_weight(out_features: int, in_features: int) -> None:
    W, X, _, _ = _problem(out_features, in_features)
    poor = X[:3]
    gram = poor.T @ poor / 3
    factors = factor_lowrank(W, gram, 8)
    product = factors.left @ factors.right
    torch.testing.assert_close(poor @ product.T, poor @ W.T, rtol=1e-7, atol=1e-7)
    torch.testing.assert_close(factors.left.T @ factors.left, torch.eye(8, dtype=torch.float64))
    data_only = factor_lowrank(W, gram, 3)
    assert float((W - product).norm()) < float((W - data_only.left @ data_only.right).norm())
    silent = factor_lowrank(W, torch.zeros_like(gram), 4)
    assert torch.isfinite(silent.left @ silent.right).all()


def test_balanced_factors_have_the_same_product_and_equal_norms() -> None:
    W, _, gram, _ = _problem(24, 40)
    plain = factor_lowrank(W, gram, 6)
    right, left = balance(plain.right, plain.left)
    torch.testing.assert_close(left @ right, plain.left @ plain.right)
    torch.testing.assert_close(left.norm(dim=0), right.norm(dim=1))


def test_the_module_computes_the_product_keeps_its_dtype_and_stores_only_the_factors() -> None:
    W, X, gram, _ = _problem(24, 40)
    factors = factor_lowrank(W, gram, 6)
    module = FactoredLinear(factors.right.float(), factors.left.float(), torch.ones(24))
    outputs = module(X.float()[None])
    assert outputs.dtype == torch.float32
    torch.testing.assert_close(outputs[0].double(), X @ module.product().T + 1, rtol=1e-4, atol=1e-4)
    assert sum(parameter.numel() for parameter in module.parameters()) == 6 * (24 + 40) + 24
    assert {name: value.dtype for name, value in module.half().named_parameters()} == dict.fromkeys(
        ["right", "left", "bias"], torch.float16
    )
    assert "rank=6" in repr(module)
    assert FactoredLinear.empty(in_features=40, rank=6, out_features=24, has_bias=False).bias is None

"""Low rank in the metric of the loss's gradients: the tail is the weighted error, and nothing of that rank has less."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from edgeprune.calibrate.capture import capture
from edgeprune.calibrate.output_weighting import output_root
from edgeprune.calibrate.rank_scores import factored_weights, general_rank_losses, lowrank_losses, rank_losses
from edgeprune.calibrate.shards import capture_sharded
from edgeprune.calibrate.site_weights import SiteWeight, output_error, site_weights
from edgeprune.compress.ranks import factor_lowrank
from edgeprune.intake.load import LoadedModel


def moment(width: int, seed: int, decades: float) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    samples = torch.randn(6 * width, width, generator=generator, dtype=torch.float64)
    mixing = torch.randn(width, width, generator=generator, dtype=torch.float64)
    samples = samples @ (mixing * torch.logspace(0, -decades, width, dtype=torch.float64)).T
    return samples.T @ samples / len(samples)


def site(shape: tuple[int, int], output_gram: Tensor | None) -> SiteWeight:
    weight = torch.randn(*shape, generator=torch.Generator().manual_seed(5))
    return SiteWeight(
        name="blocks.0.q",
        block=0,
        weight=weight,
        gram=moment(shape[1], 1, 2),
        activation_noise=torch.zeros(2, 2, dtype=torch.float64),
        output_weight=0.3,
        output_gram=output_gram,
    )


def weighted_error(one: SiteWeight, product: Tensor) -> float:
    """tr(Q dW S dW^T) with the damped Q."""
    roots = output_root(one.output_gram)
    assert roots is not None
    return output_error(roots.weigh(product.double() - one.weight.double()), one.gram)


@pytest.mark.parametrize("shape", [(24, 40), (40, 24)])
@pytest.mark.parametrize("rank", [1, 6, 20])
def test_the_tail_is_the_weighted_error_of_the_factors_and_less_than_without(shape: tuple[int, int], rank: int) -> None:
    one = site(shape, moment(shape[0], 2, 2))
    factors = factor_lowrank(one.weight, one.gram, rank, output_gram=one.output_gram)
    product = factors.left @ factors.right
    error = weighted_error(one, product)
    assert float(lowrank_losses(one.weight, one.gram, one.output_gram)[rank]) == pytest.approx(error, rel=1e-6)
    plain = factor_lowrank(one.weight, one.gram, rank)
    assert error < 0.95 * weighted_error(one, plain.left @ plain.right)
    # The closed form with both roots: [R W S^1/2]_r between their inverses.
    roots = output_root(one.output_gram)
    assert roots is not None
    L = torch.linalg.cholesky(one.gram)
    U, sigma, V = torch.linalg.svd(roots.weigh(one.weight.double()) @ L, full_matrices=False)
    closed = roots.unweigh(U[:, :rank] * sigma[:rank]) @ V[:rank] @ torch.linalg.inv(L)
    torch.testing.assert_close(product, closed, rtol=1e-5, atol=1e-6)
    assert float(sigma[rank:].square().sum()) == pytest.approx(error, rel=1e-6)
    scored = dict(rank_losses(one))["lowrank"]
    assert scored[rank] == pytest.approx(error / 2, rel=1e-6)
    assert weighted_error(one, factored_weights(one, rank, "lowrank")) == pytest.approx(error, rel=1e-4)


def test_equal_gradients_everywhere_change_neither_factors_nor_order_of_losses() -> None:
    even = site((24, 40), 0.3 * torch.eye(24, dtype=torch.float64))
    without = site((24, 40), None)
    weighted, plain = (factor_lowrank(one.weight, one.gram, 7, output_gram=one.output_gram) for one in (even, without))
    torch.testing.assert_close(weighted.left @ weighted.right, plain.left @ plain.right)
    with_gram, scalar = (dict(rank_losses(one))["lowrank"] for one in (even, without))
    # Damping adds its tenth.
    np.testing.assert_allclose(with_gram, 1.1 * scalar, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(dict(general_rank_losses(even, even))["lowrank"], with_gram, rtol=1e-6, atol=1e-12)


def test_outputs_without_gradients_are_weighted_alike() -> None:
    silent = site((24, 40), torch.zeros(24, 24, dtype=torch.float64))
    assert output_root(silent.output_gram) is None
    assert float(dict(rank_losses(silent))["lowrank"][3]) == float(
        dict(rank_losses(site((24, 40), None)))["lowrank"][3]
    )


def test_measured_on_a_model_its_diagonal_is_the_output_weight_and_parts_add_up(
    llama: LoadedModel, tmp_path: Path
) -> None:
    tokens = torch.randint(0, 512, (24, 64), generator=torch.Generator().manual_seed(0)).int()
    whole = capture(llama, tokens, gradient_tokens=1024, with_output_gram=True)
    for one in site_weights(llama, whole):
        assert one.output_gram is not None
        assert one.output_gram.shape == (len(one.weight),) * 2
        assert float(one.output_gram.diagonal().mean()) == pytest.approx(one.output_weight, rel=1e-4)
    parts = capture_sharded(llama, tokens, folder=tmp_path / "parts", gradient_tokens=1024, with_output_gram=True)
    assert parts.output_gram.keys() == whole.output_gram.keys()
    for name, gram in whole.output_gram.items():
        torch.testing.assert_close(parts.output_gram[name], gram, rtol=1e-4, atol=1e-12)
    whole.save(tmp_path / "stats.safetensors")
    loaded = type(whole).load(tmp_path / "stats.safetensors")
    assert torch.equal(loaded.output_gram["blocks.0.q"], whole.output_gram["blocks.0.q"])
    assert capture(llama, tokens, gradient_tokens=64).output_gram == {}

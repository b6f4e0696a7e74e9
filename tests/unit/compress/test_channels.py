"""Channel compensation on cases whose answer is known."""

import pytest
import torch
from torch import Tensor

from edgeprune.calibrate.site_weights import output_error
from edgeprune.compress.channels import compensate


def _hidden(channels: int, tokens: int = 400) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    mixing = torch.randn(channels, channels, generator=generator, dtype=torch.float64)
    return (torch.randn(tokens, channels, generator=generator, dtype=torch.float64) @ mixing).abs() + 0.1


def _weight(out_features: int, channels: int) -> Tensor:
    return torch.randn(out_features, channels, generator=torch.Generator().manual_seed(2), dtype=torch.float64)


def _error(weight: Tensor, hidden: Tensor, narrowed: Tensor, kept: Tensor) -> float:
    return float(((hidden @ weight.T - hidden[:, kept] @ narrowed.T) ** 2).sum(1).mean())


def test_dropping_a_combination_of_others_costs_nothing() -> None:
    hidden = _hidden(12)
    hidden[:, 4] = 0.5 * hidden[:, 1] - 2.0 * hidden[:, 7]
    weight, gram = _weight(6, 12), hidden.T @ hidden / len(hidden)
    kept = torch.tensor([0, 1, 2, 3, 5, 6, 7, 8, 9, 10, 11])
    exact = compensate(weight, gram, kept, ridge=0.0)
    assert _error(weight, hidden, exact.weight, kept) < 1e-6 * _error(weight, hidden, weight[:, kept], kept)
    ridged = compensate(weight, gram, kept)
    assert _error(weight, hidden, ridged.weight, kept) < 0.05 * _error(weight, hidden, weight[:, kept], kept)


def test_it_matches_least_squares_and_beats_slicing() -> None:
    hidden, weight = _hidden(16), _weight(6, 16)
    gram, kept = hidden.T @ hidden / len(hidden), torch.arange(0, 16, 2)
    narrowed = compensate(weight, gram, kept, ridge=0.0).weight
    expected = torch.linalg.lstsq(hidden[:, kept], hidden @ weight.T).solution.T
    torch.testing.assert_close(narrowed, expected, rtol=1e-3, atol=1e-3)
    assert _error(weight, hidden, narrowed, kept) < 0.5 * _error(weight, hidden, weight[:, kept], kept)


def test_keeping_everything_changes_nothing() -> None:
    hidden, weight = _hidden(8), _weight(4, 8)
    kept = torch.arange(8)
    narrowed = compensate(weight, hidden.T @ hidden / len(hidden), kept, mean=hidden.mean(0), bias=torch.ones(4))
    torch.testing.assert_close(narrowed.weight, weight)
    torch.testing.assert_close(narrowed.bias, torch.ones(4, dtype=torch.float64))


def test_a_bias_takes_over_the_mean_of_what_was_dropped() -> None:
    hidden, weight = _hidden(12), _weight(6, 12)
    gram, mean, kept, bias = hidden.T @ hidden / len(hidden), hidden.mean(0), torch.arange(6), torch.ones(6).double()
    with_bias = compensate(weight, gram, kept, mean=mean, bias=bias, ridge=0.0)
    assert with_bias.bias is not None
    change = hidden @ weight.T + bias - hidden[:, kept] @ with_bias.weight.T - with_bias.bias
    torch.testing.assert_close(change.mean(0), torch.zeros(6, dtype=torch.float64), atol=1e-9, rtol=0)
    without = compensate(weight, gram, kept, ridge=0.0)
    assert float((change**2).sum(1).mean()) < _error(weight, hidden, without.weight, kept)


def test_silent_and_unscaled_channels_do_no_harm() -> None:
    hidden, weight = _hidden(8), _weight(4, 8)
    hidden[:, 3] = 0.0
    gram, kept = hidden.T @ hidden / len(hidden), torch.tensor([0, 1, 3, 4, 6])
    narrowed = compensate(weight, gram, kept)
    assert torch.isfinite(narrowed.weight).all()
    scale = torch.logspace(-3, 3, 8, dtype=torch.float64)
    scaled = compensate(weight / scale, gram * torch.outer(scale, scale), kept)
    change, scaled_change = torch.zeros(4, 8).double(), torch.zeros(4, 8).double()
    change[:, kept], scaled_change[:, kept] = narrowed.weight, scaled.weight * scale[kept]
    assert output_error(weight - change, gram) == pytest.approx(output_error(weight - scaled_change, gram), rel=1e-3)

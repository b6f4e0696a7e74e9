"""Rounding by GPTQ: on the kernel's grid, better on the data than to nearest, and exact where the answer is known."""

import pytest
import torch
from torch import Tensor

from edgeprune.calibrate.gptq import DAMPING, feedback_costs, gptq, on_grid
from edgeprune.calibrate.nearest import rounded
from edgeprune.export.packing import rounded_exactly

KERNELS = ("int4_b32_a4", "int4_b128_a4", "int8_b32_a4", "dynamic_int8")


def _problem(width: int = 96, rows: int = 40) -> tuple[Tensor, Tensor]:
    """A weight [rows, width] and the second moment of correlated inputs of very different sizes."""
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(rows, width, generator=generator)
    mixing = torch.randn(width, width, generator=generator, dtype=torch.float64) / width**0.5
    inputs = torch.randn(600, width, generator=generator, dtype=torch.float64) @ (mixing + torch.eye(width))
    inputs = inputs * torch.logspace(0, -1, width, dtype=torch.float64)
    return weight, inputs.T @ inputs / len(inputs)


def _loss(weight: Tensor, found: Tensor, gram: Tensor) -> float:
    error = (weight - found).double()
    return float((error @ gram * error).sum())


@pytest.mark.parametrize("kernel", KERNELS)
def test_it_loses_less_on_the_data_than_rounding_to_nearest(kernel: str) -> None:
    weight, gram = _problem()
    found = gptq(weight, gram, kernel)
    assert _loss(weight, found, gram) < 0.6 * _loss(weight, rounded(weight, kernel), gram)
    # And what it gives can be stored.
    stored = rounded_exactly(found.numpy(), kernel, what="a")
    torch.testing.assert_close(torch.from_numpy(stored.dequantized), found, rtol=1e-6, atol=0)


def test_inputs_that_do_not_go_together_leave_each_column_to_itself() -> None:
    weight, _ = _problem()
    gram = torch.diag(torch.logspace(0, -3, 96, dtype=torch.float64))
    found = gptq(weight, gram, "int8_b32_a4")
    step = torch.from_numpy(rounded_exactly(found.numpy(), "int8_b32_a4", what="a").scales).abs()
    # Nothing can be made up for, so every weight goes to the nearest integer of its grid (or to the grid's end).
    inside = (weight - found).abs() <= 0.5001 * step.repeat_interleave(32, dim=1)
    assert inside.float().mean() > 0.98


def test_two_columns_that_always_agree_share_the_error() -> None:
    # Both inputs are the same number, so only w_0 + w_1 counts: whatever the first loses, the second makes up for.
    weight = torch.zeros(1, 32)
    weight[0, 0], weight[0, 1], weight[0, 2] = 0.44, 0.44, -8.0
    gram = torch.zeros(32, 32, dtype=torch.float64)
    gram[:2, :2] = 1.0
    gram[2, 2] = 1e-3
    found = gptq(weight, gram, "int4_b32_a4")
    assert float(found[0, 2]) != 0.0
    step = float(rounded_exactly(found.numpy(), "int4_b32_a4", what="a").scales[0, 0])
    assert abs(float(found[0, :2].sum()) - 0.88) <= abs(step) * (0.5 + 32 * DAMPING)
    assert _loss(weight, found, gram) <= _loss(weight, rounded(weight, "int4_b32_a4"), gram)


def test_inputs_never_seen_and_rows_of_zeros_are_no_trouble() -> None:
    weight, gram = _problem()
    weight[3] = 0
    weight[:, 32:64] = 0
    gram[10] = gram[:, 10] = 0
    found = gptq(weight, gram, "int4_b32_a4")
    assert torch.isfinite(found).all()
    assert not found[3].any()
    silent = gptq(weight, torch.zeros_like(gram), "int4_b32_a4")
    assert torch.isfinite(silent).all()
    assert (silent - weight).abs().max() < 1.0


def test_the_same_input_gives_the_same_bytes() -> None:
    weight, gram = _problem()
    before = weight.clone()
    assert torch.equal(gptq(weight, gram, "int4_b32_a4"), gptq(weight, gram, "int4_b32_a4"))
    assert torch.equal(weight, before)


def test_widths_that_no_block_divides() -> None:
    weight, gram = _problem(width=50)
    found = gptq(weight, gram, "int4_b32_a4")
    rounded_exactly(found.numpy(), "int4_b32_a4", what="a")
    assert _loss(weight, found, gram) < _loss(weight, rounded(weight, "int4_b32_a4"), gram)


@pytest.mark.parametrize("kernel", ["int4_b32_a4", "int8_b32_a4", "dynamic_int8"])
def test_what_it_will_lose_is_told_without_doing_it_on_other_inputs_too(kernel: str) -> None:
    weight, gram = _problem(rows=400)
    other = gram + 0.2 * torch.diag(gram.diagonal())
    found = gptq(weight, gram, kernel)
    columns = (on_grid(weight, gram.diagonal(), kernel) - weight).double().square().sum(dim=0)
    for moment, costs in zip((gram, other), feedback_costs(gram, (gram, other)), strict=True):
        assert float(costs @ columns) == pytest.approx(_loss(weight, found, moment), rel=0.25)


def test_without_correlation_feedback_costs_are_the_inputs_own_sizes() -> None:
    sizes = torch.tensor([4.0, 1.0, 0.25], dtype=torch.float64)
    (costs,) = feedback_costs(torch.diag(sizes), [torch.diag(sizes)])
    torch.testing.assert_close(costs, sizes)

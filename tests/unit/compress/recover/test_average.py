"""The mean is that of the last ninth or so of the steps, and the model has it inside only for a while."""

import pytest
import torch

from edgeprune.compress.recover.average import LAST_STEPS, Average


def test_weights_count_by_a_power_of_their_step() -> None:
    parameters = {"weight": torch.nn.Parameter(torch.full((2, 3), 100.0)), "bias": torch.nn.Parameter(torch.zeros(3))}
    average = Average(parameters)
    count = 200
    for step in range(1, count + 1):
        parameters["weight"].data.fill_(float(step))
        average.add(step)
    # Shares of eq. (1) unrolled: each is what it was taken in with, times what every later one left of it.
    shares = torch.ones(count, dtype=torch.float64)
    for step in range(1, count + 1):
        share = LAST_STEPS / (step + LAST_STEPS - 1.0)
        shares[: step - 1] *= 1.0 - share
        shares[step - 1] = share
    assert float(shares.sum()) == pytest.approx(1.0)
    assert float(shares[count * 3 // 4 :].sum()) > 0.9
    wanted = float((shares * torch.arange(1, count + 1)).sum())
    assert wanted == pytest.approx(count * LAST_STEPS / (LAST_STEPS + 1.0), rel=0.01), "the mean of such a power"
    assert torch.allclose(average.values["weight"], torch.full((2, 3), wanted), rtol=1e-5)
    assert torch.equal(average.values["bias"], torch.zeros(3))


def test_the_model_has_its_own_weights_again_afterwards() -> None:
    parameters = {"weight": torch.nn.Parameter(torch.ones(4))}
    average = Average(parameters)
    parameters["weight"].data.fill_(3.0)
    with average.in_place():
        assert torch.equal(parameters["weight"].detach(), torch.ones(4))
    assert torch.equal(parameters["weight"].detach(), torch.full((4,), 3.0))
    assert torch.equal(average.values["weight"], torch.ones(4))

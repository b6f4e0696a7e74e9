"""Operators in the place of dropped parts: least squares of a given rank, fitted where the student really is."""

import pytest
import torch
from torch import Tensor

from edgeprune.calibrate.repair import fit_operator, fit_repairs, repaired_drops
from edgeprune.errors import CalibrationError
from edgeprune.intake.load import LoadedModel
from edgeprune.schema.recipe import Drops


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def error(inputs: Tensor, targets: Tensor, rank: int) -> float:
    found = fit_operator(inputs, targets, rank)
    return float((inputs + inputs @ found.right.T @ found.left.T + found.intercept - targets).square().sum())


def test_an_affine_map_of_that_rank_is_found_again() -> None:
    inputs = random(400, 12) @ random(12, 12, seed=1) + 3.0
    targets = inputs + inputs @ random(12, 2, seed=2) @ random(2, 12, seed=3) + random(12, seed=4)
    size = float((targets - inputs).square().sum())
    assert error(inputs, targets, 2) < 1e-8 * size
    assert error(inputs, targets, 1) > 1e-2 * size


def test_a_lower_rank_leaves_what_the_best_one_of_that_rank_must() -> None:
    inputs = random(300, 8) @ random(8, 8, seed=1) + 1.0
    targets = inputs + random(300, 8, seed=2) + inputs @ random(8, 8, seed=3)
    # An error counts relative to its token, so rows are divided by the sizes of their targets.
    root = 1.0 / targets.norm(dim=1, keepdim=True)
    design = torch.cat([inputs, torch.ones(300, 1)], dim=1) * root
    full = torch.linalg.lstsq(design, (targets - inputs) * root).solution
    left_over = float((design @ full - (targets - inputs) * root).square().sum())
    centred = (inputs - (inputs * root**2).sum(dim=0) / (root**2).sum()) * root
    explained = torch.linalg.eigvalsh((centred @ full[:8]).T @ (centred @ full[:8]))
    for rank in (2, 5, 8):
        found = fit_operator(inputs, targets, rank)
        output = inputs + inputs @ found.right.T @ found.left.T + found.intercept
        error = float(((output - targets) * root).square().sum())
        assert error == pytest.approx(left_over + float(explained[: 8 - rank].sum()), rel=1e-4)


def test_one_massive_token_does_not_decide_the_fit() -> None:
    inputs = random(300, 6)
    targets = inputs + inputs @ random(6, 6, seed=1) + 0.1 * random(300, 6, seed=2)
    clean = fit_operator(inputs, targets, 6)
    massive = targets.clone()
    massive[0] += 1000.0
    moved = fit_operator(inputs, massive, 6)
    plain = torch.linalg.lstsq(torch.cat([inputs, torch.ones(300, 1)], dim=1), massive - inputs).solution[:6]
    drift = (moved.left @ moved.right - clean.left @ clean.right).norm()
    assert drift < 0.1 * (plain.T - clean.left @ clean.right).norm()


def states(loaded: LoadedModel, windows: Tensor, block: int) -> Tensor:
    seen: list[Tensor] = []
    module = loaded.adapter.blocks(loaded.model)[block]
    handle = module.register_forward_hook(lambda _module, _args, output: seen.append(output))
    with torch.no_grad():
        loaded.model(windows.long())
    handle.remove()
    output = seen[0]
    return (output[0] if isinstance(output, tuple) else output).detach()


@pytest.mark.parametrize("drops", [Drops(blocks=(1,)), Drops(attention=(1,)), Drops(mlp=(0,)), Drops(blocks=(0,))])
@pytest.mark.parametrize("name", ["llama", "gpt2"])
def test_a_repaired_model_is_nearer_to_the_dense_one_the_higher_the_rank(
    name: str, drops: Drops, windows: Tensor, request: pytest.FixtureRequest
) -> None:
    loaded: LoadedModel = request.getfixturevalue(name)
    dense = states(loaded, windows, 2)
    distances = []
    for rank in (None, 4, 64):
        repaired = drops.repaired(rank)
        with repaired_drops(loaded, repaired, fit_repairs(loaded, repaired, windows)):
            distances.append(float((states(loaded, windows, 2) - dense).square().mean()))
    assert distances[0] > distances[1] > distances[2]
    assert torch.equal(states(loaded, windows, 2), dense)


def test_a_later_run_takes_up_what_an_earlier_repair_left(llama: LoadedModel, windows: Tensor) -> None:
    drops = Drops(mlp=(0, 1)).repaired(8)
    both = fit_repairs(llama, drops, windows)
    alone = fit_repairs(llama, Drops(mlp=(1,)).repaired(8), windows)
    dense = states(llama, windows, 1)

    def left_over(second: int) -> float:
        factors = {0: both[0], 1: (both, alone)[second][1]}
        with repaired_drops(llama, drops, factors):
            inputs: list[Tensor] = []
            module = llama.adapter.blocks(llama.model)[2]
            handle = module.register_forward_pre_hook(lambda _module, args: inputs.append(args[0]))
            with torch.no_grad():
                llama.model(windows.long())
            handle.remove()
        return float((inputs[0] - dense).square().mean())

    assert left_over(0) < left_over(1)


def test_too_little_text_is_refused_and_leaves_the_model_alone(llama: LoadedModel, windows: Tensor) -> None:
    before = states(llama, windows, 2)
    with pytest.raises(CalibrationError, match="at least 128 tokens"):
        fit_repairs(llama, Drops(blocks=(1,)).repaired(4), windows[:3])
    assert torch.equal(states(llama, windows, 2), before)

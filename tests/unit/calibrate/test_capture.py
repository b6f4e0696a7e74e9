import pytest
import torch
from torch import Tensor

from edgeprune.calibrate.capture import capture
from edgeprune.calibrate.halves import skipped_drops
from edgeprune.calibrate.statistics import CalibrationStats, input_key
from edgeprune.errors import CalibrationError
from edgeprune.intake.load import LoadedModel
from edgeprune.schema.recipe import Drops


def inputs_and_output(loaded: LoadedModel, block: int, role: str, tokens: Tensor) -> tuple[Tensor, Tensor]:
    """Input and output of a site with the output's gradient kept, by a forward pass of the whole model."""
    seen: list[Tensor] = []
    site = loaded.adapter.site(loaded.adapter.blocks(loaded.model)[block], role)  # type: ignore[arg-type]

    def keep(_module: object, args: tuple[Tensor, ...], output: Tensor) -> None:
        output.retain_grad()
        seen.extend((args[0], output))

    handle = site.register_forward_hook(keep)
    logits = loaded.model(tokens.long()).logits.double()
    handle.remove()
    logprobs = logits[:, :-1].log_softmax(dim=-1)
    labels = tokens[:, 1:].long()[..., None]
    (-logprobs.gather(2, labels).sum()).backward()
    loaded.model.zero_grad()
    return seen[0], seen[1]


@pytest.mark.parametrize(("block", "role"), [(0, "q"), (1, "o"), (2, "up"), (1, "down")])
def test_moments_and_output_weight_are_what_autograd_says(
    llama: LoadedModel, windows: Tensor, stats: CalibrationStats, block: int, role: str
) -> None:
    inputs, output = inputs_and_output(llama, block, role, windows)
    flat = inputs.detach().reshape(-1, inputs.shape[-1]).double()
    key = input_key(f"blocks.{block}.{role}")
    torch.testing.assert_close(stats.gram[key], flat.T @ flat / len(flat), rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(stats.mean[key], flat.mean(dim=0), rtol=1e-4, atol=1e-6)
    assert output.grad is not None
    squares = output.grad.double().square().sum(dim=2)
    expected = float(squares.mean() / output.shape[-1])
    assert stats.output_weight[f"blocks.{block}.{role}"] == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("name", ["llama", "gpt2"])
def test_block_similarity_is_the_mean_cosine_of_block_inputs(
    name: str, windows: Tensor, request: pytest.FixtureRequest
) -> None:
    loaded: LoadedModel = request.getfixturevalue(name)
    with torch.no_grad():
        states = loaded.model(windows.long(), output_hidden_states=True).hidden_states
    expected = torch.cosine_similarity(states[0].double(), states[2].double(), dim=-1).mean()
    similarity = capture(loaded, windows, gradient_tokens=0).block_similarity
    assert float(similarity[0, 2]) == pytest.approx(float(expected), abs=1e-6)
    torch.testing.assert_close(similarity, similarity.T)
    torch.testing.assert_close(similarity.diagonal(), torch.ones(3, dtype=torch.float64))


def test_batches_do_not_change_the_sums(llama: LoadedModel, stats: CalibrationStats, windows: Tensor) -> None:
    wide = capture(llama, windows.view(-1)[: 4 * 128].view(4, 128), gradient_tokens=0)
    assert wide.token_total == 512
    assert int(wide.token_count.sum()) == 512
    assert stats.token_total == windows.numel()


def test_leaves_the_model_as_it_was(llama: LoadedModel, windows: Tensor) -> None:
    before = {name: (tensor.requires_grad, tensor.clone()) for name, tensor in llama.model.named_parameters()}
    hooks = [len(module._forward_hooks) + len(module._forward_pre_hooks) for module in llama.model.modules()]
    capture(llama, windows[:2])
    for name, tensor in llama.model.named_parameters():
        assert tensor.requires_grad == before[name][0]
        assert torch.equal(tensor, before[name][1])
        assert tensor.grad is None
    after = [len(module._forward_hooks) + len(module._forward_pre_hooks) for module in llama.model.modules()]
    assert after == hooks


def test_stability_is_small_for_like_halves_and_large_for_unlike_ones(llama: LoadedModel) -> None:
    generator = torch.Generator().manual_seed(1)
    alike = torch.randint(0, 512, (64, 128), generator=generator).int()
    # Batches of four windows alternate between the halves.
    unlike = alike.clone()
    for start in range(4, 64, 8):
        unlike[start : start + 4] = 7
    small = capture(llama, alike, gradient_tokens=0).stability
    large = capture(llama, unlike, gradient_tokens=0).stability
    assert small is not None
    assert large is not None
    assert small < 0.3 < large


def test_skipped_parts_come_back(llama: LoadedModel, windows: Tensor) -> None:
    with torch.no_grad():
        before = llama.model(windows[:1].long()).logits
        with skipped_drops(llama, Drops(blocks=(1,))):
            assert not torch.equal(llama.model(windows[:1].long()).logits, before)
        assert torch.equal(llama.model(windows[:1].long()).logits, before)


def test_refuses_no_windows(llama: LoadedModel) -> None:
    with pytest.raises(CalibrationError, match="no calibration text"):
        capture(llama, torch.zeros(0, 32, dtype=torch.int32))

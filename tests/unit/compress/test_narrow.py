"""The channel pass: what each criterion and each way of making up for the dropped leaves in the model."""

from pathlib import Path
from typing import get_args

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from edgeprune.calibrate.block_stream import BlockStream
from edgeprune.calibrate.capture import capture
from edgeprune.calibrate.channel_scores import channel_order
from edgeprune.compress.apply import compress_model
from edgeprune.compress.load import load
from edgeprune.compress.save import save_hf
from edgeprune.intake.load import LoadedModel
from edgeprune.schema.events import NullProgress
from edgeprune.schema.recipe import ChannelCriterion, KeepChannels, Recipe
from edgeprune.shapes import edit_shapes
from tests.unit.compress.recipes import Tiny, no_edit

CRITERIA: tuple[ChannelCriterion, ...] = get_args(ChannelCriterion)


def _compress(tiny: Tiny, recipe: Recipe) -> LoadedModel:
    return compress_model(tiny[0], recipe, tiny[1], progress=NullProgress())


def _recipe(tiny: Tiny, criterion: ChannelCriterion, *, compensate: bool = True, blocks: int = 3) -> Recipe:
    keep = [
        KeepChannels(block=block, kept_count=64, criterion=criterion, compensate=compensate) for block in range(blocks)
    ]
    return no_edit(tiny[0], keep_channels=tuple(keep))


def _linear(loaded: LoadedModel, position: int, role: str) -> nn.Linear:
    site = loaded.adapter.site(loaded.adapter.blocks(loaded.model)[position], role)  # type: ignore[arg-type]
    assert isinstance(site, nn.Linear)
    return site


def _kept(before: LoadedModel, after: LoadedModel, position: int) -> Tensor:
    """Indices of the rows of up that stayed; all rows are different."""
    rows, kept = _linear(before, position, "up").weight, _linear(after, position, "up").weight
    return torch.stack([(rows == row).all(dim=1).nonzero()[0, 0] for row in kept])


@pytest.mark.parametrize("compensate", [True, False])
@pytest.mark.parametrize("criterion", CRITERIA)
def test_every_criterion_gives_the_predicted_shapes(tiny: Tiny, criterion: ChannelCriterion, compensate: bool) -> None:
    recipe = _recipe(tiny, criterion, compensate=compensate)
    edited = _compress(tiny, recipe)
    predicted = edit_shapes(tiny[0].spec, recipe)
    assert edited.spec.blocks == predicted.blocks
    assert sum(one.numel() for one in edited.model.parameters()) == predicted.parameter_count
    had_bias = _linear(tiny[0], 0, "down").bias is not None
    assert (_linear(edited, 0, "down").bias is not None) == (had_bias or (criterion == "flap" and compensate))


@pytest.mark.parametrize("criterion", CRITERIA)
def test_without_compensation_the_first_by_the_criterion_are_sliced(tiny: Tiny, criterion: ChannelCriterion) -> None:
    loaded, stats = tiny
    edited = _compress(tiny, _recipe(tiny, criterion, compensate=False))
    down = _linear(loaded, 0, "down")
    order = channel_order(stats, 0, down.weight, has_bias=down.bias is not None, criterion=criterion)
    kept = _kept(loaded, edited, 0)
    assert kept.tolist() == np.sort(order[:64]).tolist()
    assert torch.equal(_linear(edited, 0, "down").weight, down.weight[:, kept])
    if down.bias is not None:
        assert torch.equal(_linear(edited, 0, "down").bias, down.bias)


def test_flap_keeps_the_mean_of_the_output_and_the_surviving_columns(tiny: Tiny) -> None:
    loaded, stats = tiny
    edited = _compress(tiny, _recipe(tiny, "flap", blocks=1))
    kept, down, narrowed = _kept(loaded, edited, 0), _linear(loaded, 0, "down"), _linear(edited, 0, "down")
    assert torch.equal(narrowed.weight, down.weight[:, kept])
    mean = stats.mean["blocks.0.mlp_hidden"].float()
    expected = down.weight @ mean if down.bias is None else down.weight @ mean + down.bias
    torch.testing.assert_close(narrowed.weight @ mean[kept] + narrowed.bias, expected, rtol=1e-4, atol=1e-6)


def test_wanda_measures_again_what_pruned_blocks_leave(tiny: Tiny) -> None:
    loaded, stats = tiny
    edited = _compress(tiny, _recipe(tiny, "wanda", compensate=False))
    first_two = _compress(tiny, _recipe(tiny, "wanda", compensate=False, blocks=2))
    renewed = capture(first_two, stats.tokens, gradient_tokens=0)
    order = channel_order(renewed, 2, _linear(loaded, 2, "down").weight, criterion="wanda")
    assert _kept(loaded, edited, 2).tolist() == np.sort(order[:64]).tolist()
    stale = channel_order(stats, 2, _linear(loaded, 2, "down").weight, criterion="wanda")
    assert renewed.gram["blocks.2.mlp_hidden"].shape == stats.gram["blocks.2.mlp_hidden"].shape
    assert not torch.equal(renewed.gram["blocks.2.mlp_hidden"], stats.gram["blocks.2.mlp_hidden"])
    assert sorted(stale.tolist()) == list(range(len(order)))


def test_the_stream_sees_what_the_whole_model_sees(tiny: Tiny) -> None:
    loaded, stats = tiny
    stream = BlockStream(loaded, stats.tokens[:19])
    whole = capture(loaded, stats.tokens[:19], gradient_tokens=0)
    for position in range(3):
        gram, mean = stream.moments(position, _linear(loaded, position, "down"))
        torch.testing.assert_close(gram, whole.gram[f"blocks.{position}.mlp_hidden"], rtol=1e-4, atol=1e-7)
        torch.testing.assert_close(mean, whole.mean[f"blocks.{position}.mlp_hidden"], rtol=1e-4, atol=1e-6)
        stream.advance(position)


def test_a_bias_that_was_added_survives_saving(tiny_llama: Tiny, tmp_path: Path) -> None:
    recipe = _recipe(tiny_llama, "flap")
    edited = _compress(tiny_llama, recipe)
    folder = tmp_path / "hf"
    save_hf(edited, recipe, folder)
    again = load(folder)
    tokens = tiny_llama[1].tokens[:2].long()
    with torch.no_grad():
        assert torch.equal(again.model(tokens).logits, edited.model(tokens).logits)
    assert _linear(again, 1, "down").bias is not None

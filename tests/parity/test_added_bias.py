"""A bias that channel pruning gave to a down projection reaches the graph, under every kind of weight."""

from pathlib import Path

import pytest
import torch

from edgeprune.schema.recipe import KeepChannels, Recipe, SiteEdit
from tests.parity.bundles import CONTEXT, export, relative_difference, tiny


@pytest.mark.parametrize("kernel", ["fp32", "int8_b32_a0"])
@pytest.mark.parametrize("model_type", ["llama", "mistral", "qwen2", "qwen3", "gpt2"])
def test_logits_are_torchs(model_type: str, kernel: str, tmp_path: Path) -> None:
    loaded = tiny(tmp_path / "model", model_type)
    recipe = Recipe(
        model_hash=loaded.spec.model_hash,
        context_tokens=CONTEXT,
        keep_channels=(
            KeepChannels(block=0, kept_count=40, criterion="flap"),
            KeepChannels(block=2, kept_count=56, criterion="flap"),
        ),
        sites=(
            SiteEdit(name="blocks.0.down", kernel=kernel),
            SiteEdit(name="blocks.2.down", kernel=kernel, rank=16),
        ),
    )
    exported = export(loaded, recipe, tmp_path / "bundle")
    adapter, model = exported.compressed.adapter, exported.compressed.model
    for position in (0, 2):
        bias = adapter.site(adapter.blocks(model)[position], "down").bias
        assert isinstance(bias, torch.Tensor)
        assert bool((bias != 0).any())
    # As of the other edits: float32 sums in another order, 8-bit weights as torch rounded them.
    assert relative_difference(exported) < 1e-5

"""Statistics measured one block at a time are those of a pass through the whole model."""

from pathlib import Path

import pytest
import torch

from edgeprune.calibrate.capture import capture
from edgeprune.calibrate.capture_by_block import capture_by_block
from edgeprune.calibrate.stored_grams import StoredGrams
from edgeprune.intake.load import load_model
from edgeprune.intake.stored.load import load_mapped
from edgeprune.intake.stored.store import WeightStore
from tests.tiny import write_tiny_gpt2, write_tiny_llama
from tests.tiny_families import write_tiny


@pytest.mark.parametrize("windows", [2, 40])
@pytest.mark.parametrize("family", ["llama", "gpt2", "gemma3"])
def test_all_but_the_gradients_is_the_same(tmp_path: Path, family: str, windows: int) -> None:
    folder = tmp_path / "m"
    if family == "gemma3":
        write_tiny(folder, family)
    elif family == "gpt2":
        write_tiny_gpt2(folder)
    else:
        write_tiny_llama(folder, dtype="bfloat16")
    tokens = torch.randint(0, 512, (windows, 24), generator=torch.Generator().manual_seed(5)).int()
    store = WeightStore(tmp_path / "kept", kept_above_bytes=0)
    found = capture_by_block(load_mapped(folder, store), tokens, store=store)
    expected = capture(load_model(folder), tokens, gradient_tokens=0)
    assert isinstance(found.gram, StoredGrams)
    assert set(found.gram) == set(expected.gram)
    for key, gram in expected.gram.items():
        assert torch.equal(found.gram[key], gram), key
    for group in ("mean", "mean_absolute", "row_absolute"):
        one, other = getattr(found, group), getattr(expected, group)
        assert list(one) == list(other)
        assert all(torch.equal(one[key], other[key]) for key in one), group
    assert found.stability == expected.stability
    assert found.output_weight == expected.output_weight
    torch.testing.assert_close(found.block_similarity, expected.block_similarity, rtol=0, atol=1e-6)
    assert found.token_total == expected.token_total


def test_grams_of_other_blocks_are_not_kept(tmp_path: Path) -> None:
    store = WeightStore(tmp_path / "kept", kept_above_bytes=0)
    loaded = load_mapped(write_tiny_llama(tmp_path / "m", dtype="bfloat16"), store)
    found = capture_by_block(loaded, torch.arange(40).reshape(2, 20).int(), store=store, blocks=[1])
    names = ("attention_input", "attention_output", "mlp_input", "mlp_hidden")
    assert set(found.gram) == {*(f"blocks.1.{name}" for name in names), "table"}
    assert "blocks.0.mlp_hidden" in found.mean

"""Compression of a model that stays in files gives what compression in memory gives."""

from pathlib import Path

import pytest
import torch

from edgeprune.calibrate.capture import capture
from edgeprune.calibrate.capture_by_block import capture_by_block
from edgeprune.compress.apply import compress_model
from edgeprune.compress.load import load
from edgeprune.compress.save import save_hf
from edgeprune.intake.load import load_model
from edgeprune.intake.stored.load import load_mapped
from edgeprune.intake.stored.store import WeightStore
from edgeprune.intake.stored.weight import StoredWeight
from edgeprune.schema.events import NullProgress
from edgeprune.schema.model import SiteRole, site_name
from edgeprune.schema.recipe import KeepChannels, Recipe, RoundingMethod, SiteEdit
from tests.tiny import write_tiny_llama

TOKENS = torch.randint(0, 512, (6, 40), generator=torch.Generator().manual_seed(5)).int()
ROLES: tuple[SiteRole, ...] = ("q", "k", "v", "o", "gate", "up", "down")


def recipe_for(model_hash: str, rounding: RoundingMethod) -> Recipe:
    """One block dropped, one factored, one narrower, and everything rounded."""
    sites = [
        SiteEdit(name=site_name(block, role), kernel="int4_b32_a0", rank=12 if block == 1 else None)
        for block in (1, 2)
        for role in ROLES
    ]
    return Recipe(
        model_hash=model_hash,
        context_tokens=64,
        drop_blocks=(0,),
        keep_channels=(KeepChannels(block=2, kept_count=64),),
        sites=tuple(sites),
        table_kernel="int8_b32_a0",
        rounding=rounding,
    )


@pytest.mark.parametrize("rounding", ["nearest", "gptq"])
def test_the_same_weights_come_out(tmp_path: Path, rounding: RoundingMethod) -> None:
    folder = write_tiny_llama(tmp_path / "m", dtype="bfloat16")
    dense, store = load_model(folder), WeightStore(tmp_path / "kept", kept_above_bytes=0)
    mapped = load_mapped(folder, store)
    recipe = recipe_for(dense.spec.model_hash, rounding)
    expected = compress_model(dense, recipe, capture(dense, TOKENS), progress=NullProgress())
    stats = capture_by_block(mapped, TOKENS, store=store)
    found = compress_model(mapped, recipe, stats, progress=NullProgress())
    assert found.spec == expected.spec
    pairs = zip(found.model.named_parameters(), expected.model.named_parameters(), strict=True)
    for (name, stored), (other, held) in pairs:
        assert name == other
        torch.testing.assert_close(stored.detach().clone() + 0.0, held.detach(), rtol=1e-6, atol=1e-7, msg=name)
    kinds = {type(found.adapter.site(found.adapter.blocks(found.model)[1], role).weight) for role in ROLES}
    assert kinds == {StoredWeight}
    save_hf(found, recipe, tmp_path / "hf")
    again = load(tmp_path / "hf")
    with torch.no_grad():
        assert torch.equal(again.model(TOKENS.long()).logits, found.model(TOKENS.long()).logits)

"""Repaired models: stored, counted and loaded like any other, and fitted before what follows is fitted."""

from pathlib import Path

import torch
from torch import Tensor

from edgeprune.compress.apply import compress_model
from edgeprune.compress.load import load, load_recipe
from edgeprune.compress.save import save_hf
from edgeprune.intake.adapters.repair import repair_of
from edgeprune.intake.load import LoadedModel
from edgeprune.schema.events import NullProgress
from edgeprune.schema.model import site_name
from edgeprune.schema.recipe import Recipe, Repair, SiteEdit
from tests.unit.compress.recipes import Tiny, no_edit


def logits(loaded: LoadedModel, tokens: Tensor) -> Tensor:
    with torch.no_grad():
        return loaded.model(tokens.long()).logits


def compressed(tiny: Tiny, recipe: Recipe) -> LoadedModel:
    return compress_model(tiny[0], recipe, tiny[1], progress=NullProgress())


def test_a_repaired_model_says_more_of_what_the_dense_one_says(tiny: Tiny) -> None:
    loaded, stats = tiny
    dense = logits(loaded, stats.tokens)
    bare = compressed(tiny, no_edit(loaded, drop_blocks=(1,)))
    repaired = compressed(tiny, no_edit(loaded, drop_blocks=(1,), repairs=(Repair(block=1, rank=32),)))
    distance = [float((logits(model, stats.tokens) - dense).square().mean()) for model in (bare, repaired)]
    assert distance[1] < 0.95 * distance[0]
    assert repaired.spec.parameter_count == bare.spec.parameter_count + 2 * 64 * 32 + 64
    assert torch.equal(logits(loaded, stats.tokens), dense)
    assert all(repair_of(block) is None for block in loaded.adapter.blocks(loaded.model))


def test_operators_come_back_bit_for_bit(tiny: Tiny, tmp_path: Path) -> None:
    loaded, stats = tiny
    recipe = no_edit(
        loaded, drop_blocks=(0,), drop_mlp=(1,), repairs=(Repair(block=0, rank=5), Repair(block=1, rank=7))
    )
    edited = compressed(tiny, recipe)
    save_hf(edited, recipe, tmp_path / "hf")
    again = load(tmp_path / "hf")
    assert torch.equal(logits(again, stats.tokens), logits(edited, stats.tokens))
    assert [block.repair_rank for block in again.spec.blocks] == [5, 7]
    assert load_recipe(tmp_path / "hf") == recipe


def test_what_follows_is_fitted_to_the_repaired_model(tiny_llama: Tiny) -> None:
    loaded, _ = tiny_llama
    site = SiteEdit(name=site_name(2, "down"), rank=12)
    bare = compressed(tiny_llama, no_edit(loaded, drop_blocks=(1,), sites=(site,)))
    repaired = compressed(
        tiny_llama, no_edit(loaded, drop_blocks=(1,), repairs=(Repair(block=1, rank=32),), sites=(site,))
    )
    factors = [model.adapter.site(model.adapter.blocks(model.model)[1], "down").left for model in (bare, repaired)]
    assert not torch.equal(factors[0], factors[1])

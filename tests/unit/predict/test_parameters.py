"""Prices in parameters add up to the size of the model a recipe makes."""

from pathlib import Path

import pytest
from msgspec.structs import replace

from edgeprune.intake.spec import read_spec
from edgeprune.predict.parameters import PARAMETER_BYTES, ParameterCost
from edgeprune.schema.recipe import KeepChannels, KeepTokens, Recipe, Repair, SiteEdit
from edgeprune.shapes import edit_shapes
from tests.tiny import write_tiny_gpt2, write_tiny_llama


@pytest.mark.parametrize("write", [write_tiny_llama, write_tiny_gpt2])
def test_pieces_add_up_to_the_whole(write: object, tmp_path: Path) -> None:
    assert callable(write)
    spec = read_spec(write(tmp_path / "model"))
    cost_model = ParameterCost(spec)
    empty = Recipe(model_hash=spec.model_hash, context_tokens=32)
    first = spec.blocks[0]
    factored = next(site for site in first.sites if site.role == "o")
    recipes = (
        empty,
        replace(empty, drop_blocks=(1,)),
        replace(empty, drop_blocks=(1,), repairs=(Repair(block=1, rank=4),)),
        replace(empty, keep_tokens=KeepTokens(kept_count=400)),
        replace(empty, keep_channels=(KeepChannels(block=0, kept_count=first.intermediate_size // 2),)),
        replace(empty, sites=(SiteEdit(name=factored.name, rank=3),)),
        replace(empty, sites=(SiteEdit(name=factored.name, rank=30, form="pivot"),)),
    )
    for recipe in recipes:
        edited = edit_shapes(spec, recipe)
        total = cost_model.fixed_price().parameter_count
        total += cost_model.table_price(vocab_size=edited.vocab_size, kernel="fp32").parameter_count
        ranks = [block.repair_rank for block in edited.blocks if block.repair_rank is not None]
        total += cost_model.repair_price(ranks).parameter_count
        for block in edited.blocks:
            total += cost_model.block_price(block).parameter_count
            total += sum(
                cost_model.site_price(site, kernel="fp32", rank=site.rank).parameter_count for site in block.sites
            )
        assert total == edited.parameter_count
        assert cost_model.cost(recipe).disk_bytes == PARAMETER_BYTES * edited.parameter_count
        assert cost_model.cost(recipe).decode_s.value is None  # no device, no time

"""Workers hand the pivot form over whole: rows, coefficients and their order, bit for bit as made here."""

from pathlib import Path

import pytest
import torch

from edgeprune.compress import factor_blocks
from edgeprune.compress.apply import compress_model
from edgeprune.schema.events import NullProgress
from edgeprune.schema.recipe import SiteEdit
from tests.unit.compress.recipes import Tiny, no_edit
from tests.unit.compress.test_factor_blocks import Beside


@pytest.mark.parametrize("kernel", ["fp32", "int8_b32_a4"])
def test_workers_give_the_very_same_model(
    tiny: Tiny, kernel: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(factor_blocks, "_WORTH_FLOPS", 0.0)
    loaded, stats = tiny
    ranks = {"qkv": 50, "q": 50, "o": 40, "gate": 45, "up": 30, "down": 44}
    sites = tuple(
        SiteEdit(name=site.name, rank=ranks[site.role], form="pivot", kernel=kernel)
        for block in loaded.spec.blocks
        for site in block.sites
        if site.role in ranks
    )
    recipe, beside = no_edit(loaded, sites=sites), Beside()
    here, there = (
        compress_model(loaded, recipe, stats, progress=NullProgress(), executor=executor, scratch=tmp_path / "parts")
        for executor in (None, beside)
    )
    assert len(beside.payloads) == len(loaded.spec.blocks)
    expected, found = here.model.state_dict(), there.model.state_dict()
    assert found.keys() == expected.keys()
    assert any(name.endswith(".order") for name in found)
    assert all(torch.equal(found[name], expected[name]) for name in expected)

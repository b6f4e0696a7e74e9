"""Sites that share a right factor: the best pair of factors of their rows together, stored once whatever is done."""

import copy
import dataclasses
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from msgspec.structs import replace

from edgeprune.calibrate.site_weights import site_weights
from edgeprune.compress import factor_blocks
from edgeprune.compress.apply import compress_model
from edgeprune.compress.factored import FactoredLinear, SharedLinear
from edgeprune.compress.load import load
from edgeprune.compress.passes import linear
from edgeprune.compress.save import save_hf
from edgeprune.compress.share import share_right_factors
from edgeprune.compress.techniques.request import size
from edgeprune.compress.techniques.shared import shared_losses, shared_recipe
from edgeprune.errors import ModelError, UsageError
from edgeprune.intake.load import LoadedModel
from edgeprune.schema.events import NullProgress
from edgeprune.schema.model import SiteForm
from edgeprune.schema.recipe import KeepChannels, Recipe, SiteEdit
from edgeprune.shapes import edit_shapes
from tests.unit.compress.recipes import Tiny, no_edit, rank_request
from tests.unit.compress.test_factor_blocks import Beside

GROUPS = {"q": 20, "k": 20, "v": 20, "gate": 30, "up": 30}


def shared(loaded: LoadedModel, kernel: str = "fp32", *, blocks: tuple[int, ...] = (0, 2)) -> Recipe:
    """Attention's inputs and gate and up of some blocks, sharing; o of its own."""
    sites = []
    for block in loaded.spec.blocks:
        for site in block.sites if block.index in blocks else ():
            form: SiteForm = "shared" if site.role in ("k", "v", "up") else "factors"
            if site.role in GROUPS:
                sites.append(SiteEdit(name=site.name, rank=GROUPS[site.role], form=form, kernel=kernel))
    return no_edit(loaded, sites=tuple(sites))


def layers(loaded: LoadedModel, block: int, *roles: str) -> list[FactoredLinear]:
    module = loaded.adapter.blocks(loaded.model)[block]
    found = [loaded.adapter.site(module, role) for role in roles]  # type: ignore[arg-type]
    assert all(isinstance(layer, FactoredLinear) for layer in found)
    return found  # type: ignore[return-value]


@pytest.fixture(params=["llama", "qwen2"])
def model(request: pytest.FixtureRequest, prepare: Callable[[str], Tiny]) -> Tiny:
    return prepare(request.param)


def test_the_rows_together_lose_what_their_spectrum_leaves(tiny_llama: Tiny) -> None:
    """Without gradients: the error of [q; k; v] is the sum of the eigenvalues of its output covariance left out."""
    loaded, stats = tiny_llama
    bare = dataclasses.replace(stats, output_gram={})
    compressed = compress_model(loaded, shared(loaded), bare, progress=NullProgress())
    for roles, rank in ((("q", "k", "v"), 20), (("gate", "up"), 30)):
        dense = [loaded.adapter.site(loaded.adapter.blocks(loaded.model)[2], role).weight for role in roles]  # type: ignore[arg-type]
        W = torch.cat([weight.detach().double() for weight in dense])
        found = layers(compressed, 2, *roles)
        product = torch.cat([layer.product() for layer in found])
        gram = stats.gram["blocks.2." + ("attention_input" if "q" in roles else "mlp_input")]
        error = torch.trace((W - product) @ gram @ (W - product).T)
        values = torch.linalg.eigvalsh(W @ gram @ W.T).flip(0)
        assert float(error) == pytest.approx(float(values[rank:].sum()), rel=1e-4)
        assert torch.linalg.matrix_rank(product.float(), rtol=1e-5) == rank


def test_one_tensor_is_stored_counted_and_loaded_for_all(model: Tiny, tmp_path: Path) -> None:
    loaded, stats = model
    recipe = shared(loaded)
    compressed = compress_model(loaded, recipe, stats, progress=NullProgress())
    q, k, v = layers(compressed, 0, "q", "k", "v")
    assert isinstance(k, SharedLinear)
    assert q.right is k.right is v.right
    held = sum(parameter.numel() for parameter in compressed.model.parameters())
    assert held == edit_shapes(loaded.spec, recipe).parameter_count
    save_hf(compressed, recipe, tmp_path / "saved")
    again = load(tmp_path / "saved")
    first, *others = layers(again, 0, "q", "k", "v")
    assert all(other.right is first.right for other in others)
    before, after = compressed.model.state_dict(), again.model.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)


@pytest.mark.parametrize("kernel", ["fp16", "int8_b32_a4", "int4_b32_a4"])
def test_it_is_rounded_once_for_all(model: Tiny, kernel: str) -> None:
    loaded, stats = model
    recipe = replace(shared(loaded, kernel), rounding="gptq")
    compressed = compress_model(loaded, recipe, stats, progress=NullProgress())
    gate, up = layers(compressed, 2, "gate", "up")
    assert gate.right is up.right
    exact = compress_model(loaded, shared(loaded), stats, progress=NullProgress())
    assert not torch.equal(layers(exact, 2, "gate")[0].right, gate.right)


def test_narrowed_sites_share_as_well(tiny_llama: Tiny) -> None:
    loaded, stats = tiny_llama
    recipe = replace(shared(loaded), keep_channels=(KeepChannels(block=0, kept_count=64),))
    compressed = compress_model(loaded, recipe, stats, progress=NullProgress())
    gate, up = layers(compressed, 0, "gate", "up")
    assert gate.right is up.right
    assert gate.left.shape == up.left.shape == (64, 30)


def test_workers_give_the_very_same_model(model: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(factor_blocks, "_WORTH_FLOPS", 0.0)
    loaded, stats = model
    recipe = shared(loaded, "int8_b32_a4")
    here, there = (
        compress_model(loaded, recipe, stats, progress=NullProgress(), executor=executor, scratch=tmp_path / "parts")
        for executor in (None, Beside())
    )
    expected, found = here.model.state_dict(), there.model.state_dict()
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], expected[name]) for name in expected)


def test_copies_that_have_come_apart_are_found_out(tiny_llama: Tiny) -> None:
    loaded, stats = tiny_llama
    compressed = compress_model(loaded, shared(loaded), stats, progress=NullProgress())
    block, spec = compressed.adapter.blocks(compressed.model)[0], compressed.spec.blocks[0]
    (k,) = layers(compressed, 0, "k")
    k.right = torch.nn.Parameter(2.0 * k.right.detach(), requires_grad=False)
    with pytest.raises(ModelError, match=r"right factor of blocks\.0\.k is no longer that of blocks\.0\.q"):
        share_right_factors(compressed.adapter, block, spec.sites)


def test_sharing_costs_nothing_where_the_sites_are_alike_and_much_where_they_are_not(tiny_llama: Tiny) -> None:
    loaded, stats = tiny_llama
    gate, up = (site for site in site_weights(loaded, stats) if site.name in ("blocks.0.gate", "blocks.0.up"))
    assert shared_losses([gate, up]).min() >= 1.0
    twice = shared_losses([gate, gate])
    np.testing.assert_allclose(twice, 1.0, rtol=1e-6)
    # Rows in spaces orthogonal to each other: what one right factor holds of one site it holds of no other.
    half = gate.weight.shape[1] // 2
    eye = torch.eye(2 * half)
    apart = [
        dataclasses.replace(site, weight=rows, gram=eye.double(), output_gram=None)
        for site, rows in zip((gate, up), (eye[:half], eye[half:]), strict=True)
    ]
    ratio = shared_losses(apart)
    assert ratio[0] == pytest.approx(1.0)
    assert ratio[half // 2] == pytest.approx((2 * half - half // 2) / half)


@pytest.mark.parametrize("kept", [0.9, 0.8])
def test_the_technique_shares_where_it_loses_less(tiny_llama: Tiny, kept: float) -> None:
    """Gate and up are made one matrix, so that a right factor for both is one too many."""
    dense, stats = tiny_llama
    loaded = dataclasses.replace(dense, model=copy.deepcopy(dense.model))
    for block in loaded.adapter.blocks(loaded.model):
        gate = loaded.adapter.site(block, "gate").weight
        loaded.adapter.set_site(block, "up", linear(gate.detach().clone(), None))
    grams = {name: stats.output_gram[name.replace(".up", ".gate")] for name in stats.output_gram}
    stats = dataclasses.replace(stats, output_gram=grams)
    request = rank_request(loaded, stats, kept)
    recipe = shared_recipe(request)
    assert size(request, recipe) <= request.target + 0.01 * loaded.spec.parameter_count
    forms = {edit.name: edit.form for edit in recipe.sites}
    ups = [name for name in forms if name.endswith(".up")]
    assert ups
    assert {forms[name] for name in ups} == {"shared"}
    compressed = compress_model(loaded, recipe, stats, progress=NullProgress())
    assert compressed.spec.parameter_count == size(request, recipe)


def test_the_technique_needs_the_model(tiny_llama: Tiny) -> None:
    loaded, stats = tiny_llama
    request = rank_request(loaded, stats, 0.9)
    with pytest.raises(UsageError, match="needs statistics of the inputs"):
        shared_recipe(dataclasses.replace(request, stats=None))

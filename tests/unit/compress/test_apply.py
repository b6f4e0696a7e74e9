"""Recipes applied to whole tiny models."""

import copy
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from edgeprune.calibrate.capture import capture
from edgeprune.calibrate.statistics import CalibrationStats
from edgeprune.compress.apply import compress_model
from edgeprune.compress.factored import FactoredLinear
from edgeprune.errors import Cancelled, ModelError, UsageError
from edgeprune.intake.load import LoadedModel
from edgeprune.rounding import dequantized
from edgeprune.schema.events import Event, NullProgress
from edgeprune.schema.recipe import KeepChannels, Recipe, SiteEdit
from edgeprune.shapes import edit_shapes
from tests.unit.compress.recipes import Tiny, every_edit, no_edit


def _logits(loaded: LoadedModel, tokens: Tensor) -> Tensor:
    with torch.no_grad():
        return loaded.model(tokens.long()).logits


def _compress(tiny: Tiny, recipe: Recipe) -> LoadedModel:
    return compress_model(*(tiny[0], recipe, tiny[1]), progress=NullProgress())


def _loss(loaded: LoadedModel, tokens: Tensor) -> float:
    logits = _logits(loaded, tokens)[:, :-1]
    return float(nn.functional.cross_entropy(logits.flatten(0, 1), tokens[:, 1:].long().flatten()))


def test_every_edit_at_once_gives_the_predicted_shapes_and_leaves_the_input_alone(tiny: Tiny) -> None:
    loaded, stats = tiny
    before = {name: value.clone() for name, value in loaded.model.state_dict().items()}
    config = loaded.model.config.to_dict()
    reference = _logits(loaded, stats.tokens[:2])
    tokens = stats.tokens.clone()
    recipe = every_edit(loaded)
    edited = _compress(tiny, recipe)

    predicted = edit_shapes(loaded.spec, recipe)
    assert edited.spec.blocks == predicted.blocks
    assert edited.spec.parameter_count == predicted.parameter_count
    stored = sum(parameter.numel() for parameter in edited.model.parameters())
    assert stored == predicted.parameter_count < loaded.spec.parameter_count
    assert edited.block_indices == [0, 2]
    assert not any((parameter == 0).all() for parameter in edited.model.parameters())

    after = loaded.model.state_dict()
    assert after.keys() == before.keys()
    assert all(torch.equal(after[name], before[name]) for name in before)
    assert loaded.model.config.to_dict() == config
    assert torch.equal(_logits(loaded, stats.tokens[:2]), reference)
    assert torch.equal(stats.tokens, tokens)
    assert loaded.block_indices == [0, 1, 2]

    ids = torch.tensor([edited.tokenizer.encode("The judge read the contract aloud.").ids])
    assert _logits(edited, ids).shape == (1, ids.shape[1], 400)
    generated = edited.model.generate(ids, max_new_tokens=4, do_sample=False)
    assert generated.shape[1] > ids.shape[1]


def test_the_empty_recipe_gives_the_dense_model(tiny: Tiny) -> None:
    loaded, stats = tiny
    edited = _compress(tiny, no_edit(loaded))
    assert edited.model is not loaded.model
    assert edited.spec == loaded.spec
    assert torch.equal(_logits(edited, stats.tokens[:2]), _logits(loaded, stats.tokens[:2]))


def test_dropping_blocks_runs_the_others_in_order(tiny: Tiny) -> None:
    loaded, stats = tiny
    edited = _compress(tiny, no_edit(loaded, drop_blocks=(0, 2)))
    assert edited.block_indices == [1]
    assert len(edited.adapter.blocks(edited.model)) == 1
    assert edited.model.config.num_hidden_layers == 1
    kept, source = edited.adapter.blocks(edited.model)[0], loaded.adapter.blocks(loaded.model)[1]
    for role in loaded.adapter.roles:
        assert edited.adapter.site(kept, role).weight is loaded.adapter.site(source, role).weight
    step = edited.model(stats.tokens[:1, :8].long(), use_cache=True)
    assert len(step.past_key_values.layers) == 1


def test_a_part_alone_leaves_what_zeroed_outputs_of_the_other_would(tiny: Tiny) -> None:
    loaded, stats = tiny
    edited = _compress(tiny, no_edit(loaded, drop_attention=(0,), drop_mlp=(2,)))
    silenced = copy.deepcopy(loaded.model)
    for index, role in ((0, "o"), (2, "down")):
        site = loaded.adapter.site(loaded.adapter.blocks(silenced)[index], role)  # type: ignore[arg-type]
        for parameter in site.parameters():
            parameter.data = torch.zeros_like(parameter)
    tokens = stats.tokens[:2].long()
    assert torch.allclose(_logits(edited, tokens), silenced(tokens).logits, atol=1e-5)
    assert edited.spec.parameter_count == sum({id(p): p.numel() for p in edited.model.parameters()}.values())


def test_a_cache_has_no_entry_for_a_block_without_attention(tiny: Tiny) -> None:
    loaded, stats = tiny
    edited = _compress(tiny, no_edit(loaded, drop_attention=(0,)))
    tokens = stats.tokens[:1, :9].long()
    whole = edited.model(tokens).logits[:, -1]
    before = edited.model(tokens[:, :-1], use_cache=True)
    after = edited.model(tokens[:, -1:], past_key_values=before.past_key_values).logits[:, -1]
    assert before.past_key_values.get_seq_length() == 9
    assert torch.allclose(whole, after, atol=1e-5)


def test_rounding_holds_exactly_the_values_of_the_kernel(tiny: Tiny) -> None:
    loaded, _ = tiny
    names = {"blocks.0.o": "int4_b32_a4", "blocks.1.down": "int8_b64_a0", "blocks.2.up": "dynamic_int8"}
    sites = tuple(SiteEdit(name=name, kernel=kernel) for name, kernel in names.items())
    edited = _compress(tiny, no_edit(loaded, sites=sites, table_kernel="int4_b32_a4"))
    for name, kernel in names.items():
        _, index, role = name.split(".")
        weight = loaded.adapter.site(loaded.adapter.blocks(loaded.model)[int(index)], role).weight  # type: ignore[arg-type]
        found = edited.adapter.site(edited.adapter.blocks(edited.model)[int(index)], role)  # type: ignore[arg-type]
        expected = torch.from_numpy(dequantized(weight.detach().numpy(), kernel))
        assert torch.equal(found.weight, expected)
        assert not torch.equal(found.weight, weight)
    table = dequantized(loaded.adapter.embedding(loaded.model).weight.detach().numpy(), "int4_b32_a4")
    assert torch.equal(edited.adapter.embedding(edited.model).weight, torch.from_numpy(table))
    assert edited.adapter.is_tied(edited.model) == loaded.spec.is_tied


def test_rounded_factors_are_rounded_both(tiny: Tiny) -> None:
    loaded, _ = tiny
    edited = _compress(tiny, no_edit(loaded, sites=(SiteEdit(name="blocks.1.o", rank=16, kernel="int8_b32_a4"),)))
    site = edited.adapter.site(edited.adapter.blocks(edited.model)[1], "o")
    assert isinstance(site, FactoredLinear)
    for factor in (site.right, site.left):
        assert torch.equal(factor, torch.from_numpy(dequantized(factor.detach().numpy(), "int8_b32_a4")))
    exact = _compress(tiny, no_edit(loaded, sites=(SiteEdit(name="blocks.1.o", rank=16),)))
    unrounded = exact.adapter.site(exact.adapter.blocks(exact.model)[1], "o")
    assert isinstance(unrounded, FactoredLinear)
    error = (site.product() - unrounded.product()).norm() / unrounded.product().norm()
    assert 0.0 < float(error) < 0.02


def test_the_covariance_form_loses_less_than_plain_svd_on_the_calibration_text(tiny_llama: Tiny) -> None:
    loaded, stats = tiny_llama
    # The last block's sites: nothing after them bends the comparison.
    sites = [f"blocks.2.{role}" for role in ("gate", "up", "down", "o")]
    changes = {}
    for method in ("lowrank", "laser"):
        recipe = no_edit(loaded, sites=tuple(SiteEdit(name=name, rank=12, method=method) for name in sites))
        edited = _compress(tiny_llama, recipe)
        difference = _logits(edited, stats.tokens) - _logits(loaded, stats.tokens)
        changes[method] = float(difference.square().mean())
    assert changes["lowrank"] < changes["laser"]


def test_the_predicted_error_of_a_site_is_what_its_outputs_show(tiny: Tiny) -> None:
    from edgeprune.calibrate.rank_scores import lowrank_losses
    from edgeprune.calibrate.site_weights import site_weights

    loaded, stats = tiny
    site = next(entry for entry in site_weights(loaded, stats) if entry.name == "blocks.0.up")
    predicted = float(lowrank_losses(site.weight, site.gram)[10])
    edited = _compress(tiny, no_edit(loaded, sites=(SiteEdit(name="blocks.0.up", rank=10),)))
    seen: dict[str, Tensor] = {}
    for name, model in (("dense", loaded), ("edited", edited)):
        module = model.adapter.site(model.adapter.blocks(model.model)[0], "up")
        handle = module.register_forward_hook(lambda _m, _i, out, name=name: seen.__setitem__(name, out.detach()))
        _logits(model, stats.tokens)
        handle.remove()
    true = float((seen["dense"] - seen["edited"]).double().square().sum(-1).mean())
    assert true == pytest.approx(predicted, rel=1e-3)


def test_compensation_beats_slicing_on_the_model(tiny: Tiny) -> None:
    loaded, stats = tiny
    kept_count = loaded.spec.blocks[2].intermediate_size // 2
    edited = _compress(tiny, no_edit(loaded, keep_channels=(KeepChannels(block=2, kept_count=kept_count),)))
    up = edited.adapter.site(edited.adapter.blocks(edited.model)[2], "up")
    dense_block = loaded.adapter.blocks(loaded.model)[2]
    dense_up, dense_down = (loaded.adapter.site(dense_block, role) for role in ("up", "down"))
    kept = [int((dense_up.weight == row).all(1).nonzero()) for row in up.weight]  # type: ignore[union-attr, operator]
    assert kept == sorted(kept)
    sliced = _compress(tiny, no_edit(loaded, keep_channels=(KeepChannels(block=2, kept_count=kept_count),)))
    down = sliced.adapter.site(sliced.adapter.blocks(sliced.model)[2], "down")
    down.weight = nn.Parameter(dense_down.weight[:, kept])  # type: ignore[index]
    if dense_down.bias is not None:
        down.bias = dense_down.bias
    dense = _logits(loaded, stats.tokens)
    changes = [float((_logits(model, stats.tokens) - dense).square().mean()) for model in (edited, sliced)]
    # Channels of a random model are nearly independent: a tenth is what the others can take over.
    assert changes[0] < 0.95 * changes[1]


def test_statistics_are_measured_again_once_the_inputs_have_changed(tiny_llama: Tiny) -> None:
    loaded, stats = tiny_llama
    sites = (SiteEdit(name="blocks.2.down", rank=8),)
    edited = _compress(tiny_llama, no_edit(loaded, drop_blocks=(0,), sites=sites))
    # The same by hand, from statistics of the model without the block.
    shorter = _compress(tiny_llama, no_edit(loaded, drop_blocks=(0,)))
    fresh = capture(shorter, stats.tokens)
    from edgeprune.compress.ranks import factor_lowrank

    weight = loaded.adapter.site(loaded.adapter.blocks(loaded.model)[2], "down").weight
    assert isinstance(weight, Tensor)
    site = edited.adapter.site(edited.adapter.blocks(edited.model)[1], "down")
    assert isinstance(site, FactoredLinear)
    for source, is_equal in ((fresh, True), (stats, False)):
        factors = factor_lowrank(weight, source.gram["blocks.2.mlp_hidden"], 8)
        close = torch.allclose(site.product(), factors.left @ factors.right, rtol=1e-3, atol=1e-4)
        assert close is is_equal


def test_a_recipe_that_does_not_fit_is_refused_before_anything_is_done(tiny_llama: Tiny) -> None:
    loaded, _ = tiny_llama
    with pytest.raises(UsageError, match=r"blocks\.0\.k: rank 32 is not below the full rank"):
        _compress(tiny_llama, no_edit(loaded, sites=(SiteEdit(name="blocks.0.k", rank=32),)))
    with pytest.raises(UsageError, match="removes every block"):
        _compress(tiny_llama, no_edit(loaded, drop_blocks=(0, 1, 2)))
    with pytest.raises(UsageError, match="made for a model with hash"):
        _compress(tiny_llama, Recipe(model_hash="b" * 64, context_tokens=32))


@pytest.mark.parametrize("edit", ["rank", "channels"])
def test_statistics_that_are_not_finite_name_the_site(tiny_llama: Tiny, edit: str) -> None:
    loaded, stats = tiny_llama
    damaged = stats.gram["blocks.1.mlp_hidden"].clone()
    damaged[3, 5] = float("nan")
    broken: CalibrationStats = replace(stats, gram={**stats.gram, "blocks.1.mlp_hidden": damaged})
    recipe = (
        no_edit(loaded, sites=(SiteEdit(name="blocks.1.down", rank=8),))
        if edit == "rank"
        else no_edit(loaded, keep_channels=(KeepChannels(block=1, kept_count=32),))
    )
    with pytest.raises(ModelError, match=r"blocks\.1\.down"):
        compress_model(loaded, recipe, broken, progress=NullProgress())


def test_progress_is_told_and_may_cancel(tiny_llama: Tiny) -> None:
    class Listener(NullProgress):
        def __init__(self) -> None:
            self.events: list[Event] = []

        def emit(self, event: Event) -> None:
            self.events.append(event)

    listener = Listener()
    loaded, stats = tiny_llama
    compress_model(loaded, every_edit(loaded), stats, progress=listener)
    told = [event.message for event in listener.events]
    passes = [message.split(":")[0] for message in told if message.endswith("M parameters")]
    assert passes == ["blocks", "tokens", "channels", "ranks", "bits"]
    # The long passes tell each block.
    assert any(message.endswith("factored, 1 of 1") for message in told)
    assert sum("rounded" in message for message in told) == len(loaded.spec.blocks) - 1
    fractions = [event.done_fraction or 0.0 for event in listener.events]
    assert fractions == sorted(fractions)
    assert fractions[-1] == 1.0

    class Impatient(NullProgress):
        def raise_if_cancelled(self) -> None:
            raise Cancelled("interrupted")

    with pytest.raises(Cancelled):
        compress_model(loaded, every_edit(loaded), stats, progress=Impatient())


def test_small_edits_cost_little_loss(tiny: Tiny) -> None:
    loaded, stats = tiny
    sites = tuple(
        SiteEdit(name=site.name, kernel="int8_b32_a4") for block in loaded.spec.blocks for site in block.sites
    )
    edited = _compress(tiny, no_edit(loaded, sites=sites, table_kernel="int8_b32_a4"))
    assert _loss(edited, stats.tokens) == pytest.approx(_loss(loaded, stats.tokens), rel=0.01)

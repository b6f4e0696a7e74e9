"""Output projections solved for again: nothing to gain changes nothing, and what edits broke is mended."""

from pathlib import Path

import pytest
import torch
from msgspec.structs import replace

from edgeprune.calibrate.capture import capture
from edgeprune.calibrate.loss import hidden_states
from edgeprune.calibrate.statistics import CalibrationStats
from edgeprune.compress.apply import compress_model
from edgeprune.compress.refit import ridge
from edgeprune.intake.load import LoadedModel, load_model
from edgeprune.schema.events import NullProgress
from edgeprune.schema.recipe import KeepChannels, KeepTokens, Recipe, SiteEdit
from tests.tiny import write_tiny_gpt2, write_tiny_llama

WINDOWS = torch.randint(0, 512, (96, 32), generator=torch.Generator().manual_seed(2), dtype=torch.int32)


@pytest.fixture(params=["llama", "gpt2"])
def model(request: pytest.FixtureRequest, tmp_path: Path) -> LoadedModel:
    if request.param == "gpt2":
        return load_model(write_tiny_gpt2(tmp_path / "model", n_layer=4))
    return load_model(write_tiny_llama(tmp_path / "model", num_hidden_layers=4))


def statistics(loaded: LoadedModel) -> CalibrationStats:
    return capture(loaded, WINDOWS, gradient_tokens=0, progress=None)


def built(loaded: LoadedModel, recipe: Recipe, stats: CalibrationStats) -> LoadedModel:
    return compress_model(loaded, recipe, stats, progress=NullProgress())


@torch.no_grad()
def error(loaded: LoadedModel, dense: LoadedModel) -> float:
    """Of the last hidden states on the calibration windows; nothing random models say of random text carries over."""
    expected = hidden_states(dense, WINDOWS.long())
    return float((hidden_states(loaded, WINDOWS.long()) - expected).square().sum() / expected.square().sum())


def test_the_ridge_gives_the_regression_and_keeps_what_no_input_tells() -> None:
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(200, 6, dtype=torch.float64, generator=generator)
    inputs[:, 5] = 0.0
    truth, start = (torch.randn(3, 6, dtype=torch.float64, generator=generator) for _ in range(2))
    gram, cross = inputs.T @ inputs / 200, truth @ inputs.T @ inputs / 200
    found = ridge(gram, cross, start, share=1e-12)
    assert torch.allclose(found[:, :5], truth[:, :5], atol=1e-6)
    assert torch.allclose(found[:, 5], start[:, 5], atol=1e-6)


def test_a_model_without_edits_stays_as_it_is(model: LoadedModel) -> None:
    recipe = Recipe(model_hash=model.spec.model_hash, context_tokens=32, refit=True)
    assert error(built(model, recipe, statistics(model)), model) < 1e-9


@pytest.mark.parametrize("edit", ["channels", "ranks", "attention", "tokens"])
def test_what_edits_broke_is_mended_with_the_same_shapes(model: LoadedModel, edit: str) -> None:
    stats = statistics(model)
    empty = Recipe(model_hash=model.spec.model_hash, context_tokens=32)
    width = model.spec.blocks[0].intermediate_size
    half = tuple(KeepChannels(block=block, kept_count=width // 2, compensate=False) for block in (0, 1, 2))
    sites = [site for block in model.spec.blocks for site in block.sites if site.role in ("o", "down")]
    recipe = {
        "channels": replace(empty, keep_channels=half),
        "ranks": replace(empty, sites=tuple(SiteEdit(name=site.name, rank=24, form="pivot") for site in sites)),
        "attention": replace(empty, drop_attention=(1,), drop_mlp=(2,)),
        "tokens": replace(empty, keep_channels=half, keep_tokens=KeepTokens(kept_count=480)),
    }[edit]
    before = built(model, recipe, stats)
    after = built(model, replace(recipe, refit=True), stats)
    assert after.spec == before.spec
    if edit == "tokens":
        return  # other tokens, other hidden states: that it is built at all is what this case is for
    assert error(after, model) < 0.95 * error(before, model)

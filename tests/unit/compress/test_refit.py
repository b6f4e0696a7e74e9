"""Output projections solved for again: nothing to gain changes nothing, and what edits broke is mended."""

from pathlib import Path

import pytest
import torch
from msgspec.structs import replace

from edgeprune.calibrate.capture import capture
from edgeprune.calibrate.loss import hidden_states
from edgeprune.calibrate.statistics import CalibrationStats
from edgeprune.compress.apply import compress_model
from edgeprune.compress.least_squares import Sample, best_change
from edgeprune.intake.load import LoadedModel, load_model
from edgeprune.schema.events import NullProgress
from edgeprune.schema.recipe import KeepChannels, KeepTokens, Recipe, Repair, SiteEdit
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


def sample(change: torch.Tensor, *, held: torch.Tensor, noise: float = 0.0) -> Sample:
    """Of inputs whose last one is never there, with errors that these changes would take off."""
    generator = torch.Generator().manual_seed(0)
    found = Sample()
    for part, is_held in ((change, False), (held, True)):
        inputs = torch.randn(200, change.shape[1], dtype=torch.float64, generator=generator)
        inputs[:, -1] = 0.0
        errors = inputs @ part.T
        errors += noise * torch.randn(errors.shape, dtype=torch.float64, generator=generator)
        found.add(inputs, errors, torch.ones(200, dtype=torch.float64), is_held=is_held)
    return found


CHANGE = torch.randn(3, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


def test_the_change_is_the_regression_and_leaves_alone_what_no_input_tells() -> None:
    found = best_change(sample(CHANGE, held=CHANGE))
    assert found is not None
    assert torch.allclose(found[:, :5], CHANGE[:, :5], atol=1e-3)
    assert torch.equal(found[:, 5], torch.zeros(3, dtype=torch.float64))


def test_what_other_tokens_speak_against_is_not_changed() -> None:
    assert best_change(sample(CHANGE, held=-CHANGE)) is None
    alone = Sample()
    alone.add(torch.ones(1, 6), torch.ones(1, 3), torch.ones(1, dtype=torch.float64), is_held=None)
    assert best_change(alone) is None, "a single token judges nothing"


def test_the_more_noise_the_smaller_the_change() -> None:
    clean, noisy = (best_change(sample(CHANGE, held=CHANGE, noise=noise)) for noise in (0.1, 20.0))
    assert clean is not None
    assert noisy is None or float(noisy.norm()) < float(clean.norm())


def test_weights_say_which_tokens_count() -> None:
    inputs = torch.ones(4, 1)
    errors = torch.tensor([[1.0], [-1.0], [1.0], [-1.0]])
    found = Sample()
    for is_held in (False, True):
        found.add(inputs, errors, torch.tensor([1.0, 0.0, 1.0, 0.0], dtype=torch.float64), is_held=is_held)
    change = best_change(found)
    assert change is not None
    assert float(change) == pytest.approx(1.0, abs=1e-3)


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


def test_too_few_tokens_spoil_nothing(model: LoadedModel) -> None:
    """Forty tokens for projections of up to 176 inputs: a least-squares fit to them alone would follow noise."""
    empty = Recipe(model_hash=model.spec.model_hash, context_tokens=32)
    width = model.spec.blocks[0].intermediate_size
    recipe = replace(
        empty,
        keep_channels=tuple(KeepChannels(block=block, kept_count=width // 2, compensate=False) for block in (0, 1, 2)),
    )
    few = capture(model, WINDOWS[:1], gradient_tokens=0, progress=None)
    before, after = (built(model, replace(recipe, refit=refit), few) for refit in (False, True))
    assert error(after, model) < 1.02 * error(before, model)


def test_an_operator_in_the_place_of_blocks_is_fitted_again_with_what_is_around_it(model: LoadedModel) -> None:
    stats = statistics(model)
    recipe = Recipe(
        model_hash=model.spec.model_hash, context_tokens=32, drop_blocks=(1,), repairs=(Repair(block=1, rank=8),)
    )
    before, after = (built(model, replace(recipe, refit=refit), stats) for refit in (False, True))
    assert after.spec == before.spec
    assert error(after, model) < 0.95 * error(before, model)

"""ASVD and SVD-LLM on matrices whose answer is known, on real sites, and as techniques."""

import os
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from edgeprune.calibrate.capture import capture
from edgeprune.calibrate.corpus import encode, pack_windows, separator_token
from edgeprune.calibrate.documents import read_documents
from edgeprune.calibrate.loss import measure_loss
from edgeprune.calibrate.rank_scores import lowrank_losses
from edgeprune.calibrate.site_weights import output_error, site_weights
from edgeprune.compress import asvd_cache
from edgeprune.compress.apply import compress_model
from edgeprune.compress.asvd import factor_asvd
from edgeprune.compress.asvd_sensitivity import SHARES, rank_at, sensitivities, shares_below
from edgeprune.compress.laser import factor_laser
from edgeprune.compress.ranks import factor_lowrank
from edgeprune.compress.svdllm import factor_svdllm
from edgeprune.compress.techniques.asvd import threshold_recipe
from edgeprune.compress.techniques.request import Request
from edgeprune.compress.techniques.table import technique_recipe
from edgeprune.errors import ModelError, UsageError
from edgeprune.intake.load import load_model
from edgeprune.schema.events import NullProgress
from edgeprune.schema.recipe import Recipe, SiteEdit
from edgeprune.schema.scores import Scores
from edgeprune.shapes import count_parameters, edit_shapes
from tests.unit.compress.recipes import NO_SUMMARY, Tiny, no_edit

LAB = os.environ.get("EDGEPRUNE_LAB")


def _inputs(width: int) -> Tensor:
    """[tokens, width] with channels of uneven size that go together."""
    generator = torch.Generator().manual_seed(0)
    mixing = torch.randn(width, width, generator=generator, dtype=torch.float64)
    mixing *= torch.logspace(0, -2, width, dtype=torch.float64)
    return torch.randn(4 * width, width, generator=generator, dtype=torch.float64) @ mixing.T


def _weight(out_features: int, in_features: int) -> Tensor:
    return torch.randn(out_features, in_features, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


@pytest.mark.parametrize(("out_features", "in_features"), [(24, 40), (40, 24), (32, 32)])
def test_whitening_and_the_output_covariance_give_the_same_matrix(out_features: int, in_features: int) -> None:
    W, X = _weight(out_features, in_features), _inputs(in_features)
    gram = X.T @ X / len(X)
    for rank in (1, 7, 20):
        ours, theirs = factor_lowrank(W, gram, rank), factor_svdllm(W, gram, rank)
        assert theirs.right.shape == (rank, in_features)
        assert theirs.left.shape == (out_features, rank)
        torch.testing.assert_close(theirs.left @ theirs.right, ours.left @ ours.right, rtol=1e-6, atol=1e-6)


def test_whitening_of_inputs_that_excite_few_directions_is_finite_and_exact_on_them() -> None:
    W, X = _weight(24, 40), _inputs(40)[:5]
    factors = factor_svdllm(W, X.T @ X / 5, 8)
    product = factors.left @ factors.right
    assert torch.isfinite(product).all()
    error = (X @ (W - product).T).norm() / (X @ W.T).norm()
    assert float(error) < 1e-3
    silent = factor_svdllm(W, torch.zeros(40, 40, dtype=torch.float64), 8)
    assert torch.isfinite(silent.left @ silent.right).all()


def test_scaled_svd_of_a_known_matrix() -> None:
    weight = torch.diag(torch.tensor([3.0, 2.0, 1.0], dtype=torch.float64))
    magnitudes = torch.tensor([1.0, 1.0, 100.0], dtype=torch.float64)
    by_root = factor_asvd(weight, magnitudes, 1)
    # 1 * 100^0.5 = 10 beats 3 and 2.
    torch.testing.assert_close(by_root.left @ by_root.right, torch.diag(torch.tensor([0.0, 0, 1])).double())
    plain = factor_asvd(weight, magnitudes, 1, alpha=0.0)
    torch.testing.assert_close(plain.left @ plain.right, torch.diag(torch.tensor([3.0, 0, 0])).double())


def test_scaling_lies_between_plain_svd_and_whitening() -> None:
    W, X = _weight(24, 40), _inputs(40)
    X = X * torch.logspace(1, -1, 40, dtype=torch.float64)
    gram = X.T @ X / len(X)
    made = (factor_svdllm(W, gram, 8), factor_asvd(W, X.abs().mean(dim=0), 8), factor_laser(W, 8))
    errors = [output_error(W - factors.left @ factors.right, gram) for factors in made]
    assert errors == sorted(errors)
    assert errors[0] < 0.9 * errors[1] < 0.9 * errors[2]


@pytest.mark.parametrize("method", ["asvd", "svdllm"])
def test_a_recipe_builds_the_baselines_factors(tiny: Tiny, method: str) -> None:
    loaded, stats = tiny
    edit = SiteEdit(name="blocks.1.down", rank=8, method=method)  # type: ignore[arg-type]
    model = compress_model(loaded, no_edit(loaded, sites=(edit,)), stats, progress=NullProgress())
    module = loaded.adapter.site(loaded.adapter.blocks(loaded.model)[1], "down")
    key = "blocks.1.mlp_hidden"
    weight = module.weight.detach()
    expected = (
        factor_asvd(weight, stats.mean_absolute[key], 8)
        if method == "asvd"
        else factor_svdllm(weight, stats.gram[key], 8)
    )
    found = loaded.adapter.site(loaded.adapter.blocks(model.model)[1], "down")
    torch.testing.assert_close(found.product(), expected.left @ expected.right, rtol=1e-4, atol=1e-5)
    assert (found.bias is None) == (module.bias is None)


def test_statistics_without_magnitudes_are_refused(tiny_llama: Tiny) -> None:
    loaded, stats = tiny_llama
    recipe = no_edit(loaded, sites=(SiteEdit(name="blocks.1.down", rank=8, method="asvd"),))
    with pytest.raises(ModelError, match=r"blocks\.1\.down .* no magnitudes .* calibrate this model again"):
        compress_model(loaded, recipe, replace(stats, mean_absolute={}), progress=NullProgress())


def test_whitening_keeps_one_share_of_every_site(tiny_llama: Tiny) -> None:
    technique = "svdllm"
    spec = tiny_llama[0].spec
    dense = count_parameters(spec)
    weights = sum(site.in_features * site.out_features for block in spec.blocks for site in block.sites)
    target = 1 - 0.4 * weights / dense
    recipe = _recipe(tiny_llama, technique, target)
    sites = {site.name: site for block in spec.blocks for site in block.sites}
    assert {edit.name for edit in recipe.sites} == set(sites)
    for edit in recipe.sites:
        site = sites[edit.name]
        assert edit.method == technique
        assert edit.rank == int(0.6 * site.in_features * site.out_features / (site.in_features + site.out_features))
    assert edit_shapes(spec, recipe).parameter_count == pytest.approx(target * dense, rel=0.02)
    assert _recipe(tiny_llama, technique, 1.0).sites == ()
    with pytest.raises(UsageError, match=rf"{technique} alone cannot keep .* smallest model keeps \d"):
        _recipe(tiny_llama, technique, 0.5 * (1 - weights / dense))


def test_one_threshold_gives_each_site_the_least_share_below_it(tiny_llama: Tiny) -> None:
    spec = tiny_llama[0].spec
    sites = [site for block in spec.blocks for site in block.sites]
    # The first site loses nothing at any share, the second all at every one, the others the less the more is kept.
    losses = {site.name: tuple(1.0 - share for share in SHARES) for site in sites}
    losses[sites[0].name] = (0.0,) * len(SHARES)
    losses[sites[1].name] = (9.0,) * len(SHARES)
    shares = shares_below(losses, 0.45)
    assert shares[sites[0].name] == SHARES[0]
    assert shares[sites[1].name] is None
    assert {shares[site.name] for site in sites[2:]} == {0.6}
    dense = count_parameters(spec)
    empty = no_edit(tiny_llama[0], technique="asvd")
    sizes = []
    for kept in (0.9, 0.8, 0.6):
        request = Request(spec=spec, scores=NO_SCORES, arrays={}, target=round(kept * dense), empty=empty)
        recipe = threshold_recipe(request, losses)
        sizes.append(edit_shapes(spec, recipe).parameter_count)
        assert sizes[-1] <= request.target
        ranks = {edit.name: edit.rank for edit in recipe.sites}
        assert ranks[sites[0].name] == rank_at(sites[0], SHARES[0])
        assert sites[1].name not in ranks
    assert sizes == sorted(sizes, reverse=True)
    assert sizes[0] > 0.8 * dense, "a threshold that keeps more was there to be found"


def test_a_site_is_measured_as_its_factors_alone_make_the_model(tiny: Tiny) -> None:
    loaded, stats = tiny
    before = {name: value.clone() for name, value in loaded.model.state_dict().items()}
    found = sensitivities(loaded, replace(stats, tokens=stats.tokens[:3]), progress=NullProgress())
    for name, value in loaded.model.state_dict().items():
        assert torch.equal(value, before[name]), name
    site = loaded.spec.blocks[1].sites[-1]
    rank = rank_at(site, 0.3)
    recipe = no_edit(loaded, sites=(SiteEdit(name=site.name, rank=rank, method="asvd"),))
    alone = compress_model(loaded, recipe, stats, progress=NullProgress())
    nats, scored = measure_loss(alone, stats.tokens[:3].tolist())
    assert found[site.name][2] == pytest.approx(nats / scored, rel=1e-4)
    assert set(found) == {site.name for block in loaded.spec.blocks for site in block.sites}


def test_the_technique_measures_and_refuses_what_it_cannot_reach(tiny_llama: Tiny) -> None:
    spec = tiny_llama[0].spec
    dense = count_parameters(spec)
    recipe = _recipe(tiny_llama, "asvd", 0.8, is_measured=True)
    assert {edit.method for edit in recipe.sites} == {"asvd"}
    assert 0.7 * dense < edit_shapes(spec, recipe).parameter_count <= 0.8 * dense
    assert _recipe(tiny_llama, "asvd", 1.0).sites == ()
    with pytest.raises(UsageError, match=r"asvd alone cannot keep .* smallest model keeps \d"):
        _recipe(tiny_llama, "asvd", 0.1)
    with pytest.raises(UsageError, match="needs the model's weights"):
        _recipe(tiny_llama, "asvd", 0.8)


def test_measurements_are_made_once_for_every_size(
    tiny_llama: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded, stats = tiny_llama
    first = _recipe(tiny_llama, "asvd", 0.8, is_measured=True, cache=tmp_path)
    (kept,) = tmp_path.iterdir()

    def refuse(*arguments: object, **options: object) -> None:
        raise AssertionError("measured again")

    with monkeypatch.context() as patch:
        patch.setattr(asvd_cache, "sensitivities", refuse)
        assert _recipe(tiny_llama, "asvd", 0.8, is_measured=True, cache=tmp_path) == first
        smaller = _recipe(tiny_llama, "asvd", 0.6, is_measured=True, cache=tmp_path)
        assert smaller == _recipe(tiny_llama, "asvd", 0.6, is_measured=True, cache=tmp_path)
        assert len(smaller.sites) > len(first.sites)
        # Another text is another measurement.
        other = replace(stats, tokens=stats.tokens.flip(1).contiguous())
        with pytest.raises(AssertionError, match="measured again"):
            asvd_cache.known_sensitivities(loaded, other, tmp_path, progress=NullProgress())
        kept.write_bytes(kept.read_bytes()[:100])
        with pytest.raises(AssertionError, match="measured again"):
            _recipe(tiny_llama, "asvd", 0.8, is_measured=True, cache=tmp_path)


def test_a_cache_that_cannot_be_written_costs_the_measurement_alone(tiny_llama: Tiny, tmp_path: Path) -> None:
    occupied = tmp_path / "file"
    occupied.write_text("no folder")
    expected = _recipe(tiny_llama, "asvd", 0.8, is_measured=True)
    assert _recipe(tiny_llama, "asvd", 0.8, is_measured=True, cache=occupied) == expected
    assert occupied.read_text() == "no folder"


NO_SCORES = Scores(model_hash="", seed=0, calibration=NO_SUMMARY, dense_losses=(), kernels=("fp32",), rank_methods=())


def _recipe(tiny: Tiny, technique: str, kept: float, *, is_measured: bool = False, cache: Path | None = None) -> Recipe:
    """Neither technique reads scores."""
    loaded, stats = tiny if is_measured else (None, None)
    return technique_recipe(
        tiny[0].spec,
        technique,
        kept,
        scores=NO_SCORES,
        arrays={},
        context_tokens=32,
        loaded=loaded,
        stats=stats,
        cache=cache,
    )


@pytest.mark.slow
@pytest.mark.lab
@pytest.mark.skipif(LAB is None, reason="EDGEPRUNE_LAB names no lab folder")
def test_on_real_sites_the_forms_agree_and_the_tail_is_the_error() -> None:
    assert LAB is not None
    loaded = load_model(Path(LAB) / "model")
    documents = encode(loaded.tokenizer, read_documents([Path(LAB) / "text" / "medicine.calib.jsonl"], render=str))
    separator = separator_token(loaded.spec)
    windows = pack_windows(documents, separator=separator, window_tokens=256, limit_tokens=4096)
    stats = capture(loaded, windows, gradient_tokens=0)
    for site in site_weights(loaded, stats):
        if site.block not in (0, 15):
            continue
        out_features, in_features = site.weight.shape
        rank = int(0.8 * out_features * in_features / (out_features + in_features))
        ours = factor_lowrank(site.weight, site.gram, rank)
        theirs = factor_svdllm(site.weight, site.gram, rank)
        product = ours.left @ ours.right
        # As outputs: the inputs of some sites leave directions empty, in which any matrix is as good.
        difference = output_error(theirs.left @ theirs.right - product, site.gram)
        assert difference < 1e-12 * output_error(product, site.gram), site.name
        error = output_error(site.weight.double() - product, site.gram)
        assert float(lowrank_losses(site.weight, site.gram)[rank]) == pytest.approx(error, rel=1e-4), site.name

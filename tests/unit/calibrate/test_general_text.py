"""Losses on general text: the errors of edits fitted to the domain, under the general text's moments."""

import numpy as np
import pytest
import torch
from torch import Tensor

from edgeprune.calibrate.capture import capture
from edgeprune.calibrate.channel_scores import channel_errors_on, channel_order, compensated_down
from edgeprune.calibrate.general_text import general_moment, general_text
from edgeprune.calibrate.kernel_scores import KernelScorer
from edgeprune.calibrate.nearest import rounded
from edgeprune.calibrate.rank_scores import factored_weights, general_rank_losses, rank_losses
from edgeprune.calibrate.score import score_model
from edgeprune.calibrate.selection import Selection, exchanged_sites, loss_increase, prepare_selection
from edgeprune.calibrate.site_weights import SiteWeight, output_error, site_weights
from edgeprune.calibrate.statistics import CalibrationStats, input_key
from edgeprune.calibrate.token_bytes import token_byte_lengths
from edgeprune.intake.load import LoadedModel
from edgeprune.predict.general import general_quality_model
from edgeprune.schema.events import NullProgress
from edgeprune.schema.recipe import Recipe, SiteEdit
from edgeprune.schema.scores import CalibrationSummary
from tests.tiny import TINY_TEXT
from tests.unit.calibrate.test_site_scores import moment, site
from tests.unit.search.builders import make_scores, make_spec

KERNELS = ("fp32", "int8_b32_a4", "int4_b32_a4")


def elsewhere(one: SiteWeight, gram: Tensor) -> SiteWeight:
    return SiteWeight(
        name=one.name,
        block=one.block,
        weight=one.weight,
        gram=gram,
        activation_noise=one.activation_noise,
        output_weight=3.0,
    )


@pytest.mark.parametrize("shape", [(24, 40), (40, 24), (32, 32)])
def test_rank_losses_there_are_the_errors_of_the_domains_factors(shape: tuple[int, int]) -> None:
    one = site(*shape)
    there = elsewhere(one, moment(shape[1], seed=9))
    for method, losses in general_rank_losses(one, there):
        assert len(losses) == min(shape) + 1
        for rank in (1, 5, 17):
            change = factored_weights(one, rank, method).double() - one.weight.double()
            assert losses[rank] == pytest.approx(0.5 * 3.0 * output_error(change, there.gram), rel=1e-4)


def test_on_the_same_text_both_losses_are_the_same() -> None:
    one = site(24, 40)
    here = dict(rank_losses(one))
    for method, losses in general_rank_losses(one, one):
        np.testing.assert_allclose(losses, here[method], rtol=1e-6, atol=1e-12)
    for scorer in (KernelScorer(KERNELS, "nearest"), KernelScorer(KERNELS, "gptq")):
        first, second = scorer.losses(one, elsewhere(one, one.gram))
        np.testing.assert_allclose(first, scorer.losses(one)[0])
        np.testing.assert_allclose(second, 1.5 * first)


def test_channel_errors_there_are_those_of_the_domains_compensation(
    llama: LoadedModel, stats: CalibrationStats
) -> None:
    (down,) = [one for one in site_weights(llama, stats) if one.name == "blocks.1.down"]
    order = channel_order(stats, 1, down.weight)
    other = moment(96, seed=4)
    errors = channel_errors_on(stats, 1, down.weight, order, (32, 64), other)
    for count, error in zip((32, 64), errors, strict=True):
        kept = torch.from_numpy(np.sort(order[:count]))
        change = compensated_down(stats, 1, down.weight, kept).double() - down.weight.double()
        assert error == pytest.approx(output_error(change, other), rel=1e-9)


def test_where_a_bias_takes_the_domains_mean_the_general_error_is_around_that_mean(
    gpt2: LoadedModel, windows: Tensor
) -> None:
    domain, general = capture(gpt2, windows[:8]), capture(gpt2, windows[8:16])
    key = "blocks.0.mlp_input"
    inputs = []
    module = gpt2.adapter.site(gpt2.adapter.blocks(gpt2.model)[0], "up")
    handle = module.register_forward_pre_hook(lambda _module, args: inputs.append(args[0].detach().double()))
    try:
        gpt2.model(windows[8:16].long())
    finally:
        handle.remove()
    shifted = inputs[0].reshape(-1, inputs[0].shape[-1]) - domain.mean[key]
    expected = shifted.T @ shifted / len(shifted)
    torch.testing.assert_close(general_moment(general, domain, key), expected, rtol=1e-4, atol=1e-6)
    selection = select(gpt2, TINY_TEXT)
    made = general_text(gpt2, domain, general, selection).sites["blocks.0.up"]
    torch.testing.assert_close(made.gram, expected, rtol=1e-4, atol=1e-6)
    assert input_key(made.name) == key


def select(loaded: LoadedModel, text: str) -> Selection:
    return prepare_selection(
        loaded,
        [text],
        [loaded.tokenizer.encode(text).ids],
        byte_lengths=token_byte_lengths(loaded.tokenizer),
        window_tokens=64,
        limit_tokens=2000,
        progress=NullProgress(),
    )


def test_scored_losses_add_up_to_what_edits_cost_on_general_text(
    llama: LoadedModel, stats: CalibrationStats, windows: Tensor
) -> None:
    general_stats = capture(llama, windows[16:].flip(1))
    half = len(TINY_TEXT) // 2
    domain, general = select(llama, TINY_TEXT[:half]), select(llama, TINY_TEXT[half:])
    scores, arrays = score_model(
        llama,
        stats,
        kernels=KERNELS,
        rounding="nearest",
        domain=domain,
        general=general,
        calibration=CalibrationSummary(
            domain_token_count=1, general_token_count=1, document_count=1, stability=None, sequence_tokens=1,
            data_hash="", edits_hash="", general_source="",
        ),
        seed=0,
        progress=NullProgress(),
        general_stats=general_stats,
    )  # fmt: skip
    model = general_quality_model(llama.spec, scores, arrays)
    assert model is not None
    assert model.dense_loss_nats == pytest.approx(general.loss)
    # Every site at int4 is what the kernels' losses were corrected by, so the sum is what that really costs there.
    names = [one.name for block in llama.spec.blocks for one in block.sites]
    recipe = Recipe(
        model_hash=llama.spec.model_hash,
        technique="auto",
        context_tokens=64,
        seed=0,
        sites=tuple(SiteEdit(name=name, kernel="int4_b32_a4") for name in names),
    )
    weights = {one.name: rounded(one.weight, "int4_b32_a4") for one in site_weights(llama, stats)}
    with exchanged_sites(llama, weights):
        really = loss_increase(llama, general, progress=NullProgress())
    assert model.loss_increase_nats(recipe) == pytest.approx(really, rel=1e-6)
    assert scores.depth
    assert all(option.general_loss_increase_nats is not None for option in scores.depth)
    assert all(option.general_loss_increase_nats is not None for option in scores.vocabulary)
    keys = {key.removeprefix("general/") for key in arrays if key.startswith("general/")}
    assert keys == {key for key in arrays if "_loss/" in key and not key.startswith("general/")}


def test_scores_without_general_losses_give_no_model() -> None:
    spec = make_spec()
    assert general_quality_model(spec, *make_scores(spec)) is None

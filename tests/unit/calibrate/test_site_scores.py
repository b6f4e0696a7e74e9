import numpy as np
import pytest
import torch
from torch import Tensor

from edgeprune.calibrate.channel_scores import channel_losses, channel_menu, channel_order, compensated_down
from edgeprune.calibrate.kernel_scores import KernelScorer
from edgeprune.calibrate.matrix_rounding import round_matrix
from edgeprune.calibrate.rank_correction import correct_rank_losses, depth_group
from edgeprune.calibrate.rank_scores import factored_weights, laser_losses, lowrank_losses, rank_losses
from edgeprune.calibrate.selection import exchanged_sites, loss_increase, prepare_selection
from edgeprune.calibrate.site_weights import SiteWeight, output_error, site_weights
from edgeprune.calibrate.statistics import CalibrationStats
from edgeprune.calibrate.token_bytes import token_byte_lengths
from edgeprune.intake.load import LoadedModel
from edgeprune.schema.events import NullProgress
from edgeprune.shapes import break_even_rank
from tests.tiny import TINY_TEXT


def moment(width: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    samples = torch.randn(4 * width, width, generator=generator, dtype=torch.float64)
    samples *= torch.logspace(0, -2, width, dtype=torch.float64)
    return samples.T @ samples / len(samples)


def site(out_features: int, in_features: int) -> SiteWeight:
    weight = torch.randn(out_features, in_features, generator=torch.Generator().manual_seed(5))
    noise = torch.full((2, -(-in_features // 32)), 1e-4, dtype=torch.float64)
    return SiteWeight(
        name="blocks.0.q",
        block=0,
        weight=weight,
        gram=moment(in_features),
        activation_noise=noise,
        output_weight=2.0,
    )


@pytest.mark.parametrize("shape", [(24, 40), (40, 24), (32, 32)])
def test_predicted_rank_losses_are_the_errors_of_the_real_factors(shape: tuple[int, int]) -> None:
    one = site(*shape)
    for method, losses in (
        ("lowrank", lowrank_losses(one.weight, one.gram)),
        ("laser", laser_losses(one.weight, one.gram)),
    ):
        assert len(losses) == min(shape) + 1
        assert float(losses[-1]) == 0
        for rank in (1, 5, 17):
            change = factored_weights(one, rank, method).double() - one.weight.double()
            assert float(losses[rank]) == pytest.approx(output_error(change, one.gram), rel=1e-4)


def test_output_covariance_never_loses_more_than_plain_svd() -> None:
    one = site(24, 40)
    assert bool((lowrank_losses(one.weight, one.gram) <= laser_losses(one.weight, one.gram) + 1e-9).all())


def test_rank_losses_of_a_known_matrix() -> None:
    weight = torch.diag(torch.tensor([3.0, 2.0, 1.0]))
    gram = torch.diag(torch.tensor([1.0, 1.0, 100.0], dtype=torch.float64))
    assert lowrank_losses(weight, gram).tolist() == pytest.approx([113, 13, 4, 0])
    assert laser_losses(weight, gram).tolist() == pytest.approx([113, 104, 100, 0])


def test_kernel_losses_grow_with_coarseness_and_count_activation_rounding() -> None:
    kernels = ("fp32", "fp16", "int8_b32_a0", "int8_b32_a4", "int4_b32_a0", "int4_b128_a0")
    losses = KernelScorer(kernels, "nearest").losses(site(64, 128))[0]
    assert losses[0] == 0
    assert np.all(np.diff(losses) > 0)


def test_kernel_losses_are_told_for_the_rounding_that_compression_does() -> None:
    one = site(256, 128)
    (nearest,), (expected,) = (KernelScorer(("int4_b32_a0",), method).losses(one) for method in ("nearest", "gptq"))
    change = round_matrix(one.weight, "int4_b32_a0", one.gram) - one.weight
    really = 0.5 * one.output_weight * output_error(change, one.gram)
    assert really < 0.8 * nearest[0]
    assert expected[0] == pytest.approx(really, rel=0.25)


def test_channel_losses_are_the_errors_of_the_compensated_matrix(llama: LoadedModel, stats: CalibrationStats) -> None:
    (down,) = [one for one in site_weights(llama, stats) if one.name == "blocks.1.down"]
    order = channel_order(stats, 1, down.weight)
    losses = channel_losses(stats, 1, down.weight, order)
    assert sorted(order.tolist()) == list(range(96))
    assert np.all(np.diff(losses) <= 1e-12)
    for kept_count in (24, 64, 90):
        kept = torch.from_numpy(np.sort(order[:kept_count]))
        narrowed = compensated_down(stats, 1, down.weight, kept)
        assert not narrowed[:, np.setdiff1d(np.arange(96), kept.numpy())].any()
        error = output_error(narrowed.double() - down.weight.double(), down.gram)
        assert losses[kept_count] == pytest.approx(error, rel=1e-3)


def test_order_keeps_better_channels_than_chance_and_drops_dead_ones_first(
    llama: LoadedModel, stats: CalibrationStats
) -> None:
    (down,) = [one for one in site_weights(llama, stats) if one.name == "blocks.0.down"]
    weight = down.weight.clone()
    weight[:, [5, 50]] = 0
    order = channel_order(stats, 0, weight)
    assert set(order[-2:].tolist()) == {5, 50}
    shuffled = np.random.default_rng(0).permutation(96)
    ours = channel_losses(stats, 0, weight, order)
    chance = channel_losses(stats, 0, weight, shuffled)
    assert ours[48] < 0.8 * chance[48]


@pytest.mark.parametrize("width", [64, 96, 704, 2048, 3072, 11008])
def test_menu_of_kept_counts(width: int) -> None:
    menu = channel_menu(width)
    assert menu == tuple(sorted(set(menu)))
    assert all(count % 32 == 0 and 0 < count < width for count in menu)
    assert width < 256 or 6 <= len(menu) <= 8


def test_first_block_is_a_depth_group_of_its_own_and_the_others_form_three() -> None:
    labels = [depth_group(block, list(range(16))) for block in range(16)]
    assert labels[0] == "block 0"
    assert sorted(set(labels[1:]), key=labels.index) == ["blocks 1 to 5", "blocks 6 to 10", "blocks 11 to 15"]
    assert [depth_group(block, [0, 2]) for block in (0, 2)] == ["block 0", "block 2"]


def test_corrected_rank_losses_add_up_to_what_truncating_every_site_costs(
    llama: LoadedModel, stats: CalibrationStats
) -> None:
    sites = list(site_weights(llama, stats))
    arrays = {f"rank_loss/{method}/{one.name}": losses for one in sites for method, losses in rank_losses(one)}
    before = {key: losses.copy() for key, losses in arrays.items()}
    documents = [TINY_TEXT] * 2
    selection = prepare_selection(
        llama,
        documents,
        [llama.tokenizer.encode(text).ids for text in documents],
        byte_lengths=token_byte_lengths(llama.tokenizer),
        window_tokens=64,
        limit_tokens=2000,
        progress=NullProgress(),
    )
    notes = correct_rank_losses(llama, sites, arrays, selection, progress=NullProgress())
    ranks = {one.name: max(1, round(0.7 * break_even_rank(*reversed(one.weight.shape)))) for one in sites}
    for method in ("lowrank", "laser"):
        weights = {one.name: factored_weights(one, ranks[one.name], method) for one in sites}
        with exchanged_sites(llama, weights):
            measured = loss_increase(llama, selection, progress=NullProgress())
        keys = {one.name: f"rank_loss/{method}/{one.name}" for one in sites}
        predicted = sum(before[key][ranks[name]] for name, key in keys.items())
        corrected = sum(arrays[key][ranks[name]] for name, key in keys.items())
        assert corrected == pytest.approx(predicted * min(20, max(0.05, measured / predicted)), rel=1e-4)
    assert len(notes) == 2 + 4 + 3

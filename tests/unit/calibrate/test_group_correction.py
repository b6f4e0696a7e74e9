"""Losses of keeping fewer key-value groups: predicted per block, scaled to one edit that is really made."""

from pathlib import Path

import numpy as np
import pytest
import torch

from edgeprune.calibrate.capture import capture
from edgeprune.calibrate.group_correction import score_groups, spread_counts
from edgeprune.calibrate.group_scores import compensated_output, group_columns, group_order, output_moment
from edgeprune.calibrate.selection import exchanged_sites, loss_increase, prepare_selection
from edgeprune.calibrate.site_weights import output_error, site_weights
from edgeprune.calibrate.statistics import CalibrationStats
from edgeprune.calibrate.token_bytes import token_byte_lengths
from edgeprune.intake.load import LoadedModel, load_model
from edgeprune.schema.events import NullProgress
from edgeprune.schema.scores import ScoreArrays
from tests.tiny import TINY_TEXT, write_tiny_llama


@pytest.mark.parametrize(
    ("groups", "kept"),
    [
        ([4, 4, 4], [3, 3, 3]),
        ([2, 2, 2, 2], [2, 1, 2, 1]),
        ([8, 8], [6, 6]),
        ([1, 1, 1, 1, 1], [1, 1, 1, 1, 1]),
        ([3, 3, 3, 3], [3, 2, 2, 2]),
    ],
)
def test_a_quarter_of_the_groups_leaves_evenly(groups: list[int], kept: list[int]) -> None:
    assert spread_counts(groups) == kept


def test_scored_losses_are_the_second_order_ones_scaled_to_the_edit_that_was_made(
    llama: LoadedModel, stats: CalibrationStats
) -> None:
    documents = [TINY_TEXT] * 2
    selection = prepare_selection(
        llama,
        documents,
        [llama.tokenizer.encode(text).ids for text in documents],
        byte_lengths=token_byte_lengths(llama.tokenizer),
        window_tokens=64,
        limit_tokens=1000,
        progress=NullProgress(),
    )
    sites = list(site_weights(llama, stats))
    arrays: ScoreArrays = {}
    counts, (correction,) = score_groups(llama, stats, sites, arrays, selection, progress=NullProgress())
    assert counts == ((1,), (1,), (1,))
    expected, weights = {}, {}
    for site in sites:
        if site.name.endswith(".o"):
            moment = output_moment(stats, site.block, has_bias=False)
            kept = torch.from_numpy(group_order(site.weight, moment, 2).groups[:1])
            weights[site.block] = compensated_output(site.weight, moment, group_columns(kept, 32))
            error = output_error(weights[site.block].double() - site.weight.double(), site.gram)
            expected[site.block] = 0.5 * site.output_weight * error
    # A quarter of six groups is one: the second block gives up one of its two.
    assert correction.predicted == pytest.approx(expected[1], rel=1e-3)
    with exchanged_sites(llama, {"blocks.1.o": weights[1]}):
        assert correction.measured == pytest.approx(loss_increase(llama, selection, progress=NullProgress()), rel=1e-4)
    for block in range(3):
        assert arrays[f"group_loss/{block}"].tolist() == pytest.approx([expected[block] * correction.factor], rel=1e-3)
    assert "1 of 2 key-value groups kept in 1 block, compensated," in correction.note


def test_a_model_with_one_group_has_nothing_to_give_up(tmp_path: Path, windows: torch.Tensor) -> None:
    single = load_model(write_tiny_llama(tmp_path / "model", num_key_value_heads=1))
    stats = capture(single, windows[:4])
    selection = prepare_selection(
        single,
        [TINY_TEXT],
        [single.tokenizer.encode(TINY_TEXT).ids],
        byte_lengths=token_byte_lengths(single.tokenizer),
        window_tokens=64,
        limit_tokens=200,
        progress=NullProgress(),
    )
    arrays: ScoreArrays = {}
    counts, corrections = score_groups(
        single, stats, list(site_weights(single, stats)), arrays, selection, progress=NullProgress()
    )
    assert (counts, corrections, arrays) == (((), (), ()), [], {})
    assert np.isfinite(selection.nats)

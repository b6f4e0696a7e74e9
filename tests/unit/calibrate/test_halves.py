"""Greedy removal of sub-layers, on a model in which two of them do nothing."""

import itertools
from pathlib import Path

import pytest
import torch

from edgeprune.calibrate.halves import half_drops
from edgeprune.calibrate.loss import measure_loss
from edgeprune.calibrate.selection import Selection
from edgeprune.intake.load import LoadedModel, load_model
from edgeprune.schema.events import NullProgress
from edgeprune.schema.recipe import Drops
from tests.tiny import write_tiny_gpt2, write_tiny_llama

STARTS = torch.randint(0, 512, (24, 4), generator=torch.Generator().manual_seed(1))


@pytest.fixture(params=["llama", "gpt2"])
def model(request: pytest.FixtureRequest, tmp_path: Path) -> LoadedModel:
    if request.param == "gpt2":
        loaded = load_model(write_tiny_gpt2(tmp_path / "model", n_layer=5))
    else:
        loaded = load_model(write_tiny_llama(tmp_path / "model", num_hidden_layers=5))
    for index, role in ((2, "o"), (3, "down")):
        site = loaded.adapter.site(loaded.adapter.blocks(loaded.model)[index], role)  # type: ignore[arg-type]
        for parameter in site.parameters():
            parameter.data.zero_()
    return loaded


def selection(loaded: LoadedModel) -> Selection:
    """Text the model itself wrote: whatever changes the model makes that text less likely."""
    written = loaded.model.generate(STARTS, max_new_tokens=20, min_new_tokens=20, do_sample=False, pad_token_id=0)
    windows = tuple(map(tuple, written.tolist()))
    nats, scored = measure_loss(loaded, windows)
    return Selection(
        documents=(), windows=windows, window_tokens=24, nats=nats, scored_tokens=scored, scored_bytes=scored
    )


def parts(drops: Drops) -> set[tuple[int, str]]:
    whole = {(block, part) for block in drops.blocks for part in ("attention", "mlp")}
    return whole | {(block, "attention") for block in drops.attention} | {(block, "mlp") for block in drops.mlp}


def test_what_does_nothing_goes_first_and_the_sets_grow(model: LoadedModel) -> None:
    chosen = selection(model)
    found = half_drops(model, chosen, progress=NullProgress())
    sets = [parts(drops) for drops in found]
    assert {(2, "attention"), (3, "mlp")} in sets
    assert all(smaller < larger for smaller, larger in itertools.pairwise(sets))
    assert [len(entry) for entry in sets] == list(range(1, len(sets) + 1))
    assert not {block for entry in sets for block, _ in entry} & {0, 4}
    # The model is as it was.
    assert measure_loss(model, chosen.windows)[0] == pytest.approx(chosen.nats, abs=1e-9)


def test_both_halves_of_a_block_are_the_block(model: LoadedModel) -> None:
    for index, role in ((2, "down"), (3, "o")):
        site = model.adapter.site(model.adapter.blocks(model.model)[index], role)  # type: ignore[arg-type]
        for parameter in site.parameters():
            parameter.data.zero_()
    found = half_drops(model, selection(model), progress=NullProgress())
    assert Drops(blocks=(2, 3)) in found

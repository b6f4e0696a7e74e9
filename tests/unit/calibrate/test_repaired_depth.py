"""Repaired sets among the depth options: each beside its bare twin, scored as what compression really builds."""

from pathlib import Path

import numpy as np
import pytest
import torch

from edgeprune.calibrate.capture import capture
from edgeprune.calibrate.depth_scores import depth_options
from edgeprune.calibrate.loss import measure_loss
from edgeprune.calibrate.selection import Selection, loss_increase
from edgeprune.compress.apply import compress_model
from edgeprune.intake.load import LoadedModel, load_model
from edgeprune.schema.events import NullProgress
from edgeprune.schema.recipe import Recipe, Repair
from edgeprune.schema.scores import DepthOption
from tests.tiny import write_tiny_llama


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> LoadedModel:
    return load_model(write_tiny_llama(tmp_path_factory.mktemp("m") / "model", num_hidden_layers=6))


def selection(loaded: LoadedModel) -> Selection:
    """Text the model itself wrote: whatever changes the model makes that text less likely."""
    starts = torch.randint(0, 512, (16, 4), generator=torch.Generator().manual_seed(1))
    written = loaded.model.generate(starts, max_new_tokens=20, min_new_tokens=20, do_sample=False, pad_token_id=0)
    windows = tuple(map(tuple, written.tolist()))
    nats, scored = measure_loss(loaded, windows)
    return Selection(
        documents=(), windows=windows, window_tokens=24, nats=nats, scored_tokens=scored, scored_bytes=scored
    )


def options(loaded: LoadedModel, chosen: Selection, tokens: torch.Tensor) -> tuple[DepthOption, ...]:
    similarity = np.array([[0.9 ** abs(i - j) for j in range(6)] for i in range(6)])
    return depth_options(loaded, similarity, chosen, tokens=tokens, progress=NullProgress())


def test_what_is_scored_with_repairs_is_what_compression_builds(model: LoadedModel, tmp_path: Path) -> None:
    windows = torch.randint(0, 512, (32, 32), generator=torch.Generator().manual_seed(0)).int()
    chosen = selection(model)
    found = options(model, chosen, windows)
    repaired = [option for option in found if option.repair_rank is not None]
    assert 1 <= len(repaired) <= 3
    bare = {option.drops: option for option in found if option.repair_rank is None}
    stats = capture(model, windows, gradient_tokens=0)
    for option in repaired:
        assert option.repair_rank == 8
        twin = bare[option.drops.repaired(None)]
        assert option.loss_increase_nats != twin.loss_increase_nats
        recipe = Recipe(
            model_hash=model.spec.model_hash,
            context_tokens=32,
            drop_blocks=option.drop_blocks,
            drop_attention=option.drop_attention,
            drop_mlp=option.drop_mlp,
            repairs=tuple(Repair(block=block, rank=rank) for block, rank in option.drops.repairs),
        )
        built = compress_model(model, recipe, stats, progress=NullProgress())
        assert loss_increase(built, chosen, progress=NullProgress()) == pytest.approx(
            option.loss_increase_nats, abs=1e-4
        )


def test_too_little_text_leaves_repairs_out(model: LoadedModel) -> None:
    windows = torch.randint(0, 512, (3, 32), generator=torch.Generator().manual_seed(0)).int()
    assert all(option.repair_rank is None for option in options(model, selection(model), windows))

"""SLEB removes what is least missed, given what is gone already, and leaves the model as it was."""

from pathlib import Path

import pytest
import torch

from edgeprune.calibrate.halves import skipped_drops
from edgeprune.calibrate.loss import measure_loss
from edgeprune.calibrate.sleb import sleb_order
from edgeprune.intake.load import load_model
from edgeprune.schema.events import NullProgress
from edgeprune.schema.recipe import Drops
from tests.tiny import write_tiny_gpt2, write_tiny_llama

STARTS = torch.randint(0, 512, (24, 4), generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_blocks_go_greedily_by_measured_loss(family: str, tmp_path: Path) -> None:
    if family == "gpt2":
        loaded = load_model(write_tiny_gpt2(tmp_path / "model", n_layer=5))
    else:
        loaded = load_model(write_tiny_llama(tmp_path / "model", num_hidden_layers=5))
    idle = loaded.adapter.blocks(loaded.model)[3]
    for role in ("o", "down"):
        for parameter in loaded.adapter.site(idle, role).parameters():  # type: ignore[arg-type]
            parameter.data.zero_()
    written = loaded.model.generate(STARTS, max_new_tokens=20, min_new_tokens=20, do_sample=False, pad_token_id=0)
    windows = written.tolist()
    before = measure_loss(loaded, windows)[0]

    def loss(*blocks: int) -> float:
        with skipped_drops(loaded, Drops(blocks=tuple(sorted(blocks)))):
            return measure_loss(loaded, windows)[0]

    order = list(sleb_order(loaded, windows, progress=NullProgress()))
    assert sorted(order) == [1, 2, 3]
    assert order[0] == 3  # it does nothing
    assert loss(3, order[1]) == min(loss(3, 1), loss(3, 2))
    assert measure_loss(loaded, windows)[0] == pytest.approx(before, abs=1e-9)

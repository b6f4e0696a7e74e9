import dataclasses
from pathlib import Path

import pytest
import torch

from edgeprune.calibrate.statistics import CalibrationStats, input_key
from edgeprune.errors import ModelError


def test_what_is_saved_is_what_is_loaded(stats: CalibrationStats, tmp_path: Path) -> None:
    path = tmp_path / "run" / "stats.safetensors"
    stats.save(path)
    loaded = CalibrationStats.load(path)
    for field in dataclasses.fields(stats):
        before, after = getattr(stats, field.name), getattr(loaded, field.name)
        if isinstance(before, torch.Tensor):
            assert torch.equal(before, after)
            assert before.dtype == after.dtype
        elif field.name in ("gram", "mean", "activation_noise", "mean_absolute", "row_absolute"):
            assert before
            assert before.keys() == after.keys()
            assert all(torch.equal(before[key], after[key]) for key in before)
        else:
            assert before == after
    assert [file.name for file in path.parent.iterdir()] == ["stats.safetensors"]


def test_refuses_missing_and_damaged_files(stats: CalibrationStats, tmp_path: Path) -> None:
    path = tmp_path / "stats.safetensors"
    with pytest.raises(ModelError, match="is missing"):
        CalibrationStats.load(path)
    stats.save(path)
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(ModelError, match="not a readable statistics file"):
        CalibrationStats.load(path)
    path.write_bytes(b"\xff" * 64)
    with pytest.raises(ModelError, match="not a readable statistics file"):
        CalibrationStats.load(path)


def test_sites_that_read_one_tensor_share_its_key() -> None:
    assert input_key("blocks.12.q") == input_key("blocks.12.v") == "blocks.12.attention_input"
    assert input_key("blocks.0.gate") == input_key("blocks.0.up") == "blocks.0.mlp_input"
    assert input_key("blocks.0.down") == "blocks.0.mlp_hidden"
    assert input_key("table") == "table"
